"""One page of pictures to look at before any number is believed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vae_runtime.cli.png import enlarge, save_png
from vae_runtime.images import Images, Pictures, to_uint8
from vae_runtime.tiling import grid
from vae_training.drawing import import_matplotlib
from vae_training.evaluation.material import Material
from vae_training.evaluation.measuring import Chosen, Shown

_WIDTH = 1152  # pixels, about
_CELL = 64  # pixels that a small image is at least enlarged to
_MARGIN, _GAP, _TITLE = 24, 6, 34  # pixels
_PAPER, _INK = (255, 255, 255), (30, 30, 30)
_FONT_SIZE = 16


@dataclass(frozen=True)
class _Section:
    title: str
    sheet: Pictures


def write_page(path: Path, material: Material, chosen: Chosen, shown: dict[str, Shown]) -> None:
    """Write the page as PNG: of the first model everything, of others the samples."""
    save_png(path, _assemble(_sections(material, chosen, shown)))


def _sections(material: Material, chosen: Chosen, shown: dict[str, Shown]) -> list[_Section]:
    (name, it), *others = shown.items()
    width = it.samples.shape[3]
    scale = max(1, -(-_CELL // width))
    across = max(2, (_WIDTH + _GAP) // (width * scale + _GAP) // 2 * 2)
    few, many = 3 * across, 5 * across

    def singles(images: Images) -> Pictures:
        return _tile(to_uint8(images), across, scale)

    def pairs(left: Images, right: Images) -> Pictures:
        both = np.concatenate([to_uint8(left), to_uint8(right)], axis=2)
        return _tile(both, across // 2, scale)

    held_out = material.floats(chosen.held_out[:few])
    sections = [_Section(f"samples of {name}", singles(it.samples[:many]))]
    sections += [_Section(f"samples of {other}", singles(that.samples[:many])) for other, that in others]
    sections += [
        _Section("held-out images", singles(held_out)),
        _Section(
            "held-out images, each left of its reconstruction",
            pairs(held_out, it.reconstructions[: len(held_out)]),
        ),
    ]
    count = min(few, len(it.samples))
    sections += [
        _Section(
            "samples, each left of the training image nearest to it",
            pairs(it.samples[:count], material.floats(it.nearest[:count])),
        ),
        _Section(
            "interpolations, between the held-out images at both ends",
            _paths(material, it, across, scale),
        ),
    ]
    return sections


def _paths(material: Material, shown: Shown, across: int, scale: int) -> Pictures:
    """Lay out paths, a row each: the image, as many steps as there is room for, the other image."""
    rows = []
    for path, ends in zip(shown.paths[:6], shown.ends, strict=False):
        first, last = material.floats(ends)
        steps = np.linspace(0, len(path) - 1, across - 2).round().astype(int)
        rows.append(np.stack([first, *path[steps], last]))
    return _tile(to_uint8(np.concatenate(rows)), across, scale)


def _tile(pictures: Pictures, columns: int, scale: int) -> Pictures:
    large = np.stack([enlarge(picture, scale) for picture in pictures])
    return grid(large, columns=columns, padding=_GAP)


def _assemble(sections: list[_Section]) -> npt.NDArray[np.uint8]:
    width = 2 * _MARGIN + max(section.sheet.shape[1] for section in sections)
    height = _MARGIN + sum(_TITLE + section.sheet.shape[0] + _MARGIN for section in sections)
    page = Image.new("RGB", (width, height), _PAPER)
    pen, font = ImageDraw.Draw(page), title_font()
    top = _MARGIN
    for section in sections:
        pen.text((_MARGIN, top), section.title, fill=_INK, font=font)
        page.paste(Image.fromarray(section.sheet).convert("RGB"), (_MARGIN, top + _TITLE))
        top += _TITLE + section.sheet.shape[0] + _MARGIN
    return np.asarray(page)


def title_font() -> ImageFont.FreeTypeFont:
    """Return a font that knows more letters than Pillow's own, which has no accents: names of models may."""
    return ImageFont.truetype(
        Path(import_matplotlib().get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), _FONT_SIZE
    )
