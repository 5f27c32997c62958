"""What a run tells while it goes on: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class Observer(AbstractContextManager["Observer"]):
    """Hears of a run's progress and says nothing. The base of those that do."""

    def run_began(self, description: str, epochs: int, steps: int) -> None:
        """Called once, before the first step."""

    def epoch_began(self, epoch: int, step: int) -> None:
        """Called before an epoch's first step; `epoch` counts from 1."""

    def wants_losses(self) -> bool:
        """Tell whether `stepped` should be called now; asked at every step, so it must be quick."""
        return False

    def stepped(self, step: int, losses: tuple[float, float, float], images_per_second: float) -> None:
        """Called with the means so far of the epoch: loss, reconstruction and KL, in nats per image."""

    def epoch_ended(self, metrics: Mapping[str, Any]) -> None:
        """Called with the row that goes into the log."""

    def told(self, line: str) -> None:
        """Called with what else there is to say, as one line."""

    def __exit__(self, *_: object) -> None:
        """End the display."""


class Lines(Observer):
    """One plain line an epoch, for logs."""

    def run_began(self, description: str, epochs: int, steps: int) -> None:
        """Write what is being trained."""
        self._epochs = epochs
        self._write(f"{description}; {epochs} epochs of {steps} steps")

    def epoch_ended(self, metrics: Mapping[str, Any]) -> None:
        """Write an epoch's numbers."""
        self._write(describe_epoch(metrics, self._epochs))

    def told(self, line: str) -> None:
        """Write it."""
        self._write(line)

    def _write(self, line: str) -> None:
        # A run does not end because nobody reads its log, or its disk is full.
        with contextlib.suppress(OSError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


class _MayGoAway:
    """A stream to a terminal that may be closed while a run goes on: what it does not take is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Bar(Observer):
    """A progress bar over the epoch, and a line that stays for every epoch done."""

    _INTERVAL = 0.2  # seconds between two looks at the losses: each waits for the device

    def __init__(self) -> None:
        self._console = Console(file=cast("TextIO", _MayGoAway(sys.stderr)), highlight=False)
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._next_look = 0.0

    def run_began(self, description: str, epochs: int, steps: int) -> None:
        """Show the bar."""
        self._console.print(f"{description}; {epochs} epochs of {steps} steps")
        self._epochs, self._steps = epochs, steps
        self._task = self._progress.add_task("", total=epochs * steps, epoch=0, epochs=epochs, losses="")
        self._progress.start()

    def epoch_began(self, epoch: int, step: int) -> None:
        """Move the bar to the epoch's place."""
        self._begun = (epoch - 1) * self._steps
        self._progress.update(self._task, completed=self._begun + step, epoch=epoch)

    def wants_losses(self) -> bool:
        """Tell whether a fifth of a second has passed."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + self._INTERVAL
        return True

    def stepped(self, step: int, losses: tuple[float, float, float], images_per_second: float) -> None:
        """Move the bar on."""
        total, reconstruction, kl = losses
        text = f"loss {total:.2f} (reconstruction {reconstruction:.2f}, KL {kl:.2f})  {images_per_second:,.0f} images/s"
        self._progress.update(self._task, completed=self._begun + step, losses=text)

    def epoch_ended(self, metrics: Mapping[str, Any]) -> None:
        """Leave a line above the bar."""
        self._console.print(describe_epoch(metrics, self._epochs))

    def told(self, line: str) -> None:
        """Leave it above the bar."""
        self._console.print(line)

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._progress.stop()


def choose_observer(*, quiet: bool) -> Observer:
    """Return the bar on a terminal, plain lines elsewhere, nothing where `quiet`."""
    if quiet:
        return Observer()
    return Bar() if sys.stderr.isatty() else Lines()


def describe_epoch(metrics: Mapping[str, Any], epochs: int) -> str:
    """Return an epoch's numbers as one line."""
    held_out = f"  validation {metrics['validation_loss']:8.3f}" if "validation_loss" in metrics else ""
    return (
        f"epoch {metrics['epoch']:>{len(str(epochs))}}/{epochs}  loss {metrics['loss']:8.3f} "
        f"(reconstruction {metrics['reconstruction']:.3f}, KL {metrics['kl']:.3f}){held_out}  "
        f"{metrics['images_per_second']:,.0f} images/s  {metrics['seconds']:.1f} s"
    )
