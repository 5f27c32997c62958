"""Reading a bundle, and refusing one whose files are not those that were written. Finding it: test_finding.py."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_bytes import changed_card, copy_bundle
from systems import needs_proc

import vae_runtime
from vae_runtime import BundleError, InputError, UnsafeBundleError, bundle
from vae_runtime.bundle import open_bundle, read_bundle, shipped_models
from vae_runtime.errors import EnvironmentProblem
from vae_runtime.sums import read_sums


def test_a_bundle_gives_its_graphs_by_role(gray_bundle: Path) -> None:
    read = read_bundle(gray_bundle)
    assert read.source == str(gray_bundle)
    assert read.sha256 == hashlib.sha256((gray_bundle / "SHA256SUMS").read_bytes()).hexdigest()
    assert read.graphs == {
        role: (gray_bundle / f"{role}.onnx").read_bytes() for role in ("encoder", "decoder")
    }


def test_graphs_that_came_from_no_sums_have_no_sum() -> None:
    assert bundle.Bundle("memory", {}).sha256 == ""


def test_a_prior_is_read_where_there_is_one(tmp_path: Path, gray_bundle: Path) -> None:
    copy_bundle(gray_bundle, tmp_path / "b", {"prior.onnx": b"any bytes"})
    assert read_bundle(tmp_path / "b").graphs["prior"] == b"any bytes"


@pytest.mark.parametrize("roles", [["prior_inverse"], ["prior_density"], ["prior_inverse", "prior_density"]])
def test_what_is_known_of_a_prior_is_refused_without_it(
    tmp_path: Path, gray_bundle: Path, roles: list[str]
) -> None:
    names = [f"{role}.onnx" for role in roles]
    target = copy_bundle(gray_bundle, tmp_path / "b", dict.fromkeys(names, b"any bytes"))
    with pytest.raises(BundleError) as refused:
        read_bundle(target)
    assert refused.type is BundleError
    assert str(refused.value) == (
        f"{target}/SHA256SUMS: lists {' and '.join(names)} without prior.onnx; "
        "expected the prior that it belongs to"
    )


def test_what_was_read_cannot_be_changed(gray_bundle: Path) -> None:
    with open_bundle(gray_bundle) as opened:
        sums = read_sums(opened)
    for checked in (read_bundle(gray_bundle), sums):
        with pytest.raises(FrozenInstanceError):
            checked.sha256 = "0" * 64


def test_sums_that_are_a_link_to_nowhere_are_a_link_and_not_missing(
    tmp_path: Path, gray_bundle: Path
) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b")
    (target / "SHA256SUMS").unlink()
    (target / "SHA256SUMS").symlink_to("nowhere")
    with pytest.raises(UnsafeBundleError, match="/SHA256SUMS: is a symbolic link"):
        read_bundle(target)


# Whose sum lies between those of the two.
@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_a_graph_that_was_changed_is_refused_with_how_both_sums_begin(
    tmp_path: Path, gray_bundle: Path, name: str
) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b", {name: b"nothing"}, sums=False)
    written = hashlib.sha256((gray_bundle / name).read_bytes()).hexdigest()[:16]
    found = hashlib.sha256(b"nothing").hexdigest()[:16]
    with pytest.raises(BundleError) as refused:
        read_bundle(target)
    assert str(refused.value) == (
        f"{target / name}: SHA-256 differs: {found}... of 7 bytes; SHA256SUMS says {written}... "
        "The file is damaged or was changed: copy or export the bundle again"
    )
    assert refused.type is BundleError


@pytest.mark.parametrize("around", range(-2, 3))
def test_line_endings_that_were_changed_are_told_wherever_they_stand(
    gray_bundle: Path, tmp_path: Path, around: int
) -> None:
    """A large file is looked at piece by piece, each of 2**20 bytes."""
    lines = [b"x" * (2**20 + around - 1), b"", b"\r", b"\r\r", b"y" * 2**20, b""]
    target = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": b"\n".join(lines)})
    (target / "decoder.onnx").write_bytes(b"\r\n".join(lines))
    with pytest.raises(BundleError, match="Its line endings were changed, as git does on Windows"):
        read_bundle(target)


def test_so_are_those_that_lie_across_the_ends_of_all_pieces(gray_bundle: Path, tmp_path: Path) -> None:
    ends = 2**21
    target = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": b"x" + b"\n" * ends})
    (target / "decoder.onnx").write_bytes(b"x" + b"\r\n" * ends)
    with pytest.raises(BundleError, match="Its line endings were changed, as git does on Windows"):
        read_bundle(target)


@needs_proc
def test_a_damaged_file_for_which_there_is_just_room_is_told_so(
    run_python: Any, gray_bundle: Path, tmp_path: Path
) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b")
    (target / "decoder.onnx").write_bytes(b"\r\n" * (32 << 20))
    finished = run_python(
        """
