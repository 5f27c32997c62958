"""How a command begins: with what it needs and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

COMMAND = """
import gc, sys
from vae_runtime.cli import main
from vae_runtime.cli.work import Work
looked = []
gc.callbacks.append(lambda phase, _: looked.append(phase))
written = Work.write_images
def write(*arguments):
    print(gc.isenabled(), gc.get_freeze_count() > 0)
    return written(*arguments)
Work.write_images = write
opened = Work.__enter__
def enter(self):
    work = opened(self)
    print(len(looked))
    return work
Work.__enter__ = enter
sys.argv = ["vae-run", "sample", "-n", "3", "--model", sys.argv[1], "-o", "new.png"]
try:
    main()
finally:
    print(sorted({"zipfile", "importlib.metadata", "PIL.JpegImagePlugin"} & set(sys.modules)))
"""


def test_a_command_looks_for_garbage_once_it_is_at_work_and_imports_nothing_in_vain(
    run_python: Any, gray_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finished = run_python(COMMAND, gray_bundle)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == ["0", "True True", "[]"]
