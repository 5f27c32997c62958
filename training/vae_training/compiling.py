"""Whether torch.compile pays."""

from __future__ import annotations

import os
import shutil

import torch

from vae_training.errors import ConfigError

# On the CPU a compiled step of the classic model takes a fifth longer than the arranged one (`cpu_forward`),
# after half a minute of compiling: it never pays. A GPU's steps are launch-bound, so compiling can save much
# of each; what it takes to repay a minute of compiling there is an estimate that no GPU has confirmed yet.
_GPU_STEPS_TO_REPAY = 20_000


def decide_compile(choice: str, *, steps: int, device: torch.device) -> bool:
    """Return whether to compile a run of so many steps. `auto` decides by their number, never by the clock.

    (By the clock, the same seed could give other weights on a slower day: compiled code rounds otherwise.)

    Raises:
        ConfigError: `on` where there is no C++ compiler.
    """
    if choice == "off":
        return False
    if choice == "on":
        if device.type == "cpu" and not has_compiler():
            raise ConfigError(
                "--compile on needs a C++ compiler (g++, or the one that CXX names); none was found"
            )
        return True
    return device.type == "cuda" and steps >= _GPU_STEPS_TO_REPAY


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which torch.compile needs on the CPU."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None
