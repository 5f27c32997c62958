"""Batches: every image in every epoch, always the same size, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_training.batches import Batches, to_device, to_float

CPU = torch.device("cpu")


def numbered(count: int, batch_size: int, seed: int = 0) -> Batches:
    """Images of 8x8 of which each shows its own number in its pixels."""
    images = np.zeros((count, 8, 8, 1), np.uint8)
    images[:] = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Batches(images, np.arange(count), batch_size=batch_size, seed=seed, device=CPU)


def numbers(batches: Batches, epoch: int, start: int = 0) -> list[list[int]]:
    return [(batch[:, 0, 0, 0] * 255).round().int().tolist() for batch in batches.epoch(epoch, start)]


@given(count=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_an_epoch_shows_every_image_in_batches_of_one_size(count: int, batch_size: int, seed: int) -> None:
    batches = numbered(count, batch_size, seed)
    shown = numbers(batches, epoch=3)
    assert len(shown) == len(batches) == -(-count // min(batch_size, count))
    assert {len(batch) for batch in shown} == {min(batch_size, count)}
    flat = [number for batch in shown for number in batch]
    assert sorted(flat[:count]) == list(range(count))  # each once, ...
    assert flat[count:] == flat[: len(flat) - count]  # ... and the last batch filled up from the beginning


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert numbers(numbered(50, 8, seed=1), 2) == numbers(numbered(50, 8, seed=1), 2)
    orders = [numbers(numbered(50, 8, seed), epoch) for seed in range(3) for epoch in range(3)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


@pytest.mark.parametrize("start", [0, 1, 6, 7])
def test_an_epoch_can_be_entered_in_its_middle(start: int) -> None:
    batches = numbered(50, 8)
    assert numbers(batches, 4, start) == numbers(batches, 4)[start:]


def test_only_the_chosen_images_are_shown() -> None:
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1).repeat(8, 1).repeat(8, 2)
    batches = Batches(images, np.array([3, 5, 11]), batch_size=2, seed=0, device=CPU)
    assert {number for batch in numbers(batches, 0) for number in batch} == {3, 5, 11}


def test_every_pixel_value_becomes_its_255th_part() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    (batch,) = Batches(values, np.array([0]), batch_size=64, seed=0, device=CPU).epoch(0)
    assert batch.dtype == torch.float32
    assert (batch.min().item(), batch.max().item()) == (0.0, 1.0)
    np.testing.assert_array_equal(batch.numpy().ravel(), np.arange(256, dtype=np.float32) / np.float32(255))


def test_channels_come_to_the_front() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 12, 3)).astype(np.uint8)
    moved = to_device(images, np.array([2, 0]), CPU)
    assert (moved.dtype, moved.shape) == (torch.uint8, (2, 3, 8, 12))
    for channel in range(3):
        np.testing.assert_array_equal(moved[0, channel].numpy(), images[2, :, :, channel])
        np.testing.assert_array_equal(moved[1, channel].numpy(), images[0, :, :, channel])


def test_turning_into_floats_leaves_the_bytes_alone() -> None:
    pixels = torch.full((1, 1, 4, 4), 51, dtype=torch.uint8)
    torch.testing.assert_close(to_float(pixels), torch.full((1, 1, 4, 4), 0.2))
    assert (pixels == 51).all()


def test_images_on_disk_are_copied_not_written_to(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.full((5, 8, 8, 1), 9, np.uint8))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    (batch,) = Batches(mapped, np.arange(5), batch_size=5, seed=0, device=CPU).epoch(0)
    batch.zero_()
    assert (mapped == 9).all()
