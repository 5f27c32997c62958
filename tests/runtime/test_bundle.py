"""Finding a bundle, and refusing one whose files are not those that were written."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_bytes import changed_card, copy_bundle

import vae_runtime
from vae_runtime import BundleError, bundle
from vae_runtime.bundle import find_bundle, read_bundle, read_sums, shipped_models


@pytest.fixture
def shipped(tmp_path: Path, gray_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of shipped models with one called `one`, and beside it what is no model."""
    place = tmp_path / "shipped"
    copy_bundle(gray_bundle, place / "one")
    (place / "not a model").mkdir()
    (place / "README.md").write_text("no folder")
    monkeypatch.setattr(bundle, "_SHIPPED", (place, tmp_path / "no such folder"))
    return place


def test_a_bundle_gives_its_graphs_by_role(gray_bundle: Path) -> None:
    read = read_bundle(gray_bundle)
    assert read.source == str(gray_bundle)
    assert read.graphs == {
        role: (gray_bundle / f"{role}.onnx").read_bytes() for role in ("encoder", "decoder")
    }


def test_a_prior_is_read_where_there_is_one(tmp_path: Path, gray_bundle: Path) -> None:
    copy_bundle(gray_bundle, tmp_path / "b", {"prior.onnx": b"any bytes"})
    assert read_bundle(tmp_path / "b").graphs["prior"] == b"any bytes"


def test_paths_may_be_text_or_path_and_relative(
    tmp_path: Path, gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_bundle(gray_bundle, tmp_path / "a b \N{SNOWMAN}")
    monkeypatch.chdir(tmp_path)
    for name in ("a b \N{SNOWMAN}", Path("a b \N{SNOWMAN}"), "./a b \N{SNOWMAN}/"):
        assert len(read_bundle(name).graphs) == 2


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_not_utf8_is_a_name(tmp_path: Path, gray_bundle: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff"))
    try:
        copy_bundle(gray_bundle, path)
    except OSError:
        pytest.skip("this file system takes no such name")
    with vae_runtime.load(path) as model:
        assert model.sample(1).shape == (1, 1, 8, 12)


def test_a_shipped_name_goes_before_a_folder_of_that_name(
    shipped: Path, tmp_path: Path, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_bundle(colour_bundle, tmp_path / "here" / "one")
    monkeypatch.chdir(tmp_path / "here")
    assert find_bundle("one") == shipped / "one"
    assert find_bundle("./one") == Path("one")
    assert find_bundle(Path("one")) == Path("one")
    assert vae_runtime.load("one").card.name == "tiny-gray"


def test_shipped_models_are_folders_with_sums(shipped: Path) -> None:
    assert shipped_models() == {"one": shipped / "one"}


def test_an_unknown_name_is_refused_with_the_names_there_are(shipped: Path) -> None:
    with pytest.raises(
        BundleError, match=r"two: no such bundle; expected a bundle's folder or a shipped .*\(one\)"
    ):
        read_bundle("two")


def test_where_nothing_is_shipped_the_message_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_SHIPPED", (tmp_path / "a", tmp_path / "b"))
    assert shipped_models() == {}
    with pytest.raises(BundleError, match=r"a shipped model \(none\)"):
        read_bundle("faces24")


def test_what_is_no_bundle_is_refused_with_what_to_give(tmp_path: Path, gray_bundle: Path) -> None:
    copy_bundle(gray_bundle, tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(tmp_path / "b" / "decoder.onnx", "decoder.onnx")
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "gone", "no such bundle"),
        (tmp_path / "b.zip", "is a zip archive; unpack it first and give the folder"),
        (
            tmp_path / "b" / "decoder.onnx",
            rf"is a file; expected a bundle's folder; give its folder: .*{os.sep}b$",
        ),
        (Path(__file__), "is a file; expected a bundle's folder$"),
        (tmp_path / "empty", "not a bundle: it holds no SHA256SUMS; expected a folder that vae-export wrote"),
        (tmp_path / ("x" * 300), "no such bundle"),
    ):
        with pytest.raises(BundleError, match=message) as refused:
            read_bundle(path)
        assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_graph_that_is_missing_is_named(tmp_path: Path, gray_bundle: Path, role: str) -> None:
    copy_bundle(gray_bundle, tmp_path / "listed", {f"{role}.onnx": None}, sums=False)
    with pytest.raises(
        BundleError, match=rf"{role}\.onnx: cannot be read \(No such file.*; SHA256SUMS lists it"
    ):
        read_bundle(tmp_path / "listed")
    copy_bundle(gray_bundle, tmp_path / "unlisted", {f"{role}.onnx": None})
    with pytest.raises(BundleError, match=rf"SHA256SUMS: does not list {role}\.onnx"):
        read_bundle(tmp_path / "unlisted")


@given(role=st.sampled_from(["encoder", "decoder"]), where=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(
    gray_bundle: Path, tmp_path_factory: pytest.TempPathFactory, role: str, where: float, bit: int
) -> None:
    data = bytearray((gray_bundle / f"{role}.onnx").read_bytes())
    data[int(where * (len(data) - 1))] ^= 1 << bit
    target = tmp_path_factory.mktemp("flipped") / "b"
    copy_bundle(gray_bundle, target, {f"{role}.onnx": bytes(data)}, sums=False)
    with pytest.raises(
        BundleError, match=rf"{role}\.onnx: SHA-256 differs: .*SHA256SUMS says .*copy or export"
    ):
        read_bundle(target)


def test_a_graph_cut_short_or_empty_is_refused_with_its_length(tmp_path: Path, gray_bundle: Path) -> None:
    whole = (gray_bundle / "decoder.onnx").read_bytes()
    for length in (0, len(whole) - 1):
        target = copy_bundle(
            gray_bundle, tmp_path / str(length), {"decoder.onnx": whole[:length]}, sums=False
        )
        with pytest.raises(BundleError, match=f"SHA-256 differs: .* of {length} bytes"):
            read_bundle(target)


def test_files_beside_the_graphs_are_not_looked_at(tmp_path: Path, gray_bundle: Path) -> None:
    changes = {"preview.png": None, "README.md": b"changed", "more.txt": b"added"}
    assert len(read_bundle(copy_bundle(gray_bundle, tmp_path / "b", changes, sums=False)).graphs) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_graph_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, gray_bundle: Path) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": None}, sums=False)
    os.mkfifo(target / "decoder.onnx")
    with pytest.raises(BundleError, match=r"decoder\.onnx: .*not a regular file"):
        read_bundle(target)


def test_a_graph_that_is_a_folder_is_refused(tmp_path: Path, gray_bundle: Path) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": None}, sums=False)
    (target / "decoder.onnx").mkdir()
    with pytest.raises(BundleError, match=r"decoder\.onnx: "):
        read_bundle(target)


ZEROS = "0" * 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "does not list encoder.onnx and decoder.onnx"),
        (b"hello\n", r"line 1 is 'hello'; expected 64 hexadecimal digits and a new name"),
        (f"{ZEROS}  a\n{ZEROS}  a\n".encode(), "line 2 is"),
        (f"{ZEROS}  ../a\n".encode(), "line 1 is"),
        (f"{ZEROS}  a/b\n".encode(), "line 1 is"),
        (f"{ZEROS}  /etc/passwd\n".encode(), "line 1 is"),
        (f"{ZEROS[1:]}  a\n".encode(), "line 1 is"),
        (f"{'F' * 64}  a\n".encode(), "line 1 is"),
        (f"{ZEROS}  {'a' * 65}\n".encode(), "line 1 is"),
        (f"{ZEROS}  \xe4\n".encode(), "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"x" * ((1 << 20) + 1), "larger than 1048576 bytes"),
        (b"\0" * 100, "line 1 is"),
    ],
    ids=range(13),
)
def test_bad_sums_are_refused(tmp_path: Path, gray_bundle: Path, text: bytes, message: str) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b", {"SHA256SUMS": text}, sums=False)
    with pytest.raises(BundleError, match=f"SHA256SUMS: .*{message}"):
        read_bundle(target)


