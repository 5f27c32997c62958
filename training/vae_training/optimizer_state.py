"""Adam's state as named tensors, so that it can lie in a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vae_training.errors import CheckpointError

_PREFIX = "optimizer."
_SLOTS = ("step", "exp_avg", "exp_avg_sq")


def optimizer_to_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Return every parameter's state as `optimizer.<parameter>.<slot>`."""
    return {
        f"{_PREFIX}{name}.{slot}": optimizer.state[parameter][slot]
        for name, parameter in parameters.items()
        for slot in _SLOTS
        if slot in optimizer.state[parameter]
    }


def optimizer_from_tensors(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    source: str,
) -> None:
    """Put the state back; the parameters come in the optimizer's own order.

    Raises:
        CheckpointError: a parameter's state is missing, of another shape or type, or not finite.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for index, (name, parameter) in enumerate(parameters.items()):
        state[index] = {}
        for slot in _SLOTS:
            tensor = tensors.get(f"{_PREFIX}{name}.{slot}")
            shape = () if slot == "step" else parameter.shape
            if tensor is None or tensor.shape != shape or not _is_usable(tensor):
                raise CheckpointError(
                    f"{source}: no fitting optimizer state {slot!r} for {name}; it cannot be resumed"
                )
            # In the parameter's own memory order, which a file does not keep: Adam's fused kernel walks through
            # all of them in step.
            state[index][slot] = tensor if slot == "step" else torch.empty_like(parameter).copy_(tensor)
    # Through load_state_dict, which takes each tensor to where its parameter is.
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _is_usable(tensor: Tensor) -> bool:
    """Tell whether it is of the type that Adam keeps, and finite."""
    return tensor.dtype == torch.float32 and bool(torch.isfinite(tensor).all())
