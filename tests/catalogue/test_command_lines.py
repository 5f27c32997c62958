"""Words on the command line that are wrong, chosen here and at random."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import COMMANDS, Ended, Programs, environment

Refuses = Callable[..., str]

DIGITS = "9" * 5000

USAGE = {
    "vae-run sample -n 0": "0 is not in the range 1<=x<=100000000",
    "vae-run sample -n -1": "-1 is not in the range 1<=x<=100000000",
    "vae-run sample -n 1000000000": "1000000000 is not in the range 1<=x<=100000000",
    "vae-run sample -n 1e9": "'1e9' is not a valid integer",
    f"vae-run sample -n {DIGITS}": "is not a valid integer",
    "vae-run sample -n": "requires an argument",
    "vae-run sample --seed x": "'x' is not a valid integer",
    "vae-run sample --seed -1": "-1 is not in the range x>=0",
    "vae-run sample --seed 1.5": "'1.5' is not a valid integer",
    f"vae-run sample --seed {DIGITS}": "is not a valid integer",
    "vae-run sample --temperature -0.1": "-0.1 is not in the range 0<=x<=1e+30",
    "vae-run sample --temperature warm": "'warm' is not a valid float",
    "vae-run sample --rows 0": "0 is not in the range 1<=x<=1000000000",
    "vae-run sample --columns -3": "-3 is not in the range 1<=x<=1000000000",
    "vae-run sample -n 7 --rows 2 --columns 3": "7 images do not fit into 2 rows of 3",
    "vae-run sample --scale 65": "65 is not in the range 1<=x<=64",
    "vae-run sample --threads 0": "0 is not in the range 1<=x<=1024",
    "vae-run sample --provider tpu": "'tpu' is not one of 'auto', 'cpu', 'cuda'",
    "vae-run sample --colour": "No such option",
    "vae-run sample --overwrite=yes": "does not take a value",
    "vae-run sample surplus": "unexpected extra argument (surplus)",
    "vae-run sample \x1b[2J": r"unexpected extra argument (\x1b[2J)",
    "vae-run interpolate": "Missing argument",
    "vae-run interpolate 1 --model BUNDLE": "expected at least two seeds or pictures",
    "vae-run interpolate 1 2 --steps 1": "1 is not in the range 2<=x",
    "vae-run interpolate 1 2 --steps 0": "0 is not in the range 2<=x",
    "vae-run interpolate 1 2 --steps 1000000000": "1000000000 is not in the range 2<=x",
    "vae-run interpolate 1 2 --method cubic": "'cubic' is not one of 'slerp', 'linear'",
    "vae-run encode": "Missing argument",
    "vae-run encode out.npy -n 0": "0 is not in the range 1<=x<=100000000",
    "vae-run encode out.npy -o new.png": "expected a name in .npy, .npz or - for stdout",
    "vae-run decode": "Missing argument",
    "vae-run decode out.npy -o new.gif": "expected a name in .png, .npy, .npz, a name without suffix",
    "vae-run dream": "No such command",
    "vae-run --quiet": "No such option",
    f"vae-train --epochs {DIGITS}": "is not a valid integer",
    "vae-train --seed x": "'x' is not a valid integer",
    "vae-train --seed 9223372036854775808": "is not in the range 0<=x<=9223372036854775807",
    "vae-train --image-size 0": "expected a number above 0 of at most 9 digits, or two as in 24x32",
    "vae-train --image-size 8x8x8": "expected a number above 0",
    f"vae-train --image-size {DIGITS}": "expected a number above 0 of at most 9 digits",
    "vae-train --image-size \N{SUPERSCRIPT TWO}": "expected a number above 0",
    f"vae-train --filters {DIGITS},2": "of at most 9 digits, as in 32,64",
    "vae-train --channels 2": "'2' is not one of '1', '3'",
    "vae-train --validation 1": "is not in the range 0<=x<=0.9",
    "vae-train --device tpu": "'tpu' is not one of 'auto', 'cpu', 'cuda'",
    "vae-export": "Missing argument",
    "vae-export weights.safetensors --opset seventeen": "'seventeen' is not a valid integer",
    "vae-export weights.safetensors --image-tolerance 0": "0.0 is not in the range x>0",
    f"vae-export weights.safetensors --image-size {DIGITS}x8": "expected a number above 0 of at most 9 digits",
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), USAGE.items(), ids=[line[:60] for line in USAGE])
def test_wrong_usage_leaves_with_2_and_says_where_help_is(refuses: Refuses, line: str, words: str) -> None:
    refuses(line, None, 2, words, f"(see {line.split()[0]}", " --help)")


IMPOSSIBLE = {
    "vae-run sample -n 2 --temperature nan --model BUNDLE -o new.npy": (2, "nan is not in the range 0<=x<=1e+30"),
    "vae-run sample -n 2 --temperature 1e999 --model BUNDLE -o new.npy": (2, "inf is not in the range 0<=x<=1e+30"),
    f"vae-run sample -n 2 --columns {'9' * 30} --model BUNDLE -o new.png": (2, "is not in the range 1<=x<=1000000000"),
    "vae-run sample -n 2 --columns 1000000000 --model BUNDLE -o new.png": (3, "expected at most 2147483647 a side"),
    "vae-run sample -n 2 --rows 200000000 --columns 9000000 --model BUNDLE -o new.png": (3, "1099511627776 in all"),
    "vae-run sample -n 2 --columns 90000000 --model BUNDLE -o new.png": (4, "not enough memory ("),
    "vae-run interpolate 1 2 --steps 100000000 --model BUNDLE -o new.npy": (4, "not enough memory"),
    f"vae-run interpolate 1 {DIGITS} --model BUNDLE -o new.npy": (3, "a seed of 5000 digits; expected at most 1000"),
    "vae-run interpolate 1 0x10 --model BUNDLE -o new.npy": (3, "expected a seed (a whole number) or a picture file"),
    "vae-train --data images.npy --image-size 400000000 -o run": (2, "at most 16384"),
    "vae-train --data images.npy --image-size 10 -o run": (2, "divisible by 4"),
    "vae-train --data images.npy --filters 100000,2 -o run": (2, "expected two numbers from 1 to 65536"),
    "vae-train --data images.npy --filters 65536,65536 -o run": (4, "not enough memory"),
    "vae-train --data images.npy --learning-rate nan -o run": (2, "nan is not in the range x>0"),
    "vae-train --data images.npy --beta inf -o run": (2, "training.beta is inf; expected"),
    "vae-train --data images.npy --validation nan -o run": (2, "nan is not in the range 0<=x<=0.9"),
    "vae-train --data images.npy --array images -o run": (3, "--array and --groups name arrays of a .npz"),
    "vae-train --data images.npz --array other -o run": (3, "no array 'other'; it holds images, wrong"),
    "vae-train --data images.npz --array images --groups wrong -o run": (3, "expected one whole number for each"),
    "vae-train --data photographs -o run": (3, "'photographs': no data set, file or folder of that name; expected"),
    "vae-train --data weights.safetensors -o run": (3, "not a kind of file that is read here; expected one of"),
}  # fmt: skip


@pytest.mark.parametrize("line", IMPOSSIBLE, ids=[line.replace(DIGITS, "9...")[:70] for line in IMPOSSIBLE])
def test_what_cannot_be_done_is_refused_before_anything_is_written(refuses: Refuses, line: str) -> None:
    images = np.zeros((4, 8, 12), np.uint8)
    np.save("images.npy", images)
    np.savez("images.npz", images=images, wrong=images)
    refuses(line, None, *IMPOSSIBLE[line])


def test_more_images_than_there_is_room_for_leave_nothing(refuses: Refuses) -> None:
    refuses(
        "vae-run sample -n 100000000 --model BUNDLE -o new.npy", None, 4,
        limits={"RLIMIT_AS": 512 << 20, "RLIMIT_FSIZE": 1 << 20},
    )  # fmt: skip


SETTINGS: dict[str, tuple[bytes, str]] = {
    "text": (b"epochs: 3\n", "not a readable TOML file"),
    "a run's checkpoint": (b"\x00\x01\x02\xff", "not a readable TOML file"),
    "larger than 64 KiB": (b"# comment\n" * 200_000, "not a readable TOML file (larger than 65536 bytes)"),
    "a number of 5,000 digits": (b"[training]\nepochs = " + b"9" * 5000, "not a readable TOML file (Exceeds"),
    "deep brackets": (b"a = " + b"[" * 100_000, "not a readable TOML file"),
    "twice": (b"[training]\nepochs = 1\nepochs = 2\n", "not a readable TOML file"),
    "a setting that is none": (b'[training]\n"e\\u001b[2J" = 1\n', r"unknown setting e\x1b[2J; expected epochs"),
    "a number too large": (b"[training]\nbatch_size = 1000000000000\n", "training.batch_size is 1000000000000; ex"),
    "a model too large": (b"[model]\nheight = 1180591620717411303424\n", "model.height is 1180591620717411303424; e"),
    "images too large": (b"[data]\nimage_size = [4000000000000, 8]\n", "expected at most 16384 a side"),
    "images of a negative size": (b"[data]\nimage_size = [-8, 8]\n", "image size -8x8; expected"),
    "a name with NUL": (b'[data]\nsource = "a\\u0000b.npy"\n', "expected a name without NUL"),
    "not a number": (b"[data]\nvalidation = nan\n", "data.validation is nan; expected 0 to 0.9"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), SETTINGS.values(), ids=SETTINGS)
def test_a_file_of_settings_that_is_none_is_refused(refuses: Refuses, data: bytes, words: str) -> None:
    Path("bad.toml").write_bytes(data)
    refuses("vae-train --config BAD -o run", "bad.toml", 3, words)


# Words of real command lines, and of nightmares.
NUMBERS = [
    "0",
    "1",
    "2",
    "7",
    "-1",
    "1e9",
    "1.5",
    "nan",
    "inf",
    "9" * 30,
    DIGITS,
    "0x1",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "",
    " 3 ",
    "1_0",
]
NAMES = ["out.png", "new.png", "new.npy", "new.npz", "new", "images.npy", "latents.npz", "folder", ".", "/", "-",
         "a\nb.png", "\x1b[2J", "x" * 300, "out.png/a.npy", "gone.npz", "new.jpg", "/dev/null", "pipe.npy"]  # fmt: skip
OPTIONS = {
    "-n": NUMBERS, "--seed": NUMBERS, "--temperature": NUMBERS, "--rows": NUMBERS, "--columns": NUMBERS,
    "--padding": NUMBERS, "--scale": NUMBERS, "--threads": ["1", "2", "0", "x"], "--steps": NUMBERS,
    "--method": ["slerp", "linear", "cubic"], "--provider": ["cpu", "auto", "cuda", "tpu"],
    "--model": ["BUNDLE", "faces24", "gone", "", "folder", "x" * 300], "-o": NAMES, "--overwrite": [None],
    "--box": ["0,0,2,2", "0,0,99,2", "1,2,3", "x", ""], "--mask": NAMES, "--noise-scale": NUMBERS,
    "--strength": ["-1..1", "0.5", "..", "1..2..3", *NUMBERS], "--direction": ["direction.npy", *NAMES],
    "--with": NAMES, "--without": NAMES, "--observation-noise": [None],
    "--float": [None], "--help": [None], "--nonsense": [None, "1"], "--": [None], "--json": [None],
}  # fmt: skip
VERBS = [
    "sample", "interpolate", "reconstruct", "encode", "decode", "direction", "edit", "inpaint", "denoise", "info",
    "list", "dream", "",
]  # fmt: skip

option = st.sampled_from(sorted(OPTIONS)).flatmap(
    lambda name: st.sampled_from(OPTIONS[name]).map(lambda value: [name] if value is None else [name, value])
)
arguments = st.sampled_from(NAMES + NUMBERS).map(lambda word: [word])
lines = st.tuples(st.sampled_from(VERBS), st.lists(option | arguments, max_size=6)).map(
    lambda drawn: [drawn[0], *(word for words in drawn[1] for word in words)]
)


@given(line=lines)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_typed_ends_with_a_code_that_is_known_and_one_line(
    place: Path, programs: Programs, gray_bundle: Path, line: list[str]
) -> None:
    prepare()
    before = {name: Path(name).read_bytes() for name in ("images.npy", "latents.npz", "weights.safetensors")}
    words = [str(gray_bundle) if word == "BUNDLE" else word for word in line]
    ended = programs.run("vae-run", *words, limits={"RLIMIT_AS": 300 << 20, "RLIMIT_FSIZE": 64 << 20})
    assert ended.code in (0, 2, 3, 4), ended.err
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) <= 1
    if ended.code:
        assert ended.out == b""
        assert ended.err.startswith("vae-run: error: ")
        assert ended.err[:-1].isprintable()
    for name, content in before.items():
        assert Path(name).read_bytes() == content or "--overwrite" in line
    assert not list(Path().rglob(".tmp-*"))


def prepare() -> None:
    """Put into the current folder what the words name, and take away what earlier words left."""
    np.save("images.npy", np.zeros((3, 8, 12), np.uint8))
    np.savez("latents.npz", mean=np.zeros((3, 3), np.float32))
    np.save("direction.npy", np.ones(3, np.float32))
    Path("folder").mkdir(exist_ok=True)
    if not os.path.lexists("pipe.npy"):
        os.mkfifo("pipe.npy")
    for path in Path().glob("new*"):
        if path.is_file():
            path.unlink()


WITHOUT = "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnxruntime', 'onnx', 'numpy', 'PIL'])); "


@pytest.mark.parametrize("program", ["vae-run", "vae-run sample", "vae-train", "vae-export"])
def test_help_and_version_need_no_library(place: Path, program: str) -> None:
    name, *command = program.split()
    start = [sys.executable, "-c", f"{WITHOUT}from {COMMANDS[name]} import main; main()"]
    words = {"--help": f"Usage: {program} ", "--version": f"{name}, version "}
    for flag, begin in words.items():
        done = subprocess.run(
            [*start, *(command if flag == "--help" else []), flag],
            capture_output=True, text=True, env=environment(), timeout=30, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(begin)


def test_the_same_seed_gives_the_same_bytes(run: Callable[..., Ended]) -> None:
    for name in ("a.npy", "a.npz", "a.png"):
        written = []
        for _ in range(2):
            assert run(f"vae-run sample -n 3 --seed 5 --model BUNDLE --overwrite -o {name}").code == 0
            written.append(Path(name).read_bytes())
        assert written[0] == written[1]
