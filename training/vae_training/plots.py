"""The loss curve of a run, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_runtime.atomic import atomic_file
from vae_training.config import TrainingConfig
from vae_training.drawing import import_matplotlib

_PARTS = (("loss", "loss"), ("reconstruction", "reconstruction"), ("kl", "KL"))
_TRAINING, _VALIDATION = "#1f5fa8", "#d9822b"


def plot_losses(path: Path, metrics: Sequence[dict[str, Any]], settings: TrainingConfig) -> None:
    """Draw the loss and its two parts over the epochs, for training and validation."""
    mpl = import_matplotlib()  # slow, and wanted once an epoch
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever a user's matplotlibrc says, such as LaTeX for text
        _draw(path, metrics, settings)


def _draw(path: Path, metrics: Sequence[dict[str, Any]], settings: TrainingConfig) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    figure.suptitle(f"{formula(settings)}, nats per image", fontsize=11)
    epochs = [row["epoch"] for row in metrics]
    for axes, (key, title) in zip(figure.subplots(1, 3), _PARTS, strict=True):
        axes.plot(epochs, [row[key] for row in metrics], color=_TRAINING, marker=".", label="training")
        if metrics and f"validation_{key}" in metrics[0]:
            held_out = [row[f"validation_{key}"] for row in metrics]
            axes.plot(epochs, held_out, color=_VALIDATION, marker=".", label="validation")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    with atomic_file(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def formula(settings: TrainingConfig) -> str:
    """Say what the loss is made of: its second part is not the KL divergence that is drawn where that is shaped."""
    weight = f"{settings.beta:g}"
    if settings.beta_schedule != "constant":
        weight += f" ({settings.beta_schedule})"
    divergence = f"KL (at least {settings.free_bits:g} a latent)" if settings.free_bits else "KL"
    if settings.capacity is not None:
        divergence = f"|{divergence} - {settings.capacity:g}|"
    return f"loss = reconstruction + {weight} x {divergence}"
