"""Array files from strangers: what is read, and what is refused before it can do harm."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vae_runtime import InputError, ResourceLimitError, arrays
from vae_runtime.arrays import npz_shapes, read_npy, read_npz

Array = npt.NDArray[Any]

SIX = np.arange(6, dtype=np.float32).reshape(2, 3)
DTYPES = ["|b1", "|u1", "|i1", "<u2", ">u2", "<i8", ">i8", "<f2", "<f4", ">f4", "<f8", ">f8"]


def npy(array: Array, *, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=pickled)
    return stream.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    """A .npy of version 1.0 with any header."""
    padded = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


def described(shape: str = "(2, 3)", dtype: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}"


class Evil:
    """Makes a file where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


COMPLETE = "not a complete .npy"

BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", COMPLETE),
    "text": (b"1,2,3\n4,5,6\n", COMPLETE),
    "magic alone": (b"\x93NUMPY", COMPLETE),
    "header cut short": (npy(SIX)[:40], COMPLETE),
    "data cut short": (npy(SIX)[:-1], "header says 152 bytes, file has 151"),
    "header without data": (npy(SIX)[:128], "header says 152 bytes, file has 128"),
    "trailing bytes": (npy(SIX) + b"x", "header says 152 bytes, file has 153"),
    "objects": (npy(np.array([{}, None]), pickled=True), "object arrays are refused"),
    "evil pickle": (npy(np.array([Evil()], object), pickled=True), "object arrays are refused"),
    "8 GB in a small file": (header(described("(2147483648,)")), "header says 8589934"),
    "more than any memory": (header(described(f"({10**30}, {10**30})")), "no memory holds that many numbers"),
    "4 GB of header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 200, COMPLETE),
    "negative shape": (header(described("(-2, -3)"), SIX.tobytes()), "expected whole numbers of at least 0"),
    "shape of truths": (header(described("(True, 6)"), SIX.tobytes()), "expected whole numbers"),
    "shape of fractions": (header(described("(2.0, 3.0)"), SIX.tobytes()), COMPLETE),
    "shape of text": (header(described("'23'"), SIX.tobytes()), COMPLETE),
    "more axes than any array has": (
        header(described(f"({'1, ' * 70})"), bytes(4)),
        "70 axes; expected at most 32",
    ),
    "empty with an axis too long": (header(described(f"(0, {2**70})")), "no memory holds that many numbers"),
    "nested brackets": (header("(" * 300), COMPLETE),
    "deep nesting": (header("[" * 4900 + "]" * 4900), COMPLETE),
    "long header": (
        header(described() + " " * 10_000),
        rf"{COMPLETE} array of numbers \(EOF: reading array header",
    ),
    "no dictionary": (header("[1, 2]"), COMPLETE),
    "a key missing": (header("{'descr': '<f4', 'shape': (2, 3)}"), COMPLETE),
    "unknown type": (header(described(dtype="'<q9'")), COMPLETE),
    "version 9": (b"\x93NUMPY\x09\x00" + npy(SIX)[8:], "version 9.0; expected 1.0 or 2.0"),
    "zip archive": (b"PK\x03\x04" + bytes(100), r"is a zip archive; expected one .npy array"),
    "complex": (npy(SIX.astype(complex)), "data type complex128; expected uint8 or a floating point type"),
    "dates": (npy(SIX.astype("M8[s]")), "data type datetime64"),
    "time spans": (npy(SIX.astype("m8[s]")), "data type timedelta64"),
    "text array": (npy(np.array(["a", "b"])), "data type <U1"),
    "bytes array": (npy(np.array([b"a", b"b"])), r"data type \|S1"),
    "records": (npy(np.zeros(2, [("a", "<f4"), ("b", "<i4")])), "data type"),
    "records that hold objects": (
        npy(np.zeros(2, [("a", object)]), pickled=True),
        "object arrays are refused",
    ),
    "nothing": (npy(np.zeros(2, "V4")), r"data type \|V4"),
}


@given(
    array=hnp.arrays(
        st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    ),
    order=st.sampled_from("CF"),
)
def test_an_array_comes_back_as_it_was_saved(
    tmp_path_factory: pytest.TempPathFactory, array: Array, order: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.npy"
    np.save(path, np.asarray(array, order=order))
    read = read_npy(path)
    assert read.dtype == array.dtype
    assert read.shape == array.shape
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)


