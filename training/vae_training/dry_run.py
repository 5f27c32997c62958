"""What a run would cost: counted where it can be counted, measured over a few steps where it cannot."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vae_runtime.memory import readable_size
from vae_training.config import ModelConfig
from vae_training.costs import decoder_multiply_adds, encoder_multiply_adds, layers, on_paper, parameter_count
from vae_training.device import describe_device
from vae_training.loop import Trainer

_MEASURED, _MOST_STEPS = 2.0, 10  # seconds and steps of each stage, whichever comes first
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}  # of a weight
# What a graph holds besides its weights, fitted to graphs of both architectures: its card and, of each layer, nodes
# and names; in 8 bits the scales of its activations, and of each output a scale, a zero and a bias of 32 bits.
_OF_CARD = 3000
_OF_LAYER = {"fp32": 500, "fp16": 500, "int8": 2500}
_OF_OUTPUT = {"fp32": 0, "fp16": 0, "int8": 12}
_COPIES = 4  # of the weights: themselves, their gradients, and Adam's two moments


def describe_run(trainer: Trainer) -> str:
    """Return a table of a run's costs, as comments before the settings that it would have: together a TOML file.

    Args:
        trainer: of a new run. It takes a few steps and cannot train the run afterwards; nothing is written.
    """
    config = trainer.config
    table = [*_sizes(config.model), "", *_training(trainer)]
    comments = "\n".join(f"# {line}".rstrip() for line in table)
    return f"{comments}\n\n{config.to_toml()}"


def _sizes(model: ModelConfig) -> list[str]:
    vae, halves = on_paper(model), ("encoder", "decoder")
    multiply_adds = (encoder_multiply_adds(model), decoder_multiply_adds(model))
    rows = [
        ("", *halves, "both"),
        ("parameters", *_with_sum([parameter_count(getattr(vae, half)) for half in halves])),
        ("multiply-adds an image", *_with_sum(multiply_adds)),
        *(
            (f"bytes in {name}, about", *_with_sum([_file(getattr(vae, half), name) for half in halves]))
            for name in _BYTES
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        row[0].ljust(widths[0])
        + "".join(f"  {cell.rjust(width)}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    if model.architecture == "classic":
        lines.append(
            "(as PyTorch has the layers: in fp16 and int8 a faster form is written, which may be larger)"
        )
    return lines


def _with_sum(numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{number:,}" for number in (*numbers, sum(numbers)))


def _file(module: nn.Module, precision: str) -> int:
    """Return about how many bytes the graph of a module has."""
    outputs = sum(layer.get_parameter("bias").numel() for layer in layers(module))
    of_layers = _OF_LAYER[precision] * len(layers(module)) + _OF_OUTPUT[precision] * outputs
    return round(_BYTES[precision] * parameter_count(module) + of_layers + _OF_CARD, -3)


def _training(trainer: Trainer) -> list[str]:
    config = trainer.config
    memory = readable_size(max(_memory_of_step(trainer), 10**6))
    seconds = _seconds_per_step(trainer)
    stages = [(config.training.epochs, "training", seconds)]
    if config.training.sharpen_epochs:
        trainer.begin_sharpening()
        stages.append((config.training.sharpen_epochs, "sharpening", _seconds_per_step(trainer)))
    steps = len(trainer.batches)
    whole = sum(epochs * steps * each for epochs, _, each in stages)
    fitting = "the prior, " if config.training.prior != "standard" else ""
    # What would make steps faster takes its time first.
    without = ", not compiled" if trainer.learner.compiling.described else ""
    if trainer.device.type == "cuda":
        without += ", without a CUDA graph"
    return [
        f"images      {len(trainer.batches.images):,} to train on, {len(trainer.held_out):,} held out",
        f"device      {describe_device(trainer.device)}{without}",
        f"memory      about {memory} for a batch of {config.training.batch_size}, besides the images",
        *(
            f"{stage:<10}  {epochs:,} epochs of {steps:,} steps, {1000 * each:,.1f} ms each"
            for epochs, stage, each in stages
        ),
        f"time        about {_duration(whole)}, besides {fitting}validation, pictures and saving",
    ]


def _seconds_per_step(trainer: Trainer) -> float:
    trainer.try_step()  # the first one takes longer
    taken, started = 0, time.monotonic()
    while taken == 0 or (taken < _MOST_STEPS and time.monotonic() - started < _MEASURED):
        trainer.try_step()
        taken += 1
    return (time.monotonic() - started) / taken


def _memory_of_step(trainer: Trainer) -> int:
    """Return the bytes of a step's weights, gradients and moments, and of all that the backward pass looks at again."""
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    own = {parameter.untyped_storage().data_ptr() for parameter in trainer.learner.parameters().values()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer.try_step()
    activations = sum(size for pointer, size in seen.items() if pointer not in own)
    weights = sum(4 * parameter.numel() for parameter in trainer.learner.parameters().values())
    copies = _COPIES + (trainer.learner.average is not None)
    return activations + copies * weights


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
