"""The settings of a run, as frozen dataclasses that read from TOML and write to it.

A run's `config.toml` holds every setting, so that `vae-train --config` makes the run again, and a
checkpoint carries the same settings, so that weights never travel without their architecture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vae_training.errors import ConfigError
from vae_training.sections import plain, read_section, read_toml, refuse_unknown, require

SHORTEST_SIDE, LONGEST_SIDE = 8, 16_384
"""Pixels that an image's height and width have at least, and at most."""
SIDE_STEP = 4
"""What they must be divisible by: every architecture halves them, the classic one twice."""
_SMALLEST_SCALE = 1e-4  # of pixels: a fortieth of the step between two of 256 values
WIDEST = 65_536
"""The most filters of a layer, and the most latents."""
_MOST_STAGES = 12
MOST_BLOCKS = 64  # of a stage
_CLASSIC_FILTERS = (32, 64)
_RESIDUAL_FILTERS = (16, 32, 48, 64, 96, 128)
# Latents of a model with a prior that is fitted: it holds their covariance, a mixture several.
_WIDEST_BY_PRIOR = {"flow": 1024, "mixture": 512, "best": 512}
MOST = 10**9
"""The most epochs, and the most images of a batch."""


@dataclass(frozen=True)
class DataConfig:
    """Where the images come from and how they are cut."""

    source: str = "faces"
    """A named data set, a .npy or .npz file, or a folder of pictures."""
    array: str | None = None
    """Which array of an .npz."""
    groups: str | None = None
    """Which array of an .npz says what belongs together (one person) and must not be split."""
    image_size: tuple[int, int] | None = None
    """Height and width to crop and resize to; the images' own where None."""
    channels: int | None = None
    """1 (gray) or 3 (colour); the images' own where None."""
    validation: float = 0.1
    """Share of the images that is held out and measured each epoch; from 0 to 0.9."""
    skip_bad: bool = False
    """Leave out pictures that cannot be read, instead of stopping."""

    def __post_init__(self) -> None:
        require(0.0 <= self.validation <= 0.9, "data.validation", self.validation, "0 to 0.9")
        require(self.channels in (None, 1, 3), "data.channels", self.channels, "1 or 3")
        _require_writable("data.source", self.source)
        sides = self.image_size or (1, 1)
        require(
            max(map(abs, sides)) <= LONGEST_SIDE, "data.image_size", sides, f"at most {LONGEST_SIDE} a side"
        )


