"""Whether to compile: by the work of the run alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_training import compiling
from vae_training.compiling import decide_compile
from vae_training.errors import ConfigError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda: True)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_on_and_off_are_obeyed(compiler: None, device: torch.device) -> None:
    for steps in (1, 10**9):
        assert decide_compile("on", steps=steps, device=device)
        assert not decide_compile("off", steps=steps, device=device)


@pytest.mark.parametrize(("device", "expected"), [(CPU, [False, False]), (CUDA, [False, True])])
def test_auto_compiles_a_long_run_on_a_gpu_and_nothing_on_the_cpu(
    compiler: None, device: torch.device, expected: list[bool]
) -> None:
    decide = [decide_compile("auto", steps=epochs * 171, device=device) for epochs in (5, 5_000)]
    assert decide == expected


@given(steps=st.integers(1, 10**7), more=st.integers(1, 10**6))
@settings(deadline=None)
def test_the_decision_is_the_same_every_time_and_more_steps_never_speak_against_it(
    steps: int, more: int
) -> None:
    def decide(count: int) -> bool:
        return decide_compile("auto", steps=count, device=CUDA)

    assert decide(steps) == decide(steps)
    assert decide(steps + more) >= decide(steps)


def test_without_a_compiler_auto_does_without_and_on_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not decide_compile("auto", steps=10**9, device=CPU)
    with pytest.raises(ConfigError, match=r"--compile on needs a C\+\+ compiler"):
        decide_compile("on", steps=1, device=CPU)


def test_the_compiler_that_cxx_names_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my-compiler").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "my-compiler")
    assert decide_compile("on", steps=1, device=CPU)
