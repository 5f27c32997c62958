"""Which machine this is, what runs on it, and what it lacks for CUDA."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_runtime.installation import import_onnxruntime
from vae_runtime.threads import available_processors

_LIBRARIES = ("vae-edge", "numpy", "onnxruntime", "onnxruntime-gpu", "torch")


def processor_name() -> str:
    """Return the processor's model, as its maker calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """Return the first NVIDIA GPU's model; None where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    asked = subprocess.run(
        [command, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    names = asked.stdout.splitlines()
    return names[0].strip() if asked.returncode == 0 and names else None


def device_slug() -> str:
    """Return processor and GPU as one file name."""
    names = f"{processor_name()} {available_processors()} cores {gpu_name() or ''}"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((?:r|tm)\)", "", names.lower())).strip("-")


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": processor_name(),
        "processors": available_processors(),
        "gpu": gpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version for name in _LIBRARIES if (version := _version(name))},
    }


def load_average() -> float | None:
    """Return how many processes wanted a processor in the last minute, this one included."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def what_cuda_lacks(*, onnxruntime: bool) -> str | None:
    """Return why nothing can be measured on CUDA, with all that is missing; None where nothing is.

    Args:
        onnxruntime: whether its CUDA provider is needed too, or PyTorch's CUDA alone.
    """
    missing = []
    if gpu_name() is None:
        missing.append("no NVIDIA GPU (nvidia-smi shows none)")
    if torch.version.cuda is None:
        missing.append(f"PyTorch {torch.__version__} is its CPU wheel")
    elif not torch.cuda.is_available():
        missing.append(f"PyTorch {torch.__version__} for CUDA {torch.version.cuda} sees no GPU")
    if onnxruntime and "CUDAExecutionProvider" not in import_onnxruntime().get_available_providers():
        missing.append("onnxruntime is its CPU wheel (pip install 'vae-edge[gpu]' brings the other)")
    return "; ".join(missing) or None


def require_device(device: str, *, onnxruntime: bool = True) -> None:
    """Skip the test, with the reason, where it is about CUDA and something is missing for that."""
    lacking = what_cuda_lacks(onnxruntime=onnxruntime) if device == "cuda" else None
    if lacking:
        pytest.skip(f"nothing to measure on CUDA: {lacking}")


def _version(name: str) -> str | None:
    if name == "torch":
        return str(torch.__version__)
    if name == "vae-edge":
        return str(sys.modules["vae_runtime"].__version__)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
