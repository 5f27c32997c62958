"""The card: read back as it was written, or refused with the field's name."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_runtime import BundleError, Card, Likelihood, ScoreCalibration
from vae_runtime.card import card_of

CARD = Card(
    name="faces",
    role="decoder",
    image_shape=(1, 24, 24),
    latent_size=20,
    likelihood=Likelihood("bernoulli"),
    precision="fp32",
    opset=18,
    bundle_id="0123456789abcdef",
)
RECORD = json.loads(CARD.to_metadata())

SCORES = {"images": 3, "samples": 1, "seed": 0, "percentages": [0, 50.0, 100], "quantiles": [-7.5, 1, 1]}

texts = st.text(max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
calibrations = st.integers(0, 9).flatmap(
    lambda between: st.builds(
        ScoreCalibration,
        images=st.integers(1, 10**9),
        samples=st.integers(1, 999),
        seed=st.integers(0, 2**64),
        percentages=st.lists(
            st.floats(0, 100, exclude_min=True, exclude_max=True),
            min_size=between, max_size=between, unique=True,
        ).map(lambda inner: (0.0, *sorted(inner), 100.0)),
        quantiles=st.lists(finite, min_size=between + 2, max_size=between + 2).map(lambda q: tuple(sorted(q))),
    )
)  # fmt: skip
cards = st.builds(
    Card,
    name=texts,
    role=st.sampled_from(["encoder", "decoder", "prior", "prior_inverse", "prior_density"]),
    image_shape=st.tuples(st.sampled_from([1, 3]), st.integers(1, 999), st.integers(1, 999)),
    latent_size=st.integers(1, 999),
    likelihood=st.builds(Likelihood, texts, st.none() | st.floats(0.001, 10)),
    precision=texts,
    opset=st.integers(1, 99),
    bundle_id=texts,
    license=texts,
    data=texts,
    recipe=st.dictionaries(texts, st.integers() | texts | st.booleans() | st.none(), max_size=3),
    quality=st.dictionaries(texts, finite, max_size=3),
    fidelity=st.dictionaries(texts, finite, max_size=3),
    scores=st.none() | calibrations,
)


def test_what_is_not_said_is_empty_and_keys_are_in_order() -> None:
    card = Card("m", "decoder", (1, 8, 8), 2, Likelihood("bernoulli"), "fp32", 17, "id")
    assert (card.license, card.data, card.scores, card.likelihood.noise_scale) == ("", "", None, None)
    assert (card.value_range, card.format_version) == ((0.0, 1.0), 1)
    assert (card.recipe, card.quality, card.fidelity) == ({}, {}, {})
    assert list(json.loads(card.to_metadata())) == sorted(vars(card))


def test_what_a_card_says_cannot_be_changed() -> None:
    for said, name in (
        (CARD, "role"),
        (CARD.likelihood, "name"),
        (ScoreCalibration(3, 1, 0, (0.0, 100.0), (1.0, 2.0)), "seed"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(said, name, "other")


def test_the_card_of_a_graph_is_in_its_metadata_and_of_its_role() -> None:
    metadata = {"vae_edge.card": CARD.to_metadata(), "more": "text"}
    assert card_of(metadata, "decoder", "here") == CARD
    for role in ("encoder", "another"):
        with pytest.raises(BundleError) as refused:
            card_of(metadata, role, "here")
        assert str(refused.value) == f"here: its card says 'decoder'; expected {role!r}"
        assert refused.type is BundleError
    long = {"vae_edge.card": replace(CARD, role="r" * 99).to_metadata()}
    with pytest.raises(BundleError, match=f"^here: its card says '{'r' * 20}'; expected 'prior'$"):
        card_of(long, "prior", "here")


def test_a_graph_without_a_card_is_refused() -> None:
    with pytest.raises(BundleError) as refused:
        card_of({"card": CARD.to_metadata()}, "decoder", "here")
    assert str(refused.value) == (
        "here: carries no card (vae_edge.card); expected a graph that vae-export wrote"
    )
    assert refused.type is BundleError


@given(cards)
def test_a_card_comes_back_as_it_was_written(card: Card) -> None:
    again = Card.from_metadata(card.to_metadata(), "here")
    assert again == card
    assert hash(again) == hash(card)


def test_cards_from_before_there_were_lower_precisions_tell_of_no_fidelity() -> None:
    older = {name: value for name, value in RECORD.items() if name != "fidelity"}
    assert Card.from_metadata(json.dumps(older), "here").fidelity == {}
    assert Card.from_metadata(json.dumps(older), "here") == CARD


def test_cards_from_before_images_were_scored_tell_of_no_scores() -> None:
    older = {name: value for name, value in RECORD.items() if name != "scores"}
    assert Card.from_metadata(json.dumps(older), "here") == CARD
    assert CARD.scores is None


def test_scores_are_read_as_numbers_in_a_row() -> None:
    scores = Card.from_metadata(json.dumps({**RECORD, "scores": {**SCORES, "later": 1}}), "here").scores
    assert scores == ScoreCalibration(3, 1, 0, (0.0, 50.0, 100.0), (-7.5, 1.0, 1.0))


def test_whole_numbers_are_numbers() -> None:
    record = {**RECORD, "likelihood": {"name": "gaussian", "noise_scale": 1}, "quality": {"psnr": 30}}
    card = Card.from_metadata(json.dumps(record), "here")
    assert (card.likelihood, card.quality) == (Likelihood("gaussian", 1), {"psnr": 30})


def test_unknown_keys_are_ignored() -> None:
    record = {**RECORD, "invented later": [1, 2], "likelihood": {"name": "bernoulli", "more": 1}}
    assert Card.from_metadata(json.dumps(record), "here") == CARD


def test_differences_are_named_but_for_the_role() -> None:
    assert CARD.differences(replace(CARD, role="encoder")) == []
    other = replace(CARD, latent_size=21, quality={"psnr": 1.0})
    assert CARD.differences(other) == ["latent_size", "quality"]
    scores = ScoreCalibration(3, 1, 0, (0.0, 100.0), (1.0, 2.0))
    calibrated = replace(CARD, scores=scores)
    assert calibrated.differences(replace(CARD, scores=replace(scores))) == []
    assert calibrated.differences(CARD) == ["scores"]
    assert calibrated.differences(replace(CARD, scores=replace(scores, quantiles=(1.0, 3.0)))) == ["scores"]


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        replace(CARD, quality={"psnr": float("nan")}).to_metadata()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its card is not valid JSON"),
        ("hello", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "its card is not a JSON object"),
        ("7", "not a JSON object"),
        ("[" * 100_000, "not valid JSON"),
        (
            '{"format_version": 1, "format_version": 1}',
            r"not valid JSON \(the key 'format_version' stands twice\)",
        ),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', r"\(the key 'b' stands twice\)"),
        ('{"a": NaN}', r"not valid JSON \(NaN is not JSON\)"),
        ('{"a": -Infinity}', r"\(-Infinity is not JSON\)"),
        ('{"a": ' + "9" * 5000 + "}", r"not valid JSON \(a number of 5000 characters; expected at most 32\)"),
        ('{"a": 0.' + "9" * 1_000_000 + "}", "a number of 1000002 characters"),
        ('{"a": 1e999}', r"not valid JSON \(1e999 is beyond all numbers\)"),
        ('{"a": ' + "[" * 16 + "]" * 16 + "}", "its card nests deeper than 16 levels"),
        ('{"a":' * 17 + "1" + "}" * 17, "its card nests deeper than 16 levels"),
        ('{"a": "\t"}', r"not valid JSON \(Invalid control character at: line 1 column 8"),
        ('{"a": 1}\n}', r"not valid JSON \(Extra data: line 2 column 1"),
        ("\N{BYTE ORDER MARK}{}", "not valid JSON"),
        (" " * (1 << 20), "its card is not valid JSON"),
        (" " * ((1 << 20) + 1), "a card of 1048577 characters; expected at most 1048576"),
        ("{}", r"card of format version None; this vae-edge knows version 1\. A newer vae-edge may read it"),
        ('{"format_version": 2}', r"format version 2; this .* version 1.*pip install --upgrade vae-edge"),
        ('{"format_version": 0}', "format version 0; this vae-edge knows version 1"),
        ('{"format_version": "1"}', "format version '1'"),
        ('{"format_version": true}', "format version True"),
        ('{"format_version": 1.0}', "format version 1.0"),
        ('{"format_version": "' + "1" * 9999 + '"}', "format version '1{99}\\.\\.\\.; this"),
    ],
    ids=range(27),
)
def test_what_is_no_card_of_this_format_is_refused(text: str, message: str) -> None:
    with pytest.raises(BundleError, match=rf"^here: .*{message}(?!\w)"):
        Card.from_metadata(text, "here")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *(
            (field, ..., f"card field '{field}' is None; expected")
            for field in RECORD
            if field not in ("format_version", "fidelity", "scores")
        ),
        ("name", 7, "'name' is 7; expected text"),
        ("role", ["decoder"], "expected text"),
        ("latent_size", "20", "'latent_size' is '20'; expected a whole number"),
        ("latent_size", 20.0, "expected a whole number"),
        ("latent_size", True, "expected a whole number"),
        ("latent_size", 0, "'latent_size' is 0; expected at least 1"),
        ("latent_size", 2**31, "'latent_size' is 2147483648; expected at most 2147483647"),
        ("opset", -1, "'opset' is -1; expected at least 1"),
        ("image_shape", [24, 24], r"'image_shape' is \[24, 24\]; expected \[channels, height, width\]"),
        *(
            ("image_shape", shape, "with 1 or 3 channels")
            for shape in ([], [1, 24], [1, 24, 24, 24], [2, 24, 24])
        ),
        ("image_shape", [1, -24, 24], "'image_shape'"),
        ("image_shape", [1, 24, 0], "'image_shape'"),
        ("image_shape", [1, 24.0, 24], "'image_shape'"),
        ("image_shape", [True, 24, 24], "'image_shape'"),
        # Of these there can be no array, not even of none of them.
        ("image_shape", [1, 2**31, 2**31], "at most 2147483647 pixels"),
        ("image_shape", [3, 2**15, 2**15], "at most 2147483647 pixels"),
        ("image_shape", "1x24x24", "expected a list"),
        (
            "value_range",
            [-1, 1],
            r"'value_range' is \[-1, 1\]; expected \[0\.0, 1\.0\], which is what this vae-edge knows",
        ),
        ("value_range", [0.0, 255.0], "'value_range'"),
        ("likelihood", "bernoulli", "'likelihood' is 'bernoulli'; expected an object"),
        ("likelihood", {}, "'likelihood.name' is None; expected text"),
        (
            "likelihood",
            {"name": "gaussian", "noise_scale": "big"},
            "'likelihood.noise_scale' is 'big'; expected a number or null",
        ),
        ("recipe", [], "'recipe' is .*; expected an object"),
        ("quality", 1.0, "'quality' is 1.0; expected an object"),
        ("quality", {"psnr": "high"}, "'quality.psnr' is 'high'; expected a number"),
        ("quality", {"mse": 1.0, "psnr": "high"}, "'quality.psnr' is 'high'; expected a number"),
        ("quality", {"psnr": True}, "'quality.psnr' is True; expected a number"),
        ("fidelity", [1.0], r"'fidelity' is \[1.0\]; expected an object"),
        ("fidelity", {"psnr_db": "40"}, "'fidelity.psnr_db' is '40'; expected a number"),
        ("scores", [1.0], r"'scores' is \[1.0\]; expected an object"),
        ("scores", {}, "'scores.percentages' is None; expected a list"),
        *(
            ("scores", {**SCORES, key: value}, f"'scores.{key}' is .*; expected {said}")
            for key, value, said in (
                ("images", 0, "at least 1"),
                ("images", 3.0, "a whole number"),
                ("samples", 0, "at least 1"),
                ("seed", -1, "at least 0"),
                ("seed", None, "a whole number"),
                ("percentages", [0, 50, 50, 100], "different numbers from 0 to 100"),
                ("percentages", [0, 50], "different numbers from 0 to 100"),
                ("percentages", [1, 50, 100], "different numbers from 0 to 100"),
                ("percentages", [-1, 50, 100], "different numbers from 0 to 100"),
                ("percentages", [0, 50, 101], "different numbers from 0 to 100"),
                ("percentages", [], "different numbers from 0 to 100"),
                ("percentages", [0, 100, 50], "numbers in ascending order"),
                ("percentages", [0, True, 100], "numbers in ascending order"),
                ("quantiles", [3, 2, 1], "numbers in ascending order"),
                ("quantiles", [1, 2, "3"], "numbers in ascending order"),
                ("quantiles", [1, [2], 3], "numbers in ascending order"),
                ("quantiles", [1, 2, 3, 4], "3 numbers, one for each percentage"),
                ("quantiles", [1, 2], "3 numbers, one for each percentage"),
                ("quantiles", 1.0, "a list"),
            )
        ),
        ("data", ["x" * 96], r"'data' is \['x{96}'\]; expected text"),
        ("data", ["x" * 9999], r"'data' is \['x{98}\.\.\.; expected text"),
    ],
    ids=str,
)
def test_a_field_that_is_missing_or_wrong_is_named(field: str, value: Any, message: str) -> None:
    record = {**RECORD, field: value}
    if value is ...:
        del record[field]
    with pytest.raises(BundleError, match=rf"^here: .*{message}(?!\w)"):
        Card.from_metadata(json.dumps(record), "here")


def test_sizes_may_be_as_large_as_any_that_a_graph_has() -> None:
    record = {**RECORD, "latent_size": 2**31 - 1, "image_shape": [1, 1, 2**31 - 1]}
    card = Card.from_metadata(json.dumps(record), "here")
    assert (card.latent_size, card.image_shape) == (2**31 - 1, (1, 1, 2**31 - 1))


def test_a_card_may_nest_as_deep_as_sixteen_levels() -> None:
    deep: Any = "end"
    for _ in range(14):  # within the recipe, within the card
        deep = {"in": deep}
    record = {**RECORD, "recipe": {"in": deep}}
    card = Card.from_metadata(json.dumps(record), "here")
    assert Card.from_metadata(card.to_metadata(), "here") == card


def test_scores_may_be_told_in_as_many_percentages_as_one_likes() -> None:
    percentages = [number / 10 for number in range(1001)]
    scores = {**SCORES, "percentages": percentages, "quantiles": percentages}
    card = Card.from_metadata(json.dumps({**RECORD, "scores": scores}), "here")
    assert card.scores is not None
    assert card.scores.percentages == card.scores.quantiles == tuple(percentages)


def test_a_card_of_many_keys_is_read_in_the_time_of_its_length() -> None:
    """Looking each key up among all that came before it would take minutes."""
    keys = ",".join(f'"{number}":1' for number in range(80_000))
    with pytest.raises(BundleError, match="stands twice"):
        Card.from_metadata(f'{{{keys},"79999":1}}', "here")
