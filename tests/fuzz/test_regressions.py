"""What the fuzzer has found, each made as small as it goes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_bytes
import pytest
import safetensors.torch
import torch
from small_runs import make_run

import vae_runtime
from vae_export.errors import SourceError
from vae_export.sources import load_source
from vae_runtime.arrays import read_npy
from vae_runtime.card import Card
from vae_runtime.errors import BundleError, InputError, NonFiniteError
from vae_training import loop
from vae_training.checkpoint import load_checkpoint
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.errors import CheckpointError, ConfigError
from vae_training.run_folder import RunFolder

# Scans a graph as a bundle's is, and opens it with onnxruntime alone if the scan lets it through.
OPEN_GRAPH = """
import sys
from vae_runtime.errors import UnsafeBundleError
from vae_runtime.installation import import_onnxruntime
from vae_runtime.scan import scan
sys.path.insert(0, sys.argv[1])
import numpy, onnx_bytes
four = [onnx_bytes.constant(name, numpy.ones(4, "float32")) for name in ("a", "b")]
data = onnx_bytes.graph(
    inputs=[onnx_bytes.tensor_type("x", ["batch", 4])],
    outputs=[onnx_bytes.message((1, "y"))],
    nodes=[onnx_bytes.node(sys.argv[2], sys.argv[3].split(","), ["y"])],
    constants=four,
)
try:
    scan(data, "graph.onnx")
    import_onnxruntime().InferenceSession(data, providers=["CPUExecutionProvider"])
except UnsafeBundleError:
    pass
print("alive")
"""


@pytest.mark.parametrize("inputs", ["x,a,", ",a,b"])
def test_a_layer_normalization_with_an_input_left_empty_kills_nobody(run_python: Any, inputs: str) -> None:
    """onnxruntime dies of a null pointer where the bias is there by an empty name."""
    ended = run_python(OPEN_GRAPH, Path(onnx_bytes.__file__).parent, "LayerNormalization", inputs)
    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr


@pytest.mark.parametrize("sign", ["(", "{'a':", "-", "~"])
def test_a_header_too_deep_for_pythons_parser_is_refused(tmp_path: Path, sign: str) -> None:
    """It gives up with a MemoryError, or with a RecursionError."""
    header = (sign * (9_000 // len(sign)) + "1").encode()
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(InputError, match=r"a\.npy: not a complete \.npy array of numbers \("):
        read_npy(path)


@pytest.mark.parametrize(("size", "end"), [("2L", ""), ("2", "\n ")])
def test_a_header_as_python_2_wrote_it_gives_no_warning_of_numpys(
    tmp_path: Path, size: str, end: str
) -> None:
    """numpy tells whoever loads it; also where a header has a second line, and Python 2 had no part in it."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size},)}}{end}".encode()
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8))
    assert read_npy(path).tolist() == [0, 0]


def test_a_data_type_by_a_name_that_numpy_is_giving_up_is_refused_without_its_warning(tmp_path: Path) -> None:
    header = b"{'descr': 'a4', 'fortran_order': False, 'shape': (2,)}"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8))
    with pytest.raises(InputError, match=r"a\.npy: data type \|S4; expected uint8"):
        read_npy(path)


def test_a_decoder_that_gives_another_number_of_images_is_refused(gray_bundle: Path, tmp_path: Path) -> None:
    def twice(image: str, output: str) -> list[bytes]:
        axis = onnx_bytes.message((1, "axis"), (3, 0), (20, 2))
        return [onnx_bytes.node("Concat", [image, image], [output]) + onnx_bytes.message((5, axis))]

    with (
        vae_runtime.load(with_decoder(gray_bundle, tmp_path / "bundle", twice)) as model,
        pytest.raises(BundleError, match=r"gave an output of shape \(4, 1, 8, 12\) for a batch of 2"),
    ):
        model.sample(2, seed=1)


def test_a_decoder_that_gives_both_infinities_gives_no_warning_of_numpys(
    gray_bundle: Path, tmp_path: Path
) -> None:
    """Their sum is not a number, and numpy warns of that, which is an error where warnings are."""

    def over_zero(image: str, output: str) -> list[bytes]:
        return [
            onnx_bytes.node("Sub", [image, image], ["zero"]),
            onnx_bytes.node("Div", [image, "zero"], [output]),
        ]

    with (
        vae_runtime.load(with_decoder(gray_bundle, tmp_path / "bundle", over_zero)) as model,
        pytest.raises(NonFiniteError, match="the decoder produced 192 NaN or infinite values of 192"),
    ):
        model.decode(np.array([[1, 0, 0], [-1, 0, 0]], np.float32))


def test_a_card_with_an_infinite_number_is_refused(gray_bundle: Path) -> None:
    """Python's json takes 1e999 for infinity, and cannot write it again."""
    card = {**onnx_bytes.read_card((gray_bundle / "decoder.onnx").read_bytes()), "quality": {"psnr": "HERE"}}
    with pytest.raises(BundleError, match="1e999 is beyond all numbers"):
        Card.from_metadata(json.dumps(card).replace('"HERE"', "1e999"), "a card")


