"""What a GPU needs is looked for in silence, and what it lacks is said where CUDA does not open.

The wheel for the CPU looks for no libraries; told that it was built for CUDA 99 it does, and finds none anywhere.
"""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest

import vae_runtime
from vae_runtime import ProviderError, gpu_libraries, providers, session
from vae_runtime.cli.work import open_model
from vae_runtime.gpu_libraries import load_gpu_libraries, missing_driver
from vae_runtime.installation import import_onnxruntime
from vae_runtime.providers import ONNXRUNTIME_NAMES, candidates
from vae_runtime.session import Graph, _providers

onnxruntime = import_onnxruntime()

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="names of Linux's libraries")


@pytest.fixture
def built_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(onnxruntime, "preload_dlls"):
        pytest.skip("this onnxruntime leaves loading CUDA's libraries to others")
    monkeypatch.setattr(onnxruntime, "cuda_version", "99.0")


@on_linux
def test_libraries_that_are_missing_are_told_to_the_log_and_never_on_stdout(
    built_for_cuda: None, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    onnxruntime.preload_dlls()
    printed = capfd.readouterr().out.splitlines()
    with caplog.at_level(logging.INFO, logger="vae_runtime"):
        complaint = load_gpu_libraries(onnxruntime)
    assert capfd.readouterr() == ("", "")
    assert printed
    assert caplog.messages == [f"onnxruntime: {line}" for line in printed]
    assert complaint == printed[0]
    onnxruntime.preload_dlls()  # as the host has it, it prints still
    assert capfd.readouterr().out.splitlines() == printed


@on_linux
def test_a_gpu_that_does_not_open_is_refused_with_the_first_library_that_is_missing(
    built_for_cuda: None,
    gray_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    takes_no_node = "AzureExecutionProvider"
    if takes_no_node not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no provider that opens everywhere and takes no node")
    monkeypatch.setitem(ONNXRUNTIME_NAMES, "cuda", takes_no_node)
    monkeypatch.setattr(gpu_libraries, "_DRIVER", "libnobody.so.1")
    complaint = load_gpu_libraries(onnxruntime)
    assert complaint
    with pytest.raises(
        ProviderError,
        match=rf"'cuda' did not open: {re.escape(complaint)}; "
        r"the driver is missing: libnobody\.so\.1: .*; .*fallback.*Nothing ran on another",
    ):
        Graph("decoder", (gray_bundle / "decoder.onnx").read_bytes(), source="b", provider="cuda")
    assert capfd.readouterr() == ("", "")


@on_linux
def test_a_driver_is_missing_where_its_library_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_libraries, "_DRIVER", "libc.so.6")
    assert missing_driver() == ""
    monkeypatch.setattr(gpu_libraries, "_DRIVER", "libnobody.so.1")
    assert missing_driver().startswith("the driver is missing: libnobody.so.1: cannot open shared object")


@on_linux
@pytest.mark.parametrize(("driver", "tried"), [("libc.so.6", ("cuda", "cpu")), ("libnobody.so.1", ("cpu",))])
def test_auto_tries_cuda_only_where_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, driver: str, tried: tuple[str, ...]
) -> None:
    monkeypatch.setattr(gpu_libraries, "_DRIVER", driver)
    monkeypatch.setattr(providers, "available_providers", lambda: tuple(ONNXRUNTIME_NAMES))
    with caplog.at_level(logging.INFO, logger="vae_runtime"):
        assert candidates("auto") == tried
    assert candidates("cuda") == ("cuda",)  # who names it hears why it does not open
    assert ("auto: provider 'cuda' is passed over: the driver is missing" in caplog.text) == (len(tried) == 1)


def test_onnxruntime_is_silenced_in_processes_of_our_own_and_in_no_others(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    severities: list[int] = []
    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", severities.append)
    monkeypatch.setattr(gpu_libraries, "logs_to_stderr", True)
    load_gpu_libraries(onnxruntime)
    assert severities == []
    open_model({"model": str(gray_bundle), "provider": "cpu"}).close()  # as every command of `vae-run` does
    load_gpu_libraries(onnxruntime)
    assert severities == [4]  # fatal


@pytest.mark.parametrize("tf32", [False, True, None, "of any kind"])
def test_cuda_computes_without_tf32_unless_asked_to_and_takes_what_tensorrt_leaves(*, tf32: bool) -> None:
    options = {"use_tf32": "1" if tf32 else "0", "cudnn_conv_algo_search": "HEURISTIC"}
    cuda = ("CUDAExecutionProvider", options)
    assert _providers("cuda", tf32=tf32) == [cuda]
    assert _providers("tensorrt", tf32=tf32) == [("TensorrtExecutionProvider", {}), cuda]
    assert _providers("cpu", tf32=tf32) == [("CPUExecutionProvider", {})]


def test_whether_tf32_is_allowed_reaches_every_graph_and_survives_pickling(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def providers_of(name: str, *, tf32: bool) -> list[tuple[str, dict[str, str]]]:
        asked.append(tf32)
        return _providers(name, tf32=tf32)

    monkeypatch.setattr(session, "_providers", providers_of)
    with vae_runtime.load(gray_bundle, provider="cpu", tf32=True) as model:
        opener, arguments = model.__reduce__()
    opener(*arguments).close()
    open_model({"model": str(gray_bundle), "provider": "cpu", "tf32": True}).close()
    assert asked == [True] * 6
    vae_runtime.load(gray_bundle, provider="cpu").close()
    assert asked[6:] == [False] * 2
