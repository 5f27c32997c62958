"""Sample 100 pictures with PyTorch: WEIGHTS.pth OUTPUT.png."""

import sys

import numpy as np
import torch
from PIL import Image

from vae_training.config import ModelConfig
from vae_training.model import VAE

weights, output = sys.argv[1:]
config = ModelConfig()
model = VAE(config)
model.load_state_dict(torch.load(weights, weights_only=True))
model.eval()
with torch.inference_mode():
    images = model.decoder(torch.randn(100, config.latent_size)).numpy()
pictures = np.rint(images[:, 0] * 255).astype(np.uint8)
height, width = pictures.shape[1:]
sheet = pictures.reshape(10, 10, height, width).swapaxes(1, 2).reshape(10 * height, 10 * width)
Image.fromarray(sheet).save(output)
