"""`vae-run list`: what the shipped models are, read off their cards."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from absent import wall
from onnx_bytes import copy_bundle, read_card, with_cards

from vae_runtime import bundle
from vae_runtime.bundle import shipped_models
from vae_runtime.cli.main import vae_run as command


def test_every_shipped_model_is_told_of_as_its_card_has_it(vae_run: Any) -> None:
    done = vae_run("list", "--json")
    assert (done.code, done.err) == (0, "")
    entries = json.loads(done.out)
    assert [entry["name"] for entry in entries] == list(shipped_models())
    for entry in entries:
        graphs = [path.read_bytes() for path in Path(entry["folder"]).glob("*.onnx")]
        card = read_card(graphs[0])
        assert entry["bytes"] == sum(map(len, graphs))
        for key in ("image_shape", "latent_size", "precision", "license", "data"):
            assert entry[key] == card[key]


def test_the_table_has_a_line_for_each(vae_run: Any) -> None:
    done = vae_run("list")
    assert (done.code, done.err) == (0, "")
    head, *lines = done.out.decode().splitlines()
    assert head.split() == ["name", "images", "latents", "precision", "bytes", "licence", "trained", "on"]
    assert [line.split()[0] for line in lines] == list(shipped_models())
    for line in lines:
        if line.startswith("faces24 "):
            assert line.split()[1:5] == ["24x24", "gray", "32", "fp32"]
            assert "Labeled Faces in the Wild" in line


def test_neither_numpy_nor_onnxruntime_is_asked(run_python: Any) -> None:
    run = "from vae_runtime.cli import main; sys.argv = ['vae-run', 'list']; main()"
    finished = run_python(f"{wall('numpy', 'onnxruntime', 'PIL')}\n{run}")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert len(finished.stdout.splitlines()) == 1 + len(shipped_models())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of shipped models, empty."""
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr(bundle, "_SHIPPED", (tmp_path / "shipped",))
    return tmp_path / "shipped"


def test_without_models_it_says_so(run_here: Callable[..., Any], place: Path) -> None:
    done = run_here(command, "list")
    assert (done.code, done.out, done.err) == (0, "no models are shipped with this installation\n", "")
    assert run_here(command, "list", "--json").out == "[]\n"
    assert not list(place.iterdir())


def test_what_cards_say_is_shown_and_not_obeyed(
    run_here: Callable[..., Any], place: Path, colour_bundle: Path
) -> None:
    with_cards(colour_bundle, place / "one", license="", data="\x1b[2J photographs\nof nobody")
    done = run_here(command, "list")
    assert done.code == 0
    assert all(c.isprintable() or c == "\n" for c in done.out)
    size = sum((place / "one" / f"{role}.onnx").stat().st_size for role in ("encoder", "decoder"))
    assert done.out.splitlines()[1].split() == [
        "one", "8x8", "colour", "4", "fp32", f"{size:,}", "-", r"\x1b[2J", r"photographs\nof", "nobody",
    ]  # fmt: skip
    assert json.loads(run_here(command, "list", "--json").out)[0]["data"] == "\x1b[2J photographs\nof nobody"


def test_on_a_narrow_terminal_lines_are_cut(
    run_here: Callable[..., Any], place: Path, gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_runtime.cli.listing import in_columns, list_shipped

    with_cards(gray_bundle, place / "one", data="photographs of nobody, " * 9)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    head, line = in_columns(list_shipped())
    assert len(line) == 60
    assert line.endswith("...")
    assert len(head) <= 60
    monkeypatch.setenv("COLUMNS", "400")
    assert in_columns(list_shipped())[1].endswith("of nobody,")


def test_a_damaged_one_is_named(run_here: Callable[..., Any], place: Path, gray_bundle: Path) -> None:
    copy_bundle(gray_bundle, place / "a good one")
    copy_bundle(gray_bundle, place / "torn", {"decoder.onnx": b"\0" * 9}, sums=False)
    done = run_here(command, "list")
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert f"{place}/torn/decoder.onnx: SHA-256 differs" in done.err