import re, resource, sys
from vae_runtime.bundle import read_bundle
from vae_runtime.errors import BundleError
taken = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (taken + (76 << 20),) * 2)
try:
    read_bundle(sys.argv[1])
except BundleError as error:
    print(error)
""",
        target,
    )
    assert "decoder.onnx: SHA-256 differs" in finished.stdout, finished.stderr


def test_a_disk_that_fails_is_no_fault_of_the_bundle(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = os.open

    def fail(name: Any, *arguments: Any, **options: Any) -> int:
        if str(name).endswith("decoder.onnx"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really_open(name, *arguments, **options)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(
        EnvironmentProblem, match=rf"/decoder\.onnx: cannot be read \({os.strerror(errno.EIO)}\)$"
    ):
        read_bundle(gray_bundle)


def test_of_a_long_line_a_message_shows_the_beginning(tmp_path: Path, gray_bundle: Path) -> None:
    for number, (line, shown) in enumerate(
        (
            ("x" * 101, f"line 1 is '{'x' * 100}'; expected"),
            (f"{ZEROS}  {'y' * 101}", f"'{'y' * 100}'; expected"),
        )
    ):
        target = copy_bundle(gray_bundle, tmp_path / str(number), {"SHA256SUMS": line.encode()}, sums=False)
        with pytest.raises(BundleError, match=shown):
            read_bundle(target)


def test_a_name_of_sixty_four_characters_is_a_name(tmp_path: Path, gray_bundle: Path) -> None:
    names = ["a" * 64, "Z-9_.b", "_", "-0", "icon.png", "console", "com", "lpt10"]
    text = "".join(f"{ZEROS}  {name}\n" for name in names).encode()
    target = copy_bundle(gray_bundle, tmp_path / "b", {"SHA256SUMS": text}, sums=False)
    with open_bundle(target) as opened:
        assert dict(read_sums(opened).by_name) == dict.fromkeys(names, ZEROS)


def test_the_largest_sums_that_are_read(tmp_path: Path, gray_bundle: Path) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b", {"SHA256SUMS": b"x" * (1 << 20)}, sums=False)
    with pytest.raises(BundleError, match="line 1 is 'xxx"):
        read_bundle(target)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_graph_that_is_missing_is_named(tmp_path: Path, gray_bundle: Path, role: str) -> None:
    copy_bundle(gray_bundle, tmp_path / "listed", {f"{role}.onnx": None}, sums=False)
    with pytest.raises(
        BundleError, match=rf"{role}\.onnx: cannot be read \(No such file.*; SHA256SUMS lists it$"
    ) as refused:
        read_bundle(tmp_path / "listed")
    assert refused.type is BundleError
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


class Flipping:
    """A copy of a bundle in which one bit at a time is another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def refused(self, name: str, bit: int, read: Callable[[], object]) -> bool:
        with (self.folder / name).open("r+b", buffering=0) as file:
            file.seek(bit // 8)
            before = file.read(1)
            file.seek(bit // 8)
            file.write(bytes([before[0] ^ 1 << bit % 8]))
            try:
                read()
            except BundleError:
                return True
            finally:
                file.seek(bit // 8)
                file.write(before)
        return False


def test_a_thousand_flipped_bits_of_the_shipped_model_are_a_thousand_refusals(tmp_path: Path) -> None:
    """In its graphs, in the cards at their ends, and in its sums where it is known which are expected."""
    folder = copy_bundle(shipped_models()["faces24"], tmp_path / "b", sums=False)
    expected, copy, dice = digest_of(folder), Flipping(folder), random.Random(1)  # noqa: S311 - no secret
    places = []
    for name in ("encoder.onnx", "decoder.onnx"):
        data = (folder / name).read_bytes()
        card = data.index(b"vae_edge.card")
        places += [(name, 0, len(data)), (name, card, len(data))]
    places.append(("SHA256SUMS", 0, (folder / "SHA256SUMS").stat().st_size))
    flips = [(name, dice.randrange(8 * start, 8 * end)) for name, start, end in places for _ in range(200)]
    kept = [
        (name, bit)
        for name, bit in flips
        if not copy.refused(name, bit, lambda: read_bundle(folder, expect_sha256=expected))
    ]
    assert len(flips) == 1000
    assert kept == []
    assert read_bundle(folder, expect_sha256=expected).sha256 == expected


def test_no_bit_of_the_sums_can_be_flipped_so_that_other_graphs_are_opened(
    tmp_path: Path, gray_bundle: Path
) -> None:
    """Where nothing is expected: each bit of what they say of the graphs; others change nothing that is read."""
    folder = copy_bundle(gray_bundle, tmp_path / "b", sums=False)
    right, copy = read_bundle(folder).graphs, Flipping(folder)
    text = (folder / "SHA256SUMS").read_bytes()
    start = text.index(b"\n") + 1
    end = text.index(b"encoder.onnx\n") + len(b"encoder.onnx\n")
    assert text[start:end].count(b".onnx\n") == 2

    def read() -> None:
        assert read_bundle(folder).graphs == right

    answers = {bit: copy.refused("SHA256SUMS", bit, read) for bit in range(8 * len(text))}
    taken = [bit for bit in range(8 * start, 8 * end) if not answers[bit]]
    assert taken == []


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


NOT_PLAIN: dict[str, Callable[[Path, Path], None]] = {
    "a symbolic link": lambda path, other: path.symlink_to(other),
    "hard links": lambda path, other: os.link(other, path),
    "a pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
}


@pytest.mark.parametrize("name", ["decoder.onnx", "SHA256SUMS"])
@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_what_is_read_must_be_a_plain_file_of_the_bundle(
    tmp_path: Path, gray_bundle: Path, name: str, kind: str
) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b")
    (target / name).rename(tmp_path / "outside")
    NOT_PLAIN[kind](target / name, tmp_path / "outside")
    with pytest.raises(UnsafeBundleError, match=rf"b/{name}: (is|has \d) {kind}"):
        read_bundle(target)


@pytest.mark.parametrize("kind", ["a symbolic link", "hard links"])
def test_links_are_let_through_where_that_is_wished(
    tmp_path: Path, gray_bundle: Path, gray: vae_runtime.Model, kind: str
) -> None:
    """The cache of Hugging Face is a folder of links to files that are named by their sums."""
    blobs, target = copy_bundle(gray_bundle, tmp_path / "blobs"), tmp_path / "snapshot"
    target.mkdir()
    for path in blobs.iterdir():
        NOT_PLAIN[kind](target / path.name, path)
    with pytest.raises(UnsafeBundleError, match="--allow-links"):
        vae_runtime.load(target)
    with open_bundle(target) as opened, pytest.raises(UnsafeBundleError, match="--allow-links"):
        read_sums(opened)
    with vae_runtime.load(target, allow_links=True) as model:
        np.testing.assert_array_equal(model.sample(2, seed=7), gray.sample(2, seed=7))


def test_a_graph_larger_than_allowed_is_refused_before_it_is_read(tmp_path: Path, gray_bundle: Path) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b")
    size = (gray_bundle / "encoder.onnx").stat().st_size
    assert len(read_bundle(target, max_model_bytes=size).graphs) == 2
    with pytest.raises(BundleError, match=rf"encoder\.onnx: {size} bytes; expected at most {size - 1}"):
        vae_runtime.load(target, max_model_bytes=size - 1)
    with pytest.raises(BundleError, match=rf"{size} bytes; expected at most 1; SHA256SUMS lists it$"):
        read_bundle(target, max_model_bytes=1)
    os.truncate(target / "encoder.onnx", 1 << 40)  # a hole that nobody could read to its end
    with pytest.raises(BundleError, match="1099511627776 bytes; expected at most 1073741824"):
        vae_runtime.load(target)


@pytest.mark.parametrize("most", [0, -1, 1.5, "1", True, None])
def test_a_limit_that_is_none_is_refused(gray_bundle: Path, most: Any) -> None:
    with pytest.raises(InputError) as refused:
        vae_runtime.load(gray_bundle, max_model_bytes=most)
    assert str(refused.value) == f"max_model_bytes is {most!r}; expected a whole number of at least 1"


def digest_of(bundle: Path) -> str:
    return hashlib.sha256((bundle / "SHA256SUMS").read_bytes()).hexdigest()


def test_the_bundle_that_was_expected_is_opened_and_says_its_sum(gray_bundle: Path) -> None:
    expected = digest_of(gray_bundle)
    for digest in (expected, expected.upper(), f" {expected}\n"):
        with vae_runtime.load(gray_bundle, expect_sha256=digest) as model:
            assert model.sha256 == expected


def test_a_bundle_that_is_whole_but_another_is_refused(
    tmp_path: Path, gray_bundle: Path, colour_bundle: Path
) -> None:
    """A stranger writes the sums, too: only a sum from elsewhere tells whose bundle it is."""
    decoder = changed_card((gray_bundle / "decoder.onnx").read_bytes(), license="forged")
    encoder = changed_card((gray_bundle / "encoder.onnx").read_bytes(), license="forged")
    forged = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder, "encoder.onnx": encoder})
    vae_runtime.load(forged).close()
    for other in (forged, colour_bundle):
        with pytest.raises(
            UnsafeBundleError,
            match=rf"SHA256SUMS: SHA-256 {digest_of(other)}; expected {digest_of(gray_bundle)}: this is not",
        ):
            vae_runtime.load(other, expect_sha256=digest_of(gray_bundle))
    for expected in ("0" * 64, "f" * 64):
        with pytest.raises(
            UnsafeBundleError, match=rf"; expected {expected}: this is not the bundle that you"
        ):
            vae_runtime.load(gray_bundle, expect_sha256=expected)


@pytest.mark.parametrize("digest", ["", "abc", "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\0", 7, b"0" * 64])
def test_what_is_no_sum_cannot_be_expected(gray_bundle: Path, digest: Any) -> None:
    with pytest.raises(InputError) as refused:
        vae_runtime.load(gray_bundle, expect_sha256=digest)
    assert str(refused.value) == (
        f"expect_sha256 is {digest!r}; expected 64 hexadecimal digits: the SHA-256 of the bundle's SHA256SUMS"
    )


def test_a_prior_that_is_not_listed_is_not_looked_at(tmp_path: Path, gray_bundle: Path) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b", {"prior.onnx": b"anything"}, sums=False)
    assert set(read_bundle(target).graphs) == {"encoder", "decoder"}


ZEROS = "0" * 64
UNSAFE_NAMES = [
    ".", "..", ".hidden", "C:a", "a\\b", "..\\a", "a b", "a\0b", "a\tb", "~", "$HOME", "*",
    "con", "CON", "nul.onnx", "Aux.txt", "COM1", "lpt9.md", "prn",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "does not list encoder.onnx and decoder.onnx"),
        (b"hello\n", r"line 1 is 'hello'; expected 64 hexadecimal digits, two spaces and a name"),
        (f"{ZEROS}  a\n{ZEROS}  a\n".encode(), "line 2: a stands twice; expected a new name"),
        (f"{ZEROS}  ../a\n".encode(), "line 1 names '../a'; expected the name of a file in the bundle"),
        (f"{ZEROS}  a/b\n".encode(), "line 1 names 'a/b'; expected the name of a file in the bundle"),
        (
            f"{ZEROS}  /etc/passwd\n".encode(),
            "line 1 names '/etc/passwd'; expected the name of a file in the bundle",
        ),
        (f"{ZEROS[1:]}  a\n".encode(), "line 1 is"),
        (f"0{ZEROS}  a\n".encode(), "line 1 is"),
        (f"{'F' * 64}  a\n".encode(), "line 1 is"),
        (f"{ZEROS}  {'a' * 65}\n".encode(), "line 1 names 'a{65}'"),
        (f"{ZEROS}  \xe4\n".encode(), "cannot be read"),
        (b"\xff\xfe", r"cannot be read \('ascii' codec can't decode byte 0xff .*range\(128\)\)$"),
        (b"x" * ((1 << 20) + 1), "1048577 bytes; expected at most 1048576"),
        (b"\0" * 100, "line 1 is"),
        (b"\n", "line 1 is ''"),
        (f"{ZEROS}  a\n\n".encode(), "line 2 is ''"),
        (f"{ZEROS}  a\x0b{ZEROS}  b\n".encode(), "line 1 names 'a.x0b0"),
        (f"{ZEROS}  a\r\r\n".encode(), "line 1 names 'a.r'"),
        *((f"{ZEROS}  {name}\n".encode(), "line 1 names") for name in UNSAFE_NAMES),
    ],
    ids=range(18 + len(UNSAFE_NAMES)),
)
def test_bad_sums_are_refused(tmp_path: Path, gray_bundle: Path, text: bytes, message: str) -> None:
    target = copy_bundle(gray_bundle, tmp_path / "b", {"SHA256SUMS": text}, sums=False)
    with pytest.raises(BundleError, match=f"^{re.escape(str(target))}/SHA256SUMS: .*{message}") as refused:
        read_bundle(target)
    assert refused.type is (UnsafeBundleError if " names" in message else BundleError)


def test_binary_marks_and_carriage_returns_of_other_tools_are_taken(
    tmp_path: Path, gray_bundle: Path
) -> None:
    text = (gray_bundle / "SHA256SUMS").read_text().replace("  ", " *").replace("\n", "\r\n")
    target = copy_bundle(gray_bundle, tmp_path / "b", {"SHA256SUMS": text.encode()}, sums=False)
    with open_bundle(target) as copied, open_bundle(gray_bundle) as original:
        assert read_sums(copied).by_name == read_sums(original).by_name


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
    with pytest.raises(BundleError, match=r"decoder\.onnx: its card says 'encoder'; expected 'decoder'"):
        vae_runtime.load(target)


def test_a_debugger_that_shows_variables_shows_no_megabytes(gray_bundle: Path) -> None:
    assert len(repr(read_bundle(gray_bundle))) < 500 + len(str(gray_bundle))
