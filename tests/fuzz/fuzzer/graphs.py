"""Targets that hold graphs: the scan followed by onnxruntime itself, whole bundles, and cards."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx_bytes

from fuzzer import ROOT
from fuzzer.blind import blind_mutations
from fuzzer.json_text import mutate_text
from fuzzer.protobuf import LENGTH, Field, Message, encode, mutate_message, parse
from fuzzer.sums import SUMS, mended_bundle, require_right_bundle_sums
from fuzzer.target import RAN, READ, REFUSED_BY_ONNXRUNTIME, Files, Reader

ASSETS = ROOT / "tests" / "assets"
GRAPHS = ("encoder.onnx", "decoder.onnx")
_CARD = b"vae_edge.card"
_MOST_NUMBERS = 1 << 20  # of one input, for graphs that say themselves how much they want
_TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
    "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64, "tensor(bool)": np.bool_,
}  # fmt: skip


class GraphMutations:
    """Mutates graphs, blindly and by their form, with pieces of other graphs at hand."""

    def __init__(self, graphs: Sequence[bytes]) -> None:
        self.graphs = graphs
        self._messages = [message for data in graphs if (message := parse(data)) is not None]
        self._blind = blind_mutations(graphs)

    def mutate(self, data: bytes, draw: Random) -> bytes:
        if draw.random() < 0.35:
            return draw.choice(self._blind)(data, draw)
        message = parse(data)
        assert message is not None
        if draw.random() < 0.1:
            return encode(_with_another_card(message, draw))
        return mutate_message(message, draw, self._messages)


def scan_against_onnxruntime() -> Reader:
    """What the scan lets through is opened by onnxruntime with nothing else in its way, and run."""
    from vae_runtime.installation import import_onnxruntime
    from vae_runtime.scan import scan

    onnxruntime = import_onnxruntime()
    seeds = {**_graphs_of_bundles(), **_graphs_of_many_operators(), **_hostile_graphs()}
    mutations = GraphMutations(list(seeds.values()))

    def read(folder: Path) -> str:
        data = (folder / "graph.onnx").read_bytes()
        scan(data, "graph.onnx")
        try:
            session = onnxruntime.InferenceSession(
                data,
                _bare_options(onnxruntime, unoptimized=zlib.crc32(data) % 2 == 0),
                providers=["CPUExecutionProvider"],
                enable_fallback=0,
            )
            feeds = {node.name: _ones(node) for node in session.get_inputs()}
            session.run(None, feeds)
        except Exception:  # noqa: BLE001 - onnxruntime's errors have no base of their own
            return REFUSED_BY_ONNXRUNTIME
        return RAN

    return Reader(
        {name: {"graph.onnx": data} for name, data in seeds.items()},
        lambda draw: {"graph.onnx": mutations.mutate(draw.choice(mutations.graphs), draw)},
        read,
    )


def bundles() -> Reader:
    """Folders as `load` takes them: one file mutated, the sums mended or not; then every way to use a model."""
    import vae_runtime

    seeds = {name: _files_of(ASSETS / name) for name in ("tiny-gray", "tiny-colour")}
    mutations = GraphMutations([files[name] for files in seeds.values() for name in GRAPHS])
    blind = blind_mutations([files[SUMS] for files in seeds.values()])
    all_files = list(seeds.values())

    def mutate(draw: Random) -> Files:
        files = dict(draw.choice(all_files))
        kind = draw.random()
        if kind < 0.75:
            name = draw.choice(GRAPHS)
            files[name] = mutations.mutate(files[name], draw)
        elif kind < 0.85:
            name = draw.choice(GRAPHS)
            files[name] = draw.choice(mutations.graphs)
        else:
            files[SUMS] = draw.choice(blind)(files[SUMS], draw)
            return files
        return mended_bundle(files) if draw.random() < 0.75 else files

    def read(folder: Path) -> str:
        with vae_runtime.load(folder, provider="cpu", threads=1) as model:
            require_right_bundle_sums(folder, GRAPHS)
            pictures = model.sample(2, seed=1, dtype="uint8")
            model.reconstruct(pictures)
        return RAN

    return Reader(seeds, mutate, read)


def cards() -> Reader:
    """The card alone: JSON of strangers."""
    from vae_runtime.card import Card

    texts = {
        f"{name}-{graph}": onnx_bytes.read_card((ASSETS / name / graph).read_bytes())
        for name in ("tiny-gray", "tiny-colour")
        for graph in GRAPHS
    }
    written = {name: json.dumps(card).encode() for name, card in texts.items()}
    all_written = list(written.values())
    blind = blind_mutations(all_written)

    def mutate(draw: Random) -> Files:
        data = draw.choice(all_written)
        if draw.random() < 0.25:
            return {"card.json": draw.choice(blind)(data, draw)}
        return {"card.json": mutate_text(data.decode(), draw).encode("utf-8", "surrogatepass")}

    def read(folder: Path) -> str:
        text = (folder / "card.json").read_bytes().decode("utf-8", "replace")
        card = Card.from_metadata(text, "card.json")
        again = Card.from_metadata(card.to_metadata(), "again")
        assert again == card, "a card that was read and written is another card"
        return READ

    return Reader({name: {"card.json": data} for name, data in written.items()}, mutate, read)


def _with_another_card(message: Message, draw: Random) -> Message:
    """Change the card inside a graph as JSON; the graph around it stays well formed."""
    changed = []
    for field in message:
        entry = field.value
        if field.number == 14 and isinstance(entry, tuple) and entry[0].value == _CARD:
            assert isinstance(entry[1].value, bytes)
            text = mutate_text(entry[1].value.decode(), draw).encode("utf-8", "surrogatepass")
            changed.append(Field(14, LENGTH, (entry[0], Field(2, LENGTH, text))))
        else:
            changed.append(field)
    return tuple(changed)


def _bare_options(onnxruntime: Any, *, unoptimized: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    if unoptimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _ones(node: Any) -> Any:
    shape = [size if isinstance(size, int) and size >= 0 else 2 for size in node.shape]
    if prod(shape) > _MOST_NUMBERS or len(shape) > 32:
        raise ValueError(f"an input of shape {shape}")
    return np.ones(shape, _TYPES[node.type])


def _files_of(folder: Path) -> Files:
    return {name: (folder / name).read_bytes() for name in (*GRAPHS, SUMS)}


def _graphs_of_bundles() -> Mapping[str, bytes]:
    return {
        f"{name}-{graph}": (ASSETS / name / graph).read_bytes()
        for name in ("tiny-gray", "tiny-colour")
        for graph in GRAPHS
    }


def _graphs_of_many_operators() -> Mapping[str, bytes]:
    """Small graphs of operators that the tiny bundles do not use, and that have many ways to be wrong."""
    image, flat = ["batch", 4, 4, 4], ["batch", 64]
    kernel = onnx_bytes.constant("w", np.ones((4, 2, 3, 3), np.float32))
    matrix = onnx_bytes.constant("m", np.ones((64, 3), np.float32))
    window = ("starts", "ends", "axes", "steps")
    across = onnx_bytes.constant("w", np.ones((4, 2, 3, 3), np.float32))
    four = [onnx_bytes.constant(name, np.ones(4, np.float32)) for name in ("a", "b", "c", "d")]
    whole = {
        name: onnx_bytes.constant(name, np.array(values, np.int64))
        for name, values in {
            "starts": [0], "ends": [2], "axes": [1], "steps": [1], "index": [1, 0], "parts": [2, 2], "shape": [0, -1],
        }.items()
    }  # fmt: skip

    def one(
        operator: str,
        inputs: Sequence[str],
        constants: Sequence[bytes] = (),
        attributes: Sequence[bytes] = (),
        shape: Sequence[int | str] = image,
    ) -> bytes:
        node = onnx_bytes.node(operator, inputs, ["y"]) + b"".join(
            onnx_bytes.message((5, attribute)) for attribute in attributes
        )
        return onnx_bytes.graph(
            inputs=[onnx_bytes.tensor_type("x", shape)],
            outputs=[onnx_bytes.message((1, "y"))],
            nodes=[node],
            constants=constants,
        )

    return {
        "conv": one(
            "Conv", ["x", "w"], [kernel], [_ints("strides", 2, 2), _ints("pads", 1, 1, 1, 1), _int("group", 2)]
        ),
        "conv-transpose": one(
            "ConvTranspose",
            ["x", "w"],
            [across],
            [_ints("strides", 2, 2), _ints("output_padding", 1, 1), _ints("dilations", 1, 1), _int("group", 2)],
        ),
        "pool": one("AveragePool", ["x"], (), [_ints("kernel_shape", 2, 2), _ints("strides", 2, 2)]),
        "batch-norm": one("BatchNormalization", ["x", "a", "b", "c", "d"], four),
        "instance-norm": one("InstanceNormalization", ["x", "a", "b"], four[:2]),
        "layer-norm": one("LayerNormalization", ["x", "a", "b"], four[:2], [_int("axis", 2**64 - 1)]),
        "depth-to-space": one("DepthToSpace", ["x"], (), [_int("blocksize", 2)]),
        "space-to-depth": one("SpaceToDepth", ["x"], (), [_int("blocksize", 2)]),
        "transpose": one("Transpose", ["x"], (), [_ints("perm", 0, 2, 3, 1)]),
        "softmax": one("Softmax", ["x"], (), [_int("axis", 1)]),
        "concat": one("Concat", ["x", "x"], (), [_int("axis", 1)]),
        "slice": one("Slice", ["x", *window], [whole[name] for name in window]),
        "gather": one("Gather", ["x", "index"], [whole["index"]], [_int("axis", 1)]),
        "split": one("Split", ["x", "parts"], [whole["parts"]], [_int("axis", 1)]),
        "reshape": one("Reshape", ["x", "shape"], [whole["shape"]], [_int("allowzero", 0)]),
        "squeeze": one("Unsqueeze", ["x", "axes"], [whole["axes"]]),
        "reduce": one("ReduceSum", ["x", "axes"], [whole["axes"]], [_int("keepdims", 1)]),
        "cast": one("Cast", ["x"], (), [_int("to", 10)]),
        "flatten": one("Flatten", ["x"], (), [_int("axis", 1)]),
        "gemm": one("Gemm", ["x", "m"], [matrix], [_int("transB", 0)], flat),
        "matmul": one("MatMul", ["x", "m"], [matrix], (), flat),
    }  # fmt: skip


def _ints(name: str, *values: int) -> bytes:
    return onnx_bytes.message((1, name), *((8, value) for value in values), (20, 7))


def _int(name: str, value: int) -> bytes:
    return onnx_bytes.message((1, name), (3, value), (20, 2))


def _hostile_graphs() -> Mapping[str, bytes]:
    """Graphs that name another file, in ways that onnxruntime is known to have followed.

    The scan refuses them as they are; a mutant may be what it does not refuse.
    """
    outside = onnx_bytes.outside_constant("leak", [4], "canary")
    above = onnx_bytes.outside_constant("leak", [4], "../canary")
    output = onnx_bytes.tensor_type("y", [4])
    given = onnx_bytes.tensor_type("x", [4])
    add = onnx_bytes.node("Add", ["x", "leak"], ["y"])
    graph = onnx_bytes.graph(inputs=[given], outputs=[output], nodes=[add], constants=[outside])
    from_above = onnx_bytes.graph(inputs=[given], outputs=[output], nodes=[add], constants=[above])
    constant = onnx_bytes.message(
        (2, "leak"), (4, "Constant"), (5, onnx_bytes.message((1, "value"), (5, outside), (20, 4)))
    )
    by_constant = onnx_bytes.graph(inputs=[given], outputs=[output], nodes=[constant, add])
    branch = onnx_bytes.message(
        (1, onnx_bytes.node("Identity", ["leak"], ["z"])),
        (2, "b"),
        (5, outside),
        (12, onnx_bytes.tensor_type("z", [4])),
    )
    choice = onnx_bytes.node("If", ["c"], ["y"]) + b"".join(
        onnx_bytes.message((5, onnx_bytes.message((1, name), (6, branch), (20, 5))))
        for name in ("then_branch", "else_branch")
    )
    by_branch = onnx_bytes.graph(
        inputs=[onnx_bytes.tensor_type("c", [1], 9)], outputs=[output], nodes=[choice]
    )
    return {"outside": graph, "above": from_above, "constant": by_constant, "branch": by_branch}
