"""Augmentation: every image is one of those that it may become, all of these come up, and the same seed repeats."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from vae_training.augmentation import Augmentation


def images(count: int = 200, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 6, 8, generator=torch.Generator().manual_seed(1))


def changed(augmentation: Augmentation, given: Tensor, seed: int = 0) -> Tensor:
    return augmentation(given, torch.Generator().manual_seed(seed))


def test_about_half_of_the_images_are_mirrored_and_the_rest_left() -> None:
    given = images()
    found = changed(Augmentation(flip=True), given)
    mirrored = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(found, given, strict=True)])
    left = torch.tensor([torch.equal(a, b) for a, b in zip(found, given, strict=True)])
    assert torch.equal(mirrored, ~left)
    assert 70 < mirrored.sum() < 130


def test_every_image_is_moved_by_a_whole_number_of_pixels_and_all_moves_come_up() -> None:
    given = images(300)
    found = changed(Augmentation(shift=2), given)
    padded = pad(given, (2, 2, 2, 2), mode="replicate")
    moves = []
    for image, wide in zip(found, padded, strict=True):
        fitting = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(image, wide[:, down : down + 6, right : right + 8])
        ]
        assert len(fitting) == 1
        moves += fitting
    assert len(set(moves)) == 25


def test_brightness_moves_all_pixels_of_an_image_alike_and_stays_in_range() -> None:
    given = images() * 0.4 + 0.3  # from 0.3 to 0.7
    difference = changed(Augmentation(brightness=0.2), given) - given
    by_image = difference.flatten(1)
    assert torch.allclose(by_image, by_image[:, :1].expand_as(by_image), atol=1e-6)
    assert -0.2 <= by_image.min() < -0.15
    assert 0.15 < by_image.max() <= 0.2
    extreme = changed(Augmentation(brightness=1.0), images())
    assert extreme.min() == 0.0
    assert extreme.max() == 1.0


@pytest.mark.parametrize(
    "augmentation", [Augmentation(flip=True), Augmentation(shift=3), Augmentation(True, 1, 0.1)]
)
def test_the_same_seed_changes_the_same_and_another_does_not(augmentation: Augmentation) -> None:
    given = images()
    before = given.clone()
    assert torch.equal(changed(augmentation, given), changed(augmentation, given))
    assert not torch.equal(changed(augmentation, given), changed(augmentation, given, seed=1))
    assert torch.equal(given, before)
    assert augmentation


def test_nothing_is_changed_unless_asked_for() -> None:
    assert not Augmentation()
    assert changed(Augmentation(), images()) is not None
    assert torch.equal(changed(Augmentation(), images()), images())
