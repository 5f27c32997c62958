"""The card: what a graph says about itself, as JSON in its ONNX metadata.

The metadata is part of the graph's file, so there is no second file that could be lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import prod
from typing import Any

from vae_runtime.errors import BundleError, one_line, shown
from vae_runtime.strict_json import parse_json

METADATA_KEY = "vae_edge.card"
FORMAT_VERSION = 1

_LARGEST_CARD = 1 << 20  # bytes; ours are about 2,000
_MOST_NUMBERS = 2**31 - 1  # in an image or a latent: far more, and no array can have one of them
_DEEPEST = 16  # objects and lists within each other; ours has 3
_KINDS = {str: "text", int: "a whole number", dict: "an object", list: "a list", float: "a number"}


@dataclass(frozen=True)
class Likelihood:
    """p(x given z), the distribution whose mean the decoder computes."""

    name: str
    """`bernoulli`, `gaussian` or `discretized-logistic`."""
    noise_scale: float | None = None
    """Standard deviation of a pixel, where the likelihood has one; pixels are in [0, 1]."""


@dataclass(frozen=True)
class ScoreCalibration:
    """What images that the model was not trained on score, in nats: how usual a score is."""

    images: int
    """How many images there were."""
    samples: int
    """Points of each posterior, as `score` takes them."""
    seed: int
    """The seed that they came from."""
    percentages: tuple[float, ...]
    """Ascending, from 0 to 100."""
    quantiles: tuple[float, ...]
    """For each percentage the total that so many percent of the images stay below."""


@dataclass(frozen=True)
class Card:
    """What one graph of a bundle is, and how it came to be."""

    name: str
    """The model's name."""
    role: str
    """`encoder`, `decoder`, `prior`, `prior_inverse` or `prior_density`."""
    image_shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    latent_size: int
    """D, the number of latents."""
    likelihood: Likelihood
    precision: str
    """`fp32`, `fp16` or `int8`: what is computed in, where the machine can."""
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
    recipe: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The configuration of its training."""
    quality: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Measured figures by name."""
    fidelity: Mapping[str, float] = field(default_factory=dict, hash=False)
    """How near it is to what was trained, by name; empty where neither weights nor arithmetic were rounded."""
    scores: ScoreCalibration | None = None
    """What held-out images score with these very graphs; None where there were none."""

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
        if type(version) is not int or version != FORMAT_VERSION:
            raise BundleError(
                f"{source}: card of format version {shown(version)}; this vae-edge knows version {FORMAT_VERSION}. "
                "A newer vae-edge may read it: pip install --upgrade vae-edge"
            )
        card = _Fields(record, source)
        likelihood = card.inside("likelihood")
        return cls(
            name=card.text("name"),
            role=card.text("role"),
            image_shape=_image_shape(card),
            latent_size=_latent_size(card),
            likelihood=Likelihood(likelihood.text("name"), likelihood.number_or_none("noise_scale")),
            precision=card.text("precision"),
            opset=card.positive("opset"),
            bundle_id=card.text("bundle_id"),
            value_range=_value_range(card),
            license=card.text("license"),
            data=card.text("data"),
            recipe=card.get("recipe", dict),
            quality=card.inside("quality").numbers(),
            # Cards that were written before there were other precisions than fp32 have none.
            fidelity=card.inside("fidelity").numbers() if "fidelity" in record else {},
            scores=None if record.get("scores") is None else _scores(card.inside("scores")),
        )

    def differences(self, other: Card) -> list[str]:
        """Name the fields, but for the role, in which two cards of one bundle disagree."""
        return [
            f.name
            for f in fields(self)
            if f.name != "role" and getattr(self, f.name) != getattr(other, f.name)
        ]


