"""Checkpoints: a model's weights, and all that training needs to go on as if it had never stopped.

    checkpoints/step-00000855/
        model.safetensors      the weights, by the names of the classic code
        training.safetensors   the optimizer's moments, the random state, the losses of the epoch under way
        prior.safetensors      the weights of a prior that was fitted; only where one was
        state.json             format version, settings, position, and the SHA-256 sums of all

A checkpoint is written beside its place and renamed into it; only then are those older than the last two deleted.
Nothing is ever unpickled, and nothing is believed that the sums do not cover.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_runtime._version import __version__
from vae_runtime.atomic import atomic_folder, remove_folder
from vae_runtime.strict_json import parse_json
from vae_training.config import Config, ModelConfig
from vae_training.costs import on_paper
from vae_training.errors import CheckpointError, ConfigError, DivergedError, NonFiniteWeightsError
from vae_training.likelihood import Likelihood
from vae_training.model import VAE
from vae_training.priors import Prior, build_prior, expected_shapes
from vae_training.tensor_files import not_finite, read_file, tensors_from_bytes, tensors_to_bytes

_log = logging.getLogger(__name__)

FORMAT_VERSION = 1
WEIGHTS = "model.safetensors"
TRAINING = "training.safetensors"
PRIOR = "prior.safetensors"
LIKELIHOOD = "likelihood."
"""What the names of the likelihood's tensors in `TRAINING` begin with."""
STATE = "state.json"

_NAME = re.compile(r"step-(\d{8,18})")
_LARGEST_STATE = 1 << 20  # bytes; ours are about 1,500
_MOST_STEPS = 1 << 53


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
    prior: Mapping[str, Tensor] | None = None
    """The weights of a prior; None for the standard normal, or where none was fitted yet."""

    def is_complete(self, config: Config) -> bool:
        """Whether a run of these settings has nothing left to do after it."""
        is_fitted = config.training.prior == "standard" or self.prior is not None
        return self.position.epoch >= config.training.all_epochs and is_fitted


