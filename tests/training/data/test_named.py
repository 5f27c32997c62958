"""The sets known by name: those that are here, those that would have to be fetched."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image

from vae_training.data import NAMED_SETS, load_images, named
from vae_training.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for downloads, and a proxy that answers nothing: offline even with a network."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("VAE_EDGE_DATA", str(folder))
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    return folder


def lanczos(picture: Any, height: int, width: int) -> Any:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def test_the_embedded_faces_are_24_by_24_gray() -> None:
    loaded = load_images("faces")
    assert loaded.images.shape[1:] == (24, 24, 1)
    assert loaded.images.dtype == np.uint8
    assert len(loaded.images) >= 2
    assert loaded.groups is None
    assert loaded.name == "faces"


def test_the_embedded_faces_are_found_in_an_installed_package_and_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "training" / "vae_training" / "data" / "named.py"
    checkout, package = tmp_path / "data" / "faces24.npz", module.with_name("faces24.npz")
    for path in (checkout, package):
        path.parent.mkdir(parents=True)
    monkeypatch.setattr(named, "__file__", str(module))
    with pytest.raises(DataError, match="faces: its file is missing"):
        load_images("faces")
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24), dtype=np.uint8)
    for path in (checkout, package):
        np.savez(path, images=images, factors=np.zeros((3, 2), np.float32), factor_names=np.array(["a", "b"]))
        assert named.embedded_faces() == path
        np.testing.assert_array_equal(load_images("faces").images[..., 0], images)


def test_the_faces_of_lfw_subset_are_its_first_hundred_at_24_by_24() -> None:
    loaded = load_images("lfw-subset")
    faces = np.rint(skimage.data.lfw_subset()[:100] * 255).astype(np.uint8)
    np.testing.assert_array_equal(loaded.images[..., 0], [lanczos(face, 24, 24) for face in faces])
    assert loaded.images.shape == (100, 24, 24, 1)


def test_digits_are_spread_over_all_levels_and_resized() -> None:
    loaded = load_images("digits", image_size=(8, 8))
    levels = np.rint(sklearn.datasets.load_digits().images / 16 * 255)
    np.testing.assert_array_equal(loaded.images[..., 0], levels)
    assert load_images("digits").images.shape == (1797, 24, 24, 1)
    assert load_images("digits", channels=3).images.shape == (1797, 24, 24, 3)


@pytest.fixture
def people(cache: Path) -> list[Any]:
    """Three made-up photos of two people, lying where scikit-learn keeps those of LFW."""
    home = cache / "lfw_home"
    photos = []
    for person, count in (("Ada", 2), ("Bob", 1)):
        (home / "lfw_funneled" / person).mkdir(parents=True)
        for number in range(count):
            photo = np.random.default_rng(len(photos)).integers(0, 256, (250, 250, 3), dtype=np.uint8)
            Image.fromarray(photo).save(home / "lfw_funneled" / person / f"{number}.png")
            photos.append(photo)
    for name in ("pairsDevTrain.txt", "pairsDevTest.txt", "pairs.txt"):
        (home / name).touch()
    return photos


@pytest.mark.usefixtures("people")
def test_lfw_is_24_by_24_gray_by_default_and_a_person_is_a_group() -> None:
    loaded = load_images("lfw")
    assert loaded.images.shape == (3, 24, 24, 1)
    assert loaded.groups is not None
    assert sorted(loaded.groups.tolist()) == [0, 0, 1]


def test_lfw_in_a_large_size_is_cut_from_the_whole_photo_in_its_colours(people: list[Any]) -> None:
    loaded = load_images("lfw", image_size=(64, 64), channels=3)
    assert loaded.groups is not None
    (bob,) = np.flatnonzero(loaded.groups == 1)
    # Of what scikit-learn cuts out, 125 rows and 94 columns, the middle square.
    cut = Image.fromarray(people[2][70:195, 78:172])
    face = cut.resize((64, 64), Image.Resampling.LANCZOS, box=(0, 15.5, 94, 109.5))
    np.testing.assert_array_equal(loaded.images[bob], np.asarray(face))


def test_olivetti_is_64_by_64_and_a_person_is_a_group(cache: Path) -> None:
    stored = np.random.default_rng(0).random((400, 4096))
    cache.mkdir()
    joblib.dump(stored, cache / "olivetti_py3.pkz")
    loaded = load_images("olivetti")
    assert loaded.images.shape == (400, 64, 64, 1)
    assert loaded.groups is not None
    assert np.bincount(loaded.groups).tolist() == [10] * 40


@pytest.mark.parametrize("name", ["lfw", "olivetti", "mnist", "fashion-mnist", "celeba"])
def test_a_set_that_cannot_be_fetched_says_so_and_what_works_offline(name: str, cache: Path) -> None:
    if name in ("mnist", "fashion-mnist", "celeba"):
        pytest.importorskip("torchvision", reason="needs torchvision", exc_type=Exception)
    with pytest.raises(DataError) as failed:
        load_images(name)
    message = str(failed.value)
    assert message.startswith(f"{name}: ")
    assert f"could not fetch it into {cache}" in message
    assert "seems to be offline" in message
    assert message.endswith("these sets work offline: faces, lfw-subset, digits")
    assert "\n" not in message


def test_fetching_prints_nothing_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError):
        load_images("olivetti")
    assert capsys.readouterr().out == ""


def test_a_folder_for_downloads_that_cannot_be_made_is_named(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="set VAE_EDGE_DATA to another folder"):
        load_images("olivetti")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("digits", "sklearn.datasets"),
        ("lfw", "sklearn.datasets"),
        ("lfw-subset", "skimage.data"),
        ("mnist", "torchvision.datasets"),
        ("celeba", "torchvision.datasets"),
    ],
)
def test_a_missing_library_is_named_with_the_line_that_installs_it(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"pip install 'vae-edge\[datasets\]'"):
        load_images(name)


@pytest.fixture
def torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The __init__.py of a package that stands where torchvision would."""
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    for module in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(str(package.parent))
    yield package / "__init__.py"
    for module in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
        del sys.modules[module]


