"""How a command ends: with the right code, one line on stderr, and no trace of what was not finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from commands import MAIN, environment, run_fresh, start
from hypothesis import given
from hypothesis import strategies as st

import vae_runtime
from vae_runtime.cli.exits import on_one_line, run_command
from vae_runtime.errors import (
    BundleError,
    ClosedError,
    EnvironmentProblem,
    InputError,
    NonFiniteError,
    OutputExistsError,
    ProviderError,
    VaeError,
)

ENDS: list[tuple[BaseException, int, str]] = [
    (VaeError("words"), 1, "words"),
    (InputError("words"), 3, "words"),
    (OutputExistsError("words"), 3, "words"),
    (BundleError("many\nlines   of\twords"), 3, "many lines of words"),
    (EnvironmentProblem("words"), 4, "words"),
    (ProviderError("words"), 4, "words"),
    (NonFiniteError("words"), 5, "words"),
    (ClosedError("words"), 1, "words"),
    (click.UsageError("words"), 2, "words (see test"),
    (click.BadParameter("words"), 2, "Invalid value: words"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (click.Abort(), 130, "interrupted"),
    (MemoryError("words"), 4, "not enough memory (words); ask for less at a time"),
    (OSError(28, "No space left on device", "file"), 4, "file: No space left on device"),
    (OSError(30, "Read-only file system"), 4, "input or output: Read-only file system"),
    (PermissionError(13, "Permission denied", "file"), 4, "file: Permission denied"),
    (OSError(24, "Too many open files"), 4, "input or output: Too many open files"),
    (OSError(36, "File name too long", "file"), 3, "file: File name too long"),
    (NotADirectoryError(20, "Not a directory", "file"), 3, "file: Not a directory"),
    (FileNotFoundError(2, "No such file or directory", "file"), 3, "file: No such file or directory"),
    (MemoryError(), 4, "not enough memory; ask for less at a time"),
    (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 64 bytes"),
        4,
        "not enough memory ([enforce fail] DefaultCPUAllocator",
    ),
    (RuntimeError("words"), 1, "unforeseen RuntimeError: words. VAE_EDGE_DEBUG=1 shows where"),
    (
        ModuleNotFoundError("No module named 'torch'", name="torch"),
        4,
        "torch is not installed; this command needs it: pip install 'vae-edge[cpu,train]'",
    ),
    (
        ModuleNotFoundError("No module named 'tomli_w.x'", name="tomli_w.x"),
        4,
        "pip install 'vae-edge[cpu,train]'",
    ),
    (
        ModuleNotFoundError("No module named 'nonsense'", name="nonsense"),
        1,
        "unforeseen: No module named 'nonsense'",
    ),
    (ZeroDivisionError("words"), 1, "unforeseen ZeroDivisionError: words. VAE_EDGE_DEBUG=1 shows where"),
]


def end_of(action: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as left:
            run_command(click.Command("test", callback=action), "test", [])
    finally:
        signal.signal(signal.SIGTERM, handler)
    return left.value.code, *capsys.readouterr()


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(("error", "code", "said"), ENDS, ids=[repr(error)[:50] for error, _, _ in ENDS])
def test_every_error_has_its_code_and_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    left, out, err = end_of(raising(error), capsys)
    assert (left, out) == (code, "")
    assert err.startswith("test: error: ")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("cause", [True, False])
def test_a_library_that_a_signal_made_fail_does_not_hide_the_signal(
    capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int, cause: bool
) -> None:
    def work() -> None:
        try:
            try:
                signal.raise_signal(number)
            finally:  # as torch asks for what an import that was stopped has not made
                raise AttributeError("module has no attribute")
        except AttributeError as error:
            raise RuntimeError("could not be traced") from (error if cause else None)

    left, out, err = end_of(work, capsys)
    assert (left, out) == (code, "")
    assert err == ("test: error: interrupted\n" if number == signal.SIGINT else "")


@pytest.mark.parametrize(("result", "code"), [(None, 0), ("text", 0), (7, 7)])
def test_an_action_that_ends_well_leaves_with_0_or_its_number(
    capsys: pytest.CaptureFixture[str], result: object, code: int
) -> None:
    assert end_of(lambda: result, capsys) == (code, "", "")


def test_with_debugging_on_the_traceback_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAE_EDGE_DEBUG", "1")
    for error in (ZeroDivisionError("words"), InputError("words")):
        _, _, err = end_of(raising(error), capsys)
        assert "Traceback (most recent call last)" in err
        assert err.splitlines()[-1].startswith("test: error: ")


@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_help_and_version_wait_for_no_library(option: str) -> None:
    code = f"""
import atexit, sys
def look():
    loaded = sorted({{"numpy", "onnxruntime", "PIL"}} & set(sys.modules))
    sys.stderr.write(f"loaded: {{loaded}}\\n")
atexit.register(look)
sys.argv = ["vae-run", {option!r}]
{MAIN}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0
    assert done.stderr == "loaded: []\n"
    assert (
        "Usage: vae-run" if "h" in option else f"vae-run, version {vae_runtime.__version__}\n"
    ) in done.stdout


