"""The bundle's README says what is in the bundle, in words and numbers that are right."""

from __future__ import annotations

import dataclasses
import re

import pytest

from vae_export.model_card import render_model_card
from vae_export.parity import Difference
from vae_runtime.card import Card, Likelihood, ScoreCalibration
from vae_training.config import Config

CARD = Card(
    name="bars", role="decoder", image_shape=(1, 8, 12), latent_size=5, likelihood=Likelihood("bernoulli"),
    precision="fp32", opset=17, bundle_id="x", license="CC-BY-4.0", data="bars drawn for a test",
    quality={"validation_loss": 123.4567, "validation_psnr_db": 21.5},
)  # fmt: skip
ROWS = [
    Difference("mean", "images", 1.25e-7, 3e-8, 1e-4, 64),
    Difference("image", "latents of the prior", 6e-8, 1e-9, 1e-5, 7, psnr=100.0),
    Difference("image", "latents of its tails", 0.3, 0.02, 38.0, 7, psnr=41.26, by_psnr=True),
]
FIDELITY = {
    "psnr_db": 48.66, "lowest_psnr_db": 46.48, "mean_average": 0.01382, "mean_largest": 0.1064,
    "logvar_average": 0.009407, "logvar_largest": 0.05035,
}  # fmt: skip
SCORES = ScoreCalibration(1200, 1, 0, (0.0, 50.0, 90.0, 100.0), (-5.0, 10.0, 10.0, 100.0))


SIZES = {"encoder": 12345, "decoder": 6789}


def card(sizes: dict[str, int] = SIZES, **changes: object) -> str:
    return render_model_card(dataclasses.replace(CARD, **changes), ROWS, sizes, ["Conv", "Gemm"])


def table_rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]


def test_it_begins_with_what_model_hubs_read() -> None:
    _, front, _ = card().split("---\n", 2)
    assert front.splitlines() == [
        "library_name: vae-edge",
        "tags: [variational-autoencoder, onnx, image-generation]",
        "license: cc-by-4.0",
    ]


def test_files_shapes_and_sizes_stand_in_a_table() -> None:
    encoder, decoder = table_rows(card())[2:4]
    assert encoder == [
        "`encoder.onnx`",
        "`image` (batch, 1, 8, 12) float32 in [0, 1]",
        "`mean`, `logvar` (batch, 5) float32",
        "12,345",
    ]
    assert decoder == [
        "`decoder.onnx`",
        "`latent` (batch, 5) float32",
        "`image` (batch, 1, 8, 12) float32 in [0, 1]",
        "6,789",
    ]


def test_the_differences_stand_in_a_table() -> None:
    assert table_rows(card())[-3:] == [
        ["mean", "images", "1.2e-07", "3.0e-08", "", "0.0001"],
        ["image", "latents of the prior", "6.0e-08", "1.0e-09", "100.0 dB", "1e-05"],
        ["image", "latents of its tails", "3.0e-01", "2.0e-02", "41.3 dB", "38 dB"],
    ]


def test_the_figures_stand_in_a_table() -> None:
    rows = table_rows(card())
    assert ["validation loss", "123.5"] in rows
    assert ["validation psnr db", "21.5"] in rows
    assert "| measured |" not in card(quality={})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "A variational autoencoder of 12x8 gray images with 5 latents"),
        ({"recipe": Config().to_dict()}, "A classic variational autoencoder of 12x8 gray images"),
        ({"image_shape": (3, 8, 12)}, "of 12x8 colour images"),
        ({}, "# (100, 8, 12) uint8"),
        ({"image_shape": (3, 8, 12)}, "# (100, 8, 12, 3) uint8"),
        ({}, "Opset 17, fp32; operators: Conv, Gemm."),
        ({"precision": "fp16", "fidelity": FIDELITY}, "Opset 17, fp16; operators: Conv, Gemm."),
        (
            {"precision": "fp16", "fidelity": FIDELITY},
            "are 16-bit floating point, inputs and outputs float32.",
        ),
        (
            {"fidelity": FIDELITY},
            "stored in 16 bits, rounded to 8 significant ones, and computed with in float32.",
        ),
        ({"fidelity": FIDELITY}, "Against unrounded weights, pictures of new latents have a PSNR of 48.7 dB"),
        ({"precision": "int8", "fidelity": FIDELITY}, "are 8-bit integers, inputs and outputs float32."),
        ({"precision": "int8", "fidelity": FIDELITY}, "a PSNR of 48.7 dB (46.5 dB the worst)"),
        (
            {"precision": "int8", "fidelity": FIDELITY},
            "the means differ by 0.014 on average and 0.11 at most",
        ),
        ({"precision": "int8", "fidelity": FIDELITY}, "the log-variances by 0.0094 and 0.05."),
        ({}, "The likelihood is bernoulli:"),
        ({"likelihood": Likelihood("gaussian", 0.1)}, "gaussian with standard deviation 0.1:"),
        ({}, "Data: bars drawn for a test."),
        (
            {"scores": SCORES},
            "of 1,200 held-out images half score below 10.0 nats, 95 % below 55.0, 99 % below 91.0.",
        ),
        ({"data": ""}, "Nothing is known of its training data."),
        ({}, "Licence: CC-BY-4.0."),
    ],
)
def test_the_words_follow_the_card(changes: dict[str, object], words: str) -> None:
    assert words in card(**changes)


def test_of_float32_no_loss_is_told() -> None:
    assert "Opset 17, fp32; operators: Conv, Gemm.\nNew images:" in card()
    assert "Against float32" not in card()


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (
            "prior_inverse",
            "The prior and the way back from it compute in float32, from weights that are stored",
        ),
        ("prior_density", "The prior computes in float32, and so does its density, whose weights are stored"),
    ],
)
def test_of_a_prior_in_lower_precision_it_is_told_how_it_is_stored(role: str, words: str) -> None:
    sizes = {**SIZES, "prior": 1, role: 1}
    assert words in card(sizes, precision="int8", fidelity=FIDELITY)
    assert words not in card(sizes)
    assert words not in card(precision="int8", fidelity=FIDELITY)


def test_without_held_out_images_no_scores_are_told() -> None:
    assert "vae-run score" not in card()


def test_without_a_licence_none_is_claimed() -> None:
    assert not re.search("licen[cs]e", card(license=""), re.IGNORECASE)
