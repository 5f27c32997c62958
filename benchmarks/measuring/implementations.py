"""The ways to run one model: vae_runtime, onnxruntime by itself, PyTorch. Numpy arrays in and out, for all.

On CUDA that includes the way to the GPU and back, and TF32 is off for all: with it they would not compute
the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vae_runtime import load
from vae_runtime.images import to_uint8
from vae_runtime.installation import import_onnxruntime
from vae_training.model import VAE

Array = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]

_SAMPLED_BATCH = 256
"""What onnxruntime and PyTorch by themselves sample at a time; all at once takes gigabytes."""


@dataclass(frozen=True)
class Implementation:
    """One way to run the model."""

    name: str
    encode: Callable[[Array], tuple[Array, Array]]
    """Images (N, C, H, W) to mean and logvar, each (N, D)."""
    decode: Callable[[Array], Array]
    """Latents (N, D) to images (N, C, H, W)."""
    sample: Callable[[int], Pictures]
    """That many new pictures (N, H, W), uint8."""
    is_reference: bool = False

    def go(self, direction: str, batch: Array) -> object:
        """Encode or decode."""
        return self.encode(batch) if direction == "encode" else self.decode(batch)


def our_runtime(bundle: Path, device: str, threads: int | None) -> Implementation:
    """Return vae_runtime; `threads` None is its default, all processors."""
    model = load(bundle, provider=device, threads=threads)
    name = "vae_runtime" if device == "cuda" or threads is None else f"vae_runtime, {threads} thread"
    return Implementation(
        name,
        encode=model.encode,
        decode=model.decode,
        sample=lambda n: model.sample(n, seed=0, dtype="uint8"),
    )


def bare_onnxruntime(bundle: Path, device: str, threads: int | None) -> Implementation:
    """Return onnxruntime without anything around it; `threads` None is its default."""
    encoder, decoder = (_session(bundle / f"{role}.onnx", device, threads) for role in ("encoder", "decoder"))
    latent_size = decoder.get_inputs()[0].shape[1]

    def encode(images: Array) -> tuple[Array, Array]:
        mean, logvar = encoder.run(None, {"image": images})
        return mean, logvar

    def decode(latents: Array) -> Array:
        images: Array = decoder.run(None, {"latent": latents})[0]
        return images

    return Implementation(
        "onnxruntime" if threads is None else f"onnxruntime, {threads} thread",
        encode=encode,
        decode=decode,
        sample=lambda n: _sample(decode, n, latent_size),
    )


def eager_pytorch(
    model: VAE,
    device: str,
    no_gradients: Callable[[], AbstractContextManager[object]] = torch.inference_mode,
    *,
    is_reference: bool = True,
    batch: int = _SAMPLED_BATCH,
) -> Implementation:
    """Return PyTorch as one calls it, under `torch.inference_mode` or `torch.no_grad`; `batch` is for sampling."""
    encoder, decoder = model.encoder.to(device), model.decoder.to(device)

    def encode(images: Array) -> tuple[Array, Array]:
        with no_gradients():
            mean, logvar = encoder(torch.from_numpy(images).to(device))
            return mean.cpu().numpy(), logvar.cpu().numpy()

    def decode(latents: Array) -> Array:
        return _through(decoder, latents, device, no_gradients)

    return Implementation(
        f"PyTorch, {no_gradients.__name__}",
        encode=encode,
        decode=decode,
        sample=lambda n: _sample(decode, n, model.config.latent_size, batch),
        is_reference=is_reference,
    )


def compiled_pytorch(model: VAE, device: str, batch: int) -> Implementation:
    """Return the decoder under torch.compile for one batch size, sampling only. The first call compiles.

    Its code is cached beside its inputs, so that compiling is no part of what is measured.
    """
    decoder = torch.compile(model.decoder.to(device), dynamic=False)

    def decode(latents: Array) -> Array:
        return _through(decoder, latents, device, torch.inference_mode)

    def sample(n: int) -> Pictures:
        # Whole batches only: every other size would be compiled anew.
        return _sample(decode, -(-n // batch) * batch, model.config.latent_size, batch)[:n]

    def refuse(_: Array) -> tuple[Array, Array]:
        raise NotImplementedError("only its decoder is compiled")

    return Implementation(f"torch.compile, batch {batch}", encode=refuse, decode=decode, sample=sample)


def _through(
    module: Callable[[Tensor], Tensor], batch: Array, device: str, no_gradients: Callable[[], Any]
) -> Array:
    with no_gradients():
        images: Array = module(torch.from_numpy(batch).to(device)).cpu().numpy()
    return images


def _session(path: Path, device: str, threads: int | None) -> Any:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    provider = ("CUDAExecutionProvider", {"use_tf32": "0"}) if device == "cuda" else "CPUExecutionProvider"
    return onnxruntime.InferenceSession(path, options, providers=[provider])


def _sample(
    decode: Callable[[Array], Array], n: int, latent_size: int, batch: int = _SAMPLED_BATCH
) -> Pictures:
    """Sample as one writes it down: draw, decode batch by batch, round, join."""
    latents = np.random.default_rng(0).standard_normal((n, latent_size), dtype=np.float32)
    pieces = [to_uint8(decode(latents[start : start + batch])) for start in range(0, n, batch)]
    return np.concatenate(pieces)
