"""The story of a run: epochs of steps, measured, drawn and saved, and stopped without loss."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_runtime.latent import generator as numpy_generator
from vae_training.augmentation import Augmentation
from vae_training.batches import Batches, to_device, to_float
from vae_training.checkpoint import (
    Checkpoint,
    Position,
    model_from_weights,
    save_checkpoint,
)
from vae_training.config import Config
from vae_training.costs import on_paper, parameter_count
from vae_training.data import ImageSet, split
from vae_training.device import choose_device, describe_device, seconds_when_done
from vae_training.errors import DivergedError
from vae_training.interruption import Interrupted, SignalWatch
from vae_training.kl_shaping import beta_at
from vae_training.learning import Learner
from vae_training.model import VAE
from vae_training.objective import detached
from vae_training.plots import plot_losses
from vae_training.priors import Prior
from vae_training.priors.fitting import fit_prior
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder
from vae_training.schedule import learning_rate
from vae_training.sharpening import Sharpening
from vae_training.sheets import write_reconstruction_sheet, write_sample_sheet
from vae_training.tensor_files import not_finite
from vae_training.trainer_state import restore, trainer_to_tensors

_VALIDATION_BATCH = 512
_SAVE_AFTER = 600.0  # seconds: what a run whose epochs are long loses at most
_PARTS = ("loss", "reconstruction", "kl")


class Trainer:
    """One run: builds everything from the settings, and trains until the last epoch or a signal."""

    def __init__(
        self,
        config: Config,
        images: ImageSet,
        folder: RunFolder,
        observer: Observer | None = None,
        *,
        save_every: int | None = None,
    ) -> None:
        """Prepare a new run; `resume` then sets it to where an earlier one stopped.

        Args:
            config: the settings; the model's image shape must be that of the images.
            images: the whole data set; a part is held out for validation.
            folder: where the run is written; it holds the settings already.
            observer: hears of the progress.
            save_every: steps between two checkpoints, besides the one at the end of every epoch; where None,
                one is written inside an epoch once ten minutes have gone by since the last.
        """
        self.config = config
        self.folder = folder
        self.observer = observer or Observer()
        self.save_every = save_every
        self.saved_at = time.monotonic()
        self.device = choose_device(config.training.device)
        self.fingerprint = images.fingerprint()
        training, held_out = split(images, config.data.validation, config.training.seed)
        self.batches = Batches(
            images.images,
            training,
            batch_size=config.training.batch_size,
            seed=config.training.seed,
            device=self.device,
        )
        self.held_out = to_device(images.images, held_out, self.device)
        self.total_steps = config.training.epochs * len(self.batches)
        self.learner = Learner(config, self.device, self.observer.told)
        settings = config.training
        self.augmentation = Augmentation(settings.flip, settings.shift, settings.brightness)
        self.noise = torch.Generator(self.device).manual_seed(config.training.seed)
        self.position = Position(epoch=0, step=0, total_steps=0)
        self.losses = self._no_losses()
        self.prior: Prior | None = None
        self.sharpening: Sharpening | None = None

    @property
    def model(self) -> VAE:
        """The model that is trained."""
        return self.learner.model

    @property
    def kept(self) -> VAE:
        """The model that is measured, drawn, saved and exported: an average of the weights where one is taken."""
        return self.sharpening.best if self.sharpening else self.learner.kept

    def begin_with(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Begin a new run with weights instead of random numbers; nothing else of where they come from is taken.

        Raises:
            CheckpointError: they are those of another model, or hold NaN or infinity.
        """
        state = model_from_weights(self.config.model, weights, source).state_dict()
        for model in {self.model, self.kept}:
            model.load_state_dict(state)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint as if the run had never stopped.

        Raises:
            CheckpointError: it belongs to other images or another model, or is not whole.
        """
        restore(self, checkpoint)

    def begin_sharpening(self) -> Sharpening:
        """Begin the second stage: from here on the encoder and the prior stay as they are."""
        self.model.load_state_dict(self.kept.state_dict())
        self.learner.forget_recording()
        settings = self.config.training
        self.sharpening = Sharpening(
            self.model,
            self.learner.likelihood,
            self.prior,
            decay=settings.ema,
            seed=settings.seed,
            on_cpu=self.learner.is_arranged,
        )
        return self.sharpening

    def try_step(self) -> None:
        """Take a step to see what one costs; the run cannot be trained by this object afterwards."""
        losses = self._step(next(self.batches.epoch(0, 0)), self.learner.plain_step)
        losses.tolist()  # waits for the device

    def run(self) -> list[dict[str, Any]]:
        """Train to the last epoch.

        Returns:
            The metrics, a row an epoch, as in `metrics.jsonl`.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the last step is saved.
            DivergedError: the loss became NaN or infinite; the last good checkpoint is kept.
        """
        metrics = [row for row in self.folder.read_metrics() if row["epoch"] <= self.position.epoch]
        settings = self.config.training
        with self.observer, SignalWatch() as signals:
            self.observer.run_began(self._describe(), settings.all_epochs, len(self.batches))
            for epoch in range(self.position.epoch, settings.all_epochs):
                if epoch >= settings.epochs and not self.sharpening:
                    self._fit_prior_if_wanted(signals)
                    self.begin_sharpening()
                row = self._train_epoch(epoch, signals)
                metrics.append(row)
                self.observer.epoch_ended(row)
                self._save_epoch(metrics)
            self._fit_prior_if_wanted(signals)
        return metrics

    def _train_epoch(self, epoch: int, signals: SignalWatch) -> dict[str, Any]:
        started, first_step = time.monotonic(), self.position.step
        self.observer.epoch_began(epoch + 1, first_step)
        for step, image in enumerate(self.batches.epoch(epoch, first_step), start=first_step):
            self.losses[step] = self._timed_step(image)
            self.position = Position(epoch, step + 1, self.position.total_steps + 1)
            if self.observer.wants_losses():
                done = (step + 1 - first_step) * self.batches.batch_size
                self.observer.stepped(
                    step + 1, self._mean_losses(step + 1), done / (time.monotonic() - started)
                )
            if signals.received:
                self._stop(signals)
            if self._saving_is_due():
                self._save_step()
        means = self._mean_losses(len(self.batches))
        seconds = time.monotonic() - started
        self.position = Position(epoch + 1, 0, self.position.total_steps)
        if self.sharpening:
            seen = self.held_out if len(self.held_out) else self.batches.images
            self.sharpening.measure(seen, self.config.training.seed)
        self.losses = self._no_losses()
        return {
            "epoch": epoch + 1,
            "step": self.position.total_steps,
            **dict(zip(_PARTS, means, strict=True)),
            **self._validate(),
            **self._spread(),
            "learning_rate": self._learning_rate(self.position.total_steps - 1),
            "seconds": round(seconds, 3),
            "images_per_second": round(
                (len(self.batches) - first_step) * self.batches.batch_size / seconds, 1
            ),
        }

    def _timed_step(self, image: Tensor) -> Tensor:
        """Train on one batch; where it is not settled yet whether to compile, wait until the device is done."""
        compiling = self.learner.compiling
        if self.sharpening or not compiling.is_timed:
            return self._step(image, self.learner.step)
        started = seconds_when_done(self.device)
        losses = self._step(image, self.learner.step)
        left = self.total_steps - self.position.total_steps - 1
        compiling.took(seconds_when_done(self.device) - started, left)
        return losses

    def _step(self, image: Tensor, step: Callable[..., Tensor]) -> Tensor:
        """Train on one batch; return its losses, (3,), without waiting for the device."""
        if self.augmentation:
            image = self.augmentation(image, self.noise)
        if self.sharpening:
            # The KL divergence counts as it does for held-out images: whatever schedule there was is over.
            beta = self.config.training.beta
            return detached(self.learner.weighed(*self.sharpening.step(image, self.noise), beta))
        done = self.position.total_steps
        noise = self._draw_noise(len(image))
        return step(image, noise, number=done + 1, beta=self._beta(done), rate=self._learning_rate(done))

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Return the losses on the held-out images; the noise is the same every epoch."""
        if not len(self.held_out):
            return {}
        draws = numpy_generator(self.config.training.seed)
        beta = self.config.training.beta
        likelihood = self.learner.likelihood
        was_training = likelihood.training
        likelihood.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        for images in torch.split(self.held_out, _VALIDATION_BATCH):
            noise = draws.standard_normal((len(images), self.config.model.latent_size), dtype=np.float32)
            loss = self.learner.loss(
                to_float(images), torch.from_numpy(noise).to(self.device), beta, self.kept
            )
            sums += detached(loss).double() * len(images)
        likelihood.train(was_training)
        means = (sums / len(self.held_out)).tolist()
        if not all(map(math.isfinite, means)):
            raise self._diverged("validation loss", means[0], self.position.total_steps - 1)
        return {f"validation_{part}": mean for part, mean in zip(_PARTS, means, strict=True)}

    def _spread(self) -> dict[str, float]:
        scale = self.learner.likelihood.noise_scale
        return {} if scale is None else {"noise_scale": scale}

    def _mean_losses(self, steps: int) -> tuple[float, float, float]:
        """Return the means of the epoch's first steps, and stop where one is not a number."""
        losses = self.losses[:steps].cpu().numpy()
        finite = np.isfinite(losses).all(axis=1)
        if not finite.all():
            step = self.position.total_steps - steps + int(np.argmin(finite))
            raise self._diverged("loss", losses[np.argmin(finite), 0], step)
        total, reconstruction, kl = losses.mean(axis=0, dtype=np.float64).tolist()
        return total, reconstruction, kl

    def _refuse_diverged(self) -> None:
        """Stop where a weight or a moment is not a number, or infinite: moments are before any loss is."""
        broken = not_finite({**self.kept.state_dict(), **trainer_to_tensors(self)})
        if broken:
            raise self._diverged(f"state ({broken})", "NaN or infinite", self.position.total_steps - 1)

    def _diverged(self, what: str, value: float | str, step: int) -> DivergedError:
        checkpoints = self.folder.checkpoints
        kept = (
            f"the last good checkpoint is kept in {checkpoints}"
            if checkpoints.exists()
            else "no checkpoint is there yet"
        )
        return DivergedError(
            f"the {what} became {value} at step {step + 1}, with learning rate {self._learning_rate(step):g}; "
            f"{kept}. Try a lower --learning-rate"
        )

    def _fit_prior_if_wanted(self, signals: SignalWatch) -> None:
        """Fit the prior to the latents of the images, draw samples once more, and save it with the rest."""
        settings = self.config.training
        if settings.prior == "standard" or self.prior:
            return

        def leave_if_told(done: int, total: int) -> None:
            if signals.received:
                raise self._interrupted(signals, f"in step {done} of {total} of the prior; all else is saved")

        started = time.monotonic()
        fitted = fit_prior(
            settings.prior, self.kept, self.batches.images, self.held_out, settings.seed, leave_if_told
        )
        self.prior = fitted.prior
        self.observer.told(f"prior: {fitted}  {time.monotonic() - started:.1f} s")
        write_sample_sheet(self.folder.sheet(self.position.epoch), self.kept, self.device, self.prior)
        self._save()

    def _save_epoch(self, metrics: list[dict[str, Any]]) -> None:
        self._refuse_diverged()  # before it is drawn
        # The checkpoint comes last: whatever is cut short before it is written again when the run goes on.
        self.folder.write_metrics(metrics)
        plot_losses(self.folder.loss_curve, metrics, self.config.training)
        write_sample_sheet(self.folder.sheet(self.position.epoch), self.kept, self.device, self.prior)
        if len(self.held_out):
            write_reconstruction_sheet(self.folder.reconstructions, self.kept, self.held_out)
        self._save()

    def _save(self) -> None:
        save_checkpoint(
            self.folder.checkpoints,
            config=self.config,
            position=self.position,
            data_fingerprint=self.fingerprint,
            weights=self.kept.state_dict(),
            training=trainer_to_tensors(self),
            prior=self.prior.state_dict() if self.prior else None,
        )
        self.saved_at = time.monotonic()

    def _saving_is_due(self) -> bool:
        """Tell whether to save inside the epoch; asked at every step. After its last one it is saved anyway."""
        if self.position.step == len(self.batches):
            return False
        if self.save_every is not None:
            return self.position.total_steps % self.save_every == 0
        return time.monotonic() - self.saved_at >= _SAVE_AFTER

    def _save_step(self) -> None:
        self._mean_losses(self.position.step)  # a state that has diverged is not worth saving
        self._refuse_diverged()
        self._save()

    def _stop(self, signals: SignalWatch) -> None:
        self._save_step()
        raise self._interrupted(signals, f"after step {self.position.total_steps}, which is saved")

    def _interrupted(self, signals: SignalWatch, when: str) -> Interrupted:
        name = signals.received.name if signals.received else "a signal"
        resume = f"vae-train --resume {shlex.quote(str(self.folder.path))}"
        return Interrupted(f"stopped by {name} {when}. Go on with: {resume}", signals.exit_code)

    def _draw_noise(self, n: int) -> Tensor:
        shape = (n, self.config.model.latent_size)
        return torch.randn(shape, generator=self.noise, device=self.device)

    def _beta(self, step: int) -> float:
        settings = self.config.training
        return beta_at(settings.beta_schedule, settings.beta, step, self.total_steps)

    def _learning_rate(self, step: int) -> float:
        if self.sharpening:
            return self.sharpening.learning_rate
        settings = self.config.training
        return learning_rate(settings.schedule, settings.learning_rate, step, self.total_steps)

    def _no_losses(self) -> Tensor:
        return torch.full((len(self.batches), 3), math.nan, device=self.device)

    def _describe(self) -> str:
        model = self.config.model
        ways = filter(None, (describe_device(self.device), self.learner.described))
        return (
            f"{len(self.batches.images):,} images {model.channels}x{model.height}x{model.width}, "
            f"{len(self.held_out):,} held out; {parameter_count(self.model):,} parameters, "
            f"{model.latent_size} latents; {', '.join(ways)}"
        )


def fit_model_to_images(config: Config, images: ImageSet) -> Config:
    """Return the settings with the model's image shape set to that of the images, and its filters spelt out.

    Raises:
        ConfigError: images of this size cannot be halved as often as the architecture does.
    """
    _, height, width, channels = images.images.shape
    model = replace(config.model, height=height, width=width, channels=channels)
    model = replace(model, filters=model.widths)
    on_paper(model)
    return replace(config, model=model)
