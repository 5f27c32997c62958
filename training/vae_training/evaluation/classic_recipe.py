"""The reference of every evaluation: the classic recipe, trained on the same images for no longer than it takes.

Two convolutions, 20 latents, binary cross-entropy with half the KL divergence, a standard normal prior, five epochs of
Adam: the defaults of `vae-train`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vae_training.config import Config, DataConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.evaluation.material import Material
from vae_training.evaluation.measuring import Progress
from vae_training.evaluation.subjects import RunSubject
from vae_training.interruption import Interrupted
from vae_training.loop import Trainer, fit_model_to_images
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder, read_checkpoint

NAME = "classic recipe"


def train_classic_recipe(material: Material, progress: Progress) -> RunSubject:
    """Train the classic recipe on the images that are not held out, on the CPU; nothing of it stays on the disk.

    Raises:
        Interrupted: SIGINT or SIGTERM came.
        EnvironmentProblem: no room for a checkpoint among the temporary files.
    """
    images = ImageSet(material.images[material.training], None, material.name, "")
    settings = Config(
        data=DataConfig(validation=0.0), training=TrainingConfig(device="cpu", compile="off", seed=0)
    )
    with tempfile.TemporaryDirectory(prefix="vae-edge-") as folder:
        run = Path(folder) / NAME
        trainer = Trainer(fit_model_to_images(settings, images), images, RunFolder(run), _Epochs(progress))
        try:
            trainer.run()
        except Interrupted as error:
            raise Interrupted(
                f"stopped while the {NAME} was trained; nothing is written", error.exit_code
            ) from error
        return RunSubject(read_checkpoint(run), run)


class _Epochs(Observer):
    """Tells how many epochs are done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._epochs = 0

    def run_began(self, description: str, epochs: int, steps: int) -> None:  # noqa: ARG002 - the base's
        self._epochs = epochs

    def epoch_ended(self, metrics: Mapping[str, Any]) -> None:
        self._progress(f"{NAME}: epochs", metrics["epoch"], self._epochs)
