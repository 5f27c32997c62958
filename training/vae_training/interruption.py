"""Stopping on a signal without losing anything: the step under way is finished and saved first."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from vae_training.errors import TrainingError

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interrupted(TrainingError):  # noqa: N818 - not an error of anybody's
    """Training was stopped by a signal; the last step is saved."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class SignalWatch:
    """Notes SIGINT and SIGTERM while its block runs. A second signal acts at once, as it would have before.

    Outside of the main thread, where Python delivers no signals, it watches nothing.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> SignalWatch:
        if threading.current_thread() is threading.main_thread():
            for number in _EXIT_CODES:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    @property
    def exit_code(self) -> int:
        """What the process should leave with."""
        return _EXIT_CODES[self.received] if self.received else 0

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned before
        self._previous.clear()
