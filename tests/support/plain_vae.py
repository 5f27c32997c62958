"""The classic code of a small VAE, written out again: nothing of it is the project's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn


class PlainVAE(nn.Module):
    """The classic architecture; some versions of it have a ReLU behind the decoder's linear layer."""

    def __init__(
        self,
        height: int = 24,
        width: int = 24,
        channels: int = 1,
        filters: tuple[int, int] = (32, 64),
        latents: int = 20,
        *,
        fc_relu: bool = False,
    ) -> None:
        super().__init__()
        f1, f2 = filters
        self.fc_relu = fc_relu
        self.shape = (f2, height // 4, width // 4)
        features = f2 * self.shape[1] * self.shape[2]
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.conv1 = nn.Conv2d(channels, f1, kernel_size=4, stride=2, padding=1)
        self.encoder.conv2 = nn.Conv2d(f1, f2, kernel_size=4, stride=2, padding=1)
        self.encoder.fc_mu = nn.Linear(features, latents)
        self.encoder.fc_logvar = nn.Linear(features, latents)
        self.decoder.fc = nn.Linear(latents, features)
        self.decoder.trans_conv1 = nn.ConvTranspose2d(f2, f1, kernel_size=4, stride=2, padding=1)
        self.decoder.trans_conv2 = nn.ConvTranspose2d(f1, channels, kernel_size=4, stride=2, padding=1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.encoder.conv2(F.relu(self.encoder.conv1(x)))).reshape(len(x), -1)
        return self.encoder.fc_mu(h), self.encoder.fc_logvar(h)

    def decode(self, z: Tensor) -> Tensor:
        h = self.decoder.fc(z)
        if self.fc_relu:
            h = F.relu(h)
        h = F.relu(self.decoder.trans_conv1(h.reshape(-1, *self.shape)))
        return torch.sigmoid(self.decoder.trans_conv2(h))
