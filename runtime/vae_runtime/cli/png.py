"""Pictures as PNG files, through Pillow."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from vae_runtime.images import Pictures


def save_png(path: Path, picture: Pictures) -> None:
    """Write one (H, W) or (H, W, 3) uint8 picture as PNG."""
    encoded = io.BytesIO()
    encoded.name = "new.png"  # for a name, other than for a format, Pillow loads no plugins of other formats
    Image.fromarray(picture).save(encoded)
    path.write_bytes(encoded.getvalue())  # at once: Pillow would look into the file in between


def enlarge(picture: Pictures, factor: int) -> Pictures:
    """Repeat every pixel `factor` times along both axes: (H, W[, 3]) to (H * factor, W * factor[, 3])."""
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
