"""ORT_LOAD_CONFIG_FROM_MODEL: models open as if it were not set, and the host finds it as it was."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from onnx_bytes import copy_bundle, message
from systems import needs_fork

import vae_runtime
from vae_runtime import UnsafeBundleError, config_variable
from vae_runtime.config_variable import NAME, no_config_from_models

VALUES = ["1", "0", "", "yes", "2"]


@pytest.mark.parametrize("value", VALUES)
def test_a_model_opens_whatever_the_variable_says_and_leaves_it_so(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(NAME, value)
    with vae_runtime.load(gray_bundle, provider="cpu") as model:
        assert model.sample(1).shape == (1, 1, 8, 12)
    assert os.environ[NAME] == value


def test_a_variable_that_is_not_set_stays_so(gray_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    vae_runtime.load(gray_bundle, provider="cpu").close()
    assert NAME not in os.environ


def test_settings_that_a_model_brings_along_are_refused(
    gray_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken, these would write a file to the current folder."""
    asks = message((1, "ort_config"), (2, '{"session_options": {"enable_profiling": 1}}'))
    decoder = (gray_bundle / "decoder.onnx").read_bytes() + message((14, asks))
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv(NAME, "1")
    with pytest.raises(UnsafeBundleError, match="ort_config"):
        vae_runtime.load(bundle, provider="cpu")
    assert list(Path.cwd().iterdir()) == []


def test_many_threads_may_open_models_at_once(gray_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "1")
    right = vae_runtime.load(gray_bundle, provider="cpu").sample(1, seed=7)

    def work(_: int) -> bool:
        with vae_runtime.load(gray_bundle, provider="cpu") as model:
            return np.array_equal(model.sample(1, seed=7), right)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(80)))
    assert os.environ[NAME] == "1"


def test_the_last_thread_to_leave_puts_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "1")
    inside, leave = threading.Event(), threading.Event()

    def stay() -> bool:
        inside.set()
        return leave.wait(timeout=60)

    def let_another_in() -> threading.Thread:
        other = threading.Thread(target=no_config_from_models.during, args=(stay,))
        other.start()
        assert inside.wait(timeout=60)
        return other

    other = no_config_from_models.during(let_another_in)
    assert os.environ[NAME] == "0"
    leave.set()
    other.join(timeout=60)
    assert os.environ[NAME] == "1"


def test_what_the_host_sets_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "1")
    no_config_from_models.during(lambda: monkeypatch.setenv(NAME, "its own"))
    assert os.environ[NAME] == "its own"


def test_it_is_put_back_where_opening_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "1")
    with pytest.raises(ZeroDivisionError):
        no_config_from_models.during(lambda: 1 / 0)
    assert os.environ[NAME] == "1"


def test_an_interruption_anywhere_leaves_it_as_it_was(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half put back it is one thing to Python and another to onnxruntime, which opens no model any more."""
    monkeypatch.setenv(NAME, "1")
    places = itertools.count(1)
    while interrupted_at(next(places)):
        assert os.environ[NAME] == "1"
        vae_runtime.load(gray_bundle, provider="cpu").close()
    assert next(places) > 40
    with ThreadPoolExecutor(1) as pool:  # whatever it left taken
        pool.submit(vae_runtime.load, gray_bundle, provider="cpu").result(timeout=60).close()


def interrupted_at(place: int) -> bool:
    """Interrupt at a line of what turns the variable off and on again, Python's own code among it; False beyond."""
    left, trace = place, sys.gettrace()

    def interrupt(frame: FrameType, *_: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in (config_variable.__file__, os.__file__):
            return None
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return interrupt

    sys.settrace(interrupt)
    try:
        no_config_from_models.during(list)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(trace)
    return False


def test_a_lock_that_an_interruption_left_taken_holds_nobody_up_for_ever(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, "1")
    monkeypatch.setattr(config_variable, "_LONGEST_HELD", 0.05)
    no_config_from_models._lock.acquire()
    with ThreadPoolExecutor(4) as pool:
        models = [*pool.map(lambda _: vae_runtime.load(gray_bundle, provider="cpu"), range(8))]
    assert [model.sample(1).shape for model in models] == 8 * [(1, 1, 8, 12)]
    assert os.environ[NAME] == "1"


def test_a_signal_handler_may_open_models_in_the_midst_of_it(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no other thread to wait for than the one that it stands in the way of."""
    monkeypatch.setenv(NAME, "1")
    with no_config_from_models._lock:
        vae_runtime.load(gray_bundle, provider="cpu").close()
    assert os.environ[NAME] == "1"


@needs_fork
def test_a_child_that_is_forked_meanwhile_finds_it_as_it_was(run_python: Any, gray_bundle: Path) -> None:
    finished = run_python(
        """
import os, sys, threading, vae_runtime
from vae_runtime.config_variable import NAME, no_config_from_models
def stay():
    with no_config_from_models._lock:  # as if in the middle of it
        held.set()
        threading.Event().wait()
held = threading.Event()
threading.Thread(target=no_config_from_models.during, args=(stay,), daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    same = os.environ[NAME] == "1"
    vae_runtime.load(sys.argv[1], provider="cpu").sample(1)
    os._exit(0 if same and os.environ[NAME] == "1" else 1)
_, status = os.waitpid(child, 0)
os._exit(os.waitstatus_to_exitcode(status))
""",
        gray_bundle,
        **{NAME: "1"},
    )
    assert finished.returncode == 0, finished.stderr
