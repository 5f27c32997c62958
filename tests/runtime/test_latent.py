"""Noise by seed, and the ways from one point to the next."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vae_runtime import InputError, latent_path, lerp, noise, slerp

Point = npt.NDArray[np.float32]

A = np.array([3.0, 0.0, 0.0], np.float32)
B = np.array([0.0, 3.0, 0.0], np.float32)

points = hnp.arrays(np.float32, 4, elements=st.floats(-4, 4, width=32))
fractions = st.floats(0, 1)


def angle_between(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """By the half-angle formula of Kahan, which is exact where the arc cosine is not."""
    u = np.asarray(a, np.float64) / np.linalg.norm(a)
    v = np.asarray(b, np.float64) / np.linalg.norm(b)
    return float(2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v)))


def rotated(a: Point, b: Point, fraction: float) -> npt.NDArray[np.float64]:
    """Slerp another way: turn `a` in the plane of both, in an orthonormal basis of that plane."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    first = a64 / np.linalg.norm(a64)
    second = b64 - (b64 @ first) * first
    second /= np.linalg.norm(second)
    omega = angle_between(a, b)
    # Of unequal lengths, Shoemake's formula weighs the two lengths by the two sines.
    share_a = math.sin((1 - fraction) * omega) / math.sin(omega) * np.linalg.norm(a64)
    share_b = math.sin(fraction * omega) / math.sin(omega) * np.linalg.norm(b64)
    result: npt.NDArray[np.float64] = (share_a + share_b * math.cos(omega)) * first + (
        share_b * math.sin(omega)
    ) * second
    return result


def test_noise_of_a_seed_is_these_numbers() -> None:
    np.testing.assert_array_equal(
        noise(2, 3, seed=7),
        np.array([[1.5219693, -1.1441058, 1.1501616], [-1.7846532, -0.77149874, 1.0191615]], np.float32),
    )
    assert noise(1, 1, seed=0).dtype == np.float32


@given(seed=st.integers(0, 2**64), n=st.integers(0, 40), k=st.integers(0, 40), size=st.integers(1, 20))
def test_the_first_rows_do_not_depend_on_how_many_are_drawn(seed: int, n: int, k: int, size: int) -> None:
    few, many = sorted((n, k))
    np.testing.assert_array_equal(noise(few, size, seed), noise(many, size, seed)[:few])


def test_noise_is_standard_normal() -> None:
    drawn = noise(100_000, 2, seed=1)
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.01


def test_without_a_seed_every_draw_is_another() -> None:
    assert not np.array_equal(noise(1, 8), noise(1, 8))


@pytest.mark.parametrize("seed", [np.int64(7), np.uint8(7)])
def test_whole_numbers_of_numpy_are_seeds(seed: Any) -> None:
    np.testing.assert_array_equal(noise(2, 2, seed), noise(2, 2, 7))


@pytest.mark.parametrize("seed", [-1, 1.0, "7", True, np.float32(1), [1, 2]])
def test_what_is_not_a_seed_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match=r"seed is .*; expected a whole number of at least 0, or None"):
        noise(1, 1, seed)


@pytest.mark.parametrize("bad", [-1, 1.0, True, "3"])
def test_what_is_not_a_number_of_points_is_refused(bad: Any) -> None:
    for n, size, name in ((bad, 3, "n"), (3, bad, "latent_size")):
        with pytest.raises(InputError, match=f"{name} is .*; expected a whole number of at least 0"):
            noise(n, size)


@given(
    corners=hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 5), st.integers(1, 6)),
        elements=st.sampled_from(
            [float(np.float32(x)) for x in (0.0, -0.0, 1, -1, 3e38, -3e38, 1e-45, 1e-38)]
        )
        | st.floats(-4, 4, width=32),
    ),
    steps=st.integers(2, 40),
    method=st.sampled_from(["slerp", "linear"]),
    opposite=st.booleans(),
)
def test_a_path_is_finite_and_its_ends_are_exact_whatever_the_points(
    corners: Point, steps: int, method: str, opposite: bool
) -> None:
    if opposite:
        corners[1] = -corners[0]
    path = latent_path(corners, steps, method)
    assert path.shape == (steps, corners.shape[1])
    assert np.isfinite(path).all()
    np.testing.assert_array_equal(path[0], corners[0])
    np.testing.assert_array_equal(path[-1], corners[-1])


def test_lerp_is_the_straight_line() -> None:
    np.testing.assert_array_equal(lerp(A, B, 0.25), [2.25, 0.75, 0])
    assert lerp(A, B, 0.25).dtype == np.float32


def test_slerp_of_a_right_angle_is_a_circle() -> None:
    half = 3 * math.sqrt(0.5)
    np.testing.assert_allclose(slerp(A, B, 0.5), [half, half, 0], rtol=1e-6)
    np.testing.assert_allclose(slerp(A, B, 1 / 3), [3 * math.cos(math.pi / 6), 1.5, 0], rtol=1e-6)


@given(a=points, b=points, fraction=fractions)
def test_slerp_equals_a_rotation_in_the_plane_of_both(a: Point, b: Point, fraction: float) -> None:
    assume(np.linalg.norm(a) > 0.1 and np.linalg.norm(b) > 0.1)
    assume(0.01 < angle_between(a, b) < math.pi - 0.01)
    np.testing.assert_allclose(slerp(a, b, fraction), rotated(a, b, fraction), atol=2e-5)


