"""What can go wrong in training: the package's base error and its few children."""

from __future__ import annotations

from vae_runtime.errors import EnvironmentProblem, InputError, NonFiniteError, VaeError


class TrainingError(VaeError):
    """The base of every error of vae_training."""


class DataError(TrainingError, InputError):
    """A data set that cannot be read, or images that cannot be trained on."""

    exit_code = 3


class ConfigError(TrainingError, InputError):
    """A setting with a wrong name, type or value."""

    exit_code = 3


class CheckpointError(TrainingError, InputError):
    """A checkpoint that is missing, damaged, or of another model."""

    exit_code = 3


class DivergedError(TrainingError, NonFiniteError):
    """The loss became NaN or infinite."""

    exit_code = 5


class NonFiniteWeightsError(CheckpointError, NonFiniteError):
    """Weights with NaN or infinity in them, where weights are read."""

    exit_code = 5


class FolderInUseError(TrainingError, EnvironmentProblem):
    """Another process is training in the folder."""

    exit_code = 4