@dataclass(frozen=True)
class ModelConfig:
    """An architecture (see vae_training.architectures) and its sizes."""

    height: int = 24
    width: int = 24
    channels: int = 1
    filters: tuple[int, ...] | None = None
    """Output channels of the encoder's halvings, one after the other; the decoder mirrors them. None for those that
    suit the architecture and the images' size: see `widths`."""
    latent_size: int = 20
    fc_relu: bool = False
    """A ReLU behind the decoder's linear layer, which some versions of the classic code have."""
    architecture: str = "classic"
    """`classic` or `residual`."""
    blocks: int = 1
    """Residual blocks behind each halving, and before each doubling."""

    def __post_init__(self) -> None:
        require(
            self.architecture in ARCHITECTURES,
            "model.architecture",
            self.architecture,
            ", ".join(ARCHITECTURES),
        )
        if self.architecture == "classic" and self.filters is None:
            object.__setattr__(self, "filters", _CLASSIC_FILTERS)
        for name in ("height", "width"):
            size = getattr(self, name)
            possible = SHORTEST_SIDE <= size <= LONGEST_SIDE and size % SIDE_STEP == 0
            expected = f"a multiple of {SIDE_STEP}, from {SHORTEST_SIDE} to {LONGEST_SIDE}"
            require(possible, f"model.{name}", size, expected)
        require(self.channels in (1, 3), "model.channels", self.channels, "1 or 3")
        require(1 <= self.latent_size <= WIDEST, "model.latent_size", self.latent_size, f"1 to {WIDEST}")
        if self.architecture == "classic":
            self._require_classic()
        else:
            self._require_residual()

    def _require_classic(self) -> None:
        widths = self.widths
        possible = len(widths) == 2 and min(widths) >= 1 and max(widths) <= WIDEST
        require(possible, "model.filters", widths, f"two numbers from 1 to {WIDEST}")
        require(
            self.blocks == 1, "model.blocks", self.blocks, "1: the classic architecture has none to count"
        )

    def _require_residual(self) -> None:
        widths = self.widths
        possible = 1 <= len(widths) <= _MOST_STAGES and min(widths) >= 1 and max(widths) <= WIDEST
        require(possible, "model.filters", widths, f"1 to {_MOST_STAGES} numbers from 1 to {WIDEST}")
        require(0 <= self.blocks <= MOST_BLOCKS, "model.blocks", self.blocks, f"0 to {MOST_BLOCKS}")
        require(not self.fc_relu, "model.fc_relu", self.fc_relu, "false: it is of the classic architecture")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.height, self.width

    @property
    def widths(self) -> tuple[int, ...]:
        """`filters`, or those that suit the architecture and the images' size where none are given.

        Of the residual one 16 at half the size, and more the coarser it is, until there are 4 to 7 positions a side.
        """
        if self.filters is not None:
            return self.filters
        stages = 1
        while stages < len(_RESIDUAL_FILTERS) and self._is_whole(2 ** (stages + 1), smallest=4):
            stages += 1
        return _RESIDUAL_FILTERS[:stages]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the coarsest images, once every stage has halved them.

        Raises:
            ConfigError: they would not be whole.
        """
        factor = 2 ** len(self.widths)
        expected = (
            f"fewer, or images whose sides {factor} divides, where these have {self.height}x{self.width}"
        )
        require(self._is_whole(factor), "model.filters", self.widths, expected)
        return self.height // factor, self.width // factor

    def _is_whole(self, factor: int, smallest: int = 1) -> bool:
        """Tell whether height and width can be made smaller by a factor, and have so many positions still."""
        return all(side % factor == 0 and side // factor >= smallest for side in (self.height, self.width))


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast, and towards what."""

    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-3
    """Adam's step size."""
    schedule: str = "constant"
    """`constant`; `onecycle`: up to the learning rate and down to almost zero (Smith 2018); or `cosine`: down."""
    clip_gradient: float = 0.0
    """The largest norm of a step's gradient, which is scaled down to it; 0 for any."""
    likelihood: str = "bernoulli"
    """`bernoulli`, `gaussian` or `discretized-logistic`: see vae_training.likelihood."""
    noise_scale: str = "auto"
    """How pixels spread about the mean: `auto` (of a Gaussian the best for each batch, else learned), `learned`, or
    a number in the pixels' unit."""
    beta: float = 0.5
    """Weight of the KL divergence; 1 is the ELBO (Kingma and Welling 2014), others are a beta-VAE."""
    beta_schedule: str = "constant"
    """`constant`, `warmup` (from 0, over the first quarter) or `cyclical` (four times)."""
    free_bits: float = 0.0
    """Nats of KL divergence that each latent has for free."""
    capacity: float | None = None
    """Nats of KL divergence per image towards which it is drawn; None for towards zero."""
    prior: str = "standard"
    """`standard`, the standard normal; or one that is fitted to the latents of the images when all else is done:
    `flow`, `mixture` of normal distributions, or `best`, whichever of the two makes held-out latents more probable."""
    sharpen_epochs: int = 0
    """Epochs, after the others, in which the decoder alone learns to draw what a discriminator takes for real."""
    flip: bool = False
    """Mirror each image that is trained on, left to right, with probability one half."""
    shift: int = 0
    """Pixels by which images that are trained on may move."""
    brightness: float = 0.0
    """What may be added to all pixels of an image that is trained on, at most."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights, which is what is kept then; 0 takes none."""
    init_from: str | None = None
    """A run's folder, or one checkpoint, whose weights the run begins with; random ones where None."""
    seed: int = 0
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu` or `cuda`."""
    compile: str = "auto"
    """`on`, `off`, or `auto`: torch.compile on a GPU, once the steps left will repay it; never on the CPU. Unless it is
    `off`, a GPU repeats steps from a CUDA graph."""
    bf16: bool = False
    """Compute layers in bfloat16 where PyTorch's autocast does; weights, losses, steps and the second stage stay
    float32."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            require(1 <= getattr(self, name) <= MOST, f"training.{name}", getattr(self, name), f"1 to {MOST}")
        require(
            0 < self.learning_rate < 1e3, "training.learning_rate", self.learning_rate, "above 0, below 1000"
        )
        require(0 <= self.beta < 1e6, "training.beta", self.beta, "at least 0, below 1000000")
        require(
            0 <= self.sharpen_epochs <= MOST, "training.sharpen_epochs", self.sharpen_epochs, f"0 to {MOST}"
        )
        require(
            0 <= self.clip_gradient < 1e9,
            "training.clip_gradient",
            self.clip_gradient,
            "at least 0, below 1000000000",
        )
        require(0 <= self.free_bits < 1e6, "training.free_bits", self.free_bits, "at least 0, below 1000000")
        require(
            0 <= (self.capacity or 0) < 1e6, "training.capacity", self.capacity, "at least 0, below 1000000"
        )
        require(0 <= self.shift <= LONGEST_SIDE, "training.shift", self.shift, f"0 to {LONGEST_SIDE}")
        require(0 <= self.brightness <= 1, "training.brightness", self.brightness, "0 to 1")
        require(
            self.noise_scale in NOISE_SCALES or self.fixed_noise_scale is not None,
            "training.noise_scale",
            self.noise_scale,
            f"{', '.join(NOISE_SCALES)} or a number from {_SMALLEST_SCALE:g} to 1",
        )
        require(0 <= self.ema < 1, "training.ema", self.ema, "at least 0, below 1")
        _require_writable("training.init_from", self.init_from or "")
        require(0 <= self.seed < 2**63, "training.seed", self.seed, "0 to 2**63 - 1")
        for name, choices in (
            ("schedule", SCHEDULES),
            ("likelihood", LIKELIHOODS),
            ("beta_schedule", BETA_SCHEDULES),
            ("prior", PRIORS),
            ("device", DEVICES),
            ("compile", COMPILE_CHOICES),
        ):
            require(
                getattr(self, name) in choices, f"training.{name}", getattr(self, name), ", ".join(choices)
            )

    @property
    def fixed_noise_scale(self) -> float | None:
        """The spread of pixels where it is given as a number."""
        try:
            scale = float(self.noise_scale)
        except ValueError:
            return None
        return scale if _SMALLEST_SCALE <= scale <= 1.0 else None

    @property
    def all_epochs(self) -> int:
        """Epochs of both stages together."""
        return self.epochs + self.sharpen_epochs


ARCHITECTURES = ("classic", "residual")
SCHEDULES = ("constant", "onecycle", "cosine")
BETA_SCHEDULES = ("constant", "warmup", "cyclical")
PRIORS = ("standard", "flow", "mixture", "best")
NOISE_SCALES = ("auto", "learned")
LIKELIHOODS = ("bernoulli", "gaussian", "discretized-logistic")
DEVICES = ("auto", "cpu", "cuda")
COMPILE_CHOICES = ("auto", "on", "off")


@dataclass(frozen=True)
class Config:
    """Everything that makes a run what it is."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        prior, size = self.training.prior, self.model.latent_size
        if prior in _WIDEST_BY_PRIOR:
            widest = _WIDEST_BY_PRIOR[prior]
            require(2 <= size <= widest, "model.latent_size", size, f"2 to {widest} with a {prior} as prior")

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the settings as plain values by section; settings that are None are left out."""
        return {
            section: {key: plain(value) for key, value in values.items() if value is not None}
            for section, values in dataclasses.asdict(self).items()
        }

    def to_toml(self) -> str:
        """Return the settings as TOML."""
        import tomli_w  # comes with the [train] extra, and --help must work without

        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], source: str = "config") -> Config:
        """Build a configuration from plain values; what is not named keeps its default.

        Raises:
            ConfigError: an unknown section or setting, or a wrong type or value.
        """
        sections = {f.name: f.default_factory for f in dataclasses.fields(cls)}
        refuse_unknown(record, sections, source, "section")
        return cls(
            data=read_section(DataConfig, record.get("data", {}), f"{source}: data"),
            model=read_section(ModelConfig, record.get("model", {}), f"{source}: model"),
            training=read_section(TrainingConfig, record.get("training", {}), f"{source}: training"),
        )

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> Config | None:
        """Return the settings that a model's card records; None where it has none that are valid here."""
        if not recipe:
            return None
        try:
            return cls.from_dict(recipe)
        except ConfigError:
            return None

    @classmethod
    def from_toml(cls, path: Path) -> Config:
        """Read a configuration file.

        Raises:
            ConfigError: unreadable, not TOML, or with a wrong setting.
        """
        return cls.from_dict(read_toml(path), str(path))


def _require_writable(name: str, path: str) -> None:
    """Raise for a file name that is not UTF-8: Python holds its bytes as lone surrogates, which TOML cannot write."""
    require(path.encode(errors="replace").decode() == path, name, path, "a name in UTF-8: rename it")
    require("\0" not in path, name, path, "a name without NUL")
