"""One opened graph: what is refused, with what was expected and what came."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_bytes import (
    DOUBLE,
    INT64,
    changed_card,
    constant,
    decoder_of,
    graph,
    message,
    node,
    outside_constant,
    read_card,
    tensor_type,
    with_card,
)

from vae_runtime import BundleError, ClosedError, EnvironmentProblem
from vae_runtime.errors import UnsafeBundleError
from vae_runtime.session import Graph


@pytest.fixture(scope="module")
def decoder(gray_bundle: Path) -> bytes:
    return (gray_bundle / "decoder.onnx").read_bytes()


def stand_in(
    card: dict[str, Any],
    latent: tuple[str, tuple[Any, ...], int] = ("latent", ("batch", 3), 1),
    image: tuple[str, tuple[Any, ...], int] = ("image", ("batch", 1, 8, 12), 1),
) -> bytes:
    """A decoder with any input and output, all zero."""
    return graph(
        inputs=[tensor_type(latent[0], latent[1], latent[2])],
        outputs=[tensor_type(image[0], image[1], image[2])],
        nodes=[node("Shape", [latent[0]], ["sizes"]), node("Identity", ["zeros"], [image[0]])],
        constants=[constant("zeros", np.zeros((1, 1, 8, 12), np.float32))],
        card=card,
    )


def test_an_opened_graph_has_its_card_and_runs(decoder: bytes) -> None:
    opened = Graph("decoder", decoder, source="b", provider="cpu")
    assert opened.provider == "cpu"
    assert opened.source == "b/decoder.onnx"
    assert opened.card.image_shape == (1, 8, 12)
    (images,) = opened.run(np.zeros((2, 3), np.float32))
    assert images.shape == (2, 1, 8, 12)


def test_a_graph_by_hand_does_what_it_should(decoder: bytes) -> None:
    """The tests below build graphs like this one: a right one must open."""
    data = decoder_of(decoder, lambda before, after: [node("Sigmoid", [before], [after])])
    (images,) = Graph("decoder", data, source="b").run(np.array([[0, 5, 5], [2, 5, 5]], np.float32))
    np.testing.assert_allclose(images[0], 0.5)
    np.testing.assert_allclose(images[1], 1 / (1 + np.exp(-2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: b"", "decoder.onnx"),
        (lambda _: b"hello, this is text", "decoder.onnx"),
        (lambda data: data[: len(data) // 2], "decoder.onnx"),
        (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100), "decoder.onnx"),
        (lambda _: b"\x18\x00\x00\x00ORTM" + bytes(100), "decoder.onnx"),
        (
            lambda data: with_card(data, None),
            r"carries no card \(vae_edge.card\); expected a graph that vae-export",
        ),
        (lambda data: with_card(data, "hello"), "its card is not valid JSON"),
        (
            lambda data: changed_card(data, format_version=99),
            "format version 99; this vae-edge knows version 1",
        ),
        (lambda data: changed_card(data, role="encoder"), "its card says 'encoder'; expected 'decoder'"),
        (lambda data: changed_card(data, opset=...), "card field 'opset' is None"),
        (
            lambda data: changed_card(data, latent_size=4),
            r"its inputs are .*\[3\].*; its card promises .*\[4\]",
        ),
        (
            lambda data: changed_card(data, image_shape=[1, 12, 8]),
            r"its outputs are .*\[1, 8, 12\].*; its card promises .*\[1, 12, 8\]",
        ),
        (
            lambda data: stand_in(read_card(data), latent=("z", ("batch", 3), 1)),
            "its inputs are .*'z'.* promises .*'latent'",
        ),
        (
            lambda data: stand_in(read_card(data), latent=("latent", ("batch", 3), DOUBLE)),
            r"tensor\(double\).*tensor\(float\)",
        ),
        (lambda data: stand_in(read_card(data), latent=("latent", ("batch", 3), INT64)), r"tensor\(int64\)"),
        (lambda data: stand_in(read_card(data), latent=("latent", ("batch", 3, 1), 1)), r"\[3, 1\]"),
        (lambda data: stand_in(read_card(data), latent=("latent", ("batch", "d"), 1)), "'d'"),
        (
            lambda data: stand_in(read_card(data), image=("picture", ("batch", 1, 8, 12), 1)),
            "its outputs are .*'picture'",
        ),
    ],
    ids=range(18),
)
def test_what_is_not_the_graph_it_should_be_is_refused(
    decoder: bytes, change: Callable[[bytes], bytes], said: str
) -> None:
    with pytest.raises(BundleError, match=said) as refused:
        Graph("decoder", change(decoder), source="b", provider="cpu")
    assert str(refused.value).startswith("b/decoder.onnx: ")
    assert "\n" not in str(refused.value)


def test_a_graph_newer_than_onnxruntime_is_refused(decoder: bytes) -> None:
    body = stand_in(read_card(decoder))
    newer = body.replace(bytes([0x42, 0x02, 0x10, 17]), bytes([0x42, 0x02, 0x10, 120]))
    assert newer != body
    with pytest.raises(BundleError, match=r"b/decoder\.onnx: .*(120|[Oo]pset)"):
        Graph("decoder", newer, source="b")


@pytest.mark.parametrize("location", ["secret", "./secret", "{absolute}"])
def test_a_graph_reads_no_file(
    decoder: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """From bytes, onnxruntime would look for external data in the current folder."""
    (tmp_path / "secret").write_bytes(np.arange(96, dtype=np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    data = decoder_of(
        decoder,
        lambda before, after: [node("Add", [before, "outside"], [after])],
        [outside_constant("outside", (1, 1, 8, 12), location.format(absolute=tmp_path / "secret"))],
    )
    with pytest.raises(UnsafeBundleError, match=r"b/decoder\.onnx: "):
        Graph("decoder", data, source="b", provider="cpu")


def test_the_environment_does_not_let_a_graph_set_options(
    decoder: bytes, tmp_path: Path, run_python: Any
) -> None:
    """Where this variable is set, a graph may ask for profiling: a file in the current folder."""
    asks = '{"session_options": {"enable_profiling": 1}}'
    (tmp_path / "decoder.onnx").write_bytes(decoder + message((14, message((1, "ort_config"), (2, asks)))))
    finished = run_python(
        """
