"""Training as textbooks write it: what `vae_training` is compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vae_training.config import Config
from vae_training.model import VAE


class Faces(Dataset[Tensor]):
    """Pictures that become float tensors one by one, when they are asked for."""

    def __init__(self, pictures: npt.NDArray[np.uint8]) -> None:
        """Keep (N, H, W, C) uint8 pictures."""
        self.pictures = pictures

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.pictures)

    def __getitem__(self, index: int) -> Tensor:
        """Return one image, (C, H, W) float32 in [0, 1]."""
        return torch.from_numpy(self.pictures[index]).permute(2, 0, 1).float() / 255.0


class PlainLoop:
    """The same model, data, batches and optimizer as a `Trainer` of these settings."""

    def __init__(self, config: Config, pictures: npt.NDArray[np.uint8], device: str) -> None:
        """Start from the weights that a `Trainer` of these settings starts from."""
        settings = config.training
        torch.manual_seed(settings.seed)
        self.model = VAE(config.model).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)
        self.loader = DataLoader(Faces(pictures), batch_size=settings.batch_size, shuffle=True)
        self.beta = settings.beta
        self.device = device

    def train_epoch(self) -> float:
        """Train on every image once; return the mean loss in nats an image."""
        total = 0.0
        for batch in self.loader:
            image = batch.to(self.device)
            self.optimizer.zero_grad()
            loss = self._loss(image)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self.optimizer.step()
            total += loss.item()
        return total / len(self.loader.dataset)  # type: ignore[arg-type]  # not every Dataset has a length

    def _loss(self, image: Tensor) -> Tensor:
        mean, logvar = self.model.encoder(image)
        latent = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        reconstruction = F.binary_cross_entropy(self.model.decoder(latent), image, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())
        return reconstruction + self.beta * kl
