"""`vae-train evaluate` as people meet it: figures, files, errors in one line, the same numbers every time."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from vae_runtime.cli.exits import run_command
from vae_runtime.images import to_uint8
from vae_training.cli import vae_train
from vae_training.data import ImageSet, split
from vae_training.evaluation.measuring import PIXELS
from vae_training.evaluation.spaces import spaces
from vae_training.evaluation.subjects import open_subject

Here = Callable[..., Any]
# What takes no time: the bound of a few images, by few samples.
ALONE = ("--importance-samples", 40, "--importance-images", 6, "--alone")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Terminal(io.StringIO):
    """Keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def flat(record: Any, path: str = "") -> dict[str, Any]:
    """Every number of a record by its path."""
    if isinstance(record, dict):
        return {k: v for name, value in record.items() for k, v in flat(value, f"{path}/{name}").items()}
    if isinstance(record, list):
        return {k: v for i, value in enumerate(record) for k, v in flat(value, f"{path}/{i}").items()}
    return {path: record}


def test_a_run_and_its_bundle_get_the_same_figures(
    folder: Path, run: Path, bundle: Path, vae_train_here: Here
) -> None:
    for source, output in ((run, "run.json"), (bundle, "bundle.json")):
        ended = vae_train_here("evaluate", source, *ALONE, "--json", output)
        assert (ended.code, ended.err) == (0, "")
    ours, theirs = (flat(json.loads(Path(name).read_bytes())) for name in ("run.json", "bundle.json"))
    assert ours.keys() == theirs.keys()
    differing = {
        path: (value, theirs[path])
        for path, value in ours.items()
        if isinstance(value, (int, float)) and value != pytest.approx(theirs[path], rel=2e-3, abs=1e-4)
    }
    assert differing == {}
    assert (ours["/model/kind"], theirs["/model/kind"]) == ("run", "bundle")


def test_the_same_command_writes_the_same_bytes_and_another_seed_others(
    folder: Path, run: Path, vae_train_here: Here
) -> None:
    for output, *more in (("a",), ("b",), ("c", "--seed", 1)):
        pictures = ("--pictures", f"{output}.png", "--json", f"{output}.json")
        assert vae_train_here("evaluate", run, *ALONE, *pictures, *more).code == 0
    for kind in ("json", "png"):
        first, again, other = (Path(f"{name}.{kind}").read_bytes() for name in "abc")
        assert first == again != other
    assert names(folder) == ["a.json", "a.png", "b.json", "b.png", "c.json", "c.png"]


def test_every_figure_that_is_promised_is_in_the_record_and_in_the_table(
    folder: Path, run: Path, bundle: Path, vae_train_here: Here
) -> None:
    ended = vae_train_here("evaluate", run, "--against", bundle, *ALONE[:-1], "--json", "all.json")
    record = json.loads(Path("all.json").read_bytes())
    model = record["model"]
    assert ended.code == 0
    assert record["data"] == {"name": "bars", "training": 72, "held_out": 24, "compared": 24}
    assert (model["bounds"]["images"], model["bounds"]["importance_samples"]) == (6, 40)
    assert model["bounds"]["importance_weighted"] >= model["bounds"]["elbo"]
    assert model["bounds"]["bits_per_dimension"] < 8  # better than guessing
    assert len(model["latents"]["kl_per_latent"]) == 3
    assert sum(model["latents"]["kl_per_latent"]) == pytest.approx(model["latents"]["kl"], rel=1e-5)
    names = {space.name for space in spaces()}
    assert len(names) >= 2
    for sets in (
        model["samples"]["resemblance"],
        model["reconstructions_as_a_set"],
        record["real"]["resemblance"],
    ):
        assert set(sets) == names
        assert all(
            set(of) == {"frechet", "precision", "recall", "density", "coverage"} for of in sets.values()
        )
    assert set(model["interpolations"]) == {PIXELS, *names}
    assert record["against"]["kind"] == "bundle"
    header = next(line for line in ended.out.splitlines() if "real images" in line)
    assert header.split() == ["run", "real", "images", "bars"]
    for words in (
        "ELBO", "importance-weighted, 40 samples", "bits per dimension", "active", "PSNR", "SSIM", "Frechet distance",
        "precision", "recall", "density", "coverage", "equal to a training image", "largest step over mean step",
    ):  # fmt: skip
        assert words in ended.out
    shown = next(line for line in ended.out.splitlines() if line.strip().startswith("PSNR"))
    assert shown.split()[2:] == [f"{model['reconstructions']['psnr']:.2f}", "-",
                                 f"{record['against']['reconstructions']['psnr']:.2f}"]  # fmt: skip


