"""`vae-run info` and `check`: what is here, and whether it does what it promises."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_bytes import changed_card, constant, copy_bundle, decoder_of, node

import vae_runtime
from vae_runtime import BundleError, Model
from vae_runtime.cli.self_test import Finding, Question, check


def digest_of(bundle: Path) -> str:
    return hashlib.sha256((bundle / "SHA256SUMS").read_bytes()).hexdigest()


def test_info_shows_the_card_and_the_installation(vae_run: Any, gray_bundle: Path) -> None:
    done = vae_run("info", "--model", gray_bundle)
    assert (done.code, done.err) == (0, "")
    lines = [line.split(maxsplit=1) for line in done.out.decode().splitlines() if line]
    assert ["vae-edge", vae_runtime.__version__] in lines
    assert ["name", "tiny-gray"] in lines
    assert ["image_shape", "(1, 8, 12)"] in lines
    assert ["latent_size", "3"] in lines
    assert ["sha256", digest_of(gray_bundle)] in lines
    assert ["folder", str(gray_bundle)] in lines


def test_info_as_json_is_json(vae_run: Any, gray_bundle: Path, gray: Model) -> None:
    done = vae_run("info", "--json", "--provider", "cpu", "--model", gray_bundle)
    facts = json.loads(done.out)
    assert facts["card"]["bundle_id"] == gray.card.bundle_id
    assert facts["card"]["image_shape"] == [1, 8, 12]
    assert facts["bundle"] == {
        "folder": str(gray_bundle),
        "graphs": "encoder, decoder",
        "sha256": digest_of(gray_bundle),
    }
    assert facts["installation"]["runs on"] == "cpu"
    assert facts["installation"]["processors"] >= 1


STEPS = ("installation", "files", "scan", "model", "sampling", "encoding", "prior")


@pytest.mark.parametrize("how", ["argument", "option"])
def test_check_says_in_words_what_was_verified(vae_run: Any, gray_bundle: Path, how: str) -> None:
    done = vae_run("check", *([gray_bundle] if how == "argument" else ["--model", gray_bundle]))
    text = done.out.decode()
    assert (done.code, done.err) == (0, "")
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("ok")] == [
        ["ok", word] for word in STEPS
    ]
    for words in (
        "the only one installed",
        f"SHA-256 of SHA256SUMS: {digest_of(gray_bundle)}",
        "who made it is not proven",
        "3 other files: plain files, none of them a link",
        "encoder: 7 nodes, 9 tensors of 249 numbers; opset 17, IR version 8",
        "decoder: 6 nodes, 7 tensors of 207 numbers; opset 17, IR version 8",
        "operators: Conv, ConvTranspose, Gemm, Relu, Reshape, Sigmoid\n",
        "no external data, subgraph, local function or custom operator",
        "all graphs are of one export",
        "the same again by the same seed",
    ):
        assert words in text
    assert text.endswith("\nEverything holds.\n")
    assert len(text.splitlines()) <= 24  # one screen
    assert max(len(line) for line in text.splitlines() if str(gray_bundle) not in line) <= 120


def test_check_says_where_the_bundle_is_the_one_that_was_expected(vae_run: Any, gray_bundle: Path) -> None:
    done = vae_run("check", gray_bundle, "--expect-sha256", digest_of(gray_bundle))
    assert done.code == 0
    assert b"this is the bundle that you were promised" in done.out
    done = vae_run("check", gray_bundle, "--expect-sha256", "0" * 64)
    assert done.code == 3
    assert f"SHA-256 {digest_of(gray_bundle)}; expected {'0' * 64}: " in done.err


@pytest.mark.parametrize("command", ["sample", "info", "check"])
def test_every_command_refuses_another_bundle_than_the_one_expected(
    vae_run: Any, gray_bundle: Path, command: str
) -> None:
    options = ["--model", gray_bundle, "--expect-sha256"]
    done = vae_run(command, *options, "0" * 64)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "this is not the bundle that you were promised" in done.err
    done = vae_run(command, *options, "abc")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "expected 64 hexadecimal digits" in done.err
    assert list(Path.cwd().iterdir()) == []
    assert vae_run(command, *options, digest_of(gray_bundle)).code == 0


@pytest.mark.parametrize("command", ["sample", "info", "check"])
def test_every_command_lets_links_through_where_that_is_wished(
    vae_run: Any, gray_bundle: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "b").mkdir()
    for path in gray_bundle.iterdir():
        (tmp_path / "b" / path.name).symlink_to(path)
    done = vae_run(command, "--model", tmp_path / "b")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "SHA256SUMS: is a symbolic link." in done.err
    done = vae_run(command, "--model", tmp_path / "b", "--allow-links")
    assert done.code == 0
    assert command != "check" or b"links let through" in done.out


@pytest.mark.parametrize("command", ["sample", "info", "check"])
def test_every_command_refuses_graphs_that_are_larger_than_it_is_told(
    vae_run: Any, gray_bundle: Path, command: str
) -> None:
    largest = max(path.stat().st_size for path in gray_bundle.glob("*.onnx"))
    options = [command, "--model", gray_bundle, "--max-model-bytes"]
    done = vae_run(*options, largest - 1)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert f"{largest} bytes; expected at most {largest - 1}; SHA256SUMS lists it" in done.err
    assert list(Path.cwd().iterdir()) == []
    assert vae_run(*options, largest).code == 0


def test_check_of_two_bundles_is_wrong_usage(vae_run: Any, gray_bundle: Path) -> None:
    done = vae_run("check", gray_bundle, "--model", gray_bundle)
    assert (done.code, done.out) == (2, b"")
    assert "two bundles are named" in done.err


def test_check_looks_at_the_files_beside_the_graphs_too(
    vae_run: Any, gray_bundle: Path, tmp_path: Path
) -> None:
    for number, (changes, said) in enumerate(
        (
            ({"README.md": b"changed"}, "README.md: SHA-256 differs: "),
            (
                {"preview.png": None},
                "preview.png: cannot be read (No such file or directory); SHA256SUMS lists it",
            ),
        )
    ):
        bundle = copy_bundle(gray_bundle, tmp_path / str(number), changes, sums=False)
        done = vae_run("check", bundle)
        assert done.code == 3
        assert b"FAILED  files" in done.out
        assert said in done.err
        assert done.err.endswith(". The graphs themselves are as they were written\n")
        assert vae_run("info", "--model", bundle).code == 0


@pytest.mark.parametrize("name", ["README.md", "SHA256SUMS"])
def test_check_tells_line_endings_that_git_changed_from_damage(
    vae_run: Any, gray_bundle: Path, tmp_path: Path, name: str
) -> None:
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"README.md": b"# A model\n\nof noise\n"})
    sums = digest_of(bundle)
    (bundle / name).write_bytes((bundle / name).read_bytes().replace(b"\n", b"\r\n"))
    done = vae_run("check", bundle, "--expect-sha256", sums)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "Its line endings were changed, as git does on Windows: a line `* -text`" in done.err


def test_check_names_files_that_are_not_of_the_bundle(
    vae_run: Any, gray_bundle: Path, tmp_path: Path
) -> None:
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"notes.txt": b"new", "\x1b[2J": b""}, sums=False)
    done = vae_run("check", bundle)
    assert done.code == 0
    assert b"not of the bundle, and not looked at: \\x1b[2J, notes.txt" in done.out


def test_check_refuses_any_flipped_bit_of_any_file(gray_bundle: Path, tmp_path: Path) -> None:
    bundle = copy_bundle(gray_bundle, tmp_path / "b", sums=False)
    names, dice = sorted(path.name for path in bundle.iterdir()), random.Random(2)  # noqa: S311 - no secret
    for number in range(120):
        path = bundle / names[number % len(names)]
        data = path.read_bytes()
        bit = dice.randrange(8 * len(data))
        path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
        assert isinstance(files_of(bundle).error, BundleError)
        path.write_bytes(data)
    assert files_of(bundle).error is None


def files_of(bundle: Path) -> Finding:
    """What `check` says of a bundle's files."""
    return next(finding for finding in check(Question(str(bundle), "cpu")) if finding.what == "files")


