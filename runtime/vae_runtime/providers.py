"""Execution providers: the short names people type, onnxruntime's names, and what to do without one."""

from __future__ import annotations

import logging

from vae_runtime.errors import InputError, ProviderError, shown
from vae_runtime.gpu_libraries import missing_driver
from vae_runtime.installation import import_onnxruntime
from vae_runtime.wheels import installed_wheels

_log = logging.getLogger(__name__)

AUTO = "auto"
CPU = "CPUExecutionProvider"

ONNXRUNTIME_NAMES = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
GPUS = ("cuda", "tensorrt")
"""Those that need NVIDIA's driver and CUDA's libraries."""

PROVIDER_NAMES = (AUTO, *ONNXRUNTIME_NAMES)

# The order in which `auto` tries them. TensorRT takes minutes to build an engine and CoreML, DirectML and
# OpenVINO lose to the CPU on models this small: they are for those who name them.
_AUTO_ORDER = ("cuda", "cpu")

_WHEEL_OF = {
    "cuda": "onnxruntime-gpu",
    "tensorrt": "onnxruntime-gpu",
    "directml": "onnxruntime-directml",
    "openvino": "onnxruntime-openvino",
    "coreml": "onnxruntime",
}


def available_providers() -> tuple[str, ...]:
    """Return the short names of the providers that the installed onnxruntime was built with.

    Being built in does not mean that it opens: CUDA also needs a GPU, its driver and its libraries.
    """
    built_in = import_onnxruntime().get_available_providers()
    return tuple(name for name, full in ONNXRUNTIME_NAMES.items() if full in built_in)


def candidates(provider: str) -> tuple[str, ...]:
    """Return the short names to try, in order: the one that was named, or what `auto` stands for.

    Raises:
        InputError: no provider is called that.
        ProviderError: it is not in this onnxruntime; nothing is tried in its place.
    """
    if not isinstance(provider, str) or provider not in PROVIDER_NAMES:
        raise InputError(
            f"provider {shown(provider)} is not known; expected one of {', '.join(PROVIDER_NAMES)}"
        )
    at_hand = available_providers()
    if provider == AUTO:
        return tuple(name for name in _AUTO_ORDER if name in at_hand and not _is_hopeless(name))
    if provider not in at_hand:
        raise ProviderError(
            f"provider {provider!r} is not in the installed onnxruntime ({_installed()}), "
            f"which has {', '.join(at_hand)}. {_how_to_get(provider)}"
        )
    return (provider,)


def require_at_hand(provider: str) -> None:
    """Raise where it is known, without anything to open, that a provider that is named will not open.

    Raises:
        InputError, ProviderError: as `candidates`, or a GPU's provider without NVIDIA's driver.
    """
    candidates(provider)
    lacks = missing_driver() if provider in GPUS else ""
    if lacks:
        raise refuse_unopened(provider, lacks)


def _is_hopeless(name: str) -> bool:
    """Tell whether `auto` need not try a provider: onnxruntime would say on stderr why a GPU's does not load."""
    lacks = missing_driver() if name in GPUS else ""
    if lacks:
        _log.info("auto: provider %r is passed over: %s", name, lacks)
    return bool(lacks)


def refuse_unopened(provider: str, reason: str, complaint: str = "") -> ProviderError:
    """Return the error for a provider that is built in but did not open, and for a GPU what it lacks.

    Args:
        provider: its short name.
        reason: what onnxruntime says of it.
        complaint: what it said before, of the GPU's libraries.
    """
    reasons, hint = [reason], ""
    if provider in GPUS:
        # Where a library is missing onnxruntime's own reason is that nothing is left but the CPU.
        reasons = [*dict.fromkeys(filter(None, (complaint, missing_driver(), reason)))]
        hint = _GPU_HINT
    return ProviderError(
        f"provider {provider!r} did not open: {'; '.join(reasons)}{hint}. Nothing ran on another provider"
    )


_GPU_HINT = (
    " (it needs an NVIDIA GPU, its driver, and the CUDA libraries: pip install 'onnxruntime-gpu[cuda,cudnn]' "
    "brings the libraries, nvidia-smi shows the GPU)"
)


def _installed() -> str:
    return (
        ", ".join(f"{name} {version}" for name, version in installed_wheels().items()) or "of unknown origin"
    )


def _how_to_get(provider: str) -> str:
    wheel = _WHEEL_OF.get(provider, "onnxruntime")
    if wheel in installed_wheels():
        return "Its wheel for this system does not hold that provider."
    install = "'vae-edge[gpu]'" if wheel == "onnxruntime-gpu" else wheel
    installed = " ".join(installed_wheels())
    first = f"pip uninstall -y {installed} && " if installed else ""
    return f"Mend it with: {first}pip install {install}"
