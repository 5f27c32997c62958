"""What share of images a face detector takes for faces, which knows nothing of the model and its images.

The detector is scikit-image's: a cascade of boosted multi-block local binary patterns (Zhang et al., Face Detection
Based on Multi-Block LBP Representation, 2007). It likes the average of many faces better than most photographs: a
share above that of real images means that samples are too much alike, not that they are better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vae_runtime.images import Images, Pictures, to_uint8

# Faces fill these images, and the detector wants some room around one: enlarged, they get a border of their edges.
_SIDE, _BORDER = 72, 24
_WHOLE = _SIDE + 2 * _BORDER
_FINER = 1.1  # times the size of the window, from one look to the next


@dataclass(frozen=True)
class TakenForFaces:
    """Shares of images, from 0 to 1."""

    samples: float
    reconstructions: float


def share_of_faces(images: Images) -> float:
    """Return the share of images, (N, C, H, W) float32 in [0, 1], in which the detector finds a face.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
    """
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    detector = Cascade(lbp_frontal_face_cascade_filename())  # type: ignore[no-untyped-call]  # untyped
    found = [
        detector.detect_multi_scale(
            _with_room(picture), _FINER, 1, (_SIDE // 2, _SIDE // 2), (_WHOLE, _WHOLE), min_neighbor_number=1
        )
        for picture in to_uint8(images)
    ]
    return float(np.mean([len(faces) > 0 for faces in found]))


def _with_room(picture: Pictures) -> Pictures:
    """Enlarge a picture, (H, W) or (H, W, 3), to `_SIDE` pixels each way, make it gray, and put a border around it."""
    gray = Image.fromarray(picture).convert("L")
    large = np.asarray(gray.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    return np.pad(large, _BORDER, mode="edge")
