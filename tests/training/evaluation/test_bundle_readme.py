"""`vae-train evaluate --readme` writes its table into the card of the bundle that it measured, and breaks nothing."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import BundleError, UnsafeBundleError, load
from vae_training.evaluation.bundle_readme import find_writable_bundle, write_evaluation

Here = Callable[..., Any]
ALONE = ("--importance-samples", 40, "--importance-images", 6, "--alone")
CARD = "# bars\n\n## Training\n\nOn bars.\n\n## Parity with PyTorch\n\nSmall.\n\n## Limits\n\nMany.\n"


def sums_hold(folder: Path) -> bool:
    told = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False)
    return told.returncode == 0


def digest_of_sums(folder: Path) -> str:
    return hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    """A bundle with a card, to write into."""
    folder = tmp_path / "own"
    shutil.copytree(bundle, folder)
    (folder / "README.md").write_text(CARD)
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(CARD.encode()).hexdigest()}  README.md\n")
    return folder


def test_the_card_gets_the_table_between_training_and_parity_and_the_graphs_stay(
    own: Path, vae_train_here: Here
) -> None:
    before = contents(own)
    ended = vae_train_here("evaluate", own, *ALONE, "--readme")
    assert (ended.code, ended.err) == (0, "")
    text = (own / "README.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == ["# bars", "## Training", "## Evaluation", "## Parity with PyTorch", "## Limits"]
    shown = [re.split(r"  +", line.strip()) for line in ended.out.splitlines() if re.match("  [^ ]", line)]
    assert {"PSNR, dB", "coverage", "ELBO"} <= {what for what, *_ in shown}
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"]
    assert [row for row in rows[2:] if not row[0].startswith("**")] == shown
    assert sums_hold(own)
    assert digest_of_sums(own) in ended.out
    after = contents(own)
    assert {name for name in after if after[name] != before.get(name)} == {"README.md", "SHA256SUMS"}
    load(own, expect_sha256=digest_of_sums(own)).close()


def test_a_newer_table_takes_the_place_of_the_older(own: Path) -> None:
    for text in ("first", "second"):
        write_evaluation(own, text, measured=digest_of_sums(own))
    written = (own / "README.md").read_text()
    assert written == CARD.replace("## Parity", "## Evaluation\n\nsecond\n\n## Parity")


@pytest.mark.parametrize("card", ["# mine\n", "# mine\n\n## Evaluation\n\nold\n"])
def test_a_card_of_another_form_gets_it_at_its_end(own: Path, card: str) -> None:
    (own / "README.md").write_text(card)
    rewrite_sums(own)
    write_evaluation(own, "new\n", measured=digest_of_sums(own))
    assert (own / "README.md").read_text() == "# mine\n\n## Evaluation\n\nnew\n"
    assert sums_hold(own)


def test_a_bundle_without_a_card_gets_one(bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "bare"))
    write_evaluation(folder, "new", measured=digest_of_sums(folder))
    assert (folder / "README.md").read_text() == "# bare\n\n## Evaluation\n\nnew\n"
    assert sums_hold(folder)


def test_a_bundle_that_changed_since_it_was_measured_is_left_alone(own: Path) -> None:
    before = contents(own)
    with pytest.raises(UnsafeBundleError, match="not the bundle"):
        write_evaluation(own, "new", measured="0" * 64)
    assert contents(own) == before


def test_files_that_are_not_of_the_bundle_are_not_thrown_away(own: Path) -> None:
    (own / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt.*move what is not of the bundle elsewhere"):
        find_writable_bundle(str(own))
    with pytest.raises(BundleError, match=r"notes\.txt"):
        write_evaluation(own, "new", measured=digest_of_sums(own))
    assert (own / "notes.txt").read_text() == "mine"


def test_a_link_to_a_bundle_stays_a_link(own: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(own)
    write_evaluation(find_writable_bundle(str(link)), "new", measured=digest_of_sums(own))
    assert link.is_symlink()
    assert "## Evaluation" in (own / "README.md").read_text()


@pytest.mark.parametrize(
    ("source", "words"), [("digits", "shipped model"), ("RUN", "not a bundle"), ("nowhere", "no such bundle")]
)
def test_what_has_no_card_to_write_is_refused_before_any_work(
    source: str, words: str, run: Path, in_a_folder: Path, vae_train_here: Here
) -> None:
    ended = vae_train_here("evaluate", str(run) if source == "RUN" else source, "--readme")
    assert (ended.code, ended.out) == (3, "")
    assert words in ended.err


def rewrite_sums(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    told = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True)
    (folder / "SHA256SUMS").write_bytes(told.stdout)
