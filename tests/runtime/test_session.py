"""One opened graph: what is refused, with what was expected and what came."""

from __future__ import annotations

import contextlib
import itertools
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
    copy_bundle,
    decoder_of,
    graph,
    message,
    node,
    outside_constant,
    read_card,
    tensor_type,
    with_card,
)

from vae_runtime import (
    BundleError,
    ClosedError,
    EnvironmentProblem,
    ProviderError,
    UnsafeBundleError,
    load,
    providers,
)
from vae_runtime.installation import import_onnxruntime
from vae_runtime.providers import ONNXRUNTIME_NAMES
from vae_runtime.scan import Scan, scan
from vae_runtime.session import Graph, _options


@pytest.fixture(scope="module")
def decoder(gray_bundle: Path) -> bytes:
    return (gray_bundle / "decoder.onnx").read_bytes()


ZEROS = constant("zeros", np.zeros((1, 1, 8, 12), np.float32))


def stand_in(
    card: dict[str, Any],
    latent: tuple[str, tuple[Any, ...], int] = ("latent", ("batch", 3), 1),
    image: tuple[str, tuple[Any, ...], int] = ("image", ("batch", 1, 8, 12), 1),
    zeros: bytes = ZEROS,
) -> bytes:
    """A decoder with any input and output, all zero."""
    return graph(
        inputs=[tensor_type(latent[0], latent[1], latent[2])],
        outputs=[tensor_type(image[0], image[1], image[2])],
        nodes=[node("Shape", [latent[0]], ["sizes"]), node("Identity", ["zeros"], [image[0]])],
        constants=[zeros],
        card=card,
    )


def test_an_opened_graph_has_its_card_and_runs(decoder: bytes) -> None:
    opened = Graph("decoder", decoder, source="b", provider="cpu")
    assert opened.provider == "cpu"
    assert opened.source == "b/decoder.onnx"
    assert opened.card.image_shape == (1, 8, 12)
    (images,) = opened.run(np.zeros((2, 3), np.float32))
    assert images.shape == (2, 1, 8, 12)


def test_a_graph_of_many_inputs_is_refused_in_a_short_message(decoder: bytes) -> None:
    names = ["latent", *(f"{'long' * 200}{number}" for number in range(1000))]
    zeros = constant("zeros", np.zeros((1, 1, 8, 12), np.float32))
    data = graph(
        inputs=[tensor_type(name, ("batch", 3), 1) for name in names],
        outputs=[tensor_type("image", ("batch", 1, 8, 12), 1)],
        nodes=[node("Identity", ["zeros"], ["image"])],
        constants=[zeros],
        card=read_card(decoder),
    )
    with pytest.raises(BundleError, match=r"its inputs are \[\('latent'.* promises \[\('latent'") as refused:
        Graph("decoder", data, source="b", provider="cpu")
    assert len(str(refused.value)) < 7000


