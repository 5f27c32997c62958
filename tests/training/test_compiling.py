"""Whether to compile: by the work of the run alone, which is counted against PyTorch's own counter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from vae_training import compiling
from vae_training.compiling import (
    decide_compile,
    decoder_multiply_adds,
    encoder_multiply_adds,
    training_flop,
)
from vae_training.config import ModelConfig
from vae_training.errors import ConfigError
from vae_training.model import VAE

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CLASSIC = ModelConfig()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda: True)


@torch.no_grad()
@given(
    model=st.builds(
        ModelConfig,
        height=st.sampled_from([8, 12, 24]),
        width=st.sampled_from([8, 12, 24]),
        channels=st.sampled_from([1, 3]),
        filters=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        latent_size=st.integers(1, 9),
    )
)
@settings(max_examples=20, deadline=None)
def test_multiply_adds_are_those_that_pytorch_counts(model: ModelConfig) -> None:
    vae = VAE(model)
    for module, given_, found in (
        (vae.encoder, torch.zeros(1, *model.image_shape), encoder_multiply_adds(model)),
        (vae.decoder, torch.zeros(1, model.latent_size), decoder_multiply_adds(model)),
    ):
        with FlopCounterMode(display=False) as counter:
            module(given_)
        assert 2 * found == counter.get_total_flops()


def test_the_classic_decoder_does_one_point_three_million_multiply_adds() -> None:
    assert decoder_multiply_adds(CLASSIC) == 1_299_456
    assert encoder_multiply_adds(CLASSIC) == 1_345_536
    assert training_flop(CLASSIC) == 3 * 2 * (1_299_456 + 1_345_536)


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
