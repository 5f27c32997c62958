"""A variational autoencoder from its ONNX bundle, with numpy and onnxruntime alone.

>>> import vae_runtime
>>> model = vae_runtime.load("faces24")  # doctest: +SKIP
>>> faces = model.sample(100, seed=7, dtype="uint8")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vae_runtime._version import __version__

if TYPE_CHECKING:
    from vae_runtime.attributes import attribute_direction as attribute_direction
    from vae_runtime.bundle import shipped_models as shipped_models
    from vae_runtime.card import Card as Card
    from vae_runtime.card import Likelihood as Likelihood
    from vae_runtime.card import ScoreCalibration as ScoreCalibration
    from vae_runtime.errors import BundleError as BundleError
    from vae_runtime.errors import ClosedError as ClosedError
    from vae_runtime.errors import EnvironmentProblem as EnvironmentProblem
    from vae_runtime.errors import InputError as InputError
    from vae_runtime.errors import NonFiniteError as NonFiniteError
    from vae_runtime.errors import ProviderError as ProviderError
    from vae_runtime.errors import ResourceLimitError as ResourceLimitError
    from vae_runtime.errors import UnsafeBundleError as UnsafeBundleError
    from vae_runtime.errors import VaeError as VaeError
    from vae_runtime.images import to_float as to_float
    from vae_runtime.images import to_uint8 as to_uint8
    from vae_runtime.latent import Posterior as Posterior
    from vae_runtime.latent import latent_path as latent_path
    from vae_runtime.latent import lerp as lerp
    from vae_runtime.latent import noise as noise
    from vae_runtime.latent import slerp as slerp
    from vae_runtime.model import Model as Model
    from vae_runtime.model import load as load
    from vae_runtime.providers import available_providers as available_providers
    from vae_runtime.score import Score as Score
    from vae_runtime.tiling import grid as grid

# Imported when first asked for, so that a command's --help does not wait for numpy.
_HOME = {
    "load": "model",
    "Model": "model",
    "Posterior": "latent",
    "Card": "card",
    "Likelihood": "card",
    "Score": "score",
    "ScoreCalibration": "card",
    "grid": "tiling",
    "to_float": "images",
    "to_uint8": "images",
    "noise": "latent",
    "lerp": "latent",
    "slerp": "latent",
    "latent_path": "latent",
    "attribute_direction": "attributes",
    "available_providers": "providers",
    "shipped_models": "bundle",
    "VaeError": "errors",
    "InputError": "errors",
    "BundleError": "errors",
    "UnsafeBundleError": "errors",
    "EnvironmentProblem": "errors",
    "ResourceLimitError": "errors",
    "ProviderError": "errors",
    "ClosedError": "errors",
    "NonFiniteError": "errors",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
