"""What goes wrong on the command line: one line on stderr, the right exit code, and nothing written."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contents import files
from onnx_bytes import changed_card, copy_bundle, decoder_of, node
from PIL import Image

from vae_runtime import available_providers
from vae_runtime.cli.options import File

cpu_only = pytest.mark.skipif(
    available_providers() != ("cpu",), reason="this onnxruntime has more than the CPU"
)

BUNDLE = "BUNDLE"  # stands for the gray bundle's path


def refused(vae_run: Any, line: list[Any], code: int, message: str) -> str:
    before = files()
    done = vae_run(*line)
    assert (done.code, done.out) == (code, b""), done.err
    assert done.err.startswith("vae-run: error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert files() == before
    said: str = done.err
    return said


def commands(text: str, bundle: Path) -> list[str]:
    return [str(bundle) if word == BUNDLE else word for word in text.split()]


USAGE = [
    ("sample --colour red", "No such option", "vae-run sample --help"),
    ("sample -n 0", "0 is not in the range 1<=x<=100000000", "vae-run sample --help"),
    ("sample -n -1", "-1 is not in the range", ""),
    ("sample -n 1e9", "'1e9' is not a valid int", ""),
    ("sample -n 1000000000", "1000000000 is not in the range", ""),
    ("sample --seed x", "'x' is not a valid int", ""),
    ("sample --seed -1", "-1 is not in the range x>=0", ""),
    ("sample --temperature -1", "-1.0 is not in the range 0<=x<=1e+30", ""),
    ("sample --temperature inf", "inf is not in the range 0<=x<=1e+30", ""),
    ("sample --temperature hot", "'hot' is not a valid float", ""),
    ("sample --columns 0", "0 is not in the range 1<=x<=1000000000", ""),
    ("sample --rows 0", "0 is not in the range 1<=x<=1000000000", ""),
    ("sample --padding 65", "65 is not in the range 0<=x<=64", ""),
    ("sample --scale 0", "0 is not in the range 1<=x<=64", ""),
    ("sample --threads 0", "0 is not in the range 1<=x<=1024", ""),
    ("sample --provider gpu", "'gpu' is not one of 'auto', 'cpu', 'cuda'", ""),
    ("sample -n 7 --rows 2 --columns 3", "7 images do not fit into 2 rows of 3", ""),
    ("sample -n 7 --rows 2 --columns 3 --model gone", "7 images do not fit into 2 rows of 3", ""),
    (
        "sample --padding 1 -o a.npy",
        "--padding is for one PNG: it would change nothing of output 'a.npy'",
        "",
    ),
    ("sample --padding 1 -o folder", "--padding is for one PNG", ""),
    (
        "reconstruct a.png --scale 2 -o a.npz",
        "--scale is for PNGs: it would change nothing of output 'a.npz'",
        "",
    ),
    ("sample --scale 2 --shard-size 5 -o folder", "--scale is for PNGs", ""),
    ("decode a.npy --float", "--float is for arrays, not for PNGs: it would change nothing of", ""),
    ("sample --float -o folder/", "--float is for arrays, not for PNGs", ""),
    (f"sample --seed {'1' * 5000}", f"'{'1' * 100}...' is not a valid int", ""),
    ("sample more", "unexpected extra argument", ""),
    ("sample -o a.jpg", "output 'a.jpg': expected a name in .png, .npy, .npz, a name without suffix", ""),
    ("sample -o", "requires an argument", ""),
    ("interpolate", "Missing argument 'POINT POINT...'", "vae-run interpolate --help"),
    (f"interpolate 1 --model {BUNDLE}", "1 point given; expected at least two seeds or pictures", ""),
    ("interpolate 1 2 --steps 1", "1 is not in the range 2<=x", ""),
    ("interpolate 1 2 --steps 0", "0 is not in the range 2<=x", ""),
    ("interpolate 1 2 --method cubic", "'cubic' is not one of 'slerp', 'linear'", ""),
    ("interpolate 1 2 --steps 7 --rows 2 --columns 3", "7 images do not fit into 2 rows of 3", ""),
    ("interpolate 1 -2", "No such option", ""),
    ("reconstruct", "Missing argument", "vae-run reconstruct --help"),
    ("reconstruct a.png -n 0", "0 is not in the range 1<=x<=100000000", ""),
    ("encode", "Missing argument", ""),
    ("encode a.png -o a.png", "output 'a.png': expected a name in .npy, .npz or - for stdout", ""),
    ("encode a.png -o folder", "output 'folder': expected a name in .npy, .npz or - for stdout", ""),
    ("score", "Missing argument", ""),
    ("score a.png -o a.png", "output 'a.png': expected a name in .csv, .npy, .npz or - for stdout", ""),
    ("score a.png -o folder", "output 'folder': expected a name in .csv, .npy, .npz or - for stdout", ""),
    ("score a.png --above 100", "100.0 is not in the range 0<=x<100", ""),
    ("score a.png --above nan", "nan is not in the range 0<=x<100", ""),
    ("score a.png --top 0", "0 is not in the range 1<=x<=100000000", ""),
    ("score a.png --samples 0", "0 is not in the range 1<=x<=1000000", ""),
    *(
        (
            f"score a.png --above 99 -o {name} --model gone",
            "a .npy of totals would not say which; expected",
            "",
        )
        for name in ("a.npy", "-")
    ),
    ("decode", "Missing argument", ""),
    ("decode a.npy b.npy", "unexpected extra argument", ""),
    ("dream", "No such command 'dream'", "vae-run --help"),
    ("--loud", "No such option", "vae-run --help"),
]


HUGE = str(10**30)
COUNTS = {
    "sample": ["-n", "--rows", "--columns", "--padding", "--scale", "--threads", "--max-model-bytes"],
    "interpolate": ["--steps", "--rows", "--columns", "--scale", "--threads", "--max-model-bytes"],
    "reconstruct": ["-n", "--rows", "--columns", "--scale", "--threads", "--max-model-bytes"],
    "encode": ["-n", "--threads", "--max-model-bytes"],
    "score": ["-n", "--top", "--samples", "--threads", "--max-model-bytes"],
    "decode": ["--rows", "--columns", "--scale", "--threads", "--max-model-bytes"],
    "info": ["--threads", "--max-model-bytes"],
    "check": ["--threads", "--max-model-bytes"],
}


@pytest.mark.parametrize("command", COUNTS)
def test_every_number_has_an_upper_end_that_is_said(vae_run: Any, command: str) -> None:
    np.save("in.npy", np.zeros((1, 3)))
    given = {"interpolate": ["1", "2"], "sample": [], "info": [], "check": []}.get(command, ["in.npy"])
    for option in COUNTS[command]:
        said = refused(vae_run, [command, *given, option, HUGE], 2, f"{HUGE} is not in the range ")
        assert re.search(r"range \d<=x<=\d+", said), option


def test_every_number_at_its_upper_end_ends_in_order(vae_run: Any, gray_bundle: Path) -> None:
    """Neither a traceback nor a process that the system kills for its memory."""
    ends = {"--rows": 10**9, "--columns": 10**9, "--scale": 64, "--padding": 64, "--threads": 1024}
    for option, most in {**ends, "--max-model-bytes": 10**12}.items():
        line = ("sample", "-n", 200, option, most, "--model", gray_bundle, "--overwrite", "-o", "a.png")
        done = vae_run(*line, "--provider", "cpu")
        assert done.code == (3 if most == 10**9 else 0), done.err
        assert done.err.count("\n") == 1


def test_a_seed_may_be_of_any_size(vae_run: Any, gray_bundle: Path) -> None:
    for number in (2**64, 10**30):
        done = vae_run("sample", "-n", 1, "--seed", number, "--model", gray_bundle, "-o", f"{number}.png")
        assert done.code == 0, done.err


@pytest.mark.parametrize(("line", "message", "see"), USAGE, ids=[line for line, _, _ in USAGE])
def test_wrong_usage_leaves_with_2(
    vae_run: Any, gray_bundle: Path, line: str, message: str, see: str
) -> None:
    said = refused(vae_run, commands(line, gray_bundle), 2, message)
    assert f"(see {see or 'vae-run'}" in said


ARRAYS: dict[str, tuple[Callable[[], Any], str]] = {
    "other rank": (
        lambda: np.zeros((8, 12), np.uint8),
        "shape (8, 12); expected (N, 8, 12); add the batch axis",
    ),
    "other size": (
        lambda: np.zeros((2, 12, 8), np.uint8),
        "uint8 pictures of shape (2, 12, 8); expected (N, 8, 12)",
    ),
    "other channels": (
        lambda: np.zeros((2, 3, 8, 12)),
        "images of shape (2, 3, 8, 12); expected (N, 1, 8, 12)",
    ),
    "no axes": (lambda: np.float32(1), "shape ()"),
    "nan": (lambda: np.full((1, 1, 8, 12), np.nan), "images hold nan at index (0, 0, 0, 0)"),
    "infinity": (lambda: np.full((1, 1, 8, 12), np.inf), "images hold inf at index (0, 0, 0, 0)"),
    "0 to 255 as floats": (lambda: np.full((1, 1, 8, 12), 255.0), "expected [0, 1] (divide pixels by 255"),
    "whole numbers": (lambda: np.zeros((2, 8, 12), np.int64), "images of type int64"),
}


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
@pytest.mark.parametrize(("make", "message"), ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_is_not_of_images_leaves_with_3(
    vae_run: Any, gray_bundle: Path, make: Callable[[], Any], message: str, command: str
) -> None:
    np.save("in.npy", make())
    refused(vae_run, [command, "in.npy", "--model", gray_bundle, "-o", "out.npy"], 3, message)


LATENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "one point": (lambda: np.zeros(3), "latents of shape (3,); expected (N, 3); add the batch axis"),
    "of another model": (lambda: np.zeros((2, 20)), "latents of shape (2, 20); expected (N, 3)"),
    "nan": (lambda: np.full((1, 3), np.nan), "latents hold nan at index (0, 0)"),
    "truths": (lambda: np.zeros((1, 3), bool), "latents of type bool"),
    "text": (lambda: np.full((1, 3), "a"), "in.npy: data type <U1"),
}


@pytest.mark.parametrize(("make", "message"), LATENTS.values(), ids=LATENTS)
def test_an_array_that_is_not_of_latents_leaves_with_3(
    vae_run: Any, gray_bundle: Path, make: Callable[[], Any], message: str
) -> None:
    np.save("in.npy", make())
    refused(vae_run, ["decode", "in.npy", "--model", gray_bundle], 3, message)


@pytest.mark.parametrize("wrong", [np.nan, 255.0], ids=["nan", "0 to 255 as floats"])
@pytest.mark.parametrize(
    "line",
    [
        "encode in.npy -o o.npy",
        "score in.npz",
        "reconstruct in.npy -o o.png",
        "denoise in.npy --noise-scale 0.1 -o o.npy",
        "inpaint in.npz --box 0,0,1,1 -o o.npy",
        "edit in.npy --direction ok.npy -o o.npy",
        "direction --with whole.npy --without in.npy -o o.npz",
        "direction --with in.npz --without whole.npy -o o.npz",
        "interpolate whole.npy in.npy -o o.npy",
    ],
)
def test_what_is_wrong_with_numbers_is_told_with_the_file_that_holds_them(
    vae_run: Any, gray_bundle: Path, line: str, wrong: float
) -> None:
    """Where a command takes several, nobody would know which."""
    images = np.full((1, 1, 8, 12), 0.5)
    np.save("whole.npy", images)
    images[0, 0, 3, 4] = wrong
    np.save("in.npy", images)
    np.savez("in.npz", images=images)
    np.save("ok.npy", np.ones(3))
    name = "in.npy" if "in.npy" in line else "in.npz"
    refused(vae_run, [*line.split(), "--model", gray_bundle], 3, f"error: {name}: images ")


def write_inputs() -> None:
    """What the table below names."""
    whole = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12))
    whole.save("whole.png")
    data = Path("whole.png").read_bytes()
    for name in ("empty", "many", "no-pictures"):
        Path(name).mkdir()
    Path("no-pictures/notes.txt").write_text("hello")
    for index in range(3):
        Path(f"many/{index}.png").write_bytes(data if index != 1 else data[: len(data) // 2])
    for name, content in {
        "cut.png": data[:50],
        "zero.png": b"",
        "text.png": b"hello",
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
        "text.npy": b"hello",
        "zero.npy": b"",
        "zip.npy": b"PK\x03\x04" + bytes(50),
        "text.npz": b"hello",
    }.items():
        Path(name).write_bytes(content)
    np.savez("other.npz", other=np.zeros((1, 3)), more=np.zeros((1, 8, 12)))
    Path("folder.npy").mkdir()
    Image.new("I", (4, 4)).save("deep.tif")
    Image.new("F", (4, 4)).save("float.tif")
    if hasattr(os, "symlink"):
        Path("loop.png").symlink_to("loop.png")
        Path("broken").mkdir()
        Path("broken/link.png").symlink_to("nowhere.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.png")
        os.mkfifo("pipe.npy")


INPUTS = [
    ("encode gone.png", "gone.png: expected a picture file; there is none"),
    ("encode empty", "empty holds no pictures (looked for .png, .jpg"),
    ("encode no-pictures", "no-pictures holds no pictures (looked for .png"),
    ("encode many", "1.png: not a picture that can be read"),
    ("reconstruct many", "1.png: not a picture that can be read"),
    ("encode cut.png", "cut.png: not a picture that can be read"),
    ("encode zero.png", "zero.png: not a picture that can be read"),
    ("encode text.png", "text.png: not a picture that can be read"),
    ("encode eps.png", "eps.png: not a picture that can be read"),
    ("encode deep.tif", "deep.tif: I-mode pixels (32 bits each); expected 8 or 16 bits a channel"),
    ("encode float.tif", "float.tif: F-mode pixels"),
    ("encode loop.png", "loop.png"),
    ("encode broken", "link.png: expected a picture file; there is none"),
    ("encode pipe.png", "pipe.png: expected a picture file; not a file"),
    ("encode pipe.npy", "pipe.npy: expected a regular file"),
    ("encode whole.png gone.png", "gone.png: expected a picture file"),
    ("encode gone.npy", "gone.npy: cannot be read ("),
    ("encode text.npy", "text.npy: not a complete .npy"),
    ("encode zero.npy", "zero.npy: not a complete .npy"),
    ("encode zip.npy", "zip.npy: is a zip archive; expected one .npy array (name it .npz)"),
    ("encode folder.npy", "folder.npy: expected a regular file; it is a folder"),
    ("encode text.npz", "text.npz: not a complete .npz archive"),
    ("encode other.npz", "other.npz: no array 'images'; it holds other, more"),
    ("decode whole.png", "whole.png: not a complete .npy"),
    ("decode gone.npy", "gone.npy: cannot be read"),
    ("decode text.npz", "text.npz: not a complete .npz archive"),
    (
        "decode other.npz",
        "other.npz: no array 'mean'; it holds other, more; expected one of that name, or a .npy",
    ),
    (
        "interpolate 1 gone.png",
        "gone.png: expected a seed (a whole number) or a picture file; there is no such file",
    ),
    ("interpolate 1 1.5", "1.5: expected a seed (a whole number) or a picture file"),
    ("interpolate text.png 2", "text.png: not a picture that can be read"),
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the table has links and pipes in it")
@pytest.mark.parametrize(("line", "message"), INPUTS, ids=[line for line, _ in INPUTS])
def test_a_bad_input_leaves_with_3(vae_run: Any, gray_bundle: Path, line: str, message: str) -> None:
    write_inputs()
    for name in ("pipe.png", "pipe.npy"):
        if name not in line:
            Path(name).unlink()
    before = set(Path().rglob("*"))
    done = vae_run(*line.split(), "--model", gray_bundle)
    assert (done.code, done.out) == (3, b""), done.err
    assert done.err.startswith("vae-run: error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert set(Path().rglob("*")) == before


def test_images_that_do_not_fit_the_grid_leave_with_3(vae_run: Any, gray_bundle: Path) -> None:
    np.save("in.npy", np.zeros((7, 8, 12), np.uint8))
    np.save("l.npy", np.zeros((7, 3)))
    for line in (["reconstruct", "in.npy"], ["decode", "l.npy"]):
        refused(
            vae_run,
            [*line, "--rows", 2, "--columns", 3, "--model", gray_bundle],
            3,
            "7 pictures do not fit into 2 rows of 3",
        )


def test_of_an_array_its_file_is_named_and_the_whole_of_its_shape(vae_run: Any, gray_bundle: Path) -> None:
    np.save("good.npy", np.zeros((9, 8, 12), np.uint8))
    np.save("bad.npy", np.zeros((9, 8, 8), np.uint8))
    said = "bad.npy: uint8 pictures of shape (9, 8, 8); expected (N, 8, 12)"
    refused(vae_run, ["encode", "bad.npy", "-n", 2, "--model", gray_bundle], 3, said)
    refused(vae_run, ["interpolate", 1, "bad.npy", "--model", gray_bundle], 3, said)
    classes = ["--with", "good.npy", "--without", "bad.npy"]
    refused(vae_run, ["direction", *classes, "--model", gray_bundle], 3, said)
    refused(vae_run, ["decode", "bad.npy", "--model", gray_bundle], 3, "bad.npy: latents of type uint8")


def test_no_images_make_no_png(vae_run: Any, gray_bundle: Path) -> None:
    np.save("l.npy", np.zeros((0, 3)))
    refused(
        vae_run, ["decode", "l.npy", "--model", gray_bundle], 3, "a PNG of no images; expected at least one"
    )


EMPTY = [
    ["check", ""], ["sample", "--model", ""], ["encode", ""], ["encode", "in.npy", ""], ["decode", ""],
    ["inpaint", "in.npy", "--mask", ""], ["direction", "--with", "in.npy", "--without", ""],
]  # fmt: skip


@pytest.mark.parametrize("line", EMPTY, ids=str)
def test_an_empty_name_is_neither_the_folder_one_stands_in_nor_a_default(
    vae_run: Any, line: list[str]
) -> None:
    np.save("in.npy", np.zeros((1, 24, 24), np.uint8))
    refused(vae_run, line, 2, "the name is empty")


def test_a_file_that_may_not_be_read_is_no_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert File().convert(str(tmp_path), None, None) == tmp_path  # its reader says that it may not


BUNDLES: list[tuple[str, int, str]] = [
    ("gone", 3, "gone: no such bundle; expected a bundle's folder or a shipped model ("),
    ("empty", 3, "empty: not a bundle: it holds no SHA256SUMS"),
    ("b.zip", 3, "b.zip: is a zip archive; unpack it first"),
    ("b/decoder.onnx", 3, "is a file; expected a bundle's folder; give its folder: b"),
    ("flipped", 3, "decoder.onnx: SHA-256 differs"),
    ("missing", 3, "encoder.onnx: cannot be read (No such file or directory); SHA256SUMS lists it"),
    ("newer", 3, "card of format version 2; this vae-edge knows version 1. A newer vae-edge may read it"),
    ("swapped", 3, "its card says"),
    ("strange", 3, "come from different exports"),
    ("text", 3, "decoder.onnx: "),
    ("nan", 5, "the decoder produced 96 NaN or infinite values of 96"),
    ("x" * 300, 3, "no such bundle"),
]


@pytest.mark.parametrize(("name", "code", "message"), BUNDLES, ids=[name[:20] for name, _, _ in BUNDLES])
def test_a_bad_bundle_leaves_with_3_and_bad_numbers_with_5(
    vae_run: Any, gray_bundle: Path, name: str, code: int, message: str
) -> None:
    encoder, decoder = ((gray_bundle / f"{role}.onnx").read_bytes() for role in ("encoder", "decoder"))
    Path("empty").mkdir()
    copy_bundle(gray_bundle, Path("b"))
    with zipfile.ZipFile("b.zip", "w") as archive:
        archive.write("b/decoder.onnx")
    copy_bundle(gray_bundle, Path("flipped"), {"decoder.onnx": decoder[:-1] + b"\0"}, sums=False)
    copy_bundle(gray_bundle, Path("missing"), {"encoder.onnx": None}, sums=False)
    newer = {"encoder.onnx": changed_card(encoder, format_version=2)}
    copy_bundle(gray_bundle, Path("newer"), newer)
    copy_bundle(gray_bundle, Path("swapped"), {"encoder.onnx": decoder, "decoder.onnx": encoder})
    copy_bundle(gray_bundle, Path("strange"), {"encoder.onnx": changed_card(encoder, bundle_id="other")})
    copy_bundle(gray_bundle, Path("text"), {"decoder.onnx": b"hello"})
    not_a_number = decoder_of(
        decoder,
        lambda before, after: [
            node("Mul", [before, before], ["squared"]),
            node("Neg", ["squared"], ["negative"]),
            node("Log", ["negative"], [after]),
        ],
    )
    copy_bundle(gray_bundle, Path("nan"), {"decoder.onnx": not_a_number})
    refused(vae_run, ["sample", "-n", 1, "--seed", 7, "--model", name], code, message)


@cpu_only
@pytest.mark.parametrize("command", ["sample -n 1", "interpolate 1 2", "info", "encode in.npy"])
def test_a_provider_that_is_not_here_leaves_with_4_and_nothing_runs_elsewhere(
    vae_run: Any, gray_bundle: Path, command: str
) -> None:
    np.save("in.npy", np.zeros((1, 8, 12), np.uint8))
    said = refused(
        vae_run,
        [*command.split(), "--provider", "cuda", "--model", gray_bundle],
        4,
        "provider 'cuda' is not in the installed onnxruntime",
    )
    assert "pip uninstall -y onnxruntime && pip install 'vae-edge[gpu]'" in said
