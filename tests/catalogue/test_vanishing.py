"""Pictures that vanish, or are cut short, while a command is at work on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from folders import everything
from forking import Ended, ForkingServer
from PIL import Image
from processes import environment
from programs import COMMANDS

ENCODE = "vae-run encode folder --model BUNDLE -o out.npy --overwrite"
RECONSTRUCT = "vae-run reconstruct folder --model BUNDLE -o out.png --overwrite"
TRAIN = "vae-train --data folder --image-size 8x12 --channels 1 --epochs 1 --filters 2,3 --device cpu -o run"

HARMED = "folder/b.png"
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 12), np.uint8)

# What is said, by the moment that it comes to harm.
WORDS = {
    "once_listed": "expected a picture file; there is none",
    "at_opening": "expected a picture file; there is none",
    "at_opening_a_pipe": "expected a picture file; not a file",
    "opened": "not a picture that can be read",
    "measured": "was cut short while it was read: 60 of ",
}

linux = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="needs to know which file is asked about"
)


@pytest.fixture(scope="module")
def server() -> Iterator[ForkingServer]:
    support = str(Path(__file__).parent / "support")
    modules = ("vae_runtime.cli.inputs", "vae_runtime.cli.outputs", "vae_runtime.model", "onnxruntime",
               "PIL.PngImagePlugin", "vae_training.cli", "vae_training.data", "vae_training.loop")  # fmt: skip
    with ForkingServer(modules, environment(support, OMP_NUM_THREADS="1"), leave_at_once=True) as forking:
        yield forking


@pytest.fixture
def run(place: Path, server: ForkingServer, gray_bundle: Path) -> Callable[..., Ended]:
    """Run a line on a folder of three pictures, one of which comes to harm in a certain moment."""
    Path("folder/below").mkdir(parents=True)
    for name, pixels in zip(("folder/a.png", HARMED, "folder/below/c.png"), PIXELS, strict=True):
        Image.fromarray(pixels).save(name)

    def run_line(line: str, moment: str, harmed: str = HARMED) -> Ended:
        program, *words = [str(gray_bundle) if word == "BUNDLE" else word for word in line.split()]
        return server.call(
            "vanishing", program, *words, environment={"VANISHING": f"{COMMANDS[program]} {moment} {harmed}"}
        )

    return run_line


def everything_else() -> dict[str, object]:
    changed = (HARMED, "folder")  # whose time changes with it
    return {name: content for name, content in everything(Path()).items() if name not in changed}


@linux
@pytest.mark.parametrize("line", [ENCODE, RECONSTRUCT, TRAIN], ids=["encode", "reconstruct", "train"])
@pytest.mark.parametrize(("moment", "words"), WORDS.items(), ids=WORDS)
def test_a_picture_that_vanishes_is_refused_by_name(
    run: Callable[..., Ended], line: str, moment: str, words: str
) -> None:
    before, harmed = everything_else(), everything(Path())[HARMED]
    ended = run(line, moment)
    assert (ended.code, ended.out) == (3, b""), ended.err
    assert ended.err.startswith(f"{line.split()[0]}: error: {HARMED}: ")
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert everything_else() == before
    assert everything(Path()).get(HARMED) != harmed, "it came to no harm"


@linux
@pytest.mark.parametrize(("moment", "words"), WORDS.items(), ids=WORDS)
def test_a_picture_that_vanishes_is_left_out_on_demand(
    run: Callable[..., Ended], moment: str, words: str
) -> None:
    Path("folder/a.png").unlink()  # so that it ends once it has gone on, for one picture is too few
    before = everything_else()
    ended = run(f"{TRAIN} --skip-bad", moment)
    first, count, last = ended.err.splitlines()
    assert first.startswith(f"vae-train: left out: {HARMED}: ")
    assert words in first
    assert count == "vae-train: folder: left out 1 of 2 pictures"
    assert last == "vae-train: error: folder: expected at least 2 images; found 1"
    assert (ended.code, ended.out) == (3, b"")
    assert everything_else() == before


def test_training_goes_on_without_a_picture_that_vanished(run: Callable[..., Ended]) -> None:
    ended = run(f"{TRAIN} --validation 0 --skip-bad -q", "at_opening")
    assert ended.code == 0, ended.err
    assert "left out 1 of 3 pictures" in ended.err
    assert (Path("run") / "checkpoints").is_dir()


@pytest.mark.parametrize("line", [ENCODE, f"{TRAIN} --skip-bad"], ids=["encode", "train"])
def test_no_picture_is_left_out_for_what_the_process_lacks(run: Callable[..., Ended], line: str) -> None:
    before = everything(Path())
    ended = run(line, "at_opening_no_descriptor")
    assert (ended.code, ended.out) == (4, b""), ended.err
    assert ended.err.startswith(f"{line.split()[0]}: error: {HARMED}: ")
    assert ended.err.endswith("(Too many open files)\n")
    assert ended.err.count("\n") == 1
    assert everything(Path()) == before


LARGE = np.tile(PIXELS[1], (200, 200))


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])  # Pillow would map them into memory
def test_a_picture_cut_short_while_its_pixels_are_used_is_taken_as_it_was(
    run: Callable[..., Ended], kind: str
) -> None:
    # Larger than a page of memory: less than that stays readable when its file is cut short.
    Image.fromarray(LARGE).save(HARMED, kind)
    Path("folder/a.png").unlink()
    assert run(ENCODE, "once_listed", "nothing").code == 0
    untouched = Path("out.npy").read_bytes()
    ended = run(ENCODE, "decoded")
    assert Path(HARMED).stat().st_size == 60
    assert ended.code == 0, ended.err
    assert Path("out.npy").read_bytes() == untouched
