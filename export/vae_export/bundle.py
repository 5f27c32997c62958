"""Writing a bundle: built beside its place, opened, proven, and only then renamed into it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from vae_export.calibration import calibration_inputs
from vae_export.coders import Coders
from vae_export.errors import SettingError
from vae_export.fidelity import measure_fidelity
from vae_export.folding import fold_linear_layers
from vae_export.graphs import add_cards, build_graphs, build_prior, tidy
from vae_export.half_precision import in_half_precision
from vae_export.half_storage import round_initializers, store_in_half
from vae_export.model_card import render_model_card
from vae_export.opsets import require_supported
from vae_export.parity import TOLERANCES, Difference, Tolerances, compare, require_parity
from vae_export.prior_parity import compare_prior
from vae_export.quality import measure_quality
from vae_export.quantization import quantize
from vae_export.readback import check_graph, operators, require_scan
from vae_export.rewriting import rewrite
from vae_export.rounding import round_prior, round_weights
from vae_export.score_calibration import calibrate_scores
from vae_export.source import Source
from vae_runtime.atomic import atomic_folder
from vae_runtime.bundle import ROLES_OF_A_PRIOR, Bundle
from vae_runtime.card import Card
from vae_runtime.cli.png import enlarge, save_png
from vae_runtime.model import Model, load
from vae_runtime.providers import require_at_hand
from vae_runtime.sums import SUMS, write_sums
from vae_runtime.tiling import grid
from vae_training.config import Config
from vae_training.data import ImageSet, split
from vae_training.priors.mixture import GaussianMixture

_PREVIEW_ROWS, _PREVIEW_COLUMNS = 5, 8
_PREVIEW_WIDTH = 768  # pixels
_PREVIEW_PIXELS = 100_000  # of all images, before they are enlarged: of large images fewer are shown


@dataclass(frozen=True)
class Settings:
    """What can be chosen of an export."""

    opset: int
    name: str
    license: str = ""
    data: str = ""
    """Where the training images come from, for the card."""
    precision: str = "fp32"
    """`fp32`, `fp16` or `int8`."""
    compact: bool = False
    """In fp32, round the weights and store them in 16 bits; see `rounding`."""
    optimize: bool = True
    """Write the layers in the form that is the fastest in this precision, rather than as PyTorch has them."""
    tolerances: Tolerances | None = None
    """Those of the precision where None."""
    provider: str = "cpu"
    """On which parity is checked."""

    @property
    def exact(self) -> bool:
        """Whether the graphs compute with the very weights that were trained, as PyTorch does."""
        return self.precision == "fp32" and not self.compact


@dataclass(frozen=True)
class Report:
    """What was written, and how near it is to PyTorch."""

    path: Path
    card: Card
    differences: Sequence[Difference]
    sizes: dict[str, int]
    """Bytes of each graph."""
    operators: list[str]
    sha256: str
    """SHA-256 of the bundle's SHA256SUMS: what the runtime can be told to expect."""


