"""Where training runs."""

from __future__ import annotations

import time

import torch

from vae_runtime.errors import ProviderError
from vae_runtime.threads import available_processors
from vae_training.busy_machine import threads_are_asleep


def choose_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` stands for.

    Raises:
        ProviderError: `cuda` without a GPU that this PyTorch can use.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU only"
        raise ProviderError(
            f"device 'cuda' is not available: PyTorch {torch.__version__} is built {built} and sees no GPU. "
            "Expected an NVIDIA GPU with its driver (nvidia-smi shows it) and a CUDA build of PyTorch; "
            "device 'cpu' trains without one"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")


def describe_device(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return f"CUDA ({torch.cuda.get_device_name(device)})"
    asleep = ", asleep while they wait" if threads_are_asleep() else ""
    return f"CPU ({torch.get_num_threads()} threads{asleep})"


def seconds_when_done(device: torch.device) -> float:
    """Return the time of a monotonic clock, in seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def respect_quota() -> None:
    """Let PyTorch use no more threads than the processors that this process may use.

    It counts them by affinity and does not see a container's quota: with more threads than that, each step
    waits for those that are held up. For a process of our own: it changes PyTorch's setting.
    """
    allowed = available_processors()
    if torch.get_num_threads() > allowed:
        torch.set_num_threads(allowed)
