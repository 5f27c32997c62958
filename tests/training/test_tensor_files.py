"""Files of tensors: what the format forbids is refused, also where the library lets it through."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_training import tensor_files
from vae_training.errors import CheckpointError
from vae_training.tensor_files import read_file, tensors_from_bytes, tensors_to_bytes


def safetensors_bytes(header: object, body: bytes = b"") -> bytes:
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + body


def one_tensor(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        b"\x80\x04K\x01.",  # a pickle
        struct.pack("<Q", 1 << 40) + b"{}",
        safetensors_bytes(one_tensor()),
        safetensors_bytes(one_tensor(), bytes(8)),
        safetensors_bytes(one_tensor(data_offsets=[4, 8]), bytes(8)),
        safetensors_bytes(one_tensor(dtype="Q7"), bytes(4)),
        safetensors_bytes(one_tensor(dtype="F8_E8M0", shape=[4]), bytes(4)),
        safetensors_bytes(one_tensor(shape=[2]), bytes(4)),
        safetensors_bytes(one_tensor(shape=[-1]), bytes(4)),
        safetensors_bytes(one_tensor(shape=[2**62, 2**62]), bytes(4)),
        safetensors_bytes(one_tensor(shape=[0, 2**63], data_offsets=[0, 0])),
        safetensors_bytes(one_tensor(shape=[2**63, 0], data_offsets=[0, 0])),
        safetensors_bytes(one_tensor(shape=[1.0]), bytes(4)),
        safetensors_bytes(one_tensor(shape=[True]), bytes(4)),
        safetensors_bytes(one_tensor(data_offsets=[4, 0])),
        safetensors_bytes({**one_tensor(), "b": one_tensor()["a"]}, bytes(4)),
        safetensors_bytes({"a": None}),
        safetensors_bytes([1]),
        safetensors_bytes(b'{"\xff": 1}'),
    ],
    ids=[
        "empty", "short", "pickle", "huge header", "no data", "trailing", "hole", "type", "type too new",
        "shape", "negative", "overflow", "nothing by much", "much by nothing",
        "shape of floats", "shape of truths", "backwards",
        "overlap", "no entry", "list", "not UTF-8",
    ],
)  # fmt: skip
def test_bytes_that_are_not_safetensors_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="here: not a safetensors file that can be read here"):
        tensors_from_bytes(data, "here")


@given(st.binary(max_size=300).map(lambda tail: safetensors_bytes(tail[:100], tail[100:])) | st.binary())
@settings(max_examples=200, deadline=None)
def test_no_bytes_are_refused_with_another_error(data: bytes) -> None:
    try:
        tensors_from_bytes(data, "here")
    except CheckpointError as error:
        assert "here" in str(error)  # noqa: PT017 - either outcome is fine


def test_every_type_of_the_models_is_read_as_the_library_reads_it() -> None:
    tensors = {
        str(dtype): torch.arange(6).reshape(2, 3).to(dtype)
        for dtype in (
            torch.float64, torch.float32, torch.float16, torch.bfloat16,
            torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
        )
    }  # fmt: skip
    tensors |= {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4)}
    data = tensors_to_bytes(tensors)
    found, expected = tensors_from_bytes(data, "here"), safetensors.torch.load(data)
    assert found.keys() == expected.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_metadata_is_let_through() -> None:
    data = safetensors.torch.save({"a": torch.ones(2)}, metadata={"format": "pt", "by": "{somebody}"})
    assert tensors_from_bytes(data, "here")["a"].tolist() == [1.0, 1.0]


def test_a_name_that_stands_twice_is_refused_although_the_library_takes_the_last() -> None:
    entry = json.dumps(one_tensor()["a"])
    twice = f'{{"a": {entry}, "a": {entry}}}'.encode()
    data = safetensors_bytes(twice, bytes(4))
    assert list(safetensors.torch.load(data)) == ["a"]  # why there is a check of ours
    with pytest.raises(CheckpointError, match=r"here: .*the key 'a' stands twice"):
        tensors_from_bytes(data, "here")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F4", "C64", "U64", "BF8"])
def test_types_that_are_not_supported_are_named(dtype: str) -> None:
    data = safetensors_bytes(one_tensor(dtype=dtype, shape=[4]), bytes(4))
    with pytest.raises(CheckpointError, match=rf"'a' has dtype '{dtype}', which is not supported; expected"):
        tensors_from_bytes(data, "here")


def many(count: int) -> bytes:
    return safetensors_bytes(
        {f"t{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(count)}
    )


def test_more_than_ten_thousand_tensors_are_refused_before_their_header_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(tensors_from_bytes(many(10_000), "here")) == 10_000
    monkeypatch.setattr(tensor_files, "parse_json", lambda _: pytest.fail("was parsed"))
    with pytest.raises(CheckpointError, match="more than 10000 tensors"):
        tensors_from_bytes(many(10_003), "here")


def test_a_header_beyond_all_reason_is_refused_before_it_is_parsed() -> None:
    data = safetensors_bytes(b" " * 100_000_001)
    with pytest.raises(CheckpointError, match="a header of 100000001 bytes; expected at most"):
        tensors_from_bytes(data, "here")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_only_regular_files_are_read_and_none_too_large(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(101))
    (tmp_path / "fine").write_bytes(bytes(100))
    assert read_file(tmp_path / "fine", 100) == bytes(100)
    for name, words in (
        ("pipe", "/pipe: is a pipe, not a regular file"),
        ("large", "/large: 101 bytes; expected at most 100"),
        (".", "is a folder, not a regular file"),
        ("no", "/no: cannot be read .No such file"),
    ):
        with pytest.raises(CheckpointError, match=words):
            read_file(tmp_path / name, 100)