import os, sys
os.chdir(sys.argv[1])
from pathlib import Path
from vae_runtime import BundleError
from vae_runtime.errors import UnsafeBundleError
from vae_runtime.session import Graph
try:
    Graph("decoder", Path("decoder.onnx").read_bytes(), source="b", provider="cpu").close()
except BundleError:
    pass
print(os.listdir())
""",
        tmp_path,
        ORT_LOAD_CONFIG_FROM_MODEL="1",
    )
    assert finished.stdout.splitlines()[-1] == "['decoder.onnx']", finished.stderr


def test_a_run_that_fails_says_on_what(decoder: bytes) -> None:
    opened = Graph("decoder", decoder, source="b", provider="cpu")
    with pytest.raises(
        EnvironmentProblem, match=r"b/decoder\.onnx: failed on a batch of shape \(2, 7\) on provider 'cpu': "
    ) as failed:
        opened.run(np.zeros((2, 7), np.float32))
    assert "\n" not in str(failed.value)
    assert opened.run(np.zeros((1, 3), np.float32))[0].shape == (1, 1, 8, 12)


def test_after_closing_it_says_that_it_is_closed(decoder: bytes) -> None:
    opened = Graph("decoder", decoder, source="b", provider="cpu")
    opened.close()
    opened.close()
    with pytest.raises(ClosedError, match=re.escape("b/decoder.onnx: the model is closed; load it again")):
        opened.run(np.zeros((1, 3), np.float32))


def test_nothing_is_printed_on_the_way(decoder: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    for data in (decoder, b"nonsense", changed_card(decoder, latent_size=9)):
        with contextlib.suppress(BundleError, EnvironmentProblem):
            Graph("decoder", data, source="b").run(np.zeros((1, 99), np.float32))
    assert capfd.readouterr() == ("", "")