@given(
    array=hnp.arrays(
        st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    ),
    order=st.sampled_from("CF"),
    save=st.sampled_from([np.savez, np.savez_compressed]),
)
def test_an_array_comes_back_from_an_archive_as_it_was_saved(
    tmp_path_factory: pytest.TempPathFactory, array: Array, order: Any, save: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.npz"
    save(path, one=np.asarray(array, order=order), two=array)
    for read in read_npz(path).values():
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        assert read.flags.writeable
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_header_versions_are_read(tmp_path: Path, version: tuple[int, int]) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, SIX, version=version)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), SIX)


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_a_bad_npy_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.npy").write_bytes(data)
    with pytest.raises(InputError, match=rf"^bad\.npy: .*{message}") as refused:
        read_npy(Path("bad.npy"))
    assert "\n" not in str(refused.value)
    assert [path.name for path in Path().iterdir()] == ["bad.npy"]  # nothing was unpickled


def test_any_piece_of_an_npy_is_refused(tmp_path: Path) -> None:
    whole = npy(SIX)
    for length in range(len(whole)):
        (tmp_path / "a.npy").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"not a complete \.npy"):
            read_npy(tmp_path / "a.npy")


@given(place=st.integers(0, len(npy(SIX)) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    data = bytearray(npy(SIX))
    data[place] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.npy"
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        assert read_npy(path).nbytes == SIX.nbytes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    for read in (read_npy, read_npz, npz_shapes):
        with pytest.raises(InputError, match=r"pipe\.npy: expected a regular file; it is not one"):
            read(tmp_path / "pipe.npy")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no such device")
def test_a_device_is_refused_and_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_opening(*_: object) -> int:
        raise AssertionError("opening some devices does something already")

    monkeypatch.setattr(os, "open", no_opening)
    with pytest.raises(InputError, match="/dev/zero: expected a regular file"):
        read_npy(Path("/dev/zero"))


@pytest.mark.parametrize("read", [read_npy, read_npz, npz_shapes])
def test_a_folder_or_nothing_or_an_impossible_name_is_refused(tmp_path: Path, read: Any) -> None:
    with pytest.raises(InputError, match="expected a regular file; it is a folder"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"gone: cannot be read \(.*No such file"):
        read(tmp_path / "gone")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="cannot be read"):
        read(Path("a\0b"))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts the memory")
def test_a_huge_claim_costs_no_memory(tmp_path: Path, run_python: Any) -> None:
    (tmp_path / "huge.npy").write_bytes(BAD["8 GB in a small file"][0])
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("images.npy", BAD["8 GB in a small file"][0])
    finished = run_python(
        """
import resource, sys
from pathlib import Path
from vae_runtime import InputError, arrays
from vae_runtime.arrays import read_npy, read_npz
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read, name in ((read_npy, "huge.npy"), (read_npz, "huge.npz")):
    try:
        read(Path(sys.argv[1], name))
    except InputError as error:
        assert "header says 8589934" in str(error), error
    else:
        raise AssertionError(name)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
""",
        tmp_path,
    )
    assert int(finished.stdout) < 10_000, finished.stderr  # KiB


@pytest.mark.parametrize(("read", "name"), [(read_npy, "a.npy"), (read_npz, "a.npz")])
def test_an_array_larger_than_the_memory_that_is_left_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, name: str
) -> None:
    np.save(tmp_path / "a.npy", SIX)
    np.savez(tmp_path / "a.npz", six=SIX)
    monkeypatch.setattr("vae_runtime.arrays.fill", None)
    monkeypatch.setattr("vae_runtime.memory.ALWAYS_TRIED", 0)
    monkeypatch.setattr("vae_runtime.memory.memory_left", lambda: 23)
    with pytest.raises(ResourceLimitError, match=rf"not enough memory \(.*{name}.* would take"):
        read(tmp_path / name)


@pytest.mark.parametrize(("read", "name"), [(read_npy, "a.npy"), (read_npz, "a.npz")])
def test_an_array_that_is_given_no_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, name: str
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("Unable to allocate 24 bytes")

    np.save(tmp_path / "a.npy", SIX)
    np.savez(tmp_path / "a.npz", six=SIX)
    monkeypatch.setattr(np, "empty", no_memory)
    with pytest.raises(ResourceLimitError, match=rf"{name}.*: its 24 bytes do not fit into memory"):
        read(tmp_path / name)


def test_arrays_of_an_archive_come_back_by_name(tmp_path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", one=SIX, two=SIX.astype(">f8").T)
        loaded = read_npz(tmp_path / "a.npz")
        assert list(loaded) == ["one", "two"]
        np.testing.assert_array_equal(loaded["one"], SIX)
        np.testing.assert_array_equal(loaded["two"], SIX.T)
        assert list(read_npz(tmp_path / "a.npz", "two")) == ["two"]
        assert npz_shapes(tmp_path / "a.npz") == {
            "one": ((2, 3), np.dtype("<f4")),
            "two": ((3, 2), np.dtype(">f8")),
        }


def test_an_array_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=SIX, two=SIX)
    with pytest.raises(InputError, match=r"a\.npz: no array 'mean'; it holds one, two"):
        read_npz(tmp_path / "a.npz", "mean")


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_a_bad_array_in_an_archive_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("bad.npz", "w") as archive:
        archive.writestr("images.npy", data)
    message = message.replace(", file has", ", the archive has")
    with pytest.raises(InputError, match=rf"^bad\.npz: array 'images': .*{message}"):
        read_npz(Path("bad.npz"), "images")
    assert [path.name for path in Path().iterdir()] == ["bad.npz"]


