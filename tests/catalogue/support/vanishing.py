"""A command in whose middle a picture comes to harm, or cannot be had: at a certain call, and not by chance.

VANISHING names the command's module, the moment and the picture, with spaces between.
"""

from __future__ import annotations

import builtins
import importlib
import io
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Prepare the moment, and run the command."""
    module, moment, picture = os.environ["VANISHING"].split(" ")
    MOMENTS[moment](Path(picture))
    importlib.import_module(module).main()


def once_listed(picture: Path) -> None:
    """It is deleted when the folder below its own is listed, which is after its own was."""
    _listen("os.scandir", f"{picture.parent}/below", picture.unlink)


def at_opening(picture: Path) -> None:
    """It is deleted after the last question about it, in the moment of its opening."""
    _listen("open", str(picture), picture.unlink)


def at_opening_a_pipe(picture: Path) -> None:
    """A pipe takes its place in that moment."""

    def swap() -> None:
        picture.unlink()
        os.mkfifo(picture)

    _listen("open", str(picture), swap)


def at_opening_no_descriptor(picture: Path) -> None:
    """The process has no room for another open file from that moment on."""
    _listen("open", str(picture), lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0)))


def opened(picture: Path) -> None:
    """It is cut short once it is open."""
    real = io.open

    def open_and_cut(file: Any, *arguments: Any, **options: Any) -> Any:
        stream = real(file, *arguments, **options)
        if str(file) == str(picture):
            _cut(picture)
        return stream

    io.open = builtins.open = open_and_cut


def measured(picture: Path) -> None:
    """It is cut short once it is known how large it is."""
    real = os.fstat

    def ask_and_cut(descriptor: int) -> os.stat_result:
        answer = real(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink() == picture.absolute():
            _cut(picture)
        return answer

    os.fstat = ask_and_cut


def decoded(picture: Path) -> None:
    """It is cut short once Pillow has its pixels, and before they are used."""
    from PIL import ImageOps

    real = ImageOps.exif_transpose

    def turn_and_cut(image: Any, **options: Any) -> Any:
        image.load()
        _cut(picture)
        return real(image, **options)

    ImageOps.exif_transpose = turn_and_cut


MOMENTS = {
    moment.__name__: moment
    for moment in (
        once_listed, at_opening, at_opening_a_pipe, at_opening_no_descriptor, opened, measured, decoded,
    )
}  # fmt: skip


def _cut(picture: Path) -> None:
    os.truncate(picture, 60)


def _listen(event: str, path: str, harm: Callable[[], None]) -> None:
    harmed = False

    def hear(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal harmed
        if name == event and not harmed and str(arguments[0]) == path:
            harmed = True
            harm()

    sys.addaudithook(hear)
