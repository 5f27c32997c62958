"""Points in the latent space: noise by seed, and the ways from one point to the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.random  # now, or a fork during another thread's first use would inherit the import's lock
import numpy.typing as npt

from vae_runtime.errors import InputError, shown
from vae_runtime.images import as_array, is_whole_number, require_finite
from vae_runtime.memory import require_memory

Latents = npt.NDArray[np.float32]
_Point = npt.NDArray[np.float64]


class Posterior(NamedTuple):
    """q(z given x), a diagonal Gaussian for every image."""

    mean: Latents
    """(N, D) float32."""
    logvar: Latents
    """(N, D) float32: the natural logarithm of the variance."""


METHODS = ("slerp", "lerp")
_ALIASES = {"linear": "lerp"}

_LARGEST = float(np.finfo(np.float32).max)
# Below this sine of the angle two directions are taken for one: the plane between them is rounding noise.
_PARALLEL = 1e-6


def generator(seed: int | None) -> np.random.Generator:
    """Return numpy's PCG64 generator for a seed; fresh entropy where the seed is None.

    Raises:
        InputError: the seed is not a whole number of at least 0.
    """
    if seed is not None and (not is_whole_number(seed) or seed < 0):
        raise InputError(f"seed is {shown(seed)}; expected a whole number of at least 0, or None")
    return np.random.Generator(np.random.PCG64(seed))


def noise(n: int, latent_size: int, seed: int | None = None) -> Latents:
    """Draw standard normal noise: the same for one seed on every provider and platform.

    Args:
        n: how many points.
        latent_size: D.
        seed: None draws differently every time.

    Returns:
        (n, D) float32. The first k rows do not depend on n.

    Raises:
        InputError: a number below 0, or a seed that is not a whole number of at least 0.
        ResourceLimitError: not enough memory.
    """
    for name, value in (("n", n), ("latent_size", latent_size)):
        if not is_whole_number(value) or value < 0:
            raise InputError(f"{name} is {shown(value)}; expected a whole number of at least 0")
    source = generator(seed)
    require_memory(4 * int(n) * int(latent_size), f"{shown(int(n))} points of noise")
    return source.standard_normal((n, latent_size), dtype=np.float32)


def require_latents(dtype: np.dtype[Any], found: tuple[int, ...], latent_size: int) -> None:
    """Raise `InputError` unless type and shape are those of latents, (N, D)."""
    if dtype.kind not in "fiu":
        raise InputError(f"latents of type {dtype}; expected floating point")
    if len(found) != 2 or found[1] != latent_size:
        hint = "; add the batch axis: latents[None]" if found == (latent_size,) else ""
        raise InputError(f"latents of shape {found}; expected (N, {latent_size}){hint}")


def lerp(a: npt.ArrayLike, b: npt.ArrayLike, fraction: float) -> Latents:
    """Return the point at `fraction` of the straight line from `a` (0) to `b` (1); (D,) float32.

    Raises:
        InputError: points of different sizes or no numbers, or a fraction that is none.
    """
    return _on_the_line(*_ends(a, b, fraction), fraction)


def _on_the_line(start: _Point, end: _Point, fraction: float) -> Latents:
    return ((1.0 - fraction) * start + fraction * end).astype(np.float32)  # exact at both ends


def slerp(a: npt.ArrayLike, b: npt.ArrayLike, fraction: float) -> Latents:
    """Return the point at `fraction` of the arc from `a` (0) to `b` (1); (D,) float32.

    Shoemake's spherical interpolation (SIGGRAPH 1985), as White proposes it for latents (Sampling
    Generative Networks, 2016): in high dimensions a standard normal lives near a sphere, and the straight
    line would cut through the empty inside. Where the two directions are one, or opposite, or a point is
    zero, there is no arc to follow and the straight line is taken.

    Raises:
        InputError: as `lerp`.
    """
    return _on_the_arc(*_ends(a, b, fraction), fraction)


def _on_the_arc(start: _Point, end: _Point, fraction: float) -> Latents:
    lengths = np.linalg.norm(start) * np.linalg.norm(end)
    if lengths == 0.0:
        return _on_the_line(start, end, fraction)
    angle = np.arccos(np.clip(np.dot(start, end) / lengths, -1.0, 1.0))
    sine = np.sin(angle)
    if sine < _PARALLEL:
        return _on_the_line(start, end, fraction)
    weighted = np.sin((1.0 - fraction) * angle) * start + np.sin(fraction * angle) * end
    # An arc bulges beyond its ends: where those are as large as float32 can be, it stops there.
    point: Latents = np.clip(weighted / sine, -_LARGEST, _LARGEST).astype(np.float32)
    return point


def _ends(a: npt.ArrayLike, b: npt.ArrayLike, fraction: float) -> tuple[_Point, _Point]:
    start, end = _as_points([a, b])
    if np.ndim(fraction) != 0 or np.asarray(fraction).dtype.kind not in "fiu":
        raise InputError(
            f"fraction is {shown(fraction)}; expected a number: 0 is where the way begins, 1 where it ends"
        )
    return start.astype(np.float64), end.astype(np.float64)


def latent_path(
    points: Sequence[npt.ArrayLike] | npt.NDArray[Any],
    steps: int,
    method: str = "slerp",
    *,
    check_finite: bool = True,
) -> Latents:
    """Lead through two or more points, first and last included.

        points   a ------------- b ------------- c
        steps    0   1   2   3   4   5   6   7   8      (9 steps over 2 legs)

    Args:
        points: (K, D), at least two.
        steps: how many points the path has; at least 2. Evenly spaced, every leg being equally long.
        method: `slerp` along arcs, `lerp` (or `linear`) along straight lines.
        check_finite: refuse NaN and infinity. Without it legs that begin or end there are NaN.

    Returns:
        (steps, D) float32.

    Raises:
        InputError: fewer than two points or steps, points of different sizes, NaN, or an unknown method.
    """
    name = _ALIASES.get(method, method) if isinstance(method, str) else ""
    if name not in METHODS:
        raise InputError(f"method {shown(method)} is not known; expected {', '.join((*METHODS, *_ALIASES))}")
    if not is_whole_number(steps) or steps < 2:
        raise InputError(f"steps is {shown(steps)}; expected at least 2: both ends are part of the path")
    corners = as_corners(points, check_finite=check_finite)
    between = _on_the_arc if name == "slerp" else _on_the_line
    require_memory(4 * int(steps) * corners.shape[1], f"{shown(int(steps))} latents")
    ends = corners.astype(np.float64)
    path = np.empty((steps, corners.shape[1]), np.float32)
    positions = path_positions(len(corners), steps)
    with np.errstate(invalid="ignore"):  # of infinities, where they are let through
        for point, at in zip(path, positions, strict=True):
            leg = min(int(at), len(corners) - 2)
            point[:] = between(ends[leg], ends[leg + 1], at - leg)
    return path


def path_positions(corners: int, steps: int) -> npt.NDArray[np.float64]:
    """Return where the steps of a path lie among its corners, (steps,): whole numbers are the corners themselves."""
    return np.linspace(0.0, corners - 1.0, steps)


def as_corners(points: Sequence[npt.ArrayLike] | npt.NDArray[Any], *, check_finite: bool) -> Latents:
    """Return the points of a path as (K, D) float32.

    Raises:
        InputError: fewer than two, of different sizes, no numbers, or NaN.
    """
    with np.errstate(over="ignore"):  # infinity is refused below
        corners: Latents = np.stack(_as_points(points)).astype(np.float32)
    if check_finite:
        require_finite(corners, "points")
    return corners


def _as_points(points: Iterable[npt.ArrayLike]) -> list[npt.NDArray[Any]]:
    try:
        arrays = [as_array(point, "a point") for point in points]
    except TypeError:  # of what has no members
        raise InputError(f"{shown(points)} given; expected at least 2 points, all of shape (D,)") from None
    shapes = sorted({array.shape for array in arrays})
    if len(arrays) < 2 or len(shapes) != 1 or len(shapes[0]) != 1:
        raise InputError(f"{len(arrays)} points of shapes {shapes}; expected at least 2, all of shape (D,)")
    strange = [str(array.dtype) for array in arrays if array.dtype.kind not in "fiu"]
    if strange:
        raise InputError(f"points of type {strange[0]}; expected floating point")
    return arrays
