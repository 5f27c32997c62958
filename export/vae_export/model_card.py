"""The bundle's README: the model's card for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vae_export.parity import BATCH_SIZES, Difference
from vae_runtime.card import Card


def render_model_card(
    card: Card, differences: Sequence[Difference], sizes: dict[str, int], operators: list[str]
) -> str:
    """Return the README as Markdown."""
    channels, height, width = card.image_shape
    colour = "gray" if channels == 1 else "colour"
    license_line = f"license: {card.license.lower()}\n" if card.license else ""
    return f"""---
library_name: vae-edge
tags: [variational-autoencoder, onnx, image-generation]
{license_line}---

# {card.name}

A {_architecture(card)}variational autoencoder of {width}x{height} {colour} images with {card.latent_size} latents,
as ONNX graphs that run with numpy and onnxruntime alone.

![New images, drawn by this model](preview.png)

```
vae-run sample -n 100 --model PATH_TO_THIS_FOLDER -o grid.png
```

```python
import vae_runtime

model = vae_runtime.load("PATH_TO_THIS_FOLDER")
pictures = model.sample(100, seed=7, dtype="uint8")  # (100, {height}, {width}{", 3" if channels == 3 else ""}) uint8
```

## Tensors

| file | input | outputs | bytes |
| --- | --- | --- | --- |
| `encoder.onnx` | `image` (batch, {channels}, {height}, {width}) float32 in [0, 1] | \
`mean`, `logvar` (batch, {card.latent_size}) float32 | {sizes["encoder"]:,} |
| `decoder.onnx` | `latent` (batch, {card.latent_size}) float32 | \
`image` (batch, {channels}, {height}, {width}) float32 in [0, 1] | {sizes["decoder"]:,} |
{_prior_files(card, sizes)}
Opset {card.opset}, {card.precision}; operators: {", ".join(operators)}.
{_precision(card, sizes)}\
New images: {_sampling(sizes)}.
The likelihood is {_likelihood(card)}: the decoder gives its mean.

## Training

{_data(card)}
Pictures of another size were cropped about their centre and resized (Lanczos) to {height}x{width}.
`recipe.toml` holds the settings: `vae-train --config recipe.toml`, then `vae-export`.

{_quality(card)}{_scores(card)}
## Parity with PyTorch

Absolute differences at batch sizes {_batch_sizes()}, measured on the files of this folder when they were written.

| {" | ".join(DIFFERENCE_HEADINGS)} |
| --- | --- | --- | --- | --- | --- |
{_parity(differences)}

## Limits

The model knows what it was trained on and nothing else: images unlike those come back changed into ones like
those. New images resemble the training data in what they show and in whom they leave out.
{_license(card)}"""


def _architecture(card: Card) -> str:
    """Return the architecture as an adjective; nothing where nothing is known of the training."""
    name = card.recipe.get("model", {}).get("architecture")
    return f"{name} " if name else ""


def _prior_files(card: Card, sizes: Mapping[str, int]) -> str:
    if "prior" not in sizes:
        return ""
    latents, noise = (f"`{name}` (batch, {card.latent_size}) float32" for name in ("latent", "noise"))
    outputs = {
        "prior": (f"{noise}, standard normal", latents),
        "prior_inverse": (latents, f"{noise}; `log_density` (batch) float32, in nats"),
        "prior_density": (latents, "`log_density` (batch) float32, in nats"),
    }
    return "".join(
        f"| `{role}.onnx` | {given} | {made} | {sizes[role]:,} |\n"
        for role, (given, made) in outputs.items()
        if role in sizes
    )


def _sampling(sizes: Mapping[str, int]) -> str:
    if "prior" in sizes:
        return "send noise, drawn from the standard normal, through the prior, and decode the latents that come out"
    return "decode latents drawn from the standard normal"


def _likelihood(card: Card) -> str:
    scale = card.likelihood.noise_scale
    return card.likelihood.name + (f" with standard deviation {scale:g}" if scale is not None else "")


def _data(card: Card) -> str:
    return f"Data: {card.data}.\n" if card.data else "Nothing is known of its training data.\n"


def _quality(card: Card) -> str:
    if not card.quality:
        return ""
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in card.quality.items())
    return f"| on held-out images (losses in nats per image) | value |\n| --- | --- |\n{rows}\n"


def _scores(card: Card) -> str:
    """Return what held-out images score, in words."""
    if card.scores is None:
        return ""
    half, most, nearly_all = np.interp((50, 95, 99), card.scores.percentages, card.scores.quantiles)
    return (
        f"\n`vae-run score` tells images unlike these by their negative ELBO: of {card.scores.images:,} held-out "
        f"images half score below {half:.1f} nats, 95 % below {most:.1f}, 99 % below {nearly_all:.1f}.\n"
    )


def _precision(card: Card, sizes: Mapping[str, int]) -> str:
    """Return what rounding costs, in words; nothing where nothing was rounded."""
    figures = card.fidelity
    if not figures:
        return ""
    if card.precision == "fp32":
        kind = "Weights are stored in 16 bits, rounded to 8 significant ones, and computed with in float32"
        trained, prior = "unrounded weights", ""
    else:
        name = {"fp16": "16-bit floating point", "int8": "8-bit integers"}[card.precision]
        kind = f"Weights and arithmetic of encoder and decoder are {name}, inputs and outputs float32"
        trained, prior = "float32", _precision_of_prior(sizes)
    return (
        f"{kind}. Against {trained}, pictures of new latents have a PSNR of {figures['psnr_db']:.1f} dB "
        f"({figures['lowest_psnr_db']:.1f} dB the worst); of real images the means differ by "
        f"{figures['mean_average']:.2g} on average and {figures['mean_largest']:.2g} at most, the log-variances by "
        f"{figures['logvar_average']:.2g} and {figures['logvar_largest']:.2g}.\n{prior}"
    )


def _precision_of_prior(sizes: Mapping[str, int]) -> str:
    if "prior_inverse" in sizes:
        return "The prior and the way back from it compute in float32, from weights that are stored in 16 bits.\n"
    if "prior_density" in sizes:
        return (
            "The prior computes in float32, and so does its density, whose weights are stored in 16 bits.\n"
        )
    return ""


DIFFERENCE_HEADINGS = ("output", "on", "maximum", "mean", "PSNR", "limit")


def difference_cells(row: Difference) -> tuple[str, ...]:
    """Return one row of a table of differences, as text."""
    psnr = "" if row.psnr is None else f"{row.psnr:.1f} dB"
    limit = f"{row.limit:g} dB" if row.by_psnr else f"{row.limit:g}"
    return row.output, row.inputs, f"{row.maximum:.1e}", f"{row.mean:.1e}", psnr, limit


def _parity(differences: Sequence[Difference]) -> str:
    return "\n".join(f"| {' | '.join(difference_cells(row))} |" for row in differences)


def _batch_sizes() -> str:
    *others, last = map(str, BATCH_SIZES)
    return f"{', '.join(others)} and {last}"


def _license(card: Card) -> str:
    return f"\nLicence: {card.license}.\n" if card.license else ""