def damaged_archive(kind: str) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, images=np.arange(1000))
    data = bytearray(stream.getvalue())
    if kind == "cut short":
        return bytes(data[:-50])
    if kind == "a byte changed":
        data[500] ^= 0xFF
        return bytes(data)
    if kind == "encrypted":
        data[data.index(b"PK\x01\x02") + 8] |= 1
        return bytes(data)
    return {"empty": b"", "text": b"hello", "npy": npy(SIX)}[kind]


@pytest.mark.parametrize("kind", ["cut short", "a byte changed", "encrypted", "empty", "text", "npy"])
def test_a_damaged_archive_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "bad.npz").write_bytes(damaged_archive(kind))
    with pytest.raises(InputError, match=r"bad\.npz: not a complete \.npz archive of numbers \(.+\)"):
        read_npz(tmp_path / "bad.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 77])
def test_an_array_packed_as_numpy_never_packs_is_refused(tmp_path: Path, method: int) -> None:
    packed = zipfile.ZIP_STORED if method == 77 else method
    with zipfile.ZipFile(tmp_path / "bad.npz", "w", packed) as archive:
        archive.writestr("images.npy", npy(SIX))
    if method == 77:
        data = bytearray((tmp_path / "bad.npz").read_bytes())
        data[data.index(b"PK\x01\x02") + 10] = method
        (tmp_path / "bad.npz").write_bytes(data)
    for read in (read_npz, npz_shapes):
        with pytest.raises(InputError, match=rf"array 'images' is packed by method {method}; expected what"):
            read(tmp_path / "bad.npz")


@pytest.mark.parametrize("names", [("images.npy", "images.npy"), ("images.npy", "images")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        for name, array in zip(names, (SIX, -SIX), strict=True):
            archive.writestr(name, npy(array))
    for read in (read_npz, npz_shapes):
        with pytest.raises(InputError, match=r"bad\.npz: holds two arrays called 'images'; expected one"):
            read(tmp_path / "bad.npz")


def lying_archive(path: Path, claimed: int) -> None:
    """An archive whose directory says that its few bytes unpack to `claimed` ones, as their header does."""
    data = header(described(f"({claimed - 128},)", "'|u1'"))
    assert len(data) == 128
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", data)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, claimed)
    path.write_bytes(content)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts the memory")
def test_an_archive_that_claims_more_than_its_bytes_can_hold_costs_no_memory(
    tmp_path: Path, run_python: Any
) -> None:
    lying_archive(tmp_path / "lie.npz", 4_000_000_000)
    finished = run_python(
        """
import resource, sys
from pathlib import Path
from vae_runtime import InputError, arrays
from vae_runtime.arrays import read_npz
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_npz(Path(sys.argv[1], "lie.npz"))
except InputError as error:
    assert "packed bytes cannot hold the 4000000000 that it claims" in str(error), error
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
""",
        tmp_path,
    )
    assert int(finished.stdout) < 10_000, finished.stderr  # KiB


def test_an_archive_that_holds_less_than_it_claims_is_refused(tmp_path: Path) -> None:
    lying_archive(tmp_path / "lie.npz", 5000)
    with pytest.raises(InputError, match=r"lie\.npz: "):
        read_npz(tmp_path / "lie.npz")


def test_the_densest_array_that_numpy_packs_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "zeros.npz", images=np.zeros(20_000_000, np.uint8))
    assert (tmp_path / "zeros.npz").stat().st_size < 20_000_000 / 1000
    assert not read_npz(tmp_path / "zeros.npz")["images"].any()


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(100_000))
    reads = arrays._read_numbers

    def cut_before_reading(*given: Any) -> Any:
        os.truncate(tmp_path / "a.npy", 50_000)
        return reads(*given)

    monkeypatch.setattr(arrays, "_read_numbers", cut_before_reading)
    with pytest.raises(InputError, match=r"a\.npy: ended after 50000 of 800128 bytes"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_put_in_a_files_place_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, SIX)
    opened = os.open

    def swap_then_open(name: Any, flags: int, *rest: Any) -> int:
        path.unlink()
        os.mkfifo(path)
        return opened(name, flags, *rest)

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(InputError, match=r"a\.npy: expected a regular file; it is not one"):
        read_npy(path)