def test_a_graph_by_hand_does_what_it_should(decoder: bytes) -> None:
    """The tests below build graphs like this one: a right one must open."""
    data = decoder_of(decoder, lambda before, after: [node("Sigmoid", [before], [after])])
    (images,) = Graph("decoder", data, source="b").run(np.array([[0, 5, 5], [2, 5, 5]], np.float32))
    np.testing.assert_allclose(images[0], 0.5)
    np.testing.assert_allclose(images[1], 1 / (1 + np.exp(-2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: b"", "not an ONNX model: no graph with operators in it"),
        (lambda _: b"hello, this is text", "field 13 in a ModelProto at byte 0; expected an ONNX model"),
        (lambda data: data[: len(data) // 2], r"a value of \d+ bytes where \d+ are left"),
        (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100), "field 1281 in a ModelProto"),
        (lambda _: b"\x18\x00\x00\x00ORTM" + bytes(100), "onnxruntime's own format; expected an ONNX model"),
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
        (
            lambda data: stand_in(read_card(data), latent=("latent", (1, 3), 1)),
            "takes 1 at a time and no other number; expected a batch of any size",
        ),
        (lambda data: stand_in(read_card(data), latent=("latent", (0, 3), 1)), "takes 0 at a time"),
    ],
    ids=range(20),
)
def test_what_is_not_the_graph_it_should_be_is_refused(
    decoder: bytes, change: Callable[[bytes], bytes], said: str
) -> None:
    with pytest.raises(BundleError, match=said) as refused:
        Graph("decoder", change(decoder), source="b", provider="cpu")
    assert str(refused.value).startswith("b/decoder.onnx: ")
    assert "\n" not in str(refused.value)


def test_the_card_is_judged_before_onnxruntime_sees_the_graph(decoder: bytes) -> None:
    """Of two faults it is the card's that is told."""
    newer = stand_in(read_card(decoder)).replace(
        bytes([0x42, 0x02, 0x10, 17]), bytes([0x42, 0x02, 0x10, 120])
    )
    with pytest.raises(BundleError, match="opset 120"):
        Graph("decoder", newer, source="b")
    with pytest.raises(BundleError, match="its card says 'prior'; expected 'decoder'"):
        Graph("decoder", changed_card(newer, role="prior"), source="b")


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
    with pytest.raises(UnsafeBundleError, match=r"b/decoder\.onnx: refused: external data in a TensorProto"):
        Graph("decoder", data, source="b", provider="cpu")


def test_beyond_the_gate_a_graph_would_read_no_file_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a branch onnxruntime by itself reads what it finds in the current folder, unless it is to look elsewhere."""
    onnxruntime = import_onnxruntime()
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 27):
        pytest.skip("this onnxruntime cannot be told where to look")
    secret = np.arange(4, dtype=np.float32)
    (tmp_path / "secret").write_bytes(secret.tobytes())
    monkeypatch.chdir(tmp_path)
    branch = message(
        (1, node("Identity", ["outside"], ["kept"])),
        (2, "branch"),
        (5, outside_constant("outside", (4,), "secret")),
        (12, tensor_type("kept", [4])),
    )
    branches = [message((1, name), (6, branch), (20, 5)) for name in ("then_branch", "else_branch")]
    data = graph(
        inputs=[],
        outputs=[tensor_type("image", [4])],
        nodes=[node("If", ["is so"], ["image"], *branches)],
        constants=[message((2, 9), (8, "is so"), (9, b"\1"))],
    )
    bare = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(bare.run(None, {})[0], secret)
    seen = Scan(ir_version=8, opset=17, operators={"If": 1}, tensors=1, parameters=1, metadata={})
    with pytest.raises(Exception, match="nonexistent"):
        onnxruntime.InferenceSession(
            data, _options(onnxruntime, seen, "cpu"), providers=["CPUExecutionProvider"]
        )


def test_beyond_the_gate_a_file_of_onnxruntimes_own_format_would_not_be_opened_either(
    decoder: bytes, tmp_path: Path
) -> None:
    onnxruntime, cpu = import_onnxruntime(), ["CPUExecutionProvider"]
    into = onnxruntime.SessionOptions()
    into.optimized_model_filepath = str(tmp_path / "decoder.ort")
    into.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(decoder, into, providers=cpu)
    own = (tmp_path / "decoder.ort").read_bytes()
    assert onnxruntime.InferenceSession(own, providers=cpu).get_inputs()[0].name == "latent"
    with pytest.raises(Exception, match=r"(?i)protobuf"):
        onnxruntime.InferenceSession(
            own, _options(onnxruntime, scan(decoder, "decoder"), "cpu"), providers=cpu
        )


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_an_output_without_a_row_for_every_input_is_refused(decoder: bytes, rows: int) -> None:
    """One image for two latents would be spread over both without a word."""
    zeros = constant("zeros", np.zeros((rows, 1, 8, 12), np.float32))
    data = stand_in(read_card(decoder), zeros=zeros)
    opened = Graph("decoder", data, source="b", provider="cpu")
    with pytest.raises(
        BundleError,
        match=rf"b/decoder\.onnx: gave an output of shape \({rows}, 1, 8, 12\) for a batch of 2; "
        r"its card promises \(2, 1, 8, 12\)",
    ):
        opened.run(np.zeros((2, 3), np.float32))


def decoder_of_computed_shape(decoder: bytes, height: int, width: int) -> bytes:
    """A decoder whose output's shape is computed from the latents, so that only its runs show what it is."""
    to_integers = (5, message((1, "to"), (3, INT64), (20, 2)))
    to_a_number = (5, message((1, "keepdims"), (3, 0), (20, 2)))
    return decoder_of(
        decoder,
        lambda before, after: [
            node("ReduceSum", ["latent"], ["sum"]) + message(to_a_number),
            node("Mul", ["sum", "zero"], ["nothing"]),
            node("Add", ["nothing", "other"], ["computed"]),
            node("Cast", ["computed"], ["target"]) + message(to_integers),
            node("Reshape", [before, "target"], [after]),
        ],
        [
            constant("zero", np.zeros(1, np.float32)),
            constant("other", np.array([-1, 1, height, width], np.float32)),
        ],
    )


def test_an_output_of_another_shape_than_promised_is_refused(decoder: bytes) -> None:
    opened = Graph("decoder", decoder_of_computed_shape(decoder, 4, 24), source="b", provider="cpu")
    with pytest.raises(BundleError, match=r"gave an output of shape \(2, 1, 4, 24\) for a batch of 2"):
        opened.run(np.zeros((2, 3), np.float32))


@pytest.fixture
def mistaken_for_cuda(monkeypatch: pytest.MonkeyPatch) -> str:
    """A provider that opens everywhere, takes no node, and leaves all to the processor."""
    azure = "AzureExecutionProvider"
    if azure not in import_onnxruntime().get_available_providers():
        pytest.skip("this onnxruntime has no such provider")
    monkeypatch.setitem(ONNXRUNTIME_NAMES, "cuda", azure)
    monkeypatch.setattr(providers, "missing_driver", str)
    return azure


def test_a_gpu_that_takes_no_node_did_not_open(decoder: bytes, mistaken_for_cuda: str) -> None:
    with pytest.raises(
        ProviderError, match=r"provider 'cuda' did not open: .*fallback.* Nothing ran on another"
    ):
        Graph("decoder", decoder, source="b", provider="cuda")


def test_auto_passes_over_a_gpu_that_takes_no_node(decoder: bytes, mistaken_for_cuda: str) -> None:
    assert Graph("decoder", decoder, source="b", provider="auto").provider == "cpu"


def test_a_provider_in_whose_place_another_opened_did_not_open(
    decoder: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one really runs it is asked of the session, whatever was asked for."""
    onnxruntime = import_onnxruntime()
    monkeypatch.setitem(ONNXRUNTIME_NAMES, "openvino", "CPUExecutionProvider")
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda _: ["AnotherExecutionProvider"])
    with pytest.raises(
        ProviderError,
        match=r"provider 'openvino' did not open: onnxruntime opened AnotherExecutionProvider in its place\. Nothing",
    ):
        Graph("decoder", decoder, source="b", provider="openvino")


def test_nodes_that_compute_shapes_may_stay_on_the_processor(decoder: bytes, mistaken_for_cuda: str) -> None:
    opened = Graph("decoder", stand_in(read_card(decoder)), source="b", provider="cuda")
    assert opened.provider == "cuda"


@pytest.mark.parametrize("decoder_opens", [False, True])
def test_auto_looks_for_a_gpu_for_the_other_graphs_only_where_the_decoder_found_one(
    gray_bundle: Path, tmp_path: Path, mistaken_for_cuda: str, decoder_opens: bool
) -> None:
    files = {role: (gray_bundle / f"{role}.onnx").read_bytes() for role in ("encoder", "decoder")}
    # The stand-ins open, since they compute shapes; they give zeros.
    posterior = graph(
        inputs=[tensor_type("image", ["batch", 1, 8, 12])],
        outputs=[tensor_type(name, ["batch", 3]) for name in ("mean", "logvar")],
        nodes=[
            node("Shape", ["image"], ["sizes"]),
            *(node("Identity", ["zeros"], [name]) for name in ("mean", "logvar")),
        ],
        constants=[constant("zeros", np.zeros((1, 3), np.float32))],
        card=read_card(files["encoder"]),
    )
    changes: dict[str, bytes | None] = {"encoder.onnx": posterior}
    if decoder_opens:
        changes["decoder.onnx"] = stand_in(read_card(files["decoder"]))
    with load(copy_bundle(gray_bundle, tmp_path / "bundle", changes)) as model:
        assert model.providers == (("cuda",) if decoder_opens else ("cpu",))


def test_opening_computes_no_more_than_64_mebibytes_of_constants() -> None:
    """Twenty-eight nodes of two hundred bytes would be computed into 4 GB before the first call."""
    onnxruntime = import_onnxruntime()
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 27):
        pytest.skip("this onnxruntime computes constants of any size")
    twice = (5, message((1, "axis"), (3, 0), (20, 2)))
    names = ["small", *(f"twice{number}" for number in range(27))]
    doubling = [
        message((1, before), (1, before), (2, after), (4, "Concat"), twice)
        for before, after in itertools.pairwise(names)
    ]
    bomb = graph(
        inputs=[tensor_type("latent", ["batch"])],
        outputs=[tensor_type("image", ["batch"])],
        nodes=[
            *doubling,
            message(
                (1, names[-1]), (2, "sum"), (4, "ReduceSum"), (5, message((1, "keepdims"), (3, 0), (20, 2)))
            ),
            node("Add", ["latent", "sum"], ["image"]),
        ],
        constants=[constant("small", np.ones(8, np.float32))],
    )
    seen = scan(bomb, "decoder")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        pytest.skip("this system does not count a process's peak of memory")
    before = peak_memory()
    onnxruntime.InferenceSession(bomb, _options(onnxruntime, seen, "cpu"), providers=["CPUExecutionProvider"])
    assert peak_memory() - before < (64 + 16) << 20


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) << 10


def test_a_run_that_fails_says_on_what(decoder: bytes) -> None:
    opened = Graph("decoder", decoder, source="b", provider="cpu")
    with pytest.raises(
        BundleError, match=r"b/decoder\.onnx: failed on a batch of shape \(2, 7\) on provider 'cpu': "
    ) as failed:
        opened.run(np.zeros((2, 7), np.float32))
    assert "\n" not in str(failed.value)
    assert opened.run(np.zeros((1, 3), np.float32))[0].shape == (1, 1, 8, 12)


@pytest.mark.parametrize(("provider", "kind"), [("cpu", BundleError), ("cuda", EnvironmentProblem)])
def test_a_run_that_fails_is_the_graphs_fault_on_the_processor_and_may_be_the_machines_elsewhere(
    decoder: bytes, provider: str, kind: type[Exception]
) -> None:
    opened = Graph("decoder", decoder_of_computed_shape(decoder, 7, 13), source="b", provider="cpu")
    opened.provider = provider
    with pytest.raises(kind, match=rf"^b/decoder\.onnx: failed on a batch of .* on provider '{provider}': "):
        opened.run(np.zeros((2, 3), np.float32))


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
