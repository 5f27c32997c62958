"""Adam's state: out into named tensors, back into another optimizer, and on as if nothing had been."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from vae_training.errors import CheckpointError
from vae_training.optimizer_state import optimizer_from_tensors, optimizer_to_tensors


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        batch = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(batch).square().sum().backward()
        optimizer.step()


def trained(*, fused: bool = True) -> tuple[nn.Module, torch.optim.Optimizer, dict[str, Tensor]]:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=fused)
    train(model, optimizer, range(3))
    return model, optimizer, optimizer_to_tensors(optimizer, dict(model.named_parameters()))


@pytest.mark.parametrize("fused", [True, False])
def test_a_restored_optimizer_goes_on_bit_for_bit(fused: bool) -> None:
    model, optimizer, tensors = trained(fused=fused)
    stored = safetensors.torch.load(safetensors.torch.save(tensors))
    other = network(seed=1)
    other.load_state_dict(model.state_dict())
    restored = torch.optim.Adam(other.parameters(), lr=1e-2, fused=fused)
    optimizer_from_tensors(restored, dict(other.named_parameters()), stored, "here")
    train(model, optimizer, range(3, 6))
    train(other, restored, range(3, 6))
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_every_parameters_state_has_a_name_that_says_whose_it_is() -> None:
    _, _, tensors = trained()
    assert sorted(tensors) == sorted(
        f"optimizer.{layer}.{kind}.{slot}"
        for layer in ("0", "2")
        for kind in ("weight", "bias")
        for slot in ("step", "exp_avg", "exp_avg_sq")
    )
    assert tensors["optimizer.0.weight.step"].item() == 3
    assert tensors["optimizer.0.weight.exp_avg"].shape == (4, 3)


def test_settings_of_the_new_optimizer_stay() -> None:
    model, _, tensors = trained()
    restored = torch.optim.Adam(model.parameters(), lr=0.5, fused=True)
    optimizer_from_tensors(restored, dict(model.named_parameters()), tensors, "here")
    assert restored.param_groups[0]["lr"] == 0.5


def test_before_the_first_step_there_is_nothing_to_keep() -> None:
    model = network()
    assert optimizer_to_tensors(torch.optim.Adam(model.parameters()), dict(model.named_parameters())) == {}


@pytest.mark.parametrize("slot", ["step", "exp_avg", "exp_avg_sq"])
def test_a_missing_state_is_named(slot: str) -> None:
    model, optimizer, tensors = trained()
    del tensors[f"optimizer.2.bias.{slot}"]
    with pytest.raises(CheckpointError, match=rf"here: no fitting optimizer state '{slot}' for 2\.bias"):
        optimizer_from_tensors(optimizer, dict(model.named_parameters()), tensors, "here")


def test_a_state_of_another_shape_is_named() -> None:
    model, optimizer, tensors = trained()
    tensors["optimizer.0.weight.exp_avg"] = torch.zeros(9)
    with pytest.raises(CheckpointError, match=r"'exp_avg' for 0\.weight"):
        optimizer_from_tensors(optimizer, dict(model.named_parameters()), tensors, "here")


@pytest.mark.parametrize(
    ("slot", "tensor"),
    [
        ("step", torch.tensor([3.0])),
        ("step", torch.tensor(3)),
        ("step", torch.tensor(torch.nan)),
        ("exp_avg", torch.zeros(2, dtype=torch.float64)),
        ("exp_avg", torch.tensor([0.0, torch.nan])),
        ("exp_avg_sq", torch.tensor([0.0, torch.inf])),
    ],
)
def test_a_state_of_another_type_or_that_is_not_finite_is_named(slot: str, tensor: Tensor) -> None:
    model, optimizer, tensors = trained()
    tensors[f"optimizer.2.bias.{slot}"] = tensor
    with pytest.raises(CheckpointError, match=rf"no fitting optimizer state '{slot}' for 2\.bias"):
        optimizer_from_tensors(optimizer, dict(model.named_parameters()), tensors, "here")
