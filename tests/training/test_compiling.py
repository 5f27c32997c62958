"""What is compiled, in real runs by real torch.compile, whose steps take what the tests say.

Its front end alone: what it makes of the step runs as it is, since a C++ compiler would take half a minute.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_training import compile_trial, compiling, loop
from vae_training.checkpoint import newest_checkpoint
from vae_training.compiling import Compiling, keep_compiled_code
from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.errors import ConfigError
from vae_training.interruption import Interrupted
from vae_training.loop import Trainer
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Images = Callable[..., ImageSet]
Small = Callable[..., Config]


def chosen(choice: str, device: torch.device) -> Compiling:
    return Compiling(abs, choice, device, lambda _: None)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_on_and_off_are_obeyed_from_the_first_step_to_the_last(
    monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda: True)
    on, off = chosen("on", device), chosen("off", device)
    assert (on.is_on, on.is_timed, on.described) == (True, False, "compiled")
    assert (off.is_on, off.is_timed, off.described) == (False, False, "")


def test_auto_looks_at_the_clock_on_a_gpu_and_never_compiles_on_the_cpu() -> None:
    gpu, cpu = chosen("auto", CUDA), chosen("auto", CPU)
    assert (gpu.is_on, gpu.is_timed, gpu.described) == (False, True, "compiled as soon as that pays")
    assert (cpu.is_on, cpu.is_timed, cpu.described) == (False, False, "")
    for _ in range(100):
        cpu.took(1e9, 10**9)
    assert not cpu.is_on


def test_without_a_compiler_auto_does_without_and_on_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not chosen("auto", CPU).is_on
    with pytest.raises(ConfigError, match=r"--compile on needs a C\+\+ compiler"):
        chosen("on", CPU)


def test_the_compiler_that_cxx_names_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my-compiler").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "my-compiler")
    assert chosen("on", CPU).is_on


class Hearing(Observer):
    """Keeps what it is told, and interrupts the run at a step."""

    def __init__(self, interrupt_at: int = 0) -> None:
        self.heard: list[str] = []
        self.left = interrupt_at

    def run_began(self, description: str, epochs: int, steps: int) -> None:  # noqa: ARG002 - as every observer
        self.heard.append(description.rpartition(", ")[2])

    def told(self, line: str) -> None:
        self.heard.append(line)

    def wants_losses(self) -> bool:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return False


class Timed:
    """Trainers that think they are on a GPU, whose steps take 500 seconds, or as long as is said when compiled."""

    def __init__(self, config: Config, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.images, self.monkeypatch = config, images, monkeypatch
        self.calls_of_compiled, self.compiled_graphs = 0, 0
        monkeypatch.setattr(compile_trial, "WARM_UP", 1)
        monkeypatch.setattr(compile_trial, "MEASURED", 2)

    def as_it_is(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        """Compile a graph to itself, and count how often that is called."""
        self.compiled_graphs += 1

        def call(*arguments: Any) -> Any:
            self.calls_of_compiled += 1
            return graph.forward(*arguments)

        return call

    def trainer(self, path: Path, observer: Observer, compiled: float, backend: Any = None) -> Trainer:
        trainer = Trainer(self.config, self.images, RunFolder(path), observer)
        trainer.learner.is_arranged = False  # as on a GPU
        trainer.learner.compiling = Compiling(
            trainer.learner.loss, "auto", CUDA, observer.told, backend=backend or self.as_it_is
        )
        ticks = itertools.count()  # the clock is read before and after a step
        now = 0.0

        def clock(_: torch.device) -> float:
            nonlocal now
            if next(ticks) % 2:
                now += compiled if trainer.learner.compiling.is_on else 500.0
            return now

        self.monkeypatch.setattr(loop, "seconds_when_done", clock)
        return trainer


@pytest.fixture
def timed(
    small: Small, bars: Images, monkeypatch: pytest.MonkeyPatch, no_pictures: None
) -> Callable[..., Timed]:
    # The weight of the KL divergence is another at every step: code that held it fast would be compiled anew.
    return lambda: Timed(small(beta_schedule="cyclical", epochs=2), bars(), monkeypatch)


@pytest.fixture
def plain(timed: Callable[..., Timed], tmp_path: Path) -> list[dict[str, Any]]:
    """The rows of the run that the others are compared with."""
    run = timed()
    return Trainer(run.config, run.images, RunFolder(tmp_path / "plain")).run()


def same_but_for_rounding(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    kept = [
        {name: value for name, value in row.items() if "second" not in name} for row in (*found, *expected)
    ]
    return kept[: len(found)] == [pytest.approx(row, rel=1e-5) for row in kept[len(found) :]]


@pytest.mark.parametrize(
    ("compiled", "calls", "verdict"),
    [
        (30.0, 7, "compiled in 30 s: 30000.00 ms a step instead of 500000.00 ms"),
        (600.0, 3, "compiled to no avail, and given up: 600000.00 ms a step instead of 500000.00 ms"),
    ],
    ids=["faster", "slower"],
)
def test_auto_compiles_in_mid_run_keeps_it_where_it_is_faster_and_trains_the_same(
    timed: Callable[..., Timed],
    plain: list[dict[str, Any]],
    tmp_path: Path,
    compiled: float,
    calls: int,
    verdict: str,
) -> None:
    run, hearing = timed(), Hearing()
    rows = run.trainer(tmp_path / "run", hearing, compiled).run()
    assert same_but_for_rounding(rows, plain)
    assert hearing.heard == [
        "compiled as soon as that pays",
        "compiling: 7 steps of 500000.00 ms are left",
        verdict,
    ]
    assert (run.calls_of_compiled, run.compiled_graphs) == (calls, 1)  # of ten steps, the first three without


def test_a_run_that_is_interrupted_while_compiled_goes_on_and_decides_anew(
    timed: Callable[..., Timed], plain: list[dict[str, Any]], tmp_path: Path
) -> None:
    run, path = timed(), tmp_path / "run"
    with pytest.raises(Interrupted, match="after step 4, which is saved"):
        run.trainer(path, Hearing(interrupt_at=4), 30.0).run()
    assert run.calls_of_compiled == 1
    hearing = Hearing()
    trainer = run.trainer(path, hearing, 30.0)
    trainer.resume(newest_checkpoint(trainer.folder.checkpoints))
    assert same_but_for_rounding(trainer.run(), plain)
    assert hearing.heard[1] == "compiling: 3 steps of 500000.00 ms are left"
    assert run.calls_of_compiled == 4


def test_steps_of_sharpening_are_neither_compiled_nor_timed(
    timed: Callable[..., Timed], tmp_path: Path
) -> None:
    run, hearing = timed(), Hearing()
    run.config = replace(run.config, training=replace(run.config.training, epochs=1, sharpen_epochs=1))
    trainer = run.trainer(tmp_path / "run", hearing, 30.0)
    assert len(trainer.run()) == 2
    assert run.calls_of_compiled == 2  # of five steps, the first three without
    assert trainer.learner.compiling.is_timed  # it is not settled what two steps are worth
    assert len(hearing.heard) == 2


def test_what_auto_cannot_compile_it_trains_without(
    timed: Callable[..., Timed], plain: list[dict[str, Any]], tmp_path: Path
) -> None:
    def without_triton(*_: Any) -> Any:
        raise RuntimeError("Cannot find a working triton installation")

    hearing = Hearing()
    trainer = timed().trainer(tmp_path / "run", hearing, 30.0, without_triton)
    assert same_but_for_rounding(trainer.run(), plain)
    assert hearing.heard[2].startswith("not compiled, which failed: backend='without_triton' raised:")
    assert "Cannot find a working triton installation" in hearing.heard[2]
    assert len(hearing.heard) == 3
    assert "\n" not in hearing.heard[2]


def test_what_fails_for_other_reasons_than_compiling_is_not_tried_again() -> None:
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("CUDA error: an illegal memory access")

    switch = Compiling(fail, "auto", CUDA, lambda _: None, backend="eager")
    assert switch.trial
    switch.trial.compiled = True
    with pytest.raises(RuntimeError, match="illegal memory access"):
        switch()
    assert calls == 1


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/vae-edge/compiled"


def test_compiled_code_is_kept_for_the_next_run_where_nobody_else_can_write(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_compiled_code()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(cache)
    assert cache.stat().st_mode & 0o777 == 0o700
    keep_compiled_code()  # once more
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    keep_compiled_code()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere"


def test_where_there_is_no_room_for_it_torch_keeps_it_where_it_likes(cache: Path) -> None:
    cache.parent.parent.write_text("a file in its place")
    keep_compiled_code()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


@pytest.mark.parametrize(("choice", "kept"), [("on", True), ("auto", False), ("off", False)])
def test_only_runs_that_may_compile_make_a_place_for_it(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    vae_train_here: Callable[..., Any],
    tmp_path: Path,
    choice: str,
    kept: bool,
) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda: True)
    monkeypatch.setattr(Trainer, "run", lambda _: [])
    done = vae_train_here("--device", "cpu", "--compile", choice, "-o", tmp_path / "run", "-q")
    assert (done.code, done.err) == (0, "")
    assert cache.exists() == kept
