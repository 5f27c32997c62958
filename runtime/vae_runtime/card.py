"""The card: what a graph says about itself, as JSON in its ONNX metadata.

onnxruntime reads the metadata by itself, so a graph needs no second file that could be lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NoReturn

from vae_runtime.errors import BundleError

METADATA_KEY = "vae_edge.card"
FORMAT_VERSION = 1

_LARGEST_CARD = 1 << 20  # bytes; ours are about 2,000
_KINDS = {str: "text", int: "a whole number", dict: "an object", list: "a list"}


@dataclass(frozen=True)
class Likelihood:
    """p(x given z), the distribution whose mean the decoder computes."""

    name: str
    """`bernoulli` or `gaussian`."""
    noise_scale: float | None = None
    """Standard deviation of a pixel, where the likelihood has one; pixels are in [0, 1]."""


@dataclass(frozen=True)
class Card:
    """What one graph of a bundle is, and how it came to be."""

    name: str
    """The model's name."""
    role: str
    """`encoder`, `decoder` or `prior`."""
    image_shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    latent_size: int
    """D, the number of latents."""
    likelihood: Likelihood
    precision: str
    """`fp32`; what the weights are stored and computed in."""
    opset: int
    """Version of the standard ONNX operator set."""
    bundle_id: str
    """The same in all graphs of one bundle, and in no other."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest pixel value of an image."""
    format_version: int = FORMAT_VERSION
    license: str = ""
    data: str = ""
    """What the model was trained on."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of its training."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """Measured figures by name."""

    def to_metadata(self) -> str:
        """Return the card as JSON."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_metadata(cls, text: str, source: str) -> Card:
        """Read a card back. Unknown keys of a known format version are ignored.

        Args:
            text: the JSON.
            source: what the card came from, for messages.

        Raises:
            BundleError: not a card, of a newer format, or with a field missing or of the wrong type.
        """
        record = _parse(text, source)
        version = record.get("format_version")
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise BundleError(
                f"{source}: card of format version {version!r}; this vae-edge knows version {FORMAT_VERSION}. "
                "A newer vae-edge may read it: pip install --upgrade vae-edge"
            )
        likelihood = _get(record, "likelihood", dict, source)
        return cls(
            name=_get(record, "name", str, source),
            role=_get(record, "role", str, source),
            image_shape=_image_shape(record, source),
            latent_size=_positive(_get(record, "latent_size", int, source), "latent_size", source),
            likelihood=Likelihood(
                _get(likelihood, "name", str, source), _noise_scale(likelihood.get("noise_scale"), source)
            ),
            precision=_get(record, "precision", str, source),
            opset=_positive(_get(record, "opset", int, source), "opset", source),
            bundle_id=_get(record, "bundle_id", str, source),
            value_range=_value_range(record, source),
            license=_get(record, "license", str, source),
            data=_get(record, "data", str, source),
            recipe=_get(record, "recipe", dict, source),
            quality=_get(record, "quality", dict, source),
        )

    def differences(self, other: Card) -> list[str]:
        """Name the fields, but for the role, in which two cards of one bundle disagree."""
        return [
            f.name
            for f in fields(self)
            if f.name != "role" and getattr(self, f.name) != getattr(other, f.name)
        ]


def _parse(text: str, source: str) -> dict[str, Any]:
    if len(text) > _LARGEST_CARD:
        raise BundleError(f"{source}: a card of {len(text)} characters; expected at most {_LARGEST_CARD}")
    try:
        record = json.loads(text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{source}: its card is not valid JSON ({error})") from error
    if not isinstance(record, dict):
        raise BundleError(f"{source}: its card is not a JSON object")
    return record


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key stands twice")
    return record


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _get(record: Mapping[str, Any], key: str, kind: type, source: str) -> Any:
    value = record.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BundleError(f"{source}: card field {key!r} is {value!r}; expected {_KINDS[kind]}")
    return value


def _positive(value: int, key: str, source: str) -> int:
    if value < 1:
        raise BundleError(f"{source}: card field {key!r} is {value}; expected at least 1")
    return value


def _image_shape(record: Mapping[str, Any], source: str) -> tuple[int, int, int]:
    shape = _get(record, "image_shape", list, source)
    if len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape) or shape[0] not in (1, 3):
        raise BundleError(
            f"{source}: card field 'image_shape' is {shape!r}; expected [channels, height, width] with 1 or 3 channels"
        )
    channels, height, width = shape
    return channels, height, width


def _noise_scale(value: Any, source: str) -> float | None:
    if value is not None and type(value) not in (int, float):
        raise BundleError(f"{source}: card field 'noise_scale' is {value!r}; expected a number or null")
    scale: float | None = value
    return scale


def _value_range(record: Mapping[str, Any], source: str) -> tuple[float, float]:
    value_range = _get(record, "value_range", list, source)
    if value_range != [0.0, 1.0]:
        raise BundleError(
            f"{source}: card field 'value_range' is {value_range!r}; this vae-edge knows [0.0, 1.0]"
        )
    return 0.0, 1.0
