"""Where training runs: what was asked for, or an error, never something else in silence."""

from __future__ import annotations

import pytest
import torch

from vae_runtime.errors import ProviderError
from vae_training import device
from vae_training.device import choose_device, describe_device, respect_quota, seconds_when_done


@pytest.fixture
def has_cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param)


@pytest.mark.parametrize(
    ("has_cuda", "name", "kind"),
    [
        (False, "auto", "cpu"),
        (False, "cpu", "cpu"),
        (True, "auto", "cuda"),
        (True, "cpu", "cpu"),
        (True, "cuda", "cuda"),
    ],
    indirect=["has_cuda"],
)
def test_auto_takes_cuda_where_there_is_one(has_cuda: None, name: str, kind: str) -> None:
    assert choose_device(name).type == kind


@pytest.mark.parametrize("has_cuda", [False], indirect=True)
def test_cuda_where_there_is_none_is_an_error_of_the_environment(has_cuda: None) -> None:
    with pytest.raises(ProviderError, match=r"'cuda' is not available: PyTorch .* sees no GPU") as refused:
        choose_device("cuda")
    assert refused.value.exit_code == 4
    assert torch.__version__ in str(refused.value)


def test_the_cpu_is_described_with_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert describe_device(torch.device("cpu")) == f"CPU ({threads} threads)"
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert describe_device(torch.device("cpu")) == f"CPU ({threads} threads, asleep while they wait)"


def test_a_step_is_timed_when_the_gpu_is_done_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", done.append)
    first = seconds_when_done(torch.device("cpu"))
    assert done == []
    assert seconds_when_done(torch.device("cuda")) >= first
    assert done == [torch.device("cuda")]


@pytest.mark.parametrize(("allowed", "threads"), [(1, 1), (2, 2), (3, 2)])
def test_a_containers_quota_bounds_the_threads_and_never_adds_any(
    monkeypatch: pytest.MonkeyPatch, allowed: int, threads: int
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(device, "available_processors", lambda: allowed)
    try:
        torch.set_num_threads(2)
        respect_quota()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
