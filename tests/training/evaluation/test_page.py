"""The page of pictures: what is written on it."""

from __future__ import annotations

from vae_training.evaluation.page import title_font


def test_titles_have_the_letters_that_names_of_models_may_have() -> None:
    unknown = bytes(title_font().getmask("\uffff"))
    drawn = {bytes(title_font().getmask(letter)) for letter in "e\u00e9\u00fc\u00df\u0159\u0416\u03a9"}
    assert len(drawn) == 7  # what a font does not know looks all the same
    assert unknown not in drawn
