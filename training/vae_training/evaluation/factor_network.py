"""A small network that tells from a drawn face the numbers it was drawn from.

What it has learnt to see (light, pose, the shape of a head, hair, glasses) is a space to compare faces in; no model
that is measured ever saw it. `data/make_feature_network.py` trained it on faces that are in no data set.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vae_training.tensor_files import read_file, tensors_from_bytes

SIDE = 24
"""Height and width of the images that it takes."""
FEATURES = 64

WEIGHTS = Path(__file__).with_name("factor_network.safetensors")
_MEAN, _SPREAD = 0.5, 0.25  # of pixels, about


class FactorNetwork(nn.Module):
    """Gray images to features, and from these to standardised factors."""

    def __init__(self, factors: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * (SIDE // 8) ** 2, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, factors)

    def features(self, images: Tensor) -> Tensor:
        """(N, 1, 24, 24) in [0, 1] to (N, 64), none below 0."""
        return self.body((images - _MEAN) / _SPREAD)  # type: ignore[no-any-return]  # torch modules return Any

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 24, 24) in [0, 1] to factors (N, F), each of mean 0 and variance 1 over drawn faces."""
        return self.head(self.features(images))  # type: ignore[no-any-return]  # the same


def load_factor_network(path: Path = WEIGHTS) -> FactorNetwork:
    """Read the network that is shipped.

    Raises:
        CheckpointError: its file is missing or damaged.
    """
    tensors = tensors_from_bytes(read_file(path), str(path))
    network = FactorNetwork(len(tensors["head.bias"]))
    network.load_state_dict({name: tensor.to(torch.float32) for name, tensor in tensors.items()})
    return network.eval().requires_grad_(False)
