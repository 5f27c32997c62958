"""The three commands, as people start them: nothing about warnings is set, so that the tests see what they see."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any

import processes
from forking import Ended, ForkingServer

__all__ = ["MIB", "Ended", "Programs", "environment"]

MIB = 1 << 20

COMMANDS = {"vae-run": "vae_runtime.cli", "vae-train": "vae_training.cli", "vae-export": "vae_export.cli"}

# What a server imports beforehand. Training and export share one: both import PyTorch.
RUNTIME = (
    "vae_runtime.cli", "vae_runtime.cli.inputs", "vae_runtime.cli.outputs", "vae_runtime.model",
    "vae_runtime.cli.sheets", "onnxruntime", "PIL.PngImagePlugin",
)  # fmt: skip
TRAINING = (
    "vae_training.cli", "vae_training.data", "vae_training.loop", "vae_training.progress", "vae_export.bundle",
    "vae_export.sources", "rich.console", "rich.table", "vae_export.cli",
)  # fmt: skip


class Programs:
    """Runs the three commands, each call in a forked process."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, ...], ForkingServer] = {}
        self._open = ExitStack()

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def run(self, program: str, *arguments: object, **options: Any) -> Ended:
        """Run `vae-run`, `vae-train` or `vae-export` in the current folder; `options` as ForkingServer.call has."""
        server = self._server(RUNTIME if program == "vae-run" else TRAINING)
        return server.call(COMMANDS[program], program, *arguments, **options)

    def _server(self, modules: tuple[str, ...]) -> ForkingServer:
        if modules not in self._servers:
            server = ForkingServer(modules, environment(), leave_at_once=True)
            self._servers[modules] = self._open.enter_context(server)
        return self._servers[modules]


def environment(**more: str) -> dict[str, str]:
    """As a user's shell has it, with one thread to compute and no telemetry."""
    return processes.environment(OMP_NUM_THREADS="1", ORT_DISABLE_TELEMETRY="1", **more)