@given(a=points, b=points)
def test_slerp_begins_and_ends_where_it_should(a: Point, b: Point) -> None:
    np.testing.assert_allclose(slerp(a, b, 0.0), a, atol=1e-5)
    np.testing.assert_allclose(slerp(a, b, 1.0), b, atol=1e-5)


@given(a=points, b=points, fraction=fractions)
def test_slerp_is_the_same_from_the_other_end(a: Point, b: Point, fraction: float) -> None:
    assume(np.linalg.norm(a) == 0 or np.linalg.norm(b) == 0 or angle_between(a, b) < math.pi - 0.01)
    np.testing.assert_allclose(slerp(a, b, fraction), slerp(b, a, 1 - fraction), atol=2e-5)


@given(a=points, b=points, fraction=fractions)
def test_between_points_of_one_length_slerp_keeps_that_length(a: Point, b: Point, fraction: float) -> None:
    assume(np.linalg.norm(a) > 0.1 and np.linalg.norm(b) > 0.1)
    assume(0.01 < angle_between(a, b) < math.pi - 0.01)
    u, v = 2 * a / np.linalg.norm(a), 2 * b / np.linalg.norm(b)
    assert np.linalg.norm(slerp(u, v, fraction)) == pytest.approx(2, abs=1e-4)


@given(a=points, b=points)
def test_steps_of_a_slerp_path_turn_by_equal_angles(a: Point, b: Point) -> None:
    assume(np.linalg.norm(a) > 0.1 and np.linalg.norm(b) > 0.1)
    assume(0.1 < angle_between(a, b) < math.pi - 0.1)
    u, v = a / np.linalg.norm(a), b / np.linalg.norm(b)
    path = latent_path([u, v], 6)
    turns = [angle_between(one, next_one) for one, next_one in pairwise(path)]
    np.testing.assert_allclose(turns, angle_between(u, v) / 5, atol=1e-4)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (A, 2 * A),
        (A, A),
        (A, -A),
        (A, 0 * A),
        (0 * A, B),
        (0 * A, 0 * A),
        (A, A + np.float32(1e-7) * B),
    ],
    ids=["parallel", "the same", "opposite", "to zero", "from zero", "zero", "almost parallel"],
)
def test_where_there_is_no_arc_slerp_is_the_straight_line(a: Point, b: Point) -> None:
    for fraction in (0.0, 0.3, 1.0):
        np.testing.assert_array_equal(slerp(a, b, fraction), lerp(a, b, fraction))


@pytest.mark.parametrize("method", ["slerp", "lerp", "linear"])
def test_a_path_through_three_points_passes_the_middle_one(method: str) -> None:
    c = np.array([0.0, 0.0, 2.0], np.float32)
    path = latent_path([A, B, c], 9, method)
    assert path.shape == (9, 3)
    assert path.dtype == np.float32
    np.testing.assert_allclose(path[[0, 4, 8]], [A, B, c], atol=1e-6)
    between = slerp if method == "slerp" else lerp
    np.testing.assert_allclose(path[2], between(A, B, 0.5), atol=1e-6)
    np.testing.assert_allclose(path[5], between(B, c, 0.25), atol=1e-6)


def test_a_straight_path_has_equal_steps() -> None:
    np.testing.assert_allclose(
        latent_path([[0, 0], [4, 8]], 5, "linear"), [[0, 0], [1, 2], [2, 4], [3, 6], [4, 8]]
    )


def test_a_path_takes_an_array_of_points() -> None:
    np.testing.assert_array_equal(latent_path(np.stack([A, B]), 4), latent_path([A, B], 4))


@pytest.mark.parametrize(
    ("given_points", "steps", "method", "message"),
    [
        ([A, B], 1, "slerp", "steps is 1; expected at least 2: both ends"),
        ([A, B], 5, "cubic", "method 'cubic' is not known; expected slerp, lerp, linear"),
        ([A], 5, "slerp", r"1 points of shapes \[\(3,\)\]; expected at least 2"),
        ([], 5, "slerp", "0 points"),
        ([A, B[:2]], 5, "slerp", r"shapes \[\(2,\), \(3,\)\]; expected at least 2, all of shape"),
        ([[A], [B]], 5, "slerp", r"shapes \[\(1, 3\)\]"),
        ([1.0, 2.0], 5, "slerp", r"shapes \[\(\)\]"),
        ([A, [1, np.nan, 3]], 5, "slerp", r"points hold nan at index \(1, 1\)"),
        ([A, [1, 2, np.inf]], 5, "linear", r"points hold inf at index \(1, 2\)"),
        ([A, [1, 2, 1e300]], 5, "linear", r"points hold inf at index \(1, 2\)"),
        ([A, [1, 2, 3j]], 5, "slerp", "points of type complex128; expected floating point"),
        ([A, ["a", "b", "c"]], 5, "slerp", "points of type <U1; expected floating point"),
        ([A, [1, [2], 3]], 5, "slerp", "a point: cannot be made an array"),
        ([A, B], 2.5, "slerp", "steps is 2.5; expected at least 2"),
        ([A, B], True, "slerp", "steps is True; expected at least 2"),
        ([A, B], "9", "slerp", "steps is '9'; expected at least 2"),
    ],
)
def test_what_gives_no_path_is_refused(given_points: Any, steps: int, method: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        latent_path(given_points, steps, method)
