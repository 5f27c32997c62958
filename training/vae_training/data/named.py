"""Data sets known by name: the embedded faces, and sets that scikit-learn, scikit-image and torchvision load.

Those libraries are imported only when a set of theirs is asked for.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_runtime.arrays import npz_shapes, read_npz
from vae_runtime.errors import one_line
from vae_training.data.folder import in_parallel
from vae_training.data.image_set import ImageSet, Progress, Size
from vae_training.data.layout import conform, to_pictures
from vae_training.data.packed_images import unpack_images
from vae_training.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from PIL import Image

Array = npt.NDArray[Any]

# Height and width of what fetch_lfw_people cuts out of a picture, the face, when halved as it is by default.
_LFW_SIZE = (62, 47)

# The customary crop about the face, out of 218x178.
_CELEBA_CROP = 148


@dataclass(frozen=True)
class Wanted:
    """What a loader needs to know: its images are brought to the exact size and channels afterwards."""

    image_size: Size
    channels: int | None
    progress: Progress | None


@dataclass(frozen=True)
class NamedSet:
    """A data set known by name.

    Attributes:
        load: gives the images, in any layout that `to_pictures` takes, and each image's group or None.
        image_size: (height, width) unless the user says otherwise.
        source: one line for a model card.
        offline: whether nothing has to be downloaded.
    """

    load: Callable[[Wanted], tuple[Array, Array | None]]
    image_size: Size
    source: str
    offline: bool = False


def load_named(
    name: str, *, image_size: Size | None, channels: int | None, progress: Progress | None
) -> ImageSet:
    """Load a set of `NAMED_SETS`, downloading it where it is not there yet.

    Downloads are kept in the folder named by the environment variable VAE_EDGE_DATA, by default
    ~/.cache/vae-edge.

    Args:
        name: a key of `NAMED_SETS`.
        image_size: (height, width); by default the set's own.
        channels: 1 or 3; by default the set's own.
        progress: called as progress(done, total) where pictures are decoded one by one.

    Raises:
        DataError: the library that loads the set is missing or broken, or the set cannot be fetched.
    """
    named = NAMED_SETS[name]
    wanted = Wanted(image_size or named.image_size, channels, progress)
    array, groups = named.load(wanted)
    pictures = conform(to_pictures(name, array), wanted.image_size, channels)
    numbers = None if groups is None else np.asarray(groups, np.int64)
    return ImageSet(pictures, numbers, name, named.source)


def embedded_faces() -> Path:
    """Find the embedded set: beside this module in an installed package, in data/ in a checkout.

    Raises:
        DataError: it is in neither place.
    """
    here = Path(__file__)
    places = (here.with_name("faces24.npz"), here.parents[3] / "data" / "faces24.npz")
    for place in places:
        if place.is_file():
            return place
    raise DataError(f"faces: its file is missing; looked for {places[0]} and {places[1]}")


def _faces(_: Wanted) -> tuple[Array, None]:
    path = embedded_faces()
    if "residuals" in npz_shapes(path):  # so it stands in the wheel
        return unpack_images(read_npz(path)), None
    return read_npz(path, "images")["images"], None


def _lfw(wanted: Wanted) -> tuple[Array, Array]:
    datasets = _import("sklearn.datasets", "lfw", "scikit-learn")
    # Halved pictures take a quarter of the memory; whole ones are read only where they are needed.
    enough = all(side <= own for side, own in zip(wanted.image_size, _LFW_SIZE, strict=True))
    with _fetching("lfw", "scikit-learn") as cache:
        people = datasets.fetch_lfw_people(
            data_home=str(cache), resize=0.5 if enough else None, color=wanted.channels == 3, n_retries=1
        )
    return people.images, people.target


def _olivetti(_: Wanted) -> tuple[Array, Array]:
    datasets = _import("sklearn.datasets", "olivetti", "scikit-learn")
    with _fetching("olivetti", "scikit-learn") as cache:
        faces = datasets.fetch_olivetti_faces(data_home=str(cache), n_retries=1)
    return faces.images, faces.target


def _lfw_subset(_: Wanted) -> tuple[Array, None]:
    data = _import("skimage.data", "lfw-subset", "scikit-image")
    # The second half is of things that are not faces.
    return data.lfw_subset()[:100], None


def _digits(_: Wanted) -> tuple[Array, None]:
    datasets = _import("sklearn.datasets", "digits", "scikit-learn")
    return datasets.load_digits().images / 16, None


def _mnist(_: Wanted) -> tuple[Array, None]:
    return _torchvision("mnist", "MNIST", train=True).data.numpy(), None


def _fashion_mnist(_: Wanted) -> tuple[Array, None]:
    return _torchvision("fashion-mnist", "FashionMNIST", train=True).data.numpy(), None


def _celeba(wanted: Wanted) -> tuple[Array, Array]:
    faces = _torchvision("celeba", "CelebA", split="train", target_type="identity")
    images = np.empty((len(faces), *wanted.image_size, wanted.channels or 3), np.uint8)

    def decode(index: int) -> None:
        picture = _centre_square(faces[index][0].convert("RGB"), _CELEBA_CROP)
        images[index] = conform(np.asarray(picture)[np.newaxis], wanted.image_size, wanted.channels)[0]

    in_parallel(decode, len(faces), wanted.progress)
    return images, faces.identity.numpy()[:, 0]


def _centre_square(picture: Image.Image, side: int) -> Image.Image:
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _torchvision(name: str, loader: str, **options: object) -> Any:
    datasets = _import("torchvision.datasets", name, "torchvision")
    with _fetching(name, "torchvision") as cache:
        return getattr(datasets, loader)(root=str(cache), download=True, **options)


def _import(module: str, name: str, library: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DataError(
            f"{name} is loaded by {library}, which is not installed ({error}): "
            "pip install 'vae-edge[datasets]'"
        ) from error
    except Exception as error:
        # A torchvision built for another torch fails with a RuntimeError, others in ways of their own.
        raise DataError(
            f"{name} is loaded by {library}, which is installed but fails to import ({one_line(error)}): "
            "install a version that fits the other libraries here (for torchvision: the same torch)"
        ) from error


@contextlib.contextmanager
def _fetching(name: str, library: str) -> Iterator[Path]:
    """Give the folder for downloads, and say in plain words when a download fails."""
    cache = _cache_folder()
    try:
        # Some loaders print what they do; standard output belongs to the program that called.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Retry downloading")
            yield cache
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        offline = ", ".join(known for known, named in NAMED_SETS.items() if named.offline)
        raise DataError(
            f"{name}: {library} could not fetch it into {cache} ({one_line(error)}); this machine seems to "
            f"be offline, or the server is away; these sets work offline: {offline}"
        ) from error


def _cache_folder() -> Path:
    chosen = os.environ.get("VAE_EDGE_DATA") or "~/.cache/vae-edge"
    try:
        cache = Path(chosen).expanduser()
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{chosen}: downloads cannot be kept there ({one_line(error)}); "
            "set VAE_EDGE_DATA to another folder"
        ) from error
    return cache


_LFW = "Labeled Faces in the Wild (University of Massachusetts)"

NAMED_SETS: Mapping[str, NamedSet] = {
    "faces": NamedSet(_faces, (24, 24), "faces drawn by vae-edge's own generator; MIT", offline=True),
    "lfw": NamedSet(_lfw, (24, 24), f"{_LFW}, funneled, by scikit-learn; no licence stated"),
    "lfw-subset": NamedSet(
        _lfw_subset,
        (24, 24),
        f"100 faces of {_LFW}, shipped in scikit-image; no licence stated",
        offline=True,
    ),
    "olivetti": NamedSet(
        _olivetti,
        (64, 64),
        "Olivetti faces (AT&T Laboratories Cambridge), by scikit-learn; no licence stated",
    ),
    "digits": NamedSet(
        _digits,
        (24, 24),
        "Optical Recognition of Handwritten Digits (UCI), shipped in scikit-learn; CC BY 4.0",
        offline=True,
    ),
    "mnist": NamedSet(_mnist, (28, 28), "MNIST, training part, by torchvision; CC BY-SA 3.0"),
    "fashion-mnist": NamedSet(
        _fashion_mnist, (28, 28), "Fashion-MNIST (Zalando), training part, by torchvision; MIT"
    ),
    "celeba": NamedSet(
        _celeba, (64, 64), "CelebA, aligned, training part, by torchvision; non-commercial research only"
    ),
}