def test_real_images_are_nearer_to_real_images_than_what_a_small_model_makes(
    folder: Path, run: Path, vae_train_here: Here
) -> None:
    assert vae_train_here("evaluate", run, *ALONE, "--json", "it.json").code == 0
    record = json.loads(Path("it.json").read_bytes())
    for space, real in record["real"]["resemblance"].items():
        assert real["frechet"] < record["model"]["samples"]["resemblance"][space]["frechet"], space


def test_the_page_shows_held_out_images_pixel_by_pixel(
    folder: Path, run: Path, run_data: ImageSet, vae_train_here: Here
) -> None:
    assert vae_train_here("evaluate", run, *ALONE, "--pictures", "page.png").code == 0
    page = np.asarray(Image.open("page.png").convert("L"))
    _, held_out = split(run_data, 0.25, 5)
    for picture in run_data.images[held_out][..., 0]:
        assert is_on(page, picture.repeat(8, 0).repeat(8, 1))  # 8 pixels a side, enlarged to 64


def test_the_page_shows_beside_each_sample_the_training_image_that_is_nearest_to_it(
    folder: Path, run: Path, run_data: ImageSet, vae_train_here: Here
) -> None:
    assert vae_train_here("evaluate", run, *ALONE, "--pictures", "page.png").code == 0
    page = np.asarray(Image.open("page.png").convert("L"))
    with open_subject(str(run)) as subject:
        samples = to_uint8(subject.decode(subject.sample_latents(24, seed=0)))
    training, _ = split(run_data, 0.25, 5)
    bank = run_data.images[training][..., 0].astype(float)
    for sample in samples:
        nearest = run_data.images[training[np.square(bank - sample).mean((1, 2)).argmin()]][..., 0]
        assert is_on(page, np.concatenate([sample, nearest], 1).repeat(8, 0).repeat(8, 1))


