"""Which wheels of onnxruntime are installed, as the names of folders on the path say and as pip's records say."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import wheels

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Put the record of a distribution into one of two folders, beside which only Python's own are on the path."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    own = [path for path in sys.path if "site-packages" not in path]
    path = [tmp_path / "no such folder", *folders, folders[0], *own]
    monkeypatch.setattr(sys, "path", list(map(str, path)))

    def one(folder: str, name: str, file: str = "METADATA", text: str | None = None) -> Path:
        record = tmp_path / folder / name
        record.mkdir()
        distribution, version = name.rsplit(".", 1)[0].split("-")[:2]
        written = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (record / file).write_text(written if text is None else text)
        return record

    return one


@pytest.mark.parametrize(
    "name", ["onnxruntime-1.32.0.dist-info", "onnxruntime_gpu-1.31.0.dist-info", "ort_nightly-2.0.dist-info"]
)
def test_one_wheel_is_seen_to_be_alone(put: Put, name: str) -> None:
    put("second", name)
    put("second", "onnxruntime_extensions-0.14.0.dist-info")  # another's
    put("first", "~nnxruntime-1.31.0.dist-info")  # what an interrupted installation left
    assert wheels.is_surely_alone()
    assert len(wheels.installed_wheels()) == 1


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("onnxruntime-1.32.0.dist-info", "onnxruntime_gpu-1.32.0.dist-info"),
        ("onnxruntime_directml-1.24.0.dist-info", "onnxruntime-1.32.0.dist-info"),
    ],
)
def test_none_and_several_are_not_and_are_told_by_their_records(put: Put, names: Any) -> None:
    for folder, name in zip(("first", "second"), names, strict=False):
        put(folder, name)
    assert not wheels.is_surely_alone()
    assert {
        f"{name.replace('-', '_')}-{v}.dist-info" for name, v in wheels.installed_wheels().items()
    } == set(names)


def test_of_two_records_of_one_wheel_the_first_on_the_path_counts(put: Put) -> None:
    put("second", "onnxruntime-1.30.0.dist-info")
    put("first", "onnxruntime-1.32.0.dist-info")
    assert not wheels.is_surely_alone()
    assert wheels.installed_wheels() == {"onnxruntime": "1.32.0"}


@pytest.mark.parametrize("form", ["egg-info", "egg"])
def test_a_record_of_an_old_form_beside_a_wheel_is_seen(put: Put, form: str) -> None:
    put("first", "onnxruntime-1.32.0.dist-info")
    put("second", f"onnxruntime_gpu-1.32.0.{form}", "PKG-INFO")
    assert not wheels.is_surely_alone()


def test_a_wheel_whose_record_tells_no_version_is_one(put: Put) -> None:
    put("first", "onnxruntime-1.32.0.dist-info", text="Name: onnxruntime\n")
    put("second", "onnxruntime_gpu-1.31.0.dist-info")
    assert wheels.installed_wheels() == {"onnxruntime": "of unknown version", "onnxruntime-gpu": "1.31.0"}
