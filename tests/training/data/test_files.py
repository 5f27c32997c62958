"""What a .npy or .npz file gives, and which ones are refused with what words."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vae_training.data import load_images
from vae_training.errors import DataError

Array = npt.NDArray[Any]

GRAY = np.arange(2 * 8 * 12, dtype=np.uint8).reshape(2, 8, 12)
COLOUR = np.arange(2 * 8 * 12 * 3, dtype=np.uint16).astype(np.uint8).reshape(2, 8, 12, 3)


def saved(folder: Path, array: Array) -> str:
    np.save(folder / "images.npy", array)
    return str(folder / "images.npy")


def archived(folder: Path, **arrays: Array) -> str:
    np.savez(folder / "images.npz", **arrays)
    return str(folder / "images.npz")


def test_gray_images_get_a_channel_axis(tmp_path: Path) -> None:
    loaded = load_images(saved(tmp_path, GRAY))
    np.testing.assert_array_equal(loaded.images, GRAY[..., np.newaxis])
    assert loaded.groups is None
    assert loaded.name == "images"
    assert loaded.source == "the file images.npy"


@pytest.mark.parametrize("array", [GRAY, GRAY[..., np.newaxis], GRAY[:, np.newaxis], COLOUR])
def test_images_stay_as_they_were_read_when_the_file_is_cut_short(tmp_path: Path, array: Array) -> None:
    source = saved(tmp_path, array)
    loaded = load_images(source)
    os.truncate(source, 130)  # were the file mapped, the next look at a pixel would be the end of the process
    assert loaded.images.tobytes() == array.tobytes()
    assert loaded.images.shape == (2, 8, 12, array.size // GRAY.size)
    assert loaded.images.flags.c_contiguous


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_order_of_axes_and_bytes_in_the_file_makes_no_difference(tmp_path: Path, order: Any) -> None:
    loaded = load_images(saved(tmp_path, np.asarray(np.moveaxis(COLOUR, 3, 1), order=order)))
    np.testing.assert_array_equal(loaded.images, COLOUR)
    assert loaded.images.flags.c_contiguous


@given(
    images=hnp.arrays(
        np.uint8,
        st.tuples(
            st.integers(2, 4),
            st.sampled_from([8, 12, 16]),
            st.sampled_from([8, 12, 16]),
            st.sampled_from([1, 3]),
        ),
    )
)
def test_channels_first_and_channels_last_load_equal(images: Array) -> None:
    with tempfile.TemporaryDirectory() as folder:
        last = load_images(saved(Path(folder), images)).images.copy()
        first = load_images(saved(Path(folder), np.moveaxis(images, 3, 1))).images.copy()
    np.testing.assert_array_equal(last, images)
    np.testing.assert_array_equal(first, images)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
def test_every_level_survives_the_way_through_floating_point(tmp_path: Path, dtype: str) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(2, 8, 16)
    loaded = load_images(saved(tmp_path, (levels / 255).astype(dtype)))
    np.testing.assert_array_equal(loaded.images[..., 0], levels)


def test_floating_point_is_rounded_to_the_nearest_level(tmp_path: Path) -> None:
    images = np.zeros((2, 8, 8), np.float32)
    images[0, 0, :4] = [1.4 / 255, 1.6 / 255, 254.4 / 255, 1.0]
    assert load_images(saved(tmp_path, images)).images[0, 0, :4, 0].tolist() == [1, 2, 254, 255]


def test_a_large_floating_point_array_is_converted_to_its_end(tmp_path: Path) -> None:
    images = np.zeros((2500, 8, 8), np.float16)
    images[:, 3, 4] = np.linspace(0, 1, 2500)
    loaded = load_images(saved(tmp_path, images))
    np.testing.assert_array_equal(
        loaded.images[:, 3, 4, 0], np.rint(images[:, 3, 4].astype(np.float64) * 255)
    )


def test_bool_is_black_and_white(tmp_path: Path) -> None:
    loaded = load_images(saved(tmp_path, GRAY % 2 == 1))
    np.testing.assert_array_equal(loaded.images[..., 0], np.where(GRAY % 2 == 1, 255, 0))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 255.0), (0.0, 1.0000001), (0.0, np.inf)])
def test_values_outside_zero_to_one_are_refused_with_their_range(
    tmp_path: Path, low: float, high: float
) -> None:
    images = np.zeros((2, 8, 8))
    images[1, 2, 3], images[0, 0, 0] = low, high
    with pytest.raises(DataError) as refused:
        load_images(saved(tmp_path, images))
    assert f"values from {low} to {high}" in str(refused.value)
    assert "by 255" in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "index"), [((3, 8, 8), (1, 2, 3)), ((3, 8, 8, 3), (1, 2, 3, 0)), ((3, 3, 8, 8), (1, 0, 2, 3))]
)
def test_nan_is_refused_with_its_first_index_in_the_file(
    tmp_path: Path, shape: tuple[int, ...], index: tuple[int, ...]
) -> None:
    images = np.zeros(shape, np.float32)
    images[index] = images[2] = np.nan
    with pytest.raises(DataError, match=rf"NaN, first at index {re.escape(str(index))};"):
        load_images(saved(tmp_path, images))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "complex64", "datetime64[s]", "S4"])
def test_other_data_types_are_refused_by_name(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(DataError, match=r"data type .*; expected uint8"):
        load_images(saved(tmp_path, np.zeros((2, 8, 8), dtype)))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((8,), "expected (N, H, W)"),
        ((8, 8), "expected (N, H, W)"),
        ((2, 8, 8, 1, 1), "expected (N, H, W)"),
        ((2, 8, 8, 4), "no axis of 1 or 3 channels"),
        ((2, 3, 8, 3), "can be read as (N, C, H, W) and as (N, H, W, C)"),
        ((2, 1, 8, 1), "can be read as (N, C, H, W) and as (N, H, W, C)"),
        ((24, 24, 3), "looks like one picture"),
        ((0, 8, 8), "holds no images"),
        ((2, 0, 0), "holds no images"),
        ((1, 8, 8), "expected at least 2 images; found 1"),
        ((2, 4, 8), "at least 8 and divisible by 4"),
    ],
)
def test_a_shape_that_is_no_set_of_images_is_refused_with_the_shape(
    tmp_path: Path, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(DataError) as refused:
        load_images(saved(tmp_path, np.zeros(shape, np.uint8)))
    assert words in str(refused.value)
    assert "images.npy" in str(refused.value)


@pytest.mark.parametrize(
    ("size", "advice"),
    [
        ((25, 25), "--image-size 24"),
        ((62, 47), "--image-size 60x48"),
        ((30, 30), "--image-size 28"),
        ((5, 5), "--image-size 8"),
    ],
)
def test_a_size_that_the_model_cannot_take_is_refused_with_the_nearest_one(
    tmp_path: Path, size: tuple[int, int], advice: str
) -> None:
    with pytest.raises(DataError) as refused:
        load_images(saved(tmp_path, np.zeros((2, *size), np.uint8)))
    assert str(refused.value).endswith(f"give {advice}")


def test_an_archives_only_images_need_no_name(tmp_path: Path) -> None:
    path = archived(tmp_path, labels=np.arange(2), names=np.array(["a", "b"]), pictures=GRAY)
    loaded = load_images(path)
    np.testing.assert_array_equal(loaded.images[..., 0], GRAY)
    assert loaded.source == "the file images.npz, array 'pictures'"


def test_of_several_images_one_is_taken_by_name(tmp_path: Path) -> None:
    path = archived(tmp_path, train=GRAY, test=GRAY[:, ::-1])
    np.testing.assert_array_equal(load_images(path, array="test").images[..., 0], GRAY[:, ::-1])


def test_several_images_without_a_name_are_listed_with_their_shapes(tmp_path: Path) -> None:
    path = archived(tmp_path, train=GRAY, test=COLOUR / 255, labels=np.arange(2))
    with pytest.raises(DataError) as refused:
        load_images(path)
    assert "train (2, 8, 12) uint8, test (2, 8, 12, 3) float64" in str(refused.value)
    assert "--array" in str(refused.value)
    assert "labels" not in str(refused.value)


def test_an_archive_without_images_lists_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no array that looks like images.*labels \(2,\) int64"):
        load_images(archived(tmp_path, labels=np.arange(2)))


def test_an_array_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no array 'validation'; it holds train"):
        load_images(archived(tmp_path, train=GRAY), array="validation")


@pytest.mark.parametrize("array", [None, "images"])
@pytest.mark.parametrize("dtype", ["int8", "uint32", "int64"])
def test_groups_come_from_the_same_archive(tmp_path: Path, array: str | None, dtype: str) -> None:
    path = archived(tmp_path, images=GRAY, person=np.array([5, 7], dtype))
    loaded = load_images(path, array=array, groups="person")
    assert loaded.groups is not None
    assert loaded.groups.dtype == np.int64
    assert loaded.groups.tolist() == [5, 7]


@pytest.mark.parametrize(
    "person",
    [np.array([1]), np.array([[1, 2]]), np.array([1.0, 2.0]), np.array([True, False]), np.array(["a", "b"])],
)
def test_groups_that_are_not_one_whole_number_an_image_are_refused(tmp_path: Path, person: Array) -> None:
    with pytest.raises(DataError, match=r"groups 'person' .*expected one whole number for each image"):
        load_images(archived(tmp_path, images=GRAY, person=person), groups="person")


def test_array_and_groups_are_refused_where_they_mean_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--array and --groups name arrays"):
        load_images(saved(tmp_path, GRAY), array="images")
    with pytest.raises(DataError, match="--array and --groups name arrays"):
        load_images("digits", groups="person")


@pytest.mark.parametrize("name", ["images.npy", "images.npz"])
@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_not_what_its_name_says_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        load_images(str(tmp_path / name))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, GRAY))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"images\.npy"):
        load_images(str(path))


def test_an_archive_with_one_changed_pixel_is_refused(tmp_path: Path) -> None:
    path = Path(archived(tmp_path, images=GRAY))
    content = bytearray(path.read_bytes())
    content[content.index(GRAY.tobytes()) + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"images\.npz"):
        load_images(str(path))


def test_a_member_of_an_archive_that_is_no_array_is_refused_by_name(tmp_path: Path) -> None:
    path = archived(tmp_path, images=GRAY)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "not an array")
    with pytest.raises(DataError, match=r"notes\.txt"):
        load_images(path, array="notes.txt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "images.npy")
    with pytest.raises(DataError, match="expected a regular file"):
        load_images(str(tmp_path / "images.npy"))


def test_objects_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, np.array([[[print]]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"images\.npy"):
        load_images(str(path))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.npy"):
        load_images(str(tmp_path / "absent.npy"))
