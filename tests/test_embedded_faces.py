"""Claims about the embedded faces: data/faces24.npz and the program that drew them."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[1] / "data"
IMPORTED = ("draw_faces", "face_drawing")
SEED = 0
"""The seed that data/README.md says the embedded set was drawn with."""


@pytest.fixture(scope="module")
def drawing() -> Iterator[Any]:
    """Import data/draw_faces.py, which is a script beside its package, not an installed one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DATA))
        yield importlib.import_module("draw_faces")
    for name in [name for name in sys.modules if name.split(".")[0] in IMPORTED]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def factor_table(drawing: Any) -> Any:
    """Return the generator's own table of factors: name, low, high, meaning."""
    assert drawing is not None
    return importlib.import_module("face_drawing").FACTORS


@pytest.fixture(scope="module")
def embedded() -> dict[str, NDArray[Any]]:
    """Read all arrays of the file, refusing pickled objects."""
    with np.load(DATA / "faces24.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def explained(pixels: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Return R squared, on the second half, of a linear fit from pixels made on the first half."""
    half = len(pixels) // 2
    weights = np.linalg.lstsq(pixels[:half], target[:half], rcond=None)[0]
    error = target[half:] - pixels[half:] @ weights
    return float(1.0 - error.var() / target[half:].var())


@pytest.fixture(scope="module")
def pixels(embedded: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return the images as rows in [-0.5, 0.5], and a column of ones."""
    rows = embedded["images"].reshape(len(embedded["images"]), -1) / 255.0 - 0.5
    return np.hstack([rows, np.ones((len(rows), 1))])


def test_the_file_holds_three_plain_arrays_of_documented_shape(
    embedded: dict[str, NDArray[Any]],
) -> None:
    assert set(embedded) == {"images", "factors", "factor_names"}
    images, factors, names = embedded["images"], embedded["factors"], embedded["factor_names"]
    assert images.shape == (6000, 24, 24)
    assert images.dtype == np.uint8
    assert factors.shape == (len(images), len(names))
    assert factors.dtype == np.float32
    assert names.dtype.kind == "U"


def test_the_file_stays_small() -> None:
    assert (DATA / "faces24.npz").stat().st_size <= 3_000_000
    assert (DATA / "preview.png").stat().st_size <= 100_000


def test_the_generator_draws_the_embedded_faces_again(
    drawing: Any, embedded: dict[str, NDArray[Any]]
) -> None:
    again = drawing.draw_faces(64, SEED)
    np.testing.assert_array_equal(again.factors, embedded["factors"][:64])
    assert list(again.factor_names) == list(embedded["factor_names"])
    difference = np.abs(again.images.astype(int) - embedded["images"][:64].astype(int))
    # Other processors round the last bit otherwise; where that tips a gray value over, it moves
    # by one step of 5. The arithmetic is in double precision, so hardly any should.
    assert difference.max() <= 5
    assert np.mean(difference > 0) < 1e-4


def test_no_two_images_are_alike(embedded: dict[str, NDArray[Any]]) -> None:
    images = embedded["images"]
    assert len({image.tobytes() for image in images}) == len(images)


def test_images_have_the_tones_of_photographs(embedded: dict[str, NDArray[Any]]) -> None:
    images = embedded["images"].astype(np.float64)
    assert 120 < images.mean() < 140
    assert 35 < images.std() < 55
    assert np.mean(images == 0) < 0.02
    assert np.mean(images == 255) < 0.02
    assert images.std(axis=(1, 2)).min() > 8


def test_every_factor_varies_within_its_range(embedded: dict[str, NDArray[Any]], factor_table: Any) -> None:
    assert [factor.name for factor in factor_table] == list(embedded["factor_names"])
    for factor, column in zip(factor_table, embedded["factors"].T, strict=True):
        assert factor.low <= column.min(), factor.name
        assert column.max() <= factor.high, factor.name
        # At least the standard deviation of a rather narrow peak.
        assert column.std() > 0.1 * (factor.high - factor.low), factor.name


def test_the_card_lists_every_factor_with_its_range(factor_table: Any) -> None:
    card = (DATA / "README.md").read_text(encoding="utf-8")
    row = re.compile(r"^\| `(\w+)` \| (\S+) to (\S+) \| (.+) \|$", re.MULTILINE)
    listed = [(name, float(low), float(high), text) for name, low, high, text in row.findall(card)]
    assert listed == [tuple(factor) for factor in factor_table]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), fewer=st.integers(1, 4), more=st.integers(0, 4))
def test_a_face_does_not_depend_on_how_many_follow(drawing: Any, seed: int, fewer: int, more: int) -> None:
    few = drawing.draw_faces(fewer, seed)
    many = drawing.draw_faces(fewer + more, seed)
    np.testing.assert_array_equal(few.factors, many.factors[:fewer])
    np.testing.assert_array_equal(few.images, many.images[:fewer])


def test_batches_do_not_show(drawing: Any) -> None:
    """Sets longer than one internal batch start with the same faces, too."""
    np.testing.assert_array_equal(drawing.draw_faces(70, 5).images[:33], drawing.draw_faces(33, 5).images)


def test_other_seeds_give_other_faces(drawing: Any) -> None:
    one, two = drawing.draw_faces(3, 1), drawing.draw_faces(3, 2)
    assert np.all(np.any(one.images != two.images, axis=(1, 2)))


@pytest.mark.parametrize(
    ("factor", "least"),
    [
        ("light_x", 0.7),
        ("light_y", 0.5),
        ("exposure", 0.5),
        ("yaw", 0.5),
        ("pitch", 0.3),
        ("roll", 0.7),
        ("scale", 0.5),
        ("shift_x", 0.5),
        ("skin", 0.3),
        ("smile", 0.3),
        ("mouth_open", 0.2),
        ("hair_tone", 0.4),
        ("fringe", 0.3),
        ("beard", 0.3),
        ("glasses", 0.3),
    ],
)
def test_pixels_tell_the_factor(
    factor: str, least: float, embedded: dict[str, NDArray[Any]], pixels: NDArray[np.float64]
) -> None:
    column = list(embedded["factor_names"]).index(factor)
    assert explained(pixels, embedded["factors"][:, column].astype(np.float64)) > least


def test_n_below_one_is_refused(drawing: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        drawing.draw_faces(0, SEED)


def test_the_command_writes_the_same_bytes_twice(drawing: Any, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        assert drawing.main(["-n", "3", "--seed", "7", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_the_command_overwrites_only_when_told(
    drawing: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "faces.npz"
    target.write_bytes(b"precious")
    with pytest.raises(SystemExit):
        drawing.main(["-n", "1", "-o", str(target)])
    assert "--overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert drawing.main(["-n", "1", "-o", str(target), "--overwrite"]) == 0
    with np.load(target, allow_pickle=False) as file:
        assert file["images"].shape == (1, 24, 24)


@pytest.mark.parametrize(
    "arguments", [["-n", "0"], ["--seed", "-1"], ["-n", "many"], ["--preview", "no/such/place.png"]]
)
def test_the_command_refuses_what_cannot_work(drawing: Any, tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        drawing.main([*arguments, "-o", str(tmp_path / "faces.npz")])
    assert list(tmp_path.iterdir()) == []


def test_the_preview_is_a_sheet_of_ten_by_ten_faces(drawing: Any, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    sheet = tmp_path / "sheet.png"
    output = str(tmp_path / "faces.npz")
    assert drawing.main(["-n", "2", "-o", output, "--preview", str(sheet)]) == 0
    with image.open(sheet) as opened:
        assert opened.size == (720, 720)
        assert opened.mode == "L"
