"""What a model knows of its prior: how probable latents are, which noise they come from, and ways through it.

Bundles say as much as there is to say. A flow is one for one, so that beside `prior.onnx` there lies
`prior_inverse.onnx`, the way back with the density. A mixture jumps from one component to another; for it there
is `prior_density.onnx` alone. Without a learned prior noise and latents are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.engine import Engine
from vae_runtime.errors import BundleError
from vae_runtime.latent import Latents, as_corners, latent_path, path_positions
from vae_runtime.likelihoods import Numbers


def has_way_back(engine: Engine) -> bool:
    """Whether latents can be sent back to noise."""
    return engine.has("prior_inverse") or not engine.has("prior")


def log_density(engine: Engine, latents: Latents) -> Numbers:
    """Return the logarithm of the prior's density at latents (N, D) that were checked, in nats; (N,) float64.

    Raises:
        BundleError: the bundle does not know the density of its prior.
    """
    if not engine.has("prior"):
        return standard_log_density(latents)
    role = next((role for role in ("prior_inverse", "prior_density") if engine.has(role)), None)
    if role is None:
        raise BundleError(
            f"{engine.source}: has a prior and does not know its density; expected prior_inverse.onnx or "
            "prior_density.onnx in it: export the run again"
        )
    found = np.empty(len(latents), np.float64)

    def work(piece: slice) -> None:
        found[piece] = engine.run(role, latents[piece])[-1]

    engine.in_chunks(len(latents), work)
    return found


def standard_log_density(latents: Latents) -> Numbers:
    """Return the logarithm of the standard normal's density at latents (N, D), in nats; (N,) float64."""
    squares = np.square(latents, dtype=np.float64).sum(axis=1)
    density: Numbers = -0.5 * (squares + latents.shape[1] * math.log(2.0 * math.pi))
    return density


def to_noise(engine: Engine, latents: Latents) -> Latents:
    """Return the noise (N, D) that the prior sends to latents (N, D) that were checked.

    Raises:
        BundleError: the bundle's prior has no way back.
    """
    if not has_way_back(engine):
        raise BundleError(
            f"{engine.source}: its prior has no way back from latents to noise; expected a bundle with "
            "prior_inverse.onnx: a run with --prior flow, exported again"
        )
    if not engine.has("prior"):
        return np.array(latents)
    noise = np.empty_like(latents)

    def work(piece: slice) -> None:
        noise[piece] = engine.run("prior_inverse", latents[piece])[0]

    engine.in_chunks(len(latents), work)
    return noise


def path_through(
    engine: Engine,
    points: Sequence[npt.ArrayLike] | npt.NDArray[Any],
    steps: int,
    method: str,
    *,
    through_prior: bool | None,
) -> Latents:
    """Lead through latents, (steps, D): in the space of noise, so that the way stays where the prior puts images.

    Arguments as `Model.latent_path`. Where a step falls on one of the points it is that point.

    Raises:
        InputError: as `latent_path`.
        BundleError: `through_prior` is true, and there is no way back to noise.
    """
    corners = as_corners(points, check_finite=engine.check_finite)
    engine.require_latents(corners)
    engine.require_open()
    chosen = has_way_back(engine) if through_prior is None else through_prior
    if not chosen:
        return latent_path(corners, steps, method, check_finite=engine.check_finite)
    path = latent_path(to_noise(engine, corners), steps, method, check_finite=engine.check_finite)

    def work(piece: slice) -> None:
        path[piece] = engine.through_prior(path[piece])

    if engine.has("prior"):
        engine.in_chunks(steps, work)
        positions = path_positions(len(corners), steps)
        on_corner = positions == np.floor(positions)
        path[on_corner] = corners[positions[on_corner].astype(np.intp)]
    return path