def card_of(metadata: Mapping[str, str], role: str, source: str) -> Card:
    """Return the card in a graph's metadata.

    Raises:
        BundleError: there is none, or not that of a graph of this role.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise BundleError(
            f"{source}: carries no card ({METADATA_KEY}); expected a graph that vae-export wrote"
        )
    card = Card.from_metadata(text, source)
    if card.role != role:
        raise BundleError(f"{source}: its card says {card.role[:20]!r}; expected {role!r}")
    return card


class _Fields:
    """The fields of an object in a card; what is missing or wrong is refused by its path."""

    def __init__(self, record: Mapping[str, Any], source: str, path: str = "") -> None:
        self._record = record
        self._source = source
        self._path = path

    def get(self, key: str, kind: type) -> Any:
        value = self._record.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.refuse(key, _KINDS[kind])
        return value

    def refuse(self, key: str, expected: str) -> BundleError:
        path = shown(self._path + key)
        value = shown(self._record.get(key))
        return BundleError(f"{self._source}: card field {path} is {value}; expected {expected}")

    def inside(self, key: str) -> _Fields:
        return _Fields(self.get(key, dict), self._source, f"{self._path}{key}.")

    def text(self, key: str) -> str:
        value: str = self.get(key, str)
        return value

    def positive(self, key: str) -> int:
        value: int = self.get(key, int)
        if value < 1:
            raise self.refuse(key, "at least 1")
        return value

    def whole(self, key: str) -> int:
        value: int = self.get(key, int)
        if value < 0:
            raise self.refuse(key, "at least 0")
        return value

    def ascending(self, key: str) -> tuple[float, ...]:
        values = self.get(key, list)
        if not all(type(value) in (int, float) for value in values) or values != sorted(values):
            raise self.refuse(key, "numbers in ascending order")
        return tuple(map(float, values))

    def number_or_none(self, key: str) -> float | None:
        value = self._record.get(key)
        if value is not None and type(value) not in (int, float):
            raise self.refuse(key, "a number or null")
        number: float | None = value
        return number

    def numbers(self) -> dict[str, float]:
        for key, value in self._record.items():
            if type(value) not in (int, float):
                raise self.refuse(key, _KINDS[float])
        return dict(self._record)


def _scores(card: _Fields) -> ScoreCalibration:
    percentages, quantiles = card.ascending("percentages"), card.ascending("quantiles")
    if percentages[:1] != (0.0,) or percentages[-1:] != (100.0,) or len(set(percentages)) < len(percentages):
        raise card.refuse("percentages", "different numbers from 0 to 100")
    if len(quantiles) != len(percentages):
        raise card.refuse("quantiles", f"{len(percentages)} numbers, one for each percentage")
    return ScoreCalibration(
        card.positive("images"), card.positive("samples"), card.whole("seed"), percentages, quantiles
    )


def _parse(text: str, source: str) -> dict[str, Any]:
    if len(text) > _LARGEST_CARD:
        raise BundleError(f"{source}: a card of {len(text)} characters; expected at most {_LARGEST_CARD}")
    try:
        record = parse_json(text)
    except ValueError as error:
        raise BundleError(f"{source}: its card is not valid JSON ({one_line(error)})") from error
    if not isinstance(record, dict):
        raise BundleError(f"{source}: its card is not a JSON object")
    if _is_deeper(record, _DEEPEST):
        raise BundleError(f"{source}: its card nests deeper than {_DEEPEST} levels")
    return record


def _is_deeper(value: object, levels: int) -> bool:
    """Whether objects and lists lie within each other in more than so many levels."""
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def _image_shape(card: _Fields) -> tuple[int, int, int]:
    shape = card.get("image_shape", list)
    if len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape) or shape[0] not in (1, 3):
        raise card.refuse("image_shape", "[channels, height, width] with 1 or 3 channels")
    if prod(shape) > _MOST_NUMBERS:
        raise card.refuse("image_shape", f"at most {_MOST_NUMBERS} pixels")
    channels, height, width = shape
    return channels, height, width


def _latent_size(card: _Fields) -> int:
    size = card.positive("latent_size")
    if size > _MOST_NUMBERS:
        raise card.refuse("latent_size", f"at most {_MOST_NUMBERS}")
    return size


def _value_range(card: _Fields) -> tuple[float, float]:
    if card.get("value_range", list) != [0.0, 1.0]:
        raise card.refuse("value_range", "[0.0, 1.0], which is what this vae-edge knows")
    return 0.0, 1.0
