"""What a run tells: plain lines in a log, a bar on a terminal, nothing where nothing is wanted."""

from __future__ import annotations

import errno
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vae_training.progress import Bar, Lines, Observer, choose_observer, describe_epoch

ROW = {
    "epoch": 1,
    "loss": 123.4567,
    "reconstruction": 120.0,
    "kl": 6.9134,
    "images_per_second": 12345.6,
    "seconds": 1.25,
}


def tell(observer: Observer) -> None:
    with observer:
        observer.run_began("48 images", epochs=10, steps=5)
        for step in range(5):
            observer.epoch_began(1, step)
            if observer.wants_losses():
                observer.stepped(step + 1, (3.0, 2.0, 1.0), 999.0)
        observer.epoch_ended(ROW)


def test_the_base_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Observer())
    assert capsys.readouterr() == ("", "")


def test_lines_are_plain_text_on_stderr_one_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Lines())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "48 images; 10 epochs of 5 steps",
        "epoch  1/10  loss  123.457 (reconstruction 120.000, KL 6.913)  12,346 images/s  1.2 s",
    ]


def test_a_run_goes_on_when_nobody_reads_its_lines_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    tell(Lines())
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_the_validation_loss_is_told_where_images_were_held_out() -> None:
    assert "validation" not in describe_epoch(ROW, 5)
    assert "validation  130.500" in describe_epoch({**ROW, "validation_loss": 130.5}, 5)


def test_lines_never_ask_for_losses_and_so_never_wait_for_the_device() -> None:
    assert not Lines().wants_losses()


@pytest.mark.parametrize(
    ("quiet", "terminal", "kind"),
    [(True, True, Observer), (True, False, Observer), (False, False, Lines), (False, True, Bar)],
)
def test_the_observer_fits_the_place(
    monkeypatch: pytest.MonkeyPatch, quiet: bool, terminal: bool, kind: type[Observer]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert type(choose_observer(quiet=quiet)) is kind


EPOCHS_ON_A_TERMINAL = """
import time
from vae_training.progress import choose_observer
with choose_observer(quiet=False) as observer:
    observer.run_began("48 images", epochs=2, steps=3)
    for epoch in (1, 2):
        observer.epoch_began(epoch, 0)
        for step in range(3):
            time.sleep(0.12)
            if observer.wants_losses():
                observer.stepped(step + 1, (3.25, 2.5, 1.5), 4321.0)
        observer.epoch_ended({"epoch": epoch, "loss": 3.0, "reconstruction": 2.0, "kl": 2.0,
                              "images_per_second": 10.0, "seconds": 0.3})
"""


GOING_ON_WITHOUT_A_TERMINAL = """
import os
from vae_training.progress import choose_observer
with choose_observer(quiet=False) as observer:
    observer.run_began("48 images", epochs=2, steps=3)
    os.close(0)  # the other side, and with it the terminal
    observer.epoch_began(1, 0)
    observer.stepped(1, (3.25, 2.5, 1.5), 4321.0)
    observer.epoch_ended({"epoch": 1, "loss": 3.0, "reconstruction": 2.0, "kl": 2.0,
                          "images_per_second": 10.0, "seconds": 0.3})
print("trained to the end", flush=True)
os._exit(0)
"""


def test_a_run_goes_on_when_its_terminal_was_closed(
    start_python: Callable[..., subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    process = start_python(
        GOING_ON_WITHOUT_A_TERMINAL, cwd=tmp_path, stdin=ours, stderr=theirs, stdout=subprocess.PIPE
    )
    os.close(ours)
    os.close(theirs)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "trained to the end\n")


def on_a_terminal(start_python: Callable[..., subprocess.Popen[str]], code: str, cwd: Path) -> str:
    """Run a program whose stderr is a terminal, and return all that it showed there."""
    ours, theirs = pty.openpty()
    process = start_python(code, cwd=cwd, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError as error:  # Linux's way to say that the other side has gone
        if error.errno != errno.EIO:
            raise
    finally:
        os.close(ours)
    assert process.wait(30) == 0, shown
    return shown.decode()


def test_on_a_terminal_a_bar_moves_and_a_line_stays_for_every_epoch(
    start_python: Callable[..., subprocess.Popen[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    shown = on_a_terminal(start_python, EPOCHS_ON_A_TERMINAL, tmp_path)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "\x1b[" in shown
    assert "48 images; 2 epochs of 3 steps" in text
    assert "epoch 2/2" in text
    assert "loss 3.25 (reconstruction 2.50, KL 1.50)  4,321 images/s" in text
    percentages = [int(number) for number in re.findall(r"(\d+)%", text)]
    assert percentages == sorted(percentages)
    assert percentages[-1] > percentages[0]
    for epoch in (1, 2):
        assert f"epoch {epoch}/2  loss    3.000 (reconstruction 2.000, KL 2.000)" in text
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is not given back"