@pytest.mark.parametrize("number", ["9" * 5_000, "-" + "9" * 5_000], ids=["huge", "negative"])
def test_settings_with_a_number_of_5000_digits_are_refused(tmp_path: Path, number: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[training]\nepochs = {number}\n")
    with pytest.raises(ConfigError, match=r"config\.toml: not a readable TOML file"):
        Config.from_toml(path)


def test_settings_with_an_integer_too_large_for_a_float_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.learning_rate is larger than any floating point"):
        Config.from_dict({"training": {"learning_rate": 10**400}})


def test_settings_that_are_no_table_are_refused() -> None:
    with pytest.raises(ConfigError):
        Config.from_dict("settings")


Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], None]


def _longer(name: str, changed: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    def change(_: dict[str, Any], training: dict[str, torch.Tensor]) -> None:
        training[name] = changed(training[name])

    return change


def _setting(section: str, name: str, value: object) -> Change:
    def change(state: dict[str, Any], _: dict[str, torch.Tensor]) -> None:
        state["config"][section][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_setting("model", "latent_size", 10**9), "latent_size is 10{9}; expected"),  # beyond memory
        (
            _setting("model", "latent_size", 10**18),
            "latent_size is 10{18}; expected",
        ),  # in bytes beyond 64 bits
        (_setting("model", "latent_size", 10**30), "latent_size is 10{30}; expected"),
        (_longer("random.noise", torch.zeros_like), "its random state is none"),
        (_longer("losses", lambda losses: losses.reshape(-1)), "does not hold the losses of its 0 steps"),
        (
            _longer("losses", lambda losses: losses.new_zeros(1000, 3)),
            "does not hold the losses of its 0 steps",
        ),
        (lambda state, _: state.update(config="settings"), "config is 'settings'; expected an object"),
    ],
    ids=[
        "latents-beyond-memory",
        "latents-beyond-64-bits-of-bytes",
        "latents-beyond-64-bits",
        "random-state-of-zeros",
        "losses-of-one-dimension",
        "more-losses-than-steps",
        "settings-are-text",
    ],
)
def test_a_checkpoint_changed_with_its_sums_mended_is_refused(
    step: Path, images: ImageSet, change: Change, words: str
) -> None:
    state = json.loads((step / "state.json").read_text())
    training = safetensors.torch.load((step / "training.safetensors").read_bytes())
    change(state, training)
    (step / "training.safetensors").write_bytes(safetensors.torch.save(training))
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in step.glob("*.safetensors")}
    state["sha256"] = sums
    sums["state.json"] = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    (step / "state.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match=words):
        resume(step, images)


def test_the_checkpoint_that_these_tests_change_is_fine_as_it_is(step: Path, images: ImageSet) -> None:
    resume(step, images)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(b"\x80\x02u.", id="items-for-an-empty-stack"),
        pytest.param(b"\x80\x02}u.", id="items-without-a-mark"),
        pytest.param(b"\x80\x02", id="nothing"),
        pytest.param(b"\x80\x02X\x05", id="a-length-cut-short"),
        pytest.param(b"\x80\x02J", id="a-number-cut-short"),
        pytest.param(b"\x80\x02K\x01Q.", id="a-storage-without-a-name"),
        pytest.param(b"\x80\x02h\x07.", id="a-memo-that-is-not-there"),
        pytest.param(b"\x80\x02X\xff\xff\xff\x7fabc.", id="text-of-two-gigabytes-that-is-not-there"),
    ],
)
def test_a_weights_file_with_a_damaged_pickle_is_refused(tmp_path: Path, program: bytes) -> None:
    """PyTorch's safe loader runs nothing, and says what is wrong with errors of every kind."""
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, whole)
    damaged = tmp_path / "weights.pth"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(damaged, "w") as target:
        for info in source.infolist():
            target.writestr(
                info.filename, program if info.filename.endswith("data.pkl") else source.read(info)
            )
    with pytest.raises(SourceError, match="not a PyTorch weights file, or cut short"):
        load_source(damaged)


def test_weights_in_an_archive_that_claims_several_disks_are_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, whole)
    data = bytearray(whole.getvalue())
    disks = data.rindex(b"PK\x06\x07") + 16  # of the ZIP64 locator
    data[disks : disks + 4] = struct.pack("<L", 2)
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    with pytest.raises(SourceError, match="zipfiles that span multiple disks"):
        load_source(path)


def with_decoder(source: Path, target: Path, tail: Callable[[str, str], Sequence[bytes]]) -> Path:
    """Return a copy of a bundle whose decoder repeats a latent's first number, and ends in `tail`."""
    decoder = onnx_bytes.decoder_of((source / "decoder.onnx").read_bytes(), tail)
    return onnx_bytes.copy_bundle(source, target, {"decoder.onnx": decoder})


def resume(step: Path, images: ImageSet) -> None:
    checkpoint = load_checkpoint(step)
    loop.Trainer(checkpoint.config, images, RunFolder(step)).resume(checkpoint)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    return ImageSet(pixels, None, "noise", "drawn for a test")


@pytest.fixture(scope="module")
def trained(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run's checkpoint. Not to be changed: copy it."""
    config = Config(
        DataConfig(validation=0.25),
        ModelConfig(8, 8, 1, (3, 4), latent_size=2),
        TrainingConfig(epochs=1, batch_size=8, device="cpu", compile="off"),
    )
    run = make_run(config, images, tmp_path_factory.mktemp("trained") / "run")
    (checkpoint,) = run.glob("checkpoints/step-*")
    return checkpoint


@pytest.fixture
def step(trained: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint."""
    return Path(shutil.copytree(trained, tmp_path / trained.name))