def test_what_a_card_says_is_shown_and_not_obeyed(vae_run: Any, gray_bundle: Path, tmp_path: Path) -> None:
    """A terminal would clear its screen, and a lone surrogate could not be written at all."""
    nasty = {
        "name": "clear\x1b[2J\nnext",
        "precision": "fp32\x1b[31m\x07\n\ud800",
        "license": "half \ud800",
        "recipe": {"k\x07": "\u202e", "outer\x07": {"inner\x07": 1}},
        "bundle_id": "\x1b]0;\ud800",
    }
    changes: dict[str, bytes | None] = {
        f"{role}.onnx": changed_card((gray_bundle / f"{role}.onnx").read_bytes(), **nasty)
        for role in ("encoder", "decoder")
    }
    bundle = copy_bundle(gray_bundle, tmp_path / "b", changes)
    for command in (["info"], ["info", "--json"], ["check"]):
        done = vae_run(*command, "--model", bundle)
        assert (done.code, done.err) == (0, "")
        text = done.out.decode("utf-8")
        assert all(c.isprintable() or c == "\n" for c in text)
        assert "clear" in text


def test_what_is_wrong_is_shown_by_check_and_not_obeyed(vae_run: Any, tmp_path: Path) -> None:
    done = vae_run("check", "gone\x07")
    assert done.code == 3
    assert b"FAILED  files         gone\\x07: no such bundle" in done.out


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