def test_binary_marks_and_carriage_returns_of_other_tools_are_taken(
    tmp_path: Path, gray_bundle: Path
) -> None:
    text = (gray_bundle / "SHA256SUMS").read_text().replace("  ", " *").replace("\n", "\r\n")
    target = copy_bundle(gray_bundle, tmp_path / "b", {"SHA256SUMS": text.encode()}, sums=False)
    assert read_sums(target) == read_sums(gray_bundle)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
@pytest.mark.parametrize("name", ["tiny-gray", "tiny-colour"])
def test_sha256sum_says_the_same(assets: Path, name: str) -> None:
    finished = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=assets / name,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout


def test_what_was_checked_is_what_is_opened(tmp_path: Path, gray_bundle: Path) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b")
    read = read_bundle(target)
    (target / "decoder.onnx").write_bytes(b"swapped after the check")
    with vae_runtime.Model(read) as model:
        np.testing.assert_array_equal(model.sample(1, 7), vae_runtime.load(gray_bundle).sample(1, 7))


def test_an_encoder_of_another_export_is_refused(tmp_path: Path, gray_bundle: Path) -> None:
    encoder = (gray_bundle / "encoder.onnx").read_bytes()
    target = copy_bundle(
        gray_bundle, tmp_path / "b", {"encoder.onnx": changed_card(encoder, bundle_id="f" * 32)}
    )
    with pytest.raises(
        BundleError,
        match=r"encoder\.onnx and .*decoder\.onnx come from different exports \(f{12} and [0-9a-f]{12}\)",
    ):
        vae_runtime.load(target)


def test_an_encoder_of_other_images_is_refused(
    tmp_path: Path, gray_bundle: Path, colour_bundle: Path
) -> None:
    target = copy_bundle(
        gray_bundle, tmp_path / "b", {"encoder.onnx": (colour_bundle / "encoder.onnx").read_bytes()}
    )
    with pytest.raises(BundleError, match="come from different exports"):
        vae_runtime.load(target)


def test_graphs_that_disagree_are_refused_with_what_about(tmp_path: Path, gray_bundle: Path) -> None:
    encoder = changed_card((gray_bundle / "encoder.onnx").read_bytes(), name="other", license="other")
    target = copy_bundle(gray_bundle, tmp_path / "b", {"encoder.onnx": encoder})
    with pytest.raises(BundleError, match=r"disagree about name, license"):
        vae_runtime.load(target)


def test_swapped_graphs_are_refused(tmp_path: Path, gray_bundle: Path) -> None:
    encoder, decoder = ((gray_bundle / f"{role}.onnx").read_bytes() for role in ("encoder", "decoder"))
    target = copy_bundle(gray_bundle, tmp_path / "b", {"encoder.onnx": decoder, "decoder.onnx": encoder})
    with pytest.raises(BundleError, match=r"encoder\.onnx: its card says 'decoder'; expected 'encoder'"):
        vae_runtime.load(target)