def save_checkpoint(
    folder: Path,
    *,
    config: Config,
    position: Position,
    data_fingerprint: str,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    prior: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint into `folder` and delete those that are older than the last two.

    Raises:
        DivergedError: a weight is NaN or infinite: the last good state is not to be replaced by it.
        EnvironmentProblem: the disk is full or read-only.
    """
    refuse_diverged(weights, {**training, **(prior or {})})
    target = folder / f"step-{position.total_steps:08d}"
    tensors = {WEIGHTS: weights, TRAINING: training, **({PRIOR: prior} if prior is not None else {})}
    files = {name: tensors_to_bytes(content) for name, content in tensors.items()}
    state: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "written_by": f"vae-edge {__version__}",
        "config": config.to_dict(),
        "position": asdict(position),
        "data_fingerprint": data_fingerprint,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    state["sha256"][STATE] = _sum_of_state(state)
    with atomic_folder(target, overwrite=True) as beside:
        for name, data in files.items():
            (beside / name).write_bytes(data)
        (beside / STATE).write_text(json.dumps(state, indent=2, allow_nan=False), encoding="utf-8")
    # The one before it is kept too, in case this one turns out to be damaged. Any with more steps are left alone: the
    # run resumed from behind them because they seemed damaged, which is not for this function to judge.
    with contextlib.suppress(OSError):  # it is written, and the next one looks again
        for old in [path for path in list_checkpoints(folder) if _step(path) < position.total_steps][:-1]:
            remove_folder(old)
    return target


def refuse_diverged(weights: Mapping[str, Tensor], training: Mapping[str, Tensor] | None = None) -> None:
    """Raise `DivergedError` where a weight, or a moment of the optimizer, is NaN or infinite."""
    broken = not_finite({**weights, **(training or {})})
    if broken:
        raise DivergedError(f"not saved: {broken} hold NaN or infinite values. Try a lower --learning-rate")


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


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
    """Read one checkpoint, and check it against its sums and the weights against its settings.

    Raises:
        CheckpointError: missing, damaged, of a newer format, or with something in it of the wrong type.
        EnvironmentProblem: not enough memory.
    """
    state, source = _read_state(path / STATE), str(path / STATE)
    names = (WEIGHTS, TRAINING, *((PRIOR,) if PRIOR in state["sha256"] else ()))
    tensors = {name: _read_tensors(path / name, state["sha256"].get(name)) for name in names}
    try:
        config = Config.from_dict(_get(state, "config", dict, source))
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    require_fit(config.model, tensors[WEIGHTS], str(path / WEIGHTS))
    return Checkpoint(
        path=path,
        config=config,
        position=_position(_get(state, "position", dict, source), source),
        data_fingerprint=_get(state, "data_fingerprint", str, source),
        weights=tensors[WEIGHTS],
        training=tensors[TRAINING],
        prior=tensors.get(PRIOR),
    )


def model_from_weights(config: ModelConfig, weights: Mapping[str, Tensor], source: str) -> VAE:
    """Build the model and fill it.

    Raises:
        CheckpointError: weights are missing, too many, or of other shapes.
        NonFiniteWeightsError: they hold NaN or infinity.
    """
    require_fit(config, weights, source)
    model = VAE(config)
    model.load_state_dict(dict(weights))
    return model


def prior_from_weights(config: ModelConfig, weights: Mapping[str, Tensor], source: str) -> Prior:
    """Build the prior that the weights are of, a flow or a mixture, and fill it.

    Raises:
        CheckpointError: weights are missing, too many, of other shapes, hold NaN or infinity, or are no prior's.
    """
    _require_shapes(expected_shapes(config.latent_size, weights), weights, "the prior", source)
    _require_finite(weights, source)
    try:
        prior = build_prior(config.latent_size, weights)
    except ValueError as error:
        raise CheckpointError(f"{source}: no prior: {error}") from error
    return prior.eval().requires_grad_(False)


def likelihood_from_checkpoint(checkpoint: Checkpoint) -> Likelihood:
    """Build the likelihood that a run was trained with, with the noise scale that it has come to.

    Raises:
        CheckpointError: a tensor of the likelihood is missing, of another shape, or no logarithm of a scale.
    """
    likelihood = Likelihood(checkpoint.config.training)
    for name, value in likelihood.state_dict().items():
        found = checkpoint.training.get(f"{LIKELIHOOD}{name}")
        if found is None or found.shape != value.shape or not _is_log_scale(found):
            raise CheckpointError(f"{checkpoint.path}: holds no fitting {name} of its likelihood")
        value.copy_(found)
    return likelihood.eval().requires_grad_(False)


def _is_log_scale(value: Tensor) -> bool:
    """Tell whether float32 holds the number that it is the logarithm of, and one divided by it."""
    return bool(torch.isfinite(value.float().abs().exp()).all())


def require_fit(config: ModelConfig, weights: Mapping[str, Tensor], source: str) -> None:
    """Check weights against the model that the settings describe, before any memory is taken for it.

    Raises:
        CheckpointError: weights are missing, too many, or of other shapes.
        NonFiniteWeightsError: they hold NaN or infinity.
    """
    try:
        model = on_paper(config)
    except (RuntimeError, ConfigError) as error:  # no tensor can be so large, no image be halved so often
        raise CheckpointError(f"{source}: {config} is no model ({str(error).splitlines()[0]})") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _require_shapes(shapes, weights, "the model", source)
    odd = [name for name, tensor in weights.items() if not tensor.is_floating_point()]
    if odd:
        raise CheckpointError(f"{source}: {', '.join(odd[:5])} are not of floating point")
    _require_finite(weights, source)


def _require_shapes(
    expected: Mapping[str, tuple[int, ...]], weights: Mapping[str, Tensor], what: str, source: str
) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected != found:
        raise CheckpointError(f"{source}: weights do not fit {what}: {_mismatch(expected, found)}")


def _require_finite(weights: Mapping[str, Tensor], source: str) -> None:
    # As models hold them: a number of 64 bits may be infinite there.
    broken = not_finite({name: tensor.float() for name, tensor in weights.items()})
    if broken:
        raise NonFiniteWeightsError(f"{source}: {broken} hold NaN or infinite values; they are of no use")


def _read_state(path: Path) -> dict[str, Any]:
    data = read_file(path, _LARGEST_STATE)
    try:
        state = parse_json(data)
    except ValueError as error:
        raise CheckpointError(f"{path}: not a checkpoint, or cut short ({error})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not the state of a checkpoint")
    version = state.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        writer = str(state.get("written_by", "nobody knows what"))[:40]
        raise CheckpointError(
            f"{path}: format version {version!r:.40}, written by {writer}; this is vae-edge {__version__}, "
            f"which reads version {FORMAT_VERSION}"
        )
    sums = _get(state, "sha256", dict, str(path))
    if sums.get(STATE) != _sum_of_state(state):
        raise CheckpointError(f"{path}: SHA-256 differs from the one it holds of itself: damaged")
    return state


def _sum_of_state(state: Mapping[str, Any]) -> str:
    """Return the sum of everything that the state says, but for this sum."""
    sums = {name: value for name, value in state["sha256"].items() if name != STATE}
    return hashlib.sha256(json.dumps({**state, "sha256": sums}, sort_keys=True).encode()).hexdigest()


def _read_tensors(path: Path, expected_sum: object) -> dict[str, Tensor]:
    data = read_file(path)
    if hashlib.sha256(data).hexdigest() != expected_sum:
        raise CheckpointError(f"{path}: SHA-256 differs from the one in {STATE}: damaged or cut short")
    return tensors_from_bytes(data, str(path))


def _position(record: Mapping[str, Any], source: str) -> Position:
    numbers = {f.name: _get(record, f.name, int, f"{source}: position") for f in fields(Position)}
    if set(record) != set(numbers) or not all(0 <= number < _MOST_STEPS for number in numbers.values()):
        raise CheckpointError(
            f"{source}: position is {str(dict(record))[:120]}; expected {', '.join(numbers)}, each at least 0"
        )
    return Position(**numbers)


_KINDS = {str: "text", int: "a whole number", dict: "an object"}


def _get(record: Mapping[str, Any], key: str, kind: type, source: str) -> Any:
    value = record.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CheckpointError(f"{source}: {key} is {str(value)[:60]!r}; expected {_KINDS[kind]}")
    return value


def _mismatch(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    parts = [
        f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'nothing')}" for name in names
    ]
    more = f" and {len(parts) - 5} more" if len(parts) > 5 else ""
    return "; ".join(parts[:5]) + more
