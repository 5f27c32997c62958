"""All that a run needs to go on as if it had never stopped: out of a trainer into named tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_training.checkpoint import (
    LIKELIHOOD,
    Checkpoint,
    Position,
    likelihood_from_checkpoint,
    model_from_weights,
    prior_from_weights,
)
from vae_training.errors import CheckpointError
from vae_training.optimizer_state import optimizer_from_tensors, optimizer_to_tensors

if TYPE_CHECKING:
    from vae_training.loop import Trainer

_RANDOM = "random.noise"
_LOSSES = "losses"
# What the names of tensors begin with.
_CURRENT = "current."  # weights that are trained, where others are kept: their average
_SHARPENING = "sharpening."


def trainer_to_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Return the state but for the weights that are kept and the prior, which have files of their own."""
    state = {
        _RANDOM: trainer.noise.get_state(),
        _LOSSES: trainer.losses[: trainer.position.step],
        **_prefixed(LIKELIHOOD, trainer.learner.likelihood.state_dict()),
    }
    if trainer.kept is not trainer.model:
        state |= _prefixed(_CURRENT, trainer.model.state_dict())
    if trainer.sharpening:
        return state | _prefixed(_SHARPENING, trainer.sharpening.to_tensors())
    return state | optimizer_to_tensors(trainer.learner.optimizer, trainer.learner.parameters())


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Set a trainer that was made of the same settings and images to where the checkpoint was written.

    Raises:
        CheckpointError: it belongs to other images or another model, or its state is incomplete or damaged.
    """
    source, tensors = str(checkpoint.path), checkpoint.training
    if checkpoint.data_fingerprint != trainer.fingerprint:
        raise CheckpointError(
            f"{source}: was trained on other images than {trainer.config.data.source!r} holds now; "
            "expected the same data set"
        )
    _require_possible(checkpoint.position, len(trainer.batches), source)
    sharpening = _below(_SHARPENING, tensors)
    _require_stage(checkpoint, trainer.config.training.epochs, is_sharpened=bool(sharpening))
    losses = _losses(tensors, checkpoint.position, source)
    _restore_noise(trainer.noise, tensors, source)
    trainer.learner.likelihood.load_state_dict(likelihood_from_checkpoint(checkpoint).state_dict())
    trainer.begin_with(checkpoint.weights, source)
    trainer.position = checkpoint.position
    trainer.losses[: len(losses)] = losses.to(trainer.device)
    if checkpoint.prior is not None and checkpoint.position.epoch >= trainer.config.training.epochs:
        prior = prior_from_weights(trainer.config.model, checkpoint.prior, source)
        trainer.prior = prior.to(trainer.device)
    if sharpening:
        trainer.begin_sharpening().resume(sharpening, checkpoint.weights, source)
    elif checkpoint.position.total_steps:
        optimizer_from_tensors(trainer.learner.optimizer, trainer.learner.parameters(), tensors, source)
    if trainer.kept is not trainer.model:
        current = model_from_weights(trainer.config.model, _below(_CURRENT, tensors), source)
        trainer.model.load_state_dict(current.state_dict())


def _require_stage(checkpoint: Checkpoint, epochs: int, *, is_sharpened: bool) -> None:
    """Raise unless what is done of the run is what `epochs` before sharpening begin with."""
    done = checkpoint.config.training.epochs if is_sharpened else checkpoint.position.epoch
    if is_sharpened and epochs != done:
        raise CheckpointError(
            f"{checkpoint.path}: is sharpened already after {done} epochs, which --epochs {epochs} would undo; begin "
            "a new run with --init-from"
        )
    if epochs < done:
        raise CheckpointError(
            f"{checkpoint.path}: {done} epochs are done; expected --epochs of at least so many"
        )


def _require_possible(position: Position, steps: int, source: str) -> None:
    if position.step > steps or position.total_steps != position.epoch * steps + position.step:
        raise CheckpointError(
            f"{source}: {position} is not possible with {steps} steps an epoch; it cannot be resumed"
        )


def _losses(tensors: Mapping[str, Tensor], position: Position, source: str) -> Tensor:
    losses = tensors.get(_LOSSES)
    if losses is None:
        raise CheckpointError(f"{source}: holds no losses; it cannot be resumed")
    if losses.dtype != torch.float32 or losses.shape != (position.step, 3):
        raise CheckpointError(f"{source}: does not hold the losses of its {position.step} steps")
    return losses


def _restore_noise(noise: torch.Generator, tensors: Mapping[str, Tensor], source: str) -> None:
    random, expected = tensors.get(_RANDOM), noise.get_state()
    if random is None:
        raise CheckpointError(f"{source}: holds no random state; it cannot be resumed")
    if random.dtype != expected.dtype or random.shape != expected.shape:
        raise CheckpointError(f"{source}: was written on another kind of device; resume it on that kind")
    try:
        noise.set_state(random)
    except RuntimeError as error:
        raise CheckpointError(f"{source}: its random state is none ({error})") from error


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
