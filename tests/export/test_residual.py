"""The residual architecture written down: the same pictures at every opset and precision, from few operators."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from onnx import TensorProto

import vae_runtime
from vae_export.bundle import Report, Settings, export_bundle
from vae_export.errors import SourceError
from vae_export.graphs import build_graphs
from vae_export.opsets import supported_opsets
from vae_export.readback import check_graph
from vae_export.source import Source
from vae_export.sources import load_source
from vae_runtime.onnx_schema import OPERATORS
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.model import VAE

Images = Callable[..., ImageSet]

CONFIG = ModelConfig(16, 8, 3, (4, 6), 3, architecture="residual")
PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def model(make_vae: Callable[..., VAE]) -> VAE:
    """A model whose pictures have contrast, and none of whose weights is zero."""
    model = make_vae(CONFIG)
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def source(model: VAE) -> Source:
    """The model with what is known of its training."""
    return Source(model, "residual", config=Config(DataConfig("noise.npy"), CONFIG, TrainingConfig()))


@pytest.fixture(scope="module")
def pictures(make_images: Images) -> ImageSet:
    """What it is proven on."""
    return make_images(40, CONFIG.height, CONFIG.width, CONFIG.channels)


@pytest.fixture(scope="module")
def reports(
    source: Source, pictures: ImageSet, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Report]:
    """Its bundles by precision, each proven when it was written. Not to be changed: copy them."""
    folder = tmp_path_factory.mktemp("residual")
    return {
        precision: export_bundle(
            source, pictures, folder / precision, Settings(17, precision, precision=precision)
        )
        for precision in PRECISIONS
    }


@torch.no_grad()
def test_its_pictures_are_pytorchs_as_near_as_the_precision_promises(
    reports: dict[str, Report], model: VAE
) -> None:
    latents = np.random.default_rng(5).standard_normal((9, 3), np.float32)
    expected = model.decoder(torch.from_numpy(latents)).numpy()
    for precision, limit in (("fp32", 1e-6), ("fp16", 1e-2), ("int8", 0.1)):
        with vae_runtime.load(reports[precision].path, provider="cpu") as opened:
            assert opened.card.precision == precision
            found = opened.decode(latents)
            assert opened.sample(2, seed=0, dtype="uint8").shape == (2, 16, 8, 3)
        assert np.abs(found - expected).max() < limit


@pytest.mark.parametrize("precision", PRECISIONS)
def test_its_graphs_hold_the_operators_that_the_readme_lists_and_no_others(
    reports: dict[str, Report], precision: str
) -> None:
    shared = {"Add", "Conv", "DepthToSpace", "Gemm", "Relu", "Reshape", "Sigmoid"}
    more = {"fp32": set(), "fp16": {"Cast"}, "int8": {"QuantizeLinear", "DequantizeLinear"}}[precision]
    found = set()
    for role in ("encoder", "decoder"):
        graph = onnx.load(reports[precision].path / f"{role}.onnx").graph
        found |= {node.op_type for node in graph.node}
    assert found == shared | more
    assert found <= OPERATORS


def test_the_card_and_the_recipe_tell_the_architecture(reports: dict[str, Report]) -> None:
    report = reports["fp32"]
    assert report.card.recipe["model"]["architecture"] == "residual"
    assert Config.from_toml(report.path / "recipe.toml").model == CONFIG
    assert "a residual variational autoencoder" in (report.path / "README.md").read_text().lower()


def test_all_of_its_layers_but_the_first_compute_in_integers(reports: dict[str, Report]) -> None:
    """What convolutions take is dequantized right before: runtimes make one integer kernel of both."""
    for role, exact in (("encoder", 1), ("decoder", 0)):
        graph = onnx.load(reports["int8"].path / f"{role}.onnx").graph
        makers = {name: node.op_type for node in graph.node for name in node.output}
        kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
        layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "Add")]
        inputs = [
            [makers.get(name) for name in node.input[: 2 if node.op_type == "Add" else 1]] for node in layers
        ]
        not_integers = [
            node.op_type
            for node, from_ in zip(layers, inputs, strict=True)
            if set(from_) != {"DequantizeLinear"}
        ]
        assert not_integers == ["Conv"] * exact
        weights = sum(kind == TensorProto.INT8 for kind in kinds.values())
        assert weights >= sum(node.op_type in ("Conv", "Gemm") for node in layers) - exact


@torch.no_grad()
def test_every_opset_computes_the_same(model: VAE) -> None:
    """The oldest, the one it is converted to by default, and the newest."""
    image, latent = torch.rand(3, *CONFIG.image_shape), torch.randn(3, CONFIG.latent_size)
    expected = {"encoder": model.encoder(image)[1].numpy(), "decoder": model.decoder(latent).numpy()}
    supported = supported_opsets()
    for opset in (supported[0], supported[-1]):
        for role, graph in build_graphs(model, opset).items():
            data = graph.SerializeToString()
            check_graph(data, role, opset)
            session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
            given = image if role == "encoder" else latent
            *_, found = session.run(None, {session.get_inputs()[0].name: given.numpy()})
            np.testing.assert_allclose(found, expected[role], rtol=0, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(8, 12, 1, (2,), 1, architecture="residual", blocks=0),
        ModelConfig(24, 40, 1, (2, 3, 4), 5, architecture="residual", blocks=2),
    ],
    ids=["as flat as can be", "three stages of two blocks"],
)
def test_any_depth_computes_the_same_for_any_batch(make_vae: Callable[..., VAE], config: ModelConfig) -> None:
    model = make_vae(config)
    for parameter in model.parameters():
        parameter.add_(0.1)
    for role, graph in build_graphs(model, 17).items():
        data = graph.SerializeToString()
        check_graph(data, role, 17)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        shape = config.image_shape if role == "encoder" else (config.latent_size,)
        for batch in (1, 5):
            given = torch.rand(batch, *shape)
            expected = model.encoder(given) if role == "encoder" else (model.decoder(given),)
            found = session.run(None, {session.get_inputs()[0].name: given.numpy()})
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-5)


def test_a_bundle_gives_back_every_weight_to_its_last_bit(reports: dict[str, Report], source: Source) -> None:
    read = load_source(reports["fp32"].path)
    assert read.model.config == CONFIG
    assert isinstance(read.model, VAE)
    weights = source.model.state_dict()  # type: ignore[attr-defined]
    assert read.model.state_dict().keys() == weights.keys()
    assert all(torch.equal(read.model.state_dict()[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"latent_size": 4}, "its recipe is of another model than its card"),
        ({"height": 32, "width": 16}, "its recipe is of another model than its card"),
        ({"filters": (4, 7)}, "weights do not fit the model"),
        ({"blocks": 2}, "weights do not fit the model"),
        ({"filters": (4, 6, 8, 9)}, "expected fewer, or images whose sides 16 divides"),
        ({"architecture": "classic"}, "its graphs are not of an architecture that is known here"),
    ],
)
def test_a_recipe_that_is_not_of_the_graphs_is_refused(
    source: Source, pictures: ImageSet, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    assert source.config is not None
    told = dataclasses.replace(source.config, model=dataclasses.replace(CONFIG, **change))
    other = dataclasses.replace(source, config=told)
    path = export_bundle(other, pictures, tmp_path / "told", Settings(17, "told")).path
    with pytest.raises(SourceError, match=words) as refused:
        load_source(path)
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_weights_alone_are_refused_since_they_do_not_tell_their_sizes(
    model: VAE, tmp_path: Path, wrapper: str
) -> None:
    weights = {f"{wrapper}{name}": tensor for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(SourceError, match=r"weights of the residual architecture, .*export the run's folder"):
        load_source(tmp_path / "weights.safetensors")
