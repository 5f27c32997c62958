"""Checkpoints: what is written is what is read, and nothing damaged is taken for whole."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from vae_runtime.errors import EnvironmentProblem
from vae_training import checkpoint, costs
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


def test_the_one_just_saved_is_kept_although_damaged_ones_are_ahead_of_it(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step)
    for step in (20, 30):
        (tmp_path / f"step-000000{step}" / WEIGHTS).write_bytes(b"torn")
    for step in (12, 14, 16):
        save(tmp_path, step)
        assert newest_checkpoint(tmp_path).position.total_steps == step
    assert [int(path.name[5:]) for path in list_checkpoints(tmp_path)] == [14, 16, 20, 30]


def test_after_a_hundred_million_steps_the_newest_is_still_the_newest(tmp_path: Path) -> None:
    for step in (99_999_998, 99_999_999, 100_000_000):
        save(tmp_path, step)
    assert newest_checkpoint(tmp_path).position.total_steps == 100_000_000
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-99999999", "step-100000000"]


def test_folders_of_other_names_are_no_checkpoints_and_stay(tmp_path: Path) -> None:
    for name in ("step-by-step", "step-1", "step-00000001 (copy)", "step-00000009.old"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000099").touch()
    for step in (5, 10, 15):
        save(tmp_path, step)
    assert newest_checkpoint(tmp_path).position.total_steps == 15
    assert len(list(tmp_path.iterdir())) == 5 + 2


def test_a_moment_of_the_optimizer_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    state = {"optimizer.decoder.fc.bias.exp_avg_sq": torch.tensor([1.0, float("inf")])}
    with pytest.raises(DivergedError, match=r"not saved: optimizer\.decoder\.fc\.bias\.exp_avg_sq hold"):
        save(tmp_path, 1, training=state)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no file modes there")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_of_what_is_written_follows_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = save(tmp_path / "run", 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o666 & ~umask}


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
    with pytest.raises(CheckpointError, match=r"here: decoder\.fc\.bias hold NaN or infinite") as refused:
        model_from_weights(CONFIG.model, broken, "here")
    assert refused.value.exit_code == 5


def test_weights_that_only_64_bits_hold_are_not_loaded() -> None:
    broken = {name: tensor.double() for name, tensor in weights().items()}
    assert equal(model_from_weights(CONFIG.model, broken, "here").state_dict(), weights())
    broken["decoder.fc.bias"][1] = 1e300
    with pytest.raises(CheckpointError, match=r"here: decoder\.fc\.bias hold NaN or infinite") as refused:
        model_from_weights(CONFIG.model, broken, "here")
    assert refused.value.exit_code == 5


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


def test_a_model_that_its_weights_do_not_fit_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made_on = []

    def make(config: ModelConfig) -> VAE:
        made_on.append(torch.empty(0).device.type)
        return VAE(config)

    for module in (checkpoint, costs):
        monkeypatch.setattr(module, "VAE", make)
    with pytest.raises(CheckpointError, match="weights do not fit"):
        model_from_weights(ModelConfig(8, 8, 1, (2, 3), 2**16), weights(), "here")
    assert made_on == ["meta"]
    model_from_weights(CONFIG.model, weights(), "here")
    assert made_on == ["meta", "meta", "cpu"]


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


@pytest.mark.parametrize("version", [2, 0, "1", None, True, 1.0])
def test_another_format_version_is_refused_with_both_versions(tmp_path: Path, version: object) -> None:
    path = save(tmp_path, 1)
    rewrite(path, format_version=version, written_by="vae-edge 7.0")
    with pytest.raises(
        CheckpointError,
        match=rf"format version {version!r}, written by vae-edge 7\.0; this is vae-edge \d.* 1$",
    ):
        load_checkpoint(path)


POSITION = {"epoch": 1, "step": 2, "total_steps": 3}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {"model": {"height": 9}}}, "model.height is 9"),
        ({"config": {"model": {"depth": 9}}}, "unknown setting depth"),
        ({"config": {"model": {"latent_size": 1 << 60}}}, "latent_size"),
        ({"config": {"model": {"latent_size": 3}}}, "weights do not fit the model: "),
        ({"config": None}, "config is 'None'; expected an object"),
        ({"config": []}, "config is"),
        ({"position": {"epoch": 1}}, "position: step is 'None'; expected a whole number"),
        ({"position": {**POSITION, "more": 4}}, "position is"),
        ({"position": {**POSITION, "step": "2"}}, "position: step is '2'; expected a whole number"),
        ({"position": {**POSITION, "step": 2.0}}, "position: step"),
        ({"position": {**POSITION, "step": True}}, "position: step is 'True'"),
        ({"position": {**POSITION, "step": -1}}, "each at least 0"),
        ({"position": {**POSITION, "epoch": 10**18}}, "position is"),
        ({"position": 3}, "position is '3'; expected an object"),
        ({"data_fingerprint": 5}, "data_fingerprint is '5'; expected text"),
        ({"sha256": {}}, "SHA-256 differs"),
        ({"sha256": []}, "sha256 is"),
    ],
)
def test_a_state_with_wrong_content_is_refused_by_its_path(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    path = save(tmp_path, 1)
    rewrite(path, **changes)
    with pytest.raises(CheckpointError, match="step-00000001") as refused:
        load_checkpoint(path)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 500 + len(str(path))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"epoch": 9', '"epoch": 9, "epoch": 9', "stands twice"),
        ('"beta": 0.25', '"beta": NaN', "NaN is not JSON"),
        ('"beta": 0.25', '"beta": 1e999', "beyond all numbers"),
        ('"seed": 0', f'"seed": {"9" * 5000}', "a number of 5000 characters"),
    ],
)
def test_what_python_would_read_but_is_no_json_is_refused(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    file = save(tmp_path, 1, position=Position(9, 0, 1)) / STATE
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"state\.json: not a checkpoint.*{words}"):
        load_checkpoint(file.parent)


def test_a_state_without_its_own_sum_is_not_believed(tmp_path: Path) -> None:
    file = save(tmp_path, 1) / STATE
    state = json.loads(file.read_text(encoding="utf-8"))
    del state["sha256"][STATE]
    state["config"]["training"]["beta"] = 0.5
    file.write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(CheckpointError, match="SHA-256 differs from the one it holds of itself"):
        load_checkpoint(file.parent)


@pytest.mark.parametrize("name", [WEIGHTS, TRAINING, STATE])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_in_a_files_place_is_refused_at_once(tmp_path: Path, name: str) -> None:
    file = save(tmp_path, 1) / name
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CheckpointError, match=rf"{name.replace('.', '[.]')}: is a pipe, not a regular file"):
        load_checkpoint(file.parent)


def test_no_depth_of_nesting_is_too_deep_for_a_plain_refusal(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    for depth in range(600, 1000):
        nested = b"[" * depth + b"]" * depth
        (path / STATE).write_bytes(b'{"format_version": 1, "sha256": {}, "a": ' + nested + b"}")
        with pytest.raises(CheckpointError, match=r"state\.json"):
            load_checkpoint(path)


def test_a_state_larger_than_any_of_ours_is_not_read(tmp_path: Path) -> None:
    file = save(tmp_path, 1) / STATE
    file.write_bytes(file.read_bytes() + b" " * (1 << 20))
    with pytest.raises(CheckpointError, match="expected at most 1048576"):
        load_checkpoint(file.parent)


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"3",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b"",
        b"\xef\xbb\xbf{}",
        b'{"format_version": 1, "sha256": {}, "a": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_a_state_that_is_no_state_is_refused(tmp_path: Path, content: bytes) -> None:
    path = save(tmp_path, 1)
    (path / STATE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.json"):
        load_checkpoint(path)
