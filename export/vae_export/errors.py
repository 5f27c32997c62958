"""What can go wrong in export: the package's base error and its few children."""

from __future__ import annotations

from vae_runtime.errors import InputError, VaeError


class ExportError(VaeError):
    """The base of every error of vae_export."""


class SettingError(ExportError, InputError):
    """A setting that there is not, or that does not go with another one."""

    exit_code = 2


class OpsetError(SettingError):
    """An opset that cannot be written."""


class SourceError(ExportError, InputError):
    """Something that is not a trained model, or one whose architecture cannot be told."""

    exit_code = 3


class GraphError(ExportError):
    """The written graph is not what was promised: a fault of ours or of the exporter, never of the input."""


class ParityError(ExportError):
    """The written graphs and PyTorch disagree."""

    exit_code = 5


class PrecisionError(ExportError):
    """The model cannot be written in the precision that was asked for."""

    exit_code = 5
