"""Settings: what they take, what they refuse, and that TOML loses nothing."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_training.config import (
    BETA_SCHEDULES,
    LIKELIHOODS,
    NOISE_SCALES,
    SCHEDULES,
    Config,
    DataConfig,
    ModelConfig,
    TrainingConfig,
)
from vae_training.errors import ConfigError

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)
sizes = st.integers(1, 500)
configs = st.builds(
    Config,
    data=st.builds(
        DataConfig,
        source=texts,
        array=st.none() | texts,
        groups=st.none() | texts,
        image_size=st.none() | st.tuples(sizes, sizes),
        channels=st.sampled_from([None, 1, 3]),
        validation=st.floats(0, 0.9),
        skip_bad=st.booleans(),
    ),
    model=st.one_of(
        st.builds(
            ModelConfig,
            height=sizes.map(lambda n: 4 * n + 4),
            width=sizes.map(lambda n: 4 * n + 4),
            channels=st.sampled_from([1, 3]),
            filters=st.none() | st.tuples(sizes, sizes),
            latent_size=sizes,
            fc_relu=st.booleans(),
        ),
        st.builds(
            ModelConfig,
            height=sizes.map(lambda n: 4 * n + 4),
            width=sizes.map(lambda n: 4 * n + 4),
            filters=st.none() | st.lists(sizes, min_size=1, max_size=5).map(tuple),
            architecture=st.just("residual"),
            blocks=st.integers(0, 64),
        ),
    ),
    training=st.builds(
        TrainingConfig,
        epochs=sizes,
        batch_size=sizes,
        learning_rate=st.floats(0, 1e3, exclude_min=True, exclude_max=True),
        schedule=st.sampled_from(SCHEDULES),
        beta_schedule=st.sampled_from(BETA_SCHEDULES),
        likelihood=st.sampled_from(LIKELIHOODS),
        noise_scale=st.sampled_from([*NOISE_SCALES, "0.05"]),
        free_bits=st.floats(0, 1e6, exclude_max=True),
        capacity=st.none() | st.floats(0, 1e6, exclude_max=True),
        ema=st.floats(0, 1, exclude_max=True),
        sharpen_epochs=sizes,
        init_from=st.none() | texts,
        beta=st.floats(0, 1e6, exclude_max=True),
        seed=st.integers(0, 2**63 - 1),
        device=st.sampled_from(["auto", "cpu", "cuda"]),
        compile=st.sampled_from(["auto", "on", "off"]),
    ),
)


def test_the_defaults_are_the_classic_recipe() -> None:
    config = Config()
    assert config.model == ModelConfig(24, 24, 1, (32, 64), latent_size=20, fc_relu=False)
    assert (config.training.epochs, config.training.batch_size) == (5, 64)
    assert (config.training.learning_rate, config.training.beta) == (1e-3, 0.5)
    assert (config.training.schedule, config.training.seed) == ("constant", 0)


@given(config=configs)
@settings(max_examples=60, deadline=None)
def test_toml_gives_back_every_setting(config: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        path.write_text(config.to_toml(), encoding="utf-8")
        assert Config.from_toml(path) == config


def test_a_byte_order_mark_before_the_settings_which_windows_writes_means_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 7\n", encoding="utf-8-sig")
    assert Config.from_toml(path).training.epochs == 7


@given(config=configs)
@settings(max_examples=30, deadline=None)
def test_plain_values_give_back_every_setting(config: Config) -> None:
    record = config.to_dict()
    assert Config.from_dict(record) == config
    assert all(value is not None for section in record.values() for value in section.values())


def test_what_is_not_named_keeps_its_default() -> None:
    config = Config.from_dict({"training": {"epochs": 7}})
    assert config == Config(training=TrainingConfig(epochs=7))


def test_a_whole_number_is_a_fine_float() -> None:
    beta = Config.from_dict({"training": {"beta": 1}}).training.beta
    assert (beta, type(beta)) == (1.0, float)


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().training.epochs = 3


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"modle": {}}, "mine: unknown section modle; expected data, model, training"),
        ({"model": {"hieght": 8}}, "mine: model: unknown setting hieght; expected height, width"),
        ({"training": {"lr": 1, "bs": 2}}, "unknown setting bs, lr"),
        ({"model": 3}, "mine: model: 3; expected a table of settings"),
        ({"model": {"height": "24"}}, "mine: model.height is '24'; expected a whole number"),
        ({"model": {"height": 24.0}}, "model.height is 24.0; expected a whole number"),
        ({"model": {"height": True}}, "model.height is True; expected a whole number"),
        ({"model": {"fc_relu": 1}}, "model.fc_relu is 1; expected true or false"),
        ({"model": {"filters": 32}}, "model.filters is 32; expected a list"),
        ({"model": {"filters": [32]}}, r"model.filters is \(32,\); expected two numbers"),
        ({"model": {"filters": [32, 64, 128]}}, "expected two numbers from 1 to 65536"),
        ({"model": {"filters": [32, "64"]}}, "model.filters is '64'; expected a whole number"),
        ({"data": {"source": 3}}, "data.source is 3; expected text in quotes"),
        ({"data": {"array": 3}}, "data.array is 3; expected text in quotes"),
        ({"data": {"image_size": 24}}, "data.image_size is 24; expected a list"),
        ({"data": {"image_size": [24]}}, r"data.image_size is \[24\]; expected 2 values"),
        ({"data": {"channels": "1"}}, "data.channels is '1'; expected a whole number"),
        ({"training": {"beta": "0.5"}}, "training.beta is '0.5'; expected a number"),
        ({"training": {"noise_scale": 0.1}}, "training.noise_scale is 0.1; expected text in quotes"),
        ({"training": {"beta": False}}, "training.beta is False; expected a number"),
    ],
)
def test_a_wrong_name_or_type_is_refused_by_name(record: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Config.from_dict(record, "mine")


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("data", "validation", 0.0),
        ("data", "validation", 0.9),
        ("data", "channels", 3),
        ("model", "height", 8),
        ("model", "width", 400),
        ("model", "filters", [1, 1]),
        ("model", "latent_size", 1),
        ("training", "epochs", 1),
        ("training", "batch_size", 1),
        ("training", "learning_rate", 1e-12),
        ("training", "beta", 0.0),
        ("training", "seed", 2**63 - 1),
    ],
)
def test_the_ends_of_every_range_are_taken(section: str, name: str, value: object) -> None:
    config = Config.from_dict({section: {name: value}})
    taken = getattr(getattr(config, section), name)
    assert (list(taken) if isinstance(taken, tuple) else taken) == value


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("data", "validation", -0.1),
        ("data", "validation", 0.91),
        ("data", "validation", float("nan")),
        ("data", "channels", 2),
        ("data", "source", "\udcff.npy"),
        ("model", "height", 0),
        ("model", "height", 22),
        ("model", "width", 4),
        ("model", "width", 25),
        ("model", "channels", 4),
        ("model", "filters", [0, 64]),
        ("model", "filters", []),
        ("model", "latent_size", 0),
        ("model", "architecture", "transformer"),
        ("model", "blocks", 2),  # the classic architecture has none
        ("training", "epochs", 0),
        ("training", "batch_size", 0),
        ("training", "learning_rate", 0.0),
        ("training", "learning_rate", -1e-3),
        ("training", "learning_rate", 1e3),
        ("training", "learning_rate", float("nan")),
        ("training", "beta", -0.5),
        ("training", "beta", float("inf")),
        ("training", "seed", -1),
        ("training", "seed", 2**63),
        ("training", "schedule", "sawtooth"),
        ("training", "device", "tpu"),
        ("training", "compile", "yes"),
    ],
)
def test_what_lies_outside_of_its_range_is_refused_with_the_range(
    section: str, name: str, value: object
) -> None:
    with pytest.raises(ConfigError, match=rf"{section}\.{name} is .*; expected \S") as refused:
        Config.from_dict({section: {name: value}})
    assert refused.value.exit_code == 3


@pytest.mark.parametrize(
    ("section", "name", "value", "limit"),
    [("training", "learning_rate", 5e3, "1000"), ("training", "beta", 1e7, "1000000")],
)
def test_a_number_that_is_too_large_is_told_the_upper_limit(
    section: str, name: str, value: float, limit: str
) -> None:
    with pytest.raises(ConfigError, match=rf"expected .*below {limit}"):
        Config.from_dict({section: {name: value}})


@pytest.mark.parametrize(
    "content",
    [
        b"epochs = ",
        b"\xff\xfe\x00",
        b"[training]\nepochs = 3\nepochs = 4\n",
        b"deep = " + b"[" * 50_000,
        b"a" + b".a" * 1000 + b" = 1",
        b"[a" + b" . 'a'" * 1000 + b"]",
        b"[training]\nepochs = 3\n" + b"# more\n" * 10_000,
    ],
    ids=["cut short", "not UTF-8", "twice", "deep", "a key of many parts", "a table of many parts", "large"],
)
def test_a_file_that_is_not_toml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"settings\.toml: not a readable TOML file"):
        Config.from_toml(path)


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="not a readable TOML file"):
            Config.from_toml(path)


def test_a_wrong_setting_in_a_file_is_refused_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[model]\nlatents = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"settings\.toml: model: unknown setting latents"):
        Config.from_toml(path)
