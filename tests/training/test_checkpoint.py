"""Checkpoints: what is written is what is read, and nothing damaged is taken for whole."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vae_runtime.errors import EnvironmentProblem
from vae_training.checkpoint import (
    STATE,
    TRAINING,
    WEIGHTS,
    Checkpoint,
    Position,
    list_checkpoints,
    load_checkpoint,
    model_from_weights,
    newest_checkpoint,
    save_checkpoint,
    tensors_from_bytes,
)
from vae_training.config import Config, ModelConfig, TrainingConfig
from vae_training.errors import CheckpointError, DivergedError
from vae_training.model import VAE

CONFIG = Config(model=ModelConfig(8, 8, 1, (2, 3), 2), training=TrainingConfig(beta=0.25, epochs=9))


def weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return VAE(CONFIG.model).state_dict()


def save(folder: Path, step: int, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "config": CONFIG,
        "position": Position(epoch=step // 10, step=step % 10, total_steps=step),
        "data_fingerprint": "abc",
        "weights": weights(step),
        "training": {"losses": torch.full((2, 3), float(step)), "random.noise": torch.arange(7).byte()},
    }
    return save_checkpoint(folder, **{**settings, **changes})


def same(a: Checkpoint, b: Checkpoint) -> bool:
    return (
        (a.config, a.position, a.data_fingerprint) == (b.config, b.position, b.data_fingerprint)
        and equal(a.weights, b.weights)
        and equal(a.training, b.training)
    )


def equal(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_read_is_what_was_saved(tmp_path: Path) -> None:
    path = save(tmp_path, 25)
    assert path == tmp_path / "step-00000025"
    assert sorted(file.name for file in path.iterdir()) == sorted([WEIGHTS, TRAINING, STATE])
    read = load_checkpoint(path)
    assert read.config == CONFIG
    assert read.position == Position(epoch=2, step=5, total_steps=25)
    assert read.data_fingerprint == "abc"
    assert equal(read.weights, weights(25))
    assert read.training["losses"].tolist() == [[25.0] * 3] * 2
    assert read.training["random.noise"].dtype == torch.uint8


def test_the_weights_are_a_plain_safetensors_file(tmp_path: Path) -> None:
    assert equal(safetensors.torch.load_file(save(tmp_path, 1) / WEIGHTS), weights(1))


def test_the_same_state_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a", 3), save(tmp_path / "b", 3)
    for name in (WEIGHTS, TRAINING, STATE):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_tensors_that_are_views_of_others_are_saved_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    path = save(tmp_path, 1, training={"turned": base.T, "row": base[1]})
    read = load_checkpoint(path).training
    assert torch.equal(read["turned"], base.T)
    assert torch.equal(read["row"], base[1])


@pytest.mark.parametrize("name", [WEIGHTS, TRAINING, STATE])
def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 25)
    original, file = load_checkpoint(path), path / name
    data = file.read_bytes()
    unnoticed = []
    for place in range(0, len(data), 3 if name == STATE else 29):
        broken = bytearray(data)
        broken[place] ^= 1 << (place % 7)
        file.write_bytes(broken)
        try:
            if not same(load_checkpoint(path), original):
                unnoticed.append(place)
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017 - a bit of white space may do nothing
    assert unnoticed == []


@pytest.mark.parametrize("name", [WEIGHTS, TRAINING, STATE])
@pytest.mark.parametrize("damage", ["cut", "emptied", "gone", "grown"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    file = save(tmp_path, 1) / name
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": data[:-3], "emptied": b"", "grown": data + b"x"}[damage])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")) as refused:
        load_checkpoint(file.parent)
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("name", [WEIGHTS, STATE])
def test_where_the_newest_is_damaged_the_one_before_is_taken_with_a_warning(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 10)
    file = save(tmp_path, 20) / name
    file.write_bytes(file.read_bytes()[:50])
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path).position.total_steps == 10
    assert "step-00000020" in caplog.text
    assert "going on from step-00000010 instead" in caplog.text


def test_where_all_are_damaged_the_newest_one_is_named(tmp_path: Path) -> None:
    for step in (10, 20):
        (save(tmp_path, step) / WEIGHTS).write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"step-00000020.*SHA-256 differs"):
        newest_checkpoint(tmp_path)


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match=r"no checkpoint; expected a folder step-\*"):
            newest_checkpoint(folder)


def test_the_two_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 100):
        save(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000015", "step-00000100"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000015", "step-00000100"]


def test_saving_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 5, data_fingerprint="other")
    assert newest_checkpoint(tmp_path).data_fingerprint == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_a_full_disk_leaves_the_older_checkpoints_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10)

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(EnvironmentProblem, match="disk is full") as refused:
            save(tmp_path, 15)
    assert refused.value.exit_code == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000005", "step-00000010"]
    assert newest_checkpoint(tmp_path).position.total_steps == 10


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path: Path, number: float) -> None:
    broken = weights()
    broken["decoder.fc.bias"][1] = number
    with pytest.raises(DivergedError, match=r"not saved: decoder\.fc\.bias hold NaN or infinite"):
        save(tmp_path / "run", 1, weights=broken)
    assert not (tmp_path / "run").exists()
    with pytest.raises(CheckpointError, match=r"here: decoder\.fc\.bias hold NaN or infinite"):
        model_from_weights(CONFIG.model, broken, "here")


def test_a_model_is_filled_with_the_weights() -> None:
    assert equal(model_from_weights(CONFIG.model, weights(4), "here").state_dict(), weights(4))


def test_missing_extra_and_misshapen_weights_are_named_with_their_shapes() -> None:
    wrong = weights()
    del wrong["encoder.fc_mu.bias"]
    wrong["decoder.attention"] = torch.zeros(7)
    wrong["decoder.fc.weight"] = torch.zeros(12, 5)
    with pytest.raises(CheckpointError, match="here: weights do not fit") as refused:
        model_from_weights(CONFIG.model, wrong, "here")
    message = str(refused.value)
    assert "encoder.fc_mu.bias is missing, expected (2,)" in message
    assert "decoder.attention is (7,), expected nothing" in message
    assert "decoder.fc.weight is (12, 5), expected (12, 2)" in message


def test_of_many_misfits_five_are_named_and_the_others_counted() -> None:
    with pytest.raises(CheckpointError, match="and 9 more") as refused:
        model_from_weights(CONFIG.model, {}, "here")
    assert str(refused.value).count("is missing") == 5


def rewrite(path: Path, **changes: object) -> None:
    """Change what a state says, and its sum with it."""
    state = {**json.loads((path / STATE).read_text(encoding="utf-8")), **changes}
    if sums := dict(state["sha256"]):
        del sums[STATE]
        said = json.dumps({**state, "sha256": sums}, sort_keys=True)
        state["sha256"] = {**sums, STATE: hashlib.sha256(said.encode()).hexdigest()}
    (path / STATE).write_text(json.dumps(state), encoding="utf-8")


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_format_version_is_refused_with_both_versions(tmp_path: Path, version: object) -> None:
    path = save(tmp_path, 1)
    rewrite(path, format_version=version)
    with pytest.raises(CheckpointError, match=rf"format version {version!r}; this vae-edge reads 1"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"model": {"height": 9}}},
        {"config": {"model": {"depth": 9}}},
        {"config": None},
        {"position": {"epoch": 1}},
        {"position": {"epoch": 1, "step": 2, "total_steps": 3, "more": 4}},
        {"sha256": {}},
        {"sha256": []},
    ],
)
def test_a_state_with_wrong_content_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = save(tmp_path, 1)
    rewrite(path, **changes)
    with pytest.raises(CheckpointError, match="step-00000001"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b"\xff", b"[" * 100_000, b"{}"])
def test_a_state_that_is_no_state_is_refused(tmp_path: Path, content: bytes) -> None:
    path = save(tmp_path, 1)
    (path / STATE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.json"):
        load_checkpoint(path)


def safetensors_bytes(header: object, body: bytes = b"") -> bytes:
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + body


def one_tensor(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        b"\x80\x04K\x01.",  # a pickle
        struct.pack("<Q", 1 << 40) + b"{}",
        safetensors_bytes(one_tensor()),
        safetensors_bytes(one_tensor(), bytes(8)),
        safetensors_bytes(one_tensor(data_offsets=[4, 8]), bytes(8)),
        safetensors_bytes(one_tensor(dtype="Q7"), bytes(4)),
        safetensors_bytes(one_tensor(dtype="F8_E8M0", shape=[4]), bytes(4)),
        safetensors_bytes(one_tensor(shape=[2]), bytes(4)),
        safetensors_bytes(one_tensor(shape=[-1]), bytes(4)),
        safetensors_bytes(one_tensor(shape=[2**62, 2**62]), bytes(4)),
        safetensors_bytes([1]),
        safetensors_bytes(b'{"\xff": 1}'),
    ],
    ids=[
        "empty", "short", "pickle", "huge header", "no data", "trailing", "hole", "type", "type too new",
        "shape", "negative", "overflow", "list", "not UTF-8",
    ],
)  # fmt: skip
def test_bytes_that_are_not_safetensors_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="here: not a safetensors file"):
        tensors_from_bytes(data, "here")


@given(st.binary(max_size=300).map(lambda tail: safetensors_bytes(tail[:100], tail[100:])) | st.binary())
@settings(max_examples=200, deadline=None)
def test_no_bytes_are_refused_with_another_error(data: bytes) -> None:
    try:
        tensors_from_bytes(data, "here")
    except CheckpointError as error:
        assert "here" in str(error)  # noqa: PT017 - either outcome is fine
