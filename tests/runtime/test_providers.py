"""A provider that is named is used or the call fails; `auto` takes what opens, and says so."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import vae_runtime
from vae_runtime import InputError, ProviderError, available_providers, providers
from vae_runtime.cli.shared import PROVIDERS
from vae_runtime.installation import import_onnxruntime
from vae_runtime.providers import PROVIDER_NAMES, candidates, require_at_hand

onnxruntime = import_onnxruntime()

CPU_ONLY = available_providers() == ("cpu",)
cpu_only = pytest.mark.skipif(not CPU_ONLY, reason="this onnxruntime has more than the CPU")


def test_the_cpu_is_always_there() -> None:
    assert "cpu" in available_providers()
    built_in = onnxruntime.get_available_providers()
    assert {providers.ONNXRUNTIME_NAMES[name] for name in available_providers()} <= set(built_in)


@pytest.mark.parametrize("name", ["gpu", "CPU", "", "CUDAExecutionProvider", "AzureExecutionProvider"])
def test_an_unknown_name_is_refused_with_those_that_are_known(gray_bundle: Path, name: str) -> None:
    with pytest.raises(
        InputError, match=rf"provider '{name}' is not known; expected one of auto, cpu, cuda, tens"
    ):
        vae_runtime.load(gray_bundle, provider=name)


@cpu_only
@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("cuda", r"pip install 'vae-edge\[gpu\]'"),
        ("tensorrt", r"pip install 'vae-edge\[gpu\]'"),
        ("directml", "pip install onnxruntime-directml"),
        ("openvino", "pip install onnxruntime-openvino"),
        ("coreml", "Its wheel for this system does not hold that provider"),
    ],
)
def test_a_provider_that_is_not_built_in_is_refused_with_the_line_that_mends_it(
    gray_bundle: Path, name: str, install: str
) -> None:
    with pytest.raises(ProviderError, match=install) as refused:
        vae_runtime.load(gray_bundle, provider=name)
    said = str(refused.value)
    assert said.startswith(f"provider {name!r} is not in the installed onnxruntime (onnxruntime ")
    assert "which has cpu" in said
    assert refused.value.exit_code == 4
    if name != "coreml":
        assert "Mend it with: pip uninstall -y onnxruntime && pip install" in said


@cpu_only
def test_without_a_known_wheel_nothing_is_to_be_uninstalled(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "installed_wheels", dict)
    with pytest.raises(ProviderError, match=r"\(of unknown origin\), .* Mend it with: pip install 'vae-edge"):
        vae_runtime.load(gray_bundle, provider="cuda")


def test_a_provider_that_is_built_in_but_does_not_open_is_refused(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with the GPU wheel on a machine without a GPU: it is listed, and onnxruntime opens the CPU instead.
    monkeypatch.setattr(providers, "available_providers", lambda: ("cuda", "cpu"))
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("here CUDA may open")
    with pytest.raises(
        ProviderError, match=r"'cuda' did not open: .*nvidia-smi.*Nothing ran on another provider"
    ):
        vae_runtime.load(gray_bundle, provider="cuda")


def test_a_gpu_without_its_driver_is_known_not_to_open_before_there_is_anything_to_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_at_hand("auto")
    require_at_hand("cpu")
    monkeypatch.setattr(providers, "available_providers", lambda: ("cuda", "cpu"))
    monkeypatch.setattr(providers, "missing_driver", lambda: "the driver is missing: libcuda.so.1")
    with pytest.raises(
        ProviderError, match=r"'cuda' did not open: the driver is missing: libcuda\.so\.1 \(it needs"
    ):
        require_at_hand("cuda")
    monkeypatch.setattr(providers, "missing_driver", str)
    require_at_hand("cuda")


def test_auto_takes_what_opens_and_logs_it(gray_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vae_runtime"), vae_runtime.load(gray_bundle) as model:
        (provider,) = model.providers
    assert provider in candidates("auto")
    assert f"{gray_bundle}/decoder.onnx runs on {provider}" in caplog.messages


@cpu_only
def test_auto_is_the_cpu_here() -> None:
    assert candidates("auto") == ("cpu",)
    assert candidates("cpu") == ("cpu",)


def test_auto_never_tries_slow_or_distant_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "available_providers", lambda: tuple(providers.ONNXRUNTIME_NAMES))
    monkeypatch.setattr(providers, "missing_driver", str)
    assert candidates("auto") == ("cuda", "cpu")


def test_the_command_line_offers_every_provider_that_the_library_knows() -> None:
    assert PROVIDERS == PROVIDER_NAMES
