"""What the tests of `vae-train` share: a folder to work in, and a run in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_commands import SMALL
from small_runs import leave_out_drawings

from vae_training.data import ImageSet

Here = Callable[..., Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars: Callable[..., ImageSet]) -> Path:
    """Work in a folder that holds one file of images. What runs in this process leaves out the drawing."""
    leave_out_drawings(monkeypatch)
    monkeypatch.chdir(tmp_path)
    np.save("bars.npy", bars().images[..., 0])
    return tmp_path


@pytest.fixture
def trained(folder: Path, vae_train_here: Here) -> Path:
    """The folder of a run that is done."""
    assert vae_train_here(*SMALL, "-o", "done").code == 0
    return folder / "done"
