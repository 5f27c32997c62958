"""Checkpoints: a model's weights, and all that training needs to go on as if it had never stopped.

    checkpoints/step-00000855/
        model.safetensors      the weights, by the names of the classic code
        training.safetensors   the optimizer's moments, the random state, the losses of the epoch under way
        state.json             format version, settings, position, and the SHA-256 sums of all three

A checkpoint is written beside its place and renamed into it, and the one before it is deleted only then.
Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vae_runtime.atomic import atomic_folder
from vae_training.config import Config, ModelConfig
from vae_training.errors import CheckpointError, DivergedError
from vae_training.model import VAE

_log = logging.getLogger(__name__)

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
TRAINING = "training.safetensors"
STATE = "state.json"

_KEPT = 2  # the newest, and one more in case the newest turns out to be damaged


@dataclass(frozen=True)
class Position:
    """How far a run has come."""

    epoch: int
    """Epochs completed."""
    step: int
    """Steps of the epoch under way that are done."""
    total_steps: int
    """Steps done since the run began."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, read and checked."""

    path: Path
    config: Config
    position: Position
    data_fingerprint: str
    """Tells whether the images are the same as when it was written."""
    weights: Mapping[str, Tensor]
    training: Mapping[str, Tensor]


def save_checkpoint(
    folder: Path,
    *,
    config: Config,
    position: Position,
    data_fingerprint: str,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
) -> Path:
    """Write a checkpoint into `folder` and delete those that are older than the last two.

    Raises:
        DivergedError: a weight is NaN or infinite: the last good state is not to be replaced by it.
        EnvironmentProblem: the disk is full or read-only.
    """
    refuse_diverged(weights)
    target = folder / f"step-{position.total_steps:08d}"
    files = {
        WEIGHTS: safetensors.torch.save(_contiguous(weights)),
        TRAINING: safetensors.torch.save(_contiguous(training)),
    }
    state: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "config": config.to_dict(),
        "position": asdict(position),
        "data_fingerprint": data_fingerprint,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    state["sha256"][STATE] = _sum_of_state(state)
    with atomic_folder(target, overwrite=True) as beside:
        for name, data in files.items():
            (beside / name).write_bytes(data)
        (beside / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")
    for old in list_checkpoints(folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def refuse_diverged(weights: Mapping[str, Tensor]) -> None:
    """Raise `DivergedError` where a weight is NaN or infinite."""
    broken = _not_finite(weights)
    if broken:
        raise DivergedError(f"not saved: {broken} hold NaN or infinite values. Try a lower --learning-rate")


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def newest_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest checkpoint that is whole; a damaged newer one is passed over with a warning.

    Raises:
        CheckpointError: there is none.
    """
    problems: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            checkpoint = load_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            _log.warning("%s; going on from %s instead", problem, path.name)
        return checkpoint
    raise CheckpointError(
        problems[0] if problems else f"{folder}: no checkpoint; expected a folder step-* in it"
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint and check it against its sums.

    Raises:
        CheckpointError: missing, damaged, or of a newer format.
    """
    state = _read_state(path / STATE)
    tensors = {name: _read_tensors(path / name, state["sha256"].get(name)) for name in (WEIGHTS, TRAINING)}
    try:
        config = Config.from_dict(state["config"], str(path / STATE))
        return Checkpoint(
            path=path,
            config=config,
            position=Position(**state["position"]),
            data_fingerprint=state["data_fingerprint"],
            weights=tensors[WEIGHTS],
            training=tensors[TRAINING],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / STATE}: not the state of a checkpoint ({error})") from error


def model_from_weights(config: ModelConfig, weights: Mapping[str, Tensor], source: str) -> VAE:
    """Build the model and fill it.

    Raises:
        CheckpointError: weights are missing, too many, of other shapes, or not finite.
    """
    model = VAE(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected != found:
        raise CheckpointError(f"{source}: weights do not fit the model: {_mismatch(expected, found)}")
    broken = _not_finite(weights)
    if broken:
        raise CheckpointError(f"{source}: {broken} hold NaN or infinite values")
    model.load_state_dict(dict(weights))
    return model


def _not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Return the names of the first five tensors with a NaN or infinity in them."""
    return ", ".join([name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()][:5])


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or cut short ({error})") from error
    if not isinstance(state, dict) or not isinstance(state.get("sha256"), dict):
        raise CheckpointError(f"{path}: not the state of a checkpoint")
    if state.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {state.get('format_version')!r}; this vae-edge reads {FORMAT_VERSION}"
        )
    if state["sha256"].get(STATE, _sum_of_state(state)) != _sum_of_state(state):
        raise CheckpointError(f"{path}: SHA-256 differs from the one it holds of itself: damaged")
    return state


def _sum_of_state(state: Mapping[str, Any]) -> str:
    """Return the sum of everything that the state says, but for this sum."""
    sums = {name: value for name, value in state["sha256"].items() if name != STATE}
    return hashlib.sha256(json.dumps({**state, "sha256": sums}, sort_keys=True).encode()).hexdigest()


def _read_tensors(path: Path, expected_sum: str | None) -> dict[str, Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != expected_sum:
        raise CheckpointError(f"{path}: SHA-256 differs from the one in {STATE}: damaged or cut short")
    return tensors_from_bytes(data, str(path))


def tensors_from_bytes(data: bytes, source: str) -> dict[str, Tensor]:
    """Read a safetensors file's bytes.

    Raises:
        CheckpointError: not safetensors.
    """
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError) as error:
        raise CheckpointError(f"{source}: not a safetensors file ({error})") from error


def _mismatch(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    parts = [
        f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'nothing')}" for name in names
    ]
    more = f" and {len(parts) - 5} more" if len(parts) > 5 else ""
    return "; ".join(parts[:5]) + more
