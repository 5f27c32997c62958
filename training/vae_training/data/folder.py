"""Images from a folder of pictures."""

from __future__ import annotations

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from vae_runtime.cli.pictures import find_pictures, leave_out, load_picture
from vae_runtime.errors import InputError
from vae_runtime.memory import require_memory
from vae_runtime.threads import available_processors
from vae_training.data.image_set import ImageSet, Pictures, Progress, Size, short_name
from vae_training.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_BATCH = 1024


def load_folder(
    folder: Path,
    *,
    image_size: Size | None,
    channels: int | None,
    skip_bad: bool,
    progress: Progress | None,
) -> ImageSet:
    """Load every picture below a folder, cropped about its centre and resized, in the order of names.

    Args:
        folder: searched recursively but for what is hidden; subfolders have no meaning of their own.
        image_size: (height, width); required, as pictures differ in size.
        channels: 1 or 3; by default 3, or 1 where no picture has any colour.
        skip_bad: log a picture that cannot be read and go on, instead of failing.
        progress: called as progress(done, total).

    Raises:
        DataError, InputError: no size given, no pictures, or one that cannot be read.
        ResourceLimitError: they do not fit into memory.
    """
    if image_size is None:
        raise DataError(
            f"{folder}: pictures of a folder may differ in size; say which all get, e.g. --image-size 64"
        )
    files = find_pictures(folder)
    shape = (len(files), *image_size, channels or 3)
    require_memory(math.prod(shape), f"{folder}: {len(files)} pictures of {'x'.join(map(str, image_size))}")
    images = np.empty(shape, np.uint8)

    def decode(index: int) -> InputError | None:
        try:
            picture = load_picture(files[index], *image_size, channels=images.shape[3])
        except InputError as error:
            if not skip_bad:
                raise
            return error
        images[index] = picture.reshape(images.shape[1:])
        return None

    good = leave_out(in_parallel(decode, len(files), progress), str(folder))
    images = images if good.all() else images[good]
    if channels is None and _has_no_colour(images):
        logger.info("%s: no picture has any colour; using one channel", folder)
        images = np.ascontiguousarray(images[..., :1])
    name = short_name(folder)
    return ImageSet(images, groups=None, name=name, source=f"the folder {name}, {len(images)} pictures")


def in_parallel(work: Callable[[int], Result], count: int, progress: Progress | None) -> list[Result]:
    """Call work(0), ..., work(count - 1) in a thread pool; the results are in that order.

    The first exception, in that order, ends it; what has not started by then never does.
    """
    pool = ThreadPoolExecutor(available_processors())
    try:
        results = []
        for result in pool.map(work, range(count)):
            results.append(result)
            if progress is not None:
                progress(len(results), count)
        return results
    finally:
        pool.shutdown(cancel_futures=True)


def _has_no_colour(images: Pictures) -> bool:
    batches = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    return all((batch == batch[..., :1]).all() for batch in batches)
