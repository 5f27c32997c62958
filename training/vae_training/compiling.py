"""torch.compile around a function: from the first step on, never, or from where the clock says that it pays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from vae_runtime.errors import one_line
from vae_training.compile_trial import Trial
from vae_training.errors import ConfigError

_LONGEST = 200  # characters of what the compiler says
_CACHE = "TORCHINDUCTOR_CACHE_DIR"


class Compiling:
    """A function that is compiled where the settings say so: `on`, `off`, or `auto`.

    `auto` on a GPU goes by the clock, so that two runs of the same seed may round differently from some step on, as
    they may on a GPU anyway. On the CPU it never compiles: a compiled step of the classic model takes a fifth longer
    there than the arranged one (`cpu_forward`), after half a minute of compiling, and the same seed gives the
    same weights.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        choice: str,
        device: torch.device,
        tell: Callable[[str], None],
        *,
        backend: str | Callable[..., Any] = "inductor",
    ) -> None:
        """Take a function and what to make of it; nothing is compiled before it is called.

        Args:
            function: a part of the steps of a run.
            choice: a name of `COMPILE_CHOICES`.
            device: where it computes.
            tell: hears, as one line, what `auto` decides.
            backend: what compiles, as torch.compile has it.

        Raises:
            ConfigError: `on` where there is no C++ compiler.
        """
        if choice == "on" and device.type == "cpu" and not has_compiler():
            raise ConfigError(
                "--compile on needs a C++ compiler (g++, or the one that CXX names); none was found"
            )
        self.trial = Trial() if choice == "auto" and device.type == "cuda" else None
        self._always = choice == "on"
        self._function, self._tell, self._backend = function, tell, backend
        self._compiled: Callable[..., Any] | None = None

    @property
    def is_on(self) -> bool:
        """Whether the next call runs compiled code."""
        return self.trial.compiled if self.trial else self._always

    @property
    def is_timed(self) -> bool:
        """Whether `took` wants to know what steps take."""
        return self.trial is not None and not self.trial.is_over

    @property
    def described(self) -> str:
        """What a run is told to be: nothing where it never compiles."""
        return "compiled" if self._always else "compiled as soon as that pays" if self.is_timed else ""

    def __call__(self, *arguments: Any) -> Any:
        """Call the function; where it cannot be compiled after all, and need not be, as it is."""
        if not self.is_on:
            return self._function(*arguments)
        if self._compiled is None:
            self._compiled = torch.compile(self._function, dynamic=False, backend=self._backend)
        try:
            return self._compiled(*arguments)
        except RuntimeError as error:
            if self.trial is None or not _is_of_compiler(error):
                raise
            self.trial.fail()
            self._compiled = None
            self._tell(f"not compiled, which failed: {shorten(one_line(error), _LONGEST)}")
        return self._function(*arguments)

    def took(self, seconds: float, steps_left: int) -> None:
        """Take note of what a step took, in seconds, and of how many are left that could be compiled."""
        if self.trial is None:
            return
        news = self.trial.took(seconds, steps_left)
        if news:
            self._tell(news)


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which torch.compile needs on the CPU."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None


def keep_compiled_code() -> None:
    """Let torch.compile keep its code in the user's cache folder, unless TORCHINDUCTOR_CACHE_DIR names one.

    By itself it keeps it among the temporary files, which the next start of the machine may clear, in a folder whose
    name others can guess; what lies there it runs. For a process of our own: it changes an environment variable.
    """
    if _CACHE in os.environ:
        return
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = (caches if caches.is_absolute() else Path.home() / ".cache") / "vae-edge" / "compiled"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or none to write to
        return
    if os.access(folder, os.W_OK):
        os.environ[_CACHE] = str(folder)


def _is_of_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)
