"""Arrays written as PNG, read back by Pillow itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vae_runtime.cli.png import enlarge, save_png

GRAY = (np.arange(96, dtype=np.uint8) * 2).reshape(8, 12)
COLOUR = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)


@pytest.mark.parametrize("pixels", [GRAY, COLOUR], ids=["gray", "colour"])
def test_a_written_png_is_read_back(tmp_path: Path, pixels: Any) -> None:
    save_png(tmp_path / "a.tmp", pixels)
    with Image.open(tmp_path / "a.tmp") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_enlarging_repeats_every_pixel() -> None:
    np.testing.assert_array_equal(enlarge(np.array([[1, 2]], np.uint8), 2), [[1, 1, 2, 2], [1, 1, 2, 2]])
    assert enlarge(COLOUR, 3).shape == (24, 36, 3)
    np.testing.assert_array_equal(enlarge(GRAY, 1), GRAY)
