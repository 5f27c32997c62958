"""`vae-run info` and `check`: what is here, and whether it does what it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_bytes import constant, copy_bundle, decoder_of, node

import vae_runtime
from vae_runtime import Model


def test_info_shows_the_card_and_the_installation(vae_run: Any, gray_bundle: Path) -> None:
    done = vae_run("info", "--model", gray_bundle)
    assert (done.code, done.err) == (0, "")
    lines = [line.split(maxsplit=1) for line in done.out.decode().splitlines() if line]
    assert ["vae-edge", vae_runtime.__version__] in lines
    assert ["name", "tiny-gray"] in lines
    assert ["image_shape", "(1, 8, 12)"] in lines
    assert ["latent_size", "3"] in lines


def test_info_as_json_is_json(vae_run: Any, gray_bundle: Path, gray: Model) -> None:
    done = vae_run("info", "--json", "--provider", "cpu", "--model", gray_bundle)
    facts = json.loads(done.out)
    assert facts["card"]["bundle_id"] == gray.card.bundle_id
    assert facts["card"]["image_shape"] == [1, 8, 12]
    assert facts["installation"]["runs on"] == "cpu"
    assert facts["installation"]["processors"] >= 1


def test_check_says_in_words_what_was_verified(vae_run: Any, gray_bundle: Path) -> None:
    done = vae_run("check", "--model", gray_bundle)
    lines = done.out.decode().splitlines()
    assert (done.code, done.err) == (0, "")
    assert [line.split()[:2] for line in lines] == [
        ["ok", word] for word in ("onnxruntime", "files", "graphs", "sampling", "encoding")
    ]
    assert "SHA-256 equal" in done.out.decode()
    assert "the same again by the same seed" in done.out.decode()


def test_check_names_what_was_changed_beside_the_graphs(
    vae_run: Any, gray_bundle: Path, tmp_path: Path
) -> None:
    changes = {"README.md": b"changed", "preview.png": None, "notes.txt": b"new"}
    copy_bundle(gray_bundle, tmp_path / "b", changes, sums=False)
    done = vae_run("check", "--model", tmp_path / "b")
    assert done.code == 0
    assert b"changed since export: README.md, preview.png; not of the bundle: notes.txt" in done.out


def test_check_fails_on_a_damaged_graph(vae_run: Any, gray_bundle: Path, tmp_path: Path) -> None:
    data = bytearray((gray_bundle / "decoder.onnx").read_bytes())
    data[1000] ^= 1
    copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": bytes(data)}, sums=False)
    done = vae_run("check", "--model", tmp_path / "b")
    assert done.code == 3
    assert b"FAILED  files" in done.out
    assert done.err.count("\n") == 1
    assert "decoder.onnx: SHA-256 differs" in done.err


@pytest.mark.parametrize(
    ("tail", "code", "said"),
    [
        (lambda before, after: [node("Log", [before], [after])], 5, "NaN or infinite values"),
        (lambda before, after: [node("Identity", [before], [after])], 1, r"expected [0, 1]"),
        (lambda before, after: [node("Mul", [before, "zero"], [after])], 1, "all images are alike"),
    ],
    ids=["nan", "out of range", "constant"],
)
def test_check_fails_on_a_model_that_does_not_work(
    vae_run: Any, gray_bundle: Path, tmp_path: Path, tail: Any, code: int, said: str
) -> None:
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(), tail, [constant("zero", np.zeros(1, np.float32))]
    )
    copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    done = vae_run("check", "--model", tmp_path / "b")
    assert done.code == code
    assert b"FAILED  sampling" in done.out
    assert said in done.err


def test_check_passes_on_the_shipped_model(vae_run: Any, faces: Model) -> None:
    assert vae_run("check").code == 0
