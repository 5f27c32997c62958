"""Write the tiny bundles that the runtime's tests open, and what PyTorch says of them.

    python tests/assets/make_assets.py            all of them
    python tests/assets/make_assets.py tiny-int8  one of them

The weights are drawn, not trained, and made large enough that images differ from each other. Beside each
bundle's files lies `expected.npz`: inputs, and the outputs that PyTorch gives for them, so that the tests
can compare with PyTorch where PyTorch is not installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "runtime"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "export"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))

import numpy as np
import torch

from vae_export.bundle import Settings, export_bundle
from vae_export.source import Source
from vae_training.config import ModelConfig
from vae_training.data import ImageSet
from vae_training.model import VAE

ASSETS = Path(__file__).resolve().parent
GRAY = ModelConfig(height=8, width=12, channels=1, filters=(2, 3), latent_size=3)
COLOUR = ModelConfig(height=8, width=8, channels=3, filters=(2, 3), latent_size=4)
# In fp32 layers stay as PyTorch has them: the runtime's tests look at both transposed convolutions.
BUNDLES = {
    "tiny-gray": (GRAY, "fp32"),
    "tiny-colour": (COLOUR, "fp32"),
    "tiny-fp16": (COLOUR, "fp16"),
    "tiny-int8": (GRAY, "int8"),
}
OPSET = 17
INPUTS = 5
GAIN = 3.0


def make(name: str, config: ModelConfig, precision: str) -> None:
    torch.manual_seed(20)
    model = VAE(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(GAIN)
    pictures = np.random.Generator(np.random.PCG64(0)).integers(
        0, 256, (64, config.height, config.width, config.channels), dtype=np.uint8
    )
    export_bundle(
        Source(model, name=name),
        ImageSet(pictures, groups=None, name="noise", source="uniform noise"),
        ASSETS / name,
        Settings(
            opset=OPSET,
            name=name,
            license="MIT",
            data="none: the weights are drawn",
            precision=precision,
            optimize=precision != "fp32",
        ),
        overwrite=True,
    )
    image = torch.rand(INPUTS, *config.image_shape)
    latent = torch.randn(INPUTS, config.latent_size)
    mean, logvar = model.encoder(image)
    np.savez(
        ASSETS / f"{name}.expected.npz",
        image=image.numpy(),
        mean=mean.numpy(),
        logvar=logvar.numpy(),
        latent=latent.numpy(),
        decoded=model.decoder(latent).numpy(),
    )


if __name__ == "__main__":
    for name in sys.argv[1:] or BUNDLES:
        make(name, *BUNDLES[name])
