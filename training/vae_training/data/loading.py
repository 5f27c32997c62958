"""`load_images`: whatever the user named, as one array of images."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vae_runtime.errors import EnvironmentProblem, InputError, one_line
from vae_training.data.files import ARRAY_SUFFIXES, load_npy, load_npz
from vae_training.data.folder import load_folder
from vae_training.data.layout import conform, require_image_size, require_trainable
from vae_training.data.named import NAMED_SETS, load_named
from vae_training.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vae_training.config import DataConfig
    from vae_training.data.image_set import ImageSet


def load_images(
    source: str,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    array: str | None = None,
    groups: str | None = None,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Load the images to train on.

    Args:
        source: a name of `NAMED_SETS`; or the path of a .npy or .npz file of (N, H, W), (N, H, W, C) or
            (N, C, H, W) with C 1 or 3, as uint8, bool or floating point in [0, 1]; or of a folder of
            pictures, searched recursively but for what is hidden. A name wins over a path spelled the same:
            write ./faces for a folder called faces.
        image_size: (height, width), both at least 8 and divisible by 4. Images are cropped about their
            centre to that aspect ratio and resized by Lanczos. Required for a folder; by default a named
            set has its customary size, and a file's images stay as they are.
        channels: 1 converts to gray (ITU-R 601 luma), 3 to RGB. By default as it is; a folder is RGB
            unless no picture in it has any colour.
        array: which array of a .npz; by default the only one that looks like images.
        groups: the (N,) integer array in the same .npz that tells which images belong together.
        skip_bad: leave out, and log, pictures of a folder that cannot be read, instead of failing.
        progress: called as progress(done, total) while pictures are decoded, in the calling thread.

    Returns:
        At least two images as (N, H, W, C) uint8, H and W at least 8 and divisible by 4.

    Raises:
        DataError: a source, array, picture or option that is not what is described above, a library that
            is missing, or a download that failed.
        EnvironmentProblem: images that do not fit in memory.
    """
    _require_options(source, image_size, channels, array, groups)
    with _as_data_errors(source):
        path = Path(source)
        if source in NAMED_SETS:
            found = load_named(source, image_size=image_size, channels=channels, progress=progress)
        elif source and path.is_dir():
            found = load_folder(
                path, image_size=image_size, channels=channels, skip_bad=skip_bad, progress=progress
            )
        elif path.suffix.lower() == ".npy":
            found = load_npy(path)
        elif path.suffix.lower() == ".npz":
            found = load_npz(path, array=array, groups=groups)
        else:
            raise DataError(_unknown(source, exists=bool(source) and path.exists()))
        images = conform(found.images, image_size, channels)
    require_trainable(source, images)
    return replace(found, images=images)


def load_configured(
    settings: DataConfig,
    progress: Callable[[int, int], None] | None = None,
    *,
    once_of: object = None,
) -> ImageSet:
    """Load the images that the settings of a run name.

    Args:
        settings: where they are and how they are cut.
        progress: as of `load_images`, as are the errors.
        once_of: the run or model that they belonged to. Where they are gone, the error asks where its images are now.
    """
    try:
        return load_images(
            settings.source,
            image_size=settings.image_size,
            channels=settings.channels,
            array=settings.array,
            groups=settings.groups,
            skip_bad=settings.skip_bad,
            progress=progress,
        )
    except DataError as error:
        if once_of is None:
            raise
        raise DataError(f"{error}; say with --data where the images of {once_of} are now") from error


def _require_options(
    source: str,
    image_size: tuple[int, int] | None,
    channels: int | None,
    array: str | None,
    groups: str | None,
) -> None:
    if image_size is not None:
        require_image_size(image_size)
    if channels not in (None, 1, 3):
        raise DataError(f"channels {channels}; expected 1 (gray) or 3 (RGB)")
    if (array or groups) and (source in NAMED_SETS or not source.lower().endswith(".npz")):
        raise DataError(f"{source}: --array and --groups name arrays of a .npz file; this is not one")


def _unknown(source: str, *, exists: bool) -> str:
    problem = "not a kind of file that is read here" if exists else "no data set, file or folder of that name"
    return (
        f"{source!r}: {problem}; expected one of {', '.join(NAMED_SETS)}, "
        f"a {' or '.join(ARRAY_SUFFIXES)} file, or a folder of pictures"
    )


@contextmanager
def _as_data_errors(source: str) -> Iterator[None]:
    """Let every failure to read leave as one kind of error."""
    try:
        yield
    except DataError:
        raise
    except InputError as error:
        raise DataError(str(error)) from error
    except MemoryError as error:
        raise EnvironmentProblem(f"{source}: does not fit in memory ({error})") from error
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({one_line(error)})") from error