@pytest.mark.parametrize(
    "command", ["sample", "interpolate", "reconstruct", "encode", "decode", "info", "check"]
)
def test_every_command_explains_itself(vae_run: Any, command: str) -> None:
    done = vae_run(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"Usage: vae-run {command} [OPTIONS]" in done.out.decode()
    assert "--model" in done.out.decode()


def test_without_a_command_the_help_shows(vae_run: Any) -> None:
    done = vae_run()
    assert done.code in (0, 2)  # older versions of click leave with 0
    assert "Usage: vae-run [OPTIONS] COMMAND [ARGS]...\n" in done.out.decode() + done.err


def test_a_reader_that_left_is_no_reason_for_a_traceback(gray_bundle: Path) -> None:
    with start(
        "sample",
        "-n",
        5000,
        "--model",
        gray_bundle,
        "-o",
        "-",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"\x93"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_a_closed_reader_of_text_is_none_either(gray_bundle: Path) -> None:
    with start("info", "--model", gray_bundle, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, b"vae-run: error: interrupted\n"), (signal.SIGTERM, 143, b"")],
)
@pytest.mark.parametrize("name", ["a.npy", "a"])
def test_a_signal_during_the_work_leaves_at_once_and_nothing_behind(
    gray_bundle: Path, tmp_path: Path, number: int, code: int, said: bytes, name: str
) -> None:
    more = () if name.endswith(".npy") else ("--scale", 8)
    with start(
        "-v", "sample", "-n", 10_000_000, "--model", gray_bundle, "-o", name, *more, "--threads", 2,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        # As people start it: of a file that is being opened at that moment Python would warn that nobody closed it.
        env={**environment(), "PYTHONWARNINGS": ""},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for _ in range(2):  # the encoder and the decoder are open
            assert b" runs on " in process.stderr.readline()
        time.sleep(0.3)
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        assert time.monotonic() - begun < 10
        assert process.stderr.read() == said
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_home_is_no_hindrance(gray_bundle: Path, tmp_path: Path) -> None:
    done = run_fresh(
        "sample",
        "-n",
        1,
        "--model",
        gray_bundle,
        "-o",
        tmp_path / "a.png",
        "--provider",
        "cpu",
        HOME="/nonexistent",
        TMPDIR="/nonexistent",
    )
    assert (done.code, done.err) == (0, f"1 new images -> {tmp_path / 'a.png'}\n")


SHOWN = {
    "plain words": "plain words",
    "two\nlines\tand   \r\n more": "two lines and more",
    "line\u2028paragraph\u2029next\x85end": "line paragraph next end",
    "\x1b[2Jgone\x07": r"\x1b[2Jgone\x07",
    "right\u202eleft": r"right\u202eleft",
    os.fsdecode(b"caf\xe9"): r"caf\udce9",
    "\0": r"\x00",
    "snow\N{SNOWMAN}": "snow\N{SNOWMAN}",
    "": "",
}


@pytest.mark.parametrize(("text", "shown"), SHOWN.items(), ids=map(ascii, SHOWN))
def test_text_is_shown_as_one_line_that_commands_no_terminal(text: str, shown: str) -> None:
    assert on_one_line(text) == shown


@given(st.lists(st.integers(0, sys.maxunicode).map(chr)).map("".join))
def test_whatever_is_said_is_one_line(text: str) -> None:
    assert on_one_line(text).isprintable()
    assert len(f"{on_one_line(text)}\n".splitlines()) <= 1


def shell(line: str, *arguments: object) -> tuple[int, bytes, bytes]:
    """Run a line of the shell, in which `vae-run` is "$@"; gives exit code, stdout, stderr."""
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    done = subprocess.run(
        ["/bin/sh", "-c", line, "sh", *command],
        capture_output=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="this system has no such shell")
def test_without_stdout_or_stderr_a_command_does_its_work(gray_bundle: Path, tmp_path: Path) -> None:
    for index, streams in enumerate((">&-", "<&- >&- 2>&-")):
        path = tmp_path / f"{index}.npy"
        done = shell(
            f'"$@" {streams}', "sample", "-n", 1, "--model", gray_bundle, "--provider", "cpu", "-o", path
        )
        said = f"1 new images -> {path}\n".encode() if "2>" not in streams else b""
        assert done == (0, b"", said)
        assert path.stat().st_size == 128 + 96


@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="this system has no such shell")
def test_what_was_to_go_to_a_stdout_that_is_closed_is_not_lost_in_silence(gray_bundle: Path) -> None:
    code, _, said = shell('"$@" >&-', "sample", "-n", 1, "--model", gray_bundle, "-o", "-")
    words = b"-o - writes to stdout, which is closed; send it to a file or a program"
    assert (code, said) == (4, b"vae-run: error: " + words + b"\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no such device")
def test_a_full_disk_behind_stderr_changes_no_exit_code(gray_bundle: Path, tmp_path: Path) -> None:
    assert shell('"$@" 2>/dev/full', "sample", "--model", tmp_path / "gone") == (3, b"", b"")
    assert shell('"$@" 2>/dev/full') == (2, b"", b"")  # the help shows


WARNING = "import warnings; warnings.warn('to programmers', UserWarning)"


@pytest.mark.parametrize(("flags", "said"), [((), b""), (("-W", "default"), b"UserWarning: to programmers")])
def test_libraries_warnings_show_only_to_those_who_ask(flags: tuple[str, ...], said: bytes) -> None:
    code = f"""
import click
from vae_runtime.cli.exits import on_one_line, run_command
def work():
    {WARNING}
run_command(click.Command("test", callback=work), "test", [])
"""
    clean = {name: value for name, value in environment().items() if name != "PYTHONWARNINGS"}
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, env=clean, check=False)
    assert done.returncode == 0
    assert said in done.stderr
    assert said or done.stderr == b""
