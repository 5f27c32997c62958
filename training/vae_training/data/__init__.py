"""From what a user calls the data to one uint8 array of images, and its split for training."""

from __future__ import annotations

from vae_training.data.image_set import ImageSet
from vae_training.data.loading import load_configured, load_images
from vae_training.data.named import NAMED_SETS
from vae_training.data.splitting import split

__all__ = ["NAMED_SETS", "ImageSet", "load_configured", "load_images", "split"]