def test_a_torchvision_built_for_another_torch_is_told_apart_from_a_missing_one(torchvision: Path) -> None:
    torchvision.write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    with pytest.raises(DataError, match=r"fails to import \(operator torchvision::nms does not exist\)"):
        load_images("mnist")


def test_celeba_is_the_middle_of_each_photo_and_a_person_is_a_group(torchvision: Path) -> None:
    torchvision.touch()
    torchvision.with_name("datasets.py").write_text(
        textwrap.dedent("""
            import numpy as np
            import torch
            from PIL import Image

            class CelebA:
                def __init__(self, root, split, target_type, download):
                    assert (split, target_type, download) == ("train", "identity", True)
                    self.identity = torch.tensor([[7], [7], [9]])

                def __len__(self):
                    return 3

                def __getitem__(self, index):
                    pixels = np.random.default_rng(index).integers(0, 256, (218, 178, 3), dtype=np.uint8)
                    return Image.fromarray(pixels), self.identity[index, 0]
        """)
    )
    seen: list[tuple[int, int]] = []
    loaded = load_images("celeba", progress=lambda done, total: seen.append((done, total)))
    photo = np.random.default_rng(1).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    np.testing.assert_array_equal(loaded.images[1], lanczos(photo[35:183, 15:163], 64, 64))
    assert loaded.images.shape == (3, 64, 64, 3)
    assert loaded.groups is not None
    assert loaded.groups.tolist() == [7, 7, 9]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert load_images("celeba", image_size=(32, 24), channels=1).images.shape == (3, 32, 24, 1)


@pytest.mark.parametrize(("name", "loader"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_is_28_by_28_gray(torchvision: Path, name: str, loader: str) -> None:
    torchvision.touch()
    torchvision.with_name("datasets.py").write_text(
        textwrap.dedent(f"""
            import torch

            class {loader}:
                def __init__(self, root, train, download):
                    assert train and download
                    self.data = torch.arange(28 * 28 * 2).reshape(2, 28, 28).to(torch.uint8)
        """)
    )
    loaded = load_images(name)
    np.testing.assert_array_equal(loaded.images.ravel(), np.arange(28 * 28 * 2) % 256)
    assert loaded.images.shape == (2, 28, 28, 1)


def test_asking_for_nothing_of_theirs_imports_no_library(run_python: Any) -> None:
    ran = run_python(
        """
import sys
import vae_training.data
print(sorted({"torch", "torchvision", "sklearn", "skimage", "matplotlib"} & set(sys.modules)))
"""
    )
    assert ran.stdout == "[]\n", ran.stderr


def test_every_set_says_where_it_comes_from_in_one_line() -> None:
    assert list(NAMED_SETS) == [
        "faces", "lfw", "lfw-subset", "olivetti", "digits", "mnist", "fashion-mnist", "celeba",
    ]  # fmt: skip
    for known in NAMED_SETS.values():
        assert known.source
        assert "\n" not in known.source
        assert all(side % 4 == 0 for side in known.image_size)
