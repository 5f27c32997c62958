"""The weights in what training code saved: a state dict, whatever stands around it and before its names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vae_export.errors import SourceError

_log = logging.getLogger(__name__)

_HALVES = ("encoder", "decoder")
_FIRST_PART = "encoder."  # whatever stands before it, before every name, is a module's that holds the VAE
_OF_A_VAE = "encoder.conv1.weight"
# What DataParallel, torch.compile and FSDP put before the names of what they wrap, be it the VAE or a part of it.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module"}
# What training code calls a state dict inside of a dictionary.
_NESTED = ("state_dict", "model_state_dict", "model", "weights", "vae")
_DEEPEST = 4  # dictionaries inside one another; one that holds itself would have no end


def find_weights(loaded: object, path: Path) -> dict[str, Tensor]:
    """Find the weights of the VAE in what was saved, by the names that the classic code gives them.

    Args:
        loaded: a state dict; that of encoder and of decoder; or dictionaries of training code with one of these inside.
        path: the file, for messages.

    Returns:
        Tensors of float32 by name. Single numbers beside encoder and decoder, such as counters of steps, are left out
        with a warning.

    Raises:
        SourceError: no state dict, several that could be meant, or tensors that are no weights.
    """
    return _as_float32(_without_counters(_clean_names(_state_dict(loaded, path)), path), path)


def _state_dict(loaded: object, path: Path, depth: int = 0) -> dict[str, Tensor]:
    """Find the state dict in what was saved: itself, or inside a dictionary of training code."""
    if isinstance(loaded, Mapping):
        for key in _NESTED:
            if isinstance(loaded.get(key), Mapping) and depth < _DEEPEST:
                return _state_dict(loaded[key], path, depth + 1)
        tensors = _tensors(loaded)
        if not all(map(_is_single, tensors.values())):  # a loss beside a state dict is none itself
            return tensors
        inside = {str(key): found for key, value in loaded.items() if (found := _tensors(value))}
        if halves := _joined(inside):
            return halves
        likely = {key: found for key, found in inside.items() if _OF_A_VAE in _clean_names(found)}
        if len(inside) == 1 or len(likely) == 1:
            return next(iter((likely or inside).values()))
        if inside:
            names = ", ".join(inside)
            raise SourceError(f"{path}: holds several state dicts ({names}); expected that of the VAE alone")
    raise SourceError(
        f"{path}: holds {type(loaded).__name__} without tensors by name; expected a state dict of the VAE"
    )


def _joined(inside: Mapping[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what is saved as `encoder` and `decoder`, or `encoder_state_dict` and so on, as one; nothing of others."""
    keys = {half: [key for key in inside if key.partition("_")[0] == half] for half in _HALVES}
    if any(len(found) != 1 for found in keys.values()):
        return {}
    return {f"{half}.{name}": tensor for half in _HALVES for name, tensor in inside[keys[half][0]].items()}


def _tensors(value: object) -> dict[str, Tensor]:
    """Return what a state dict holds; nothing of what is none."""
    if not isinstance(value, Mapping):
        return {}
    return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _clean_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Strip what wrappers put into names, and what a module that holds the VAE puts before every one of them."""
    bare = {_unwrapped(name): tensor for name, tensor in weights.items()}
    if len(bare) < len(weights):
        return dict(weights)
    prefix = next((name.partition(_FIRST_PART)[0] for name in bare if _FIRST_PART in name), "")
    if not all(name.startswith(prefix) or _is_single(tensor) for name, tensor in bare.items()):
        return bare
    return {name.removeprefix(prefix): tensor for name, tensor in bare.items()}


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _is_single(tensor: Tensor) -> bool:
    return tensor.dim() == 0


def _without_counters(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Leave out single numbers that are of neither half: how many steps were averaged, the weight of a loss."""
    counters = [name for name, tensor in weights.items() if _is_single(tensor) and not _is_of_half(name)]
    if counters:
        _log.warning("%s: left out what is of neither encoder nor decoder: %s", path, ", ".join(counters[:5]))
    return {name: tensor for name, tensor in weights.items() if name not in counters}


def _is_of_half(name: str) -> bool:
    return any(half in name.split(".") for half in _HALVES)


def _as_float32(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Take tensors to float32, once it is sure that each is stored as large as it says that it is.

    Raises:
        SourceError: views that repeat what is stored (a file of two kilobytes can tell of terabytes), and kinds
            of tensors that are no weights.
    """
    for name, tensor in tensors.items():
        kind = str(tensor.dtype).removeprefix("torch.")
        is_stored = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested)
        if not is_stored or not tensor.is_floating_point():
            raise SourceError(f"{path}: {name} is a {kind} tensor; expected stored floating point numbers")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise SourceError(
                f"{path}: {name} has {tensor.numel()} elements, more than are stored; expected weights, not a view"
            )
    return {name: tensor.float() for name, tensor in tensors.items()}