def export_bundle(
    source: Source,
    images: ImageSet,
    output: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Write a bundle and prove that it matches PyTorch.

    Args:
        source: the trained model.
        images: real images of the model's shape, for the proof and the figures of the card.
        output: the bundle's folder.
        settings: opset, name, tolerances and what the card says.
        overwrite: replace a folder that is there.
        progress: called with what is being done, step by step.

    Raises:
        OpsetError: the opset cannot be written here.
        PrecisionError: the model cannot be written in this precision.
        ParityError: the graphs and PyTorch disagree; nothing is written.
        OutputExistsError: the folder is there already.
        GraphError: the written file is not what was promised.
        ProviderError: the provider to compare on cannot be used here.
    """
    require_supported(settings.opset)
    require_at_hand(settings.provider)
    if settings.precision not in TOLERANCES:
        raise SettingError(f"precision {settings.precision!r}; expected one of {', '.join(TOLERANCES)}")
    if settings.compact and settings.precision != "fp32":
        raise SettingError(f"--compact is for fp32; {settings.precision} is smaller already")
    trained, source = source, _rounded(source, settings)
    say = progress or (lambda _: None)
    with atomic_folder(output, overwrite=overwrite, ours=_is_bundle) as beside:
        graphs = _graphs(source, _pictures(images), settings, say)
        draft = _card(source, settings)
        for role, data in add_cards(graphs, draft).items():
            require_scan(data, role)  # before the runtime opens it, so that the error is of the export
        say("measuring quality on held-out images")
        card = _measured(draft, source, images, add_cards(graphs, draft), exact=settings.exact)
        if not settings.exact:
            card = replace(card, fidelity=_fidelity(trained, images, add_cards(graphs, card)))
        files = add_cards(graphs, card)
        for role, data in files.items():
            (beside / f"{role}.onnx").write_bytes(data)
        write_sums(beside)  # so that the runtime opens the folder; written again when it is complete
        say("reading the files back")
        for role in files:
            check_graph((beside / f"{role}.onnx").read_bytes(), role, settings.opset)
        say(f"comparing with PyTorch on {settings.provider}")
        with load(beside, provider=settings.provider) as model:
            tolerances = settings.tolerances or TOLERANCES[settings.precision]
            differences = compare(source.model, model, _pictures(images), tolerances, source.prior)
            if source.prior is not None:
                rounded = _has_rounded_density(source, settings)
                differences += compare_prior(source.prior, model, _pictures(images), rounded_density=rounded)
            require_parity(differences)
            card = model.card
            _write_preview(beside / "preview.png", model)
        say("writing card, recipe and sums")
        sizes = {role: len(data) for role, data in files.items()}
        names = sorted({name for data in files.values() for name in operators(data)})
        (beside / "README.md").write_text(
            render_model_card(card, differences, sizes, names), encoding="utf-8"
        )
        (beside / "recipe.toml").write_text(_recipe(source, images, settings), encoding="utf-8")
        sha256 = write_sums(beside)
    return Report(output, card, differences, sizes, names, sha256)


def _graphs(
    source: Source, pictures: npt.NDArray[np.uint8], settings: Settings, say: Callable[[str], None]
) -> dict[str, onnx.ModelProto]:
    """Return the graphs as ONNX models in the precision and form that is wanted, without cards."""
    prior = {} if source.prior is None else build_prior(source.prior, settings.opset)
    if _has_rounded_density(source, settings):
        prior |= {role: round_initializers(prior[role]) for role in prior.keys() & ROLES_OF_A_PRIOR}
    if not settings.exact:
        prior = {role: store_in_half(graph) for role, graph in prior.items()}
    coders = _coders(source, pictures, settings, say)
    if settings.compact:
        coders = {role: store_in_half(graph) for role, graph in coders.items()}
    return {**coders, **prior}


def _rounded(source: Source, settings: Settings) -> Source:
    """Return the model as the graphs are to compute it: rounded where the files are to be small.

    In lower precisions encoder and decoder are rounded as these want it; a mixture is left as it is, which takes few
    bytes.
    """
    if settings.compact:
        return round_weights(source)
    return source if settings.exact or isinstance(source.prior, GaussianMixture) else round_prior(source)


def _has_rounded_density(source: Source, settings: Settings) -> bool:
    """Whether the density is rounded by itself: that of a mixture is computed from other matrices than the prior."""
    return not settings.exact and isinstance(source.prior, GaussianMixture)


def _coders(
    source: Source, pictures: npt.NDArray[np.uint8], settings: Settings, say: Callable[[str], None]
) -> dict[str, onnx.ModelProto]:
    model, precision = source.model, settings.precision
    form: Coders = rewrite(model, precision) if settings.optimize else model
    inputs = calibration_inputs(model, pictures, source.prior) if precision != "fp32" else {}
    if precision == "fp16":
        form = in_half_precision(form, inputs)
    say(f"tracing encoder and decoder to opset {settings.opset}")
    graphs = build_graphs(form, settings.opset)
    if precision == "fp32" and settings.optimize:
        graphs["decoder"] = fold_linear_layers(graphs["decoder"])
    if precision != "int8":
        return graphs
    say("finding the ranges of activations, and rounding to 8 bits")
    return {
        role: tidy(quantize(graph, role, inputs[role]), role, settings.opset)
        for role, graph in graphs.items()
    }


def _is_bundle(folder: Path) -> bool:
    return (folder / SUMS).is_file()


def _card(source: Source, settings: Settings) -> Card:
    config = source.model.config
    return Card(
        name=settings.name,
        role="",  # each graph gets its own
        image_shape=config.image_shape,
        latent_size=config.latent_size,
        likelihood=source.likelihood,
        precision=settings.precision,
        opset=settings.opset,
        bundle_id="",  # a hash of what is to be written
        license=settings.license,
        data=settings.data,
        recipe=_published(source.config).to_dict() if source.config else {},
    )


def _measured(card: Card, source: Source, images: ImageSet, files: dict[str, bytes], *, exact: bool) -> Card:
    """Return the card with the figures that the graphs reach."""
    held_out = _held_out(source, images)
    with Model(Bundle("the new bundle", files), provider="cpu") as model:
        quality = measure_quality(source, model, held_out)
        scores = calibrate_scores(model, held_out) or (source.scores if exact else None)
    return replace(card, quality=quality, scores=scores)


def _fidelity(trained: Source, images: ImageSet, files: dict[str, bytes]) -> dict[str, float]:
    """Return how near the graphs are to what was trained, before anything was rounded."""
    with Model(Bundle("the new bundle", files), provider="cpu") as model:
        return measure_fidelity(trained.model, model, _pictures(images), trained.prior)


def _held_out(source: Source, images: ImageSet) -> npt.NDArray[np.uint8]:
    """Return the images that were held out of training, as far as it is known which those are."""
    if source.config is None or source.data_fingerprint != images.fingerprint():
        return _pictures(images)[:0]
    _, held_out = split(images, source.config.data.validation, source.config.training.seed)
    return _pictures(images)[held_out]


def _pictures(images: ImageSet) -> npt.NDArray[np.uint8]:
    """Return the images as the runtime takes them: without the channel axis where there is one channel."""
    return images.images[..., 0] if images.images.shape[-1] == 1 else images.images


def _write_preview(path: Path, model: Model) -> None:
    _, height, width = model.card.image_shape
    rows, columns = preview_layout(height, width)
    pictures = model.sample(rows * columns, seed=0, dtype=np.uint8)
    factor = max(1, _PREVIEW_WIDTH // (columns * width))
    save_png(path, enlarge(grid(pictures, rows, columns), factor))


def preview_layout(height: int, width: int) -> tuple[int, int]:
    """Return how many rows and columns of images of this size a preview shows."""
    most = max(1, _PREVIEW_PIXELS // (height * width))
    columns = min(most, _PREVIEW_COLUMNS)
    return min(most // columns, _PREVIEW_ROWS), columns


def _recipe(source: Source, images: ImageSet, settings: Settings) -> str:
    """Return how the bundle was made: the settings of training as TOML, the commands as comments."""
    ranges = f"# The ranges of its activations were found on the images {_one_line(images.name)!r}.\n"
    note = ranges if settings.precision == "int8" else ""
    options = " ".join(_options(settings))
    training = _published(source.config).to_toml() if source.config else ""
    if source.bundle:
        return (
            f"# Made from the weights of the bundle {_one_line(source.bundle)}, with:\n"
            f"#   vae-export BUNDLE {options} -o bundle\n{note}"
            + (f"\n# The training of that bundle:\n\n{training}" if training else "")
        )
    if not training:
        return f"# Exported from weights alone with: vae-export WEIGHTS {options}\n{note}"
    return (
        "# To make this bundle again:\n"
        "#   vae-train --config recipe.toml -o run\n"
        f"#   vae-export run {options} -o bundle\n{note}\n"
        f"{training}"
    )


def _options(settings: Settings) -> list[str]:
    """Return the settings that end up on the card as options of `vae-export`."""
    chosen = {"--opset": str(settings.opset), "--precision": settings.precision, "--name": settings.name}
    chosen |= {"--license": settings.license, "--data-note": settings.data}
    options = [f"{option} {_one_word(value)}" for option, value in chosen.items() if value]
    flags = {"--no-optimize": not settings.optimize, "--compact": settings.compact}
    return [*(flag for flag, given in flags.items() if given), *options]


def _one_word(name: str) -> str:
    """Return the name as one word of a shell's line."""
    return shlex.quote(_one_line(name))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _published(config: Config) -> Config:
    """Return the settings without the path to the data: it tells strangers about this machine, and no more."""
    return replace(config, data=replace(config.data, source=Path(config.data.source).name))
