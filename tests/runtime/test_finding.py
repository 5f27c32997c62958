"""Finding a bundle: by a shipped name or a path, in every form that a path may have."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from onnx_bytes import copy_bundle

import vae_runtime
from vae_runtime import BundleError, InputError, UnsafeBundleError, bundle
from vae_runtime.bundle import find_bundle, read_bundle, shipped_models
from vae_runtime.errors import EnvironmentProblem


@pytest.fixture
def shipped(tmp_path: Path, gray_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of shipped models with one called `one`, and beside it what is no model."""
    place = tmp_path / "shipped"
    copy_bundle(gray_bundle, place / "one")
    (place / "not a model").mkdir()
    (place / "no sums" / "SHA256SUMS").mkdir(parents=True)
    (place / "README.md").write_text("no folder")
    monkeypatch.setattr(bundle, "_SHIPPED", (place, tmp_path / "no such folder", place / "README.md"))
    return place


def test_paths_may_be_text_or_path_and_relative(
    tmp_path: Path, gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_bundle(gray_bundle, tmp_path / "a b \N{SNOWMAN}")
    monkeypatch.chdir(tmp_path)
    for name in ("a b \N{SNOWMAN}", Path("a b \N{SNOWMAN}"), "./a b \N{SNOWMAN}/"):
        assert len(read_bundle(name).graphs) == 2


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_not_utf8_is_a_name(tmp_path: Path, gray_bundle: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff"))
    try:
        copy_bundle(gray_bundle, path)
    except OSError:
        pytest.skip("this file system takes no such name")
    with vae_runtime.load(path) as model:
        assert model.sample(1).shape == (1, 1, 8, 12)


def test_a_path_of_bytes_is_a_path(gray_bundle: Path) -> None:
    with vae_runtime.load(os.fsencode(gray_bundle)) as model:
        assert model.card.name == "tiny-gray"


def test_a_bundle_whose_folder_is_a_link_is_a_bundle(tmp_path: Path, gray_bundle: Path) -> None:
    (tmp_path / "link").symlink_to(gray_bundle)
    assert len(read_bundle(tmp_path / "link").graphs) == 2


def test_a_shipped_name_goes_before_a_folder_of_that_name(
    shipped: Path, tmp_path: Path, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_bundle(colour_bundle, tmp_path / "here" / "one")
    monkeypatch.chdir(tmp_path / "here")
    assert find_bundle("one") == shipped / "one"
    assert find_bundle("./one") == Path("one")
    assert find_bundle(Path("one")) == Path("one")
    assert vae_runtime.load("one").card.name == "tiny-gray"


def test_shipped_models_are_folders_with_sums(shipped: Path) -> None:
    assert shipped_models() == {"one": shipped / "one"}


def test_shipped_models_that_cannot_be_listed_are_the_machines_fault(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(EnvironmentProblem, match=rf"^{shipped}: cannot be read \(Too many open files\)$"):
        shipped_models()


def test_the_models_in_the_package_go_before_those_beside_it_and_all_are_sorted(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "beside"
    for name in ("two", "one", "another"):
        shutil.copytree(shipped / "one", beside / name)
    shutil.copytree(shipped / "one", shipped / "middle")
    monkeypatch.setattr(bundle, "_SHIPPED", (shipped, beside))
    assert list(shipped_models().items()) == [
        ("another", beside / "another"),
        ("middle", shipped / "middle"),
        ("one", shipped / "one"),
        ("two", beside / "two"),
    ]


@pytest.mark.parametrize("layout", ["wheel", "checkout"])
def test_models_are_found_where_a_wheel_or_a_checkout_holds_them(
    tmp_path: Path, gray_bundle: Path, run_python: Any, layout: str
) -> None:
    """Also where the packages are reached through a link and the model's files are links into a cache."""
    root = tmp_path / "installed"
    package = root / "runtime" / "vae_runtime"
    without = shutil.ignore_patterns("models", "__pycache__")
    shutil.copytree(Path(vae_runtime.__file__).parent, package, ignore=without)
    model = (package if layout == "wheel" else root) / "models" / "one"
    model.mkdir(parents=True)
    for path in gray_bundle.iterdir():
        (model / path.name).symlink_to(path)
    (tmp_path / "link").symlink_to(root)
    finished = run_python(
        "from vae_runtime.bundle import *; print(list(shipped_models()), *read_bundle('one').graphs)",
        FIRST_ON_PATH=str(tmp_path / "link" / "runtime"),
    )
    assert finished.stdout == "['one'] encoder decoder\n", finished.stderr


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_shipped_model_may_be_linked_from_an_installers_cache(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    cache = tmp_path / "cache"
    (shipped / "one").rename(cache)
    (shipped / "one").mkdir()
    for path in cache.iterdir():
        link = os.symlink if kind == "symbolic" else os.link
        link(path, shipped / "one" / path.name)
    monkeypatch.chdir(shipped)
    for name in ("one", shipped / "one", "./one"):
        assert len(read_bundle(name).graphs) == 2
    shutil.copytree(shipped / "one", tmp_path / "copy", symlinks=True)
    if kind == "symbolic":
        with pytest.raises(UnsafeBundleError, match="is a symbolic link"):
            read_bundle(tmp_path / "copy")


def test_an_unknown_name_is_refused_with_the_names_there_are(shipped: Path) -> None:
    shutil.copytree(shipped / "one", shipped / "another")
    with pytest.raises(
        BundleError,
        match=r"^two: no such bundle; expected a bundle's folder or a shipped .*\(another, one\)$",
    ):
        read_bundle("two")


def test_where_nothing_is_shipped_the_message_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_SHIPPED", (tmp_path / "a", tmp_path / "b"))
    assert shipped_models() == {}
    with pytest.raises(BundleError, match=r"a shipped model \(none\)"):
        read_bundle("faces24")


def test_what_is_no_bundle_is_refused_with_what_to_give(tmp_path: Path, gray_bundle: Path) -> None:
    copy_bundle(gray_bundle, tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(tmp_path / "b" / "decoder.onnx", "decoder.onnx")
    (tmp_path / "empty").mkdir()
    (tmp_path / "no sums" / "SHA256SUMS").mkdir(parents=True)
    (tmp_path / "no sums" / "file").touch()
    names = ", ".join(shipped_models()) or "none"
    for path, message in (
        (tmp_path / "gone", "no such bundle"),
        (tmp_path / "b.zip", "is a zip archive; unpack it first and give the folder"),
        (
            tmp_path / "b" / "decoder.onnx",
            rf"is a file; expected a bundle's folder; give its folder: .*{os.sep}b$",
        ),
        (Path(__file__), "is a file; expected a bundle's folder$"),
        (tmp_path / "no sums" / "file", "is a file; expected a bundle's folder$"),
        (
            tmp_path / "empty",
            rf"not a bundle: it holds no SHA256SUMS; expected a folder .*, or a shipped model \({names}\)$",
        ),
        (tmp_path / ("x" * 300), "no such bundle"),
    ):
        with pytest.raises(BundleError, match=message) as refused:
            read_bundle(path)
        shown = str(path).replace("x" * 300, f"{'x' * 100}...")
        assert str(refused.value).startswith(f"{shown}: ")
        assert refused.type is BundleError


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_model_that_is_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(BundleError, match="is a file; expected a bundle's folder"):
            vae_runtime.load(path)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=ascii)
def test_a_name_that_no_file_can_have_is_no_bundle(name: str) -> None:
    with pytest.raises(BundleError, match="no such bundle; expected a bundle's folder"):
        vae_runtime.load(name)


def test_a_shipped_name_that_comes_as_a_path_and_a_tilde_are_told_from_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (shipped, *_) = shipped_models() or pytest.skip("no models here")
    for name in (Path(shipped), shipped.encode(), f"{shipped}/"):
        with pytest.raises(
            BundleError, match=rf"; of a shipped model give the name alone, as text: '{shipped}'$"
        ):
            find_bundle(name)
    with pytest.raises(BundleError, match=r"^\N{SNOWMAN}: no such bundle; [^~]*$"):
        find_bundle("\N{SNOWMAN}")
    with pytest.raises(BundleError, match=r"; ~ is not expanded here: give os\.path\.expanduser\(\.\.\.\)$"):
        find_bundle("~/bundle")


@pytest.mark.parametrize("name", ["", b""])
def test_no_name_is_not_the_folder_that_the_process_stands_in(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(gray_bundle)
    with pytest.raises(
        InputError, match=r"^the bundle's name is empty; expected a bundle's folder or a shipped"
    ):
        vae_runtime.load(name)
    vae_runtime.load(".").close()


@pytest.mark.parametrize("name", [None, 7, Decimal(7), object(), []])
def test_what_is_no_name_at_all_is_refused(name: Any) -> None:
    with pytest.raises(InputError) as refused:
        vae_runtime.load(name)
    assert str(refused.value) == (
        f"{name!r} is no bundle; expected the name of a shipped model or a folder's path"
    )


def test_a_folder_that_may_not_be_looked_into_is_not_said_to_hold_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "private").mkdir()
    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(BundleError, match=r"private: cannot be read \(Permission denied\)$"):
        find_bundle(tmp_path / "private")