def is_on(page: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a picture is somewhere on a larger one, pixel by pixel."""
    height, width = picture.shape
    rows, row, at = page.tobytes(), picture[0].tobytes(), -1
    while (at := rows.find(row, at + 1)) >= 0:
        y, x = divmod(at, page.shape[1])
        if np.array_equal(page[y : y + height, x : x + width], picture):
            return True
    return False


def test_without_a_rival_the_table_says_why(folder: Path, run: Path, vae_train_here: Here) -> None:
    assert "no other model beside it, because of --alone" in vae_train_here("evaluate", run, *ALONE).out


def test_images_that_moved_are_found_where_it_is_said_and_asked_for_where_not(
    folder: Path, run_data: ImageSet, write_bundle: Callable[..., Path], run: Path, vae_train_here: Here
) -> None:
    record = json.loads(json.dumps({"data": {"source": "moved.npy", "validation": 0.25},
                                    "training": {"likelihood": "gaussian", "seed": 5}}))  # fmt: skip
    moved = write_bundle(recipe=record)
    ended = vae_train_here("evaluate", moved, *ALONE)
    assert ended.code == 3
    assert "moved.npy" in ended.err
    assert "say with --data where the images of bars are now" in ended.err
    np.save("here.npy", run_data.images)
    for source, output in ((moved, "a.json"), (run, "b.json")):
        assert vae_train_here("evaluate", source, *ALONE, "--data", "here.npy", "--json", output).code == 0
    a, b = (json.loads(Path(name).read_bytes()) for name in ("a.json", "b.json"))
    assert a["data"] == b["data"] == {"name": "here", "training": 72, "held_out": 24, "compared": 24}
    # A run knows its images by what they are, a bundle by their name alone.
    assert not any("was trained on" in note for note in b["notes"])
    told = "bars was trained on moved.npy, and cannot tell whether here is a part of that"
    assert [note[: len(told)] for note in a["notes"] if "was trained on" in note] == [told]


def test_a_collapsed_model_is_warned_of_on_stderr_and_in_the_record(
    folder: Path, run_data: ImageSet, vae_train_here: Here
) -> None:
    np.save("bars.npy", run_data.images)
    options = ("--filters", "2,2", "--latent-size", 2, "--epochs", 8, "--beta", 5000, "--learning-rate", 0.01,
               "--validation", 0.25, "--batch-size", 8, "--device", "cpu", "-o", "run", "-q")  # fmt: skip
    assert vae_train_here("--data", "bars.npy", *options).code == 0
    ended = vae_train_here("evaluate", "run", *ALONE, "--json", "run.json")
    assert ended.code == 0
    assert ended.err.startswith("vae-train: warning: posterior collapse: no latent of run says anything")
    record = json.loads(Path("run.json").read_bytes())
    assert record["warnings"][0].startswith("posterior collapse")
    assert record["model"]["bounds"]["bits_per_dimension"] is None  # a Bernoulli on gray images
    assert "no density" in ended.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 3, "nowhere: no such run or bundle"),
        ([], 2, "Missing argument 'RUN|BUNDLE'"),
        (["RUN", "--importance-samples", "0"], 2, "0 is not in the range"),
        (["RUN", "--data", "nothing.npy"], 3, "nothing.npy"),
        (["RUN", "--data", "wide.npy"], 3, "--groups"),
        (
            ["RUN", "--against", "GRAY"],
            3,
            "makes images of 1x8x12, run of 1x8x8; expected models of one shape",
        ),
        (["RUN", "--json", "taken.json"], 3, "taken.json exists already; give --overwrite"),
        (["RUN", "--pictures", "taken.png"], 3, "taken.png exists already; give --overwrite"),
        (["nowhere", "--pictures", "taken.png"], 3, "taken.png exists already"),  # before any work
        (["nowhere", "--pictures", "page.jpg"], 2, "'page.jpg': the page is a PNG; expected a name in .png"),
        (["nowhere", "--pictures", "a", "--json", "./a"], 2, "--json and --pictures both name 'a'"),
    ],
)
def test_every_error_is_one_line_and_nothing_is_written(
    folder: Path,
    run: Path,
    gray_bundle: Path,
    vae_train_here: Here,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    for name in ("taken.json", "taken.png"):
        Path(name).write_text("mine")
    places = {"RUN": str(run), "GRAY": str(gray_bundle)}
    given = [places.get(argument, argument) for argument in arguments]
    more = ["--groups", "who"] if "wide.npy" in given else []
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    ended = vae_train_here("evaluate", *given, *more)
    assert (ended.code, ended.out) == (code, "")
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("vae-train: error: ")
    assert words in ended.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_model_of_colours_is_measured_and_drawn_in_colour(
    folder: Path, colour_bundle: Path, bars: Callable[..., ImageSet], vae_train_here: Here
) -> None:
    np.save("colour.npy", bars(120, channels=3).images)
    given = (
        "evaluate",
        colour_bundle,
        "--data",
        "colour.npy",
        *ALONE,
        "--json",
        "it.json",
        "--pictures",
        "it.png",
    )
    ended = vae_train_here(*given)
    assert (ended.code, ended.err.count("\n")) == (0, ended.err.count("warning"))
    assert json.loads(Path("it.json").read_bytes())["model"]["reconstructions"]["psnr"] > 0
    page = np.asarray(Image.open("it.png"))
    assert np.ptp(page.astype(int), axis=2).max() > 50


def test_files_that_exist_are_replaced_only_when_told(folder: Path, run: Path, vae_train_here: Here) -> None:
    Path("it.json").write_text("mine")
    assert vae_train_here("evaluate", run, *ALONE, "--json", "it.json", "--overwrite").code == 0
    assert json.loads(Path("it.json").read_bytes())["format_version"] == 1
    assert names(folder) == ["it.json"]


def test_both_files_are_there_or_neither(folder: Path, run: Path, vae_train_here: Here) -> None:
    Path("file").write_text("in the way of a folder")
    ended = vae_train_here("evaluate", run, *ALONE, "--json", "it.json", "--pictures", "file/page.png")
    assert ended.code in (3, 4)
    assert len(ended.err.splitlines()) == 1
    assert names(folder) == ["file"]


def test_how_far_it_is_shows_on_a_terminal_and_nowhere_else(
    folder: Path, run: Path, vae_train_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    for more, shows in (((), True), (("-q",), False)):
        with monkeypatch.context() as patched:
            patched.setattr("sys.stderr", Terminal())
            with pytest.raises(SystemExit):
                run_command(vae_train, "vae-train", ["evaluate", str(run), *map(str, ALONE), *more])
            told = cast("Terminal", sys.stderr).getvalue()
        assert ("bounds: 6 of 6" in told) == shows
    assert vae_train_here("evaluate", run, *ALONE).err == ""


def test_options_of_the_training_mean_nothing_before_evaluate_and_are_refused(
    folder: Path, run: Path, vae_train_here: Here
) -> None:
    ended = vae_train_here("--epochs", 3, "-q", "evaluate", run)
    assert (ended.code, ended.out) == (2, "")
    assert "--epochs, --quiet: for training, not for evaluate" in ended.err
    assert names(folder) == []


def test_both_helps_name_evaluate(vae_train_here: Here) -> None:
    whole, own = vae_train_here("--help"), vae_train_here("evaluate", "--help")
    assert (whole.code, own.code) == (0, 0)
    assert "evaluate" in whole.out
    assert "--epochs" in whole.out
    for option in (
        "--data",
        "--against",
        "--alone",
        "--importance-samples",
        "--json",
        "--pictures",
        "--seed",
    ):
        assert option in own.out


def test_a_face_detector_is_asked_where_that_is_wanted(folder: Path, run: Path, vae_train_here: Here) -> None:
    pytest.importorskip("skimage")
    plain = vae_train_here("evaluate", run, *ALONE, "--json", "plain.json")
    ended = vae_train_here("evaluate", run, *ALONE, "--faces", "--json", "faces.json")
    assert (plain.code, ended.code) == (0, 0)
    assert "face detector" not in plain.out
    assert json.loads(Path("plain.json").read_bytes())["model"]["faces"] is None
    found = json.loads(Path("faces.json").read_bytes())
    *_, heading, samples, reconstructions = ended.out.split("\n\n")[1].splitlines()
    assert heading == "share that a face detector takes for faces"
    for line, name in ((samples, "samples"), (reconstructions, "reconstructions")):
        what, share, best, *_ = line.split()
        assert (what, float(share)) == (name, pytest.approx(found["model"]["faces"][name], abs=5e-4))
        assert float(best) == pytest.approx(found["real"]["faces"], abs=5e-4)


def test_without_a_face_detector_the_command_says_how_to_get_it(
    folder: Path, run: Path, vae_train_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    ended = vae_train_here("evaluate", run, *ALONE, "--faces", "--json", "new.json")
    assert ended.code == 4
    assert "pip install 'vae-edge[cpu,datasets]'" in ended.err
    assert names(folder) == []
