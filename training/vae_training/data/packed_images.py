"""Images in six tenths of the bytes that a .npz takes: each pixel as its difference from what its neighbours foretell.

Lossless, as PNG and JPEG-LS are, whose pages say why it works (https://www.w3.org/TR/png-3/#9Filters). Images that
show the same thing at the same place, as cropped faces do, can be foretold better than any picture: each place has
weights of its own for its neighbours, found by least squares over all images and rounded to whole numbers, so that
every machine foretells the same. What is left has no repetitions, only a narrow spread: Huffman's code alone packs it
best.

`data/wheel_images.py` packs with it what goes into the wheel. It needs numpy and nothing else of this project.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint8]
_Whole = npt.NDArray[np.int32]

# Rows above and columns to the left (negative) of a pixel; all are known where images are read row by row.
_NEIGHBOURS = ((0, -2), (0, -1), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (-2, -1), (-2, 0), (-2, 1))
_MARGIN = 2  # zeros around an image: how far neighbours reach
_UNIT = 64  # a weight of one


def pack_images(images: Array) -> dict[str, npt.NDArray[np.generic]]:
    """Return arrays that `unpack_images` makes the images of again.

    Args:
        images: (N, H, W) uint8, N, H and W at least 1.

    Returns:
        `residuals`: a zlib stream as (bytes,) uint8. `weights`: (H, W, 11) int16, in 64ths, the constant last.
        `shape`: (3,) int64, N, H and W. `step`: () uint8, which all gray values are multiples of.
    """
    count, height, width = images.shape
    step = max(1, int(np.gcd.reduce(np.unique(images))))
    padded = _with_margin(images.shape)
    padded[_MARGIN:, _MARGIN:-_MARGIN] = np.moveaxis(images // step, 0, -1)
    weights = np.zeros((height, width, len(_NEIGHBOURS) + 1), np.int16)
    residuals = np.empty((height, width, count), np.uint8)
    for row, column in np.ndindex(height, width):
        known = _neighbours(padded, row, column)
        pixels = padded[row + _MARGIN, column + _MARGIN]
        found = np.linalg.lstsq(known.T.astype(float), pixels.astype(float), rcond=None)[0]
        weights[row, column] = np.clip(np.rint(found * _UNIT), -(2**15), 2**15 - 1)
        residuals[row, column] = pixels - _foretold(known, weights[row, column])  # modulo 256
    return {
        "residuals": np.frombuffer(_huffman(residuals.tobytes()), np.uint8),
        "weights": weights,
        "shape": np.array(images.shape, np.int64),
        "step": np.array(step, np.uint8),
    }


def unpack_images(packed: Mapping[str, npt.NDArray[np.generic]]) -> Array:
    """Return the images (N, H, W) uint8 that `pack_images` was given.

    Raises:
        ValueError: not what `pack_images` returns.
        zlib.error: a damaged stream.
    """
    count, height, width = map(int, packed["shape"])
    weights = packed["weights"].astype(np.int32)
    residuals = np.frombuffer(zlib.decompress(packed["residuals"].tobytes()), np.uint8)
    residuals = residuals.reshape(height, width, count)
    padded = _with_margin((count, height, width))
    for row, column in np.ndindex(height, width):
        foretold = _foretold(_neighbours(padded, row, column), weights[row, column])
        padded[row + _MARGIN, column + _MARGIN] = (foretold + residuals[row, column]) & 255
    images = np.moveaxis(padded[_MARGIN:, _MARGIN:-_MARGIN], -1, 0).astype(np.uint8)
    return np.ascontiguousarray(images * packed["step"].astype(np.uint8))


def _with_margin(shape: tuple[int, ...]) -> _Whole:
    """Return zeros (H + margin, W + 2 margins, N) of images (N, H, W): one place of all images lies together."""
    count, height, width = shape
    return np.zeros((height + _MARGIN, width + 2 * _MARGIN, count), np.int32)


def _neighbours(padded: _Whole, row: int, column: int) -> _Whole:
    """Return the neighbours of a place in each image, and a one for the constant: (11, N)."""
    known = [padded[row + up + _MARGIN, column + left + _MARGIN] for up, left in _NEIGHBOURS]
    return np.stack([*known, np.ones_like(known[0])])


def _foretold(known: _Whole, weights: npt.NDArray[np.signedinteger]) -> _Whole:
    """Return the weighted sum, rounded to a whole number."""
    total: _Whole = weights.astype(np.int32) @ known
    return (total + _UNIT // 2) // _UNIT


def _huffman(numbers: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL + 1, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(numbers) + packer.flush()
