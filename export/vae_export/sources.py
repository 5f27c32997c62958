"""What can be exported: a run folder, a checkpoint, a bundle, or a file of weights alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vae_export.bundle_source import read_models
from vae_export.errors import SourceError
from vae_export.pickled_weights import load_pickled
from vae_export.source import Source
from vae_export.state_dicts import find_weights
from vae_runtime.bundle import read_bundle, shipped_models
from vae_runtime.card import Likelihood
from vae_runtime.sums import SUMS
from vae_training.checkpoint import (
    STATE,
    Checkpoint,
    likelihood_from_checkpoint,
    load_checkpoint,
    model_from_weights,
    newest_checkpoint,
    prior_from_weights,
)
from vae_training.config import Config, ModelConfig
from vae_training.errors import ConfigError
from vae_training.model import VAE
from vae_training.run_folder import RunFolder
from vae_training.tensor_files import read_file, tensors_from_bytes

_PICKLED = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl")
_SAFETENSORS = ".safetensors"
_RESIDUAL = "encoder.halvings.0.weight"  # what the classic architecture never has


def load_source(path: Path, *, image_size: tuple[int, int] | None = None, fc_relu: bool = False) -> Source:
    """Read what is to be exported.

    Args:
        path: a run folder, one checkpoint of it, a bundle's folder or the name of a shipped one, or a file of
            weights of the classic architecture (.pth, .pt, .safetensors); their sizes are read off the shapes.
        image_size: height and width, for weights of images that are not square.
        fc_relu: the code that trained the weights has a ReLU behind the decoder's linear layer; weights
            alone cannot tell.

    Raises:
        SourceError: none of these, or weights of another architecture.
        CheckpointError: a damaged checkpoint.
        BundleError: a damaged bundle.
    """
    if not path.exists() and not is_bundle(path):
        raise SourceError(
            f"{path}: no such file or folder; expected a run folder, a checkpoint, a bundle or a .pth file"
        )
    if not path.is_dir() and not is_bundle(path):
        weights = _read_weights(path)
        config = read_architecture(weights, str(path), image_size=image_size, fc_relu=fc_relu)
        return Source(_ready(model_from_weights(config, weights, str(path))), name=path.stem)
    if image_size is not None or fc_relu:
        raise SourceError(
            f"{path}: its settings are in the folder; --image-size and --fc-relu are for weights alone"
        )
    if is_bundle(path):
        return _from_bundle(path)
    if (path / STATE).is_file():
        return _from_checkpoint(load_checkpoint(path), RunFolder(path.absolute().parent.parent))
    folder = RunFolder(path)
    if not folder.checkpoints.is_dir():
        raise SourceError(f"{path}: holds no checkpoints; expected a folder that vae-train wrote")
    return _from_checkpoint(newest_checkpoint(folder.checkpoints), folder)


def is_bundle(path: Path) -> bool:
    """Whether it is the folder of a bundle, or, where there is nothing of that name, that of a shipped model."""
    return (path / SUMS).is_file() if path.exists() else str(path) in shipped_models()


def read_architecture(
    weights: Mapping[str, Tensor], source: str, *, image_size: tuple[int, int] | None, fc_relu: bool
) -> ModelConfig:
    """Read the classic architecture's sizes off the shapes of its weights.

    Raises:
        SourceError: not the classic architecture, or an image size that the shapes do not fit.
    """
    if _RESIDUAL in weights:
        raise SourceError(
            f"{source}: weights of the residual architecture, whose sizes they do not tell alone; export the run's "
            "folder, a checkpoint of it, or a bundle"
        )
    try:
        first, channels = weights["encoder.conv1.weight"].shape[:2]
        second = weights["encoder.conv2.weight"].shape[0]
        latent_size, features = weights["encoder.fc_mu.weight"].shape
        positions = features // second
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        names = ", ".join(list(weights)[:5])
        raise SourceError(
            f"{source}: not the weights of the classic architecture (no fitting {error}); expected "
            f"encoder.conv1, encoder.conv2, encoder.fc_mu, ..., found {names or 'nothing'}"
        ) from error
    height, width = image_size or _square(positions, source)
    if second * (height // 4) * (width // 4) != features:
        raise SourceError(
            f"{source}: encoder.fc_mu takes {features} values, which images of {height}x{width} do not give "
            f"({second} x {height // 4} x {width // 4}); give the right --image-size"
        )
    try:
        return ModelConfig(height, width, channels, (first, second), latent_size, fc_relu)
    except ConfigError as error:
        raise SourceError(f"{source}: {error}") from error


def _square(positions: int, source: str) -> tuple[int, int]:
    side = math.isqrt(positions)
    if side * side != positions:
        raise SourceError(f"{source}: the images are not square; give their --image-size HEIGHTxWIDTH")
    return 4 * side, 4 * side


def _from_checkpoint(checkpoint: Checkpoint, folder: RunFolder) -> Source:
    model = model_from_weights(checkpoint.config.model, checkpoint.weights, str(checkpoint.path))
    config, prior = checkpoint.config, None
    if checkpoint.prior is not None:
        prior = prior_from_weights(config.model, checkpoint.prior, str(checkpoint.path))
    measured = {row["epoch"]: row for row in folder.read_metrics()} if checkpoint.position.step == 0 else {}
    return Source(
        _ready(model),
        name=folder.path.absolute().name,
        config=config,
        metrics=measured.get(checkpoint.position.epoch, {}),
        prior=prior,
        likelihood=Likelihood(config.training.likelihood, likelihood_from_checkpoint(checkpoint).noise_scale),
        data_fingerprint=checkpoint.data_fingerprint,
    )


def _from_bundle(path: Path) -> Source:
    bundle = read_bundle(str(path) if not path.exists() else path)
    coders, prior, card = read_models(bundle)
    return Source(
        coders,
        prior=prior,
        likelihood=card.likelihood,
        name=card.name,
        config=Config.from_recipe(card.recipe),
        metrics=card.quality,
        bundle=f"{card.name}, whose {SUMS} has the SHA-256 {bundle.sha256}",
        license=card.license,
        scores=card.scores,
        data=card.data,
    )


def _ready(model: VAE) -> VAE:
    return model.eval().requires_grad_(False)


def _read_weights(path: Path) -> dict[str, Tensor]:
    suffix = path.suffix.lower()
    if suffix not in (*_PICKLED, _SAFETENSORS):
        raise SourceError(
            f"{path}: weights in a file of unknown kind; expected {', '.join((*_PICKLED, _SAFETENSORS))}"
        )
    data = read_file(path)
    loaded = tensors_from_bytes(data, str(path)) if suffix == _SAFETENSORS else load_pickled(data, str(path))
    return find_weights(loaded, path)
