"""How much room the runtime and all that it needs take on a disk, beside PyTorch and all that it needs."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from pytest_benchmark.fixture import BenchmarkFixture

from measuring.promises import SIZES
from measuring.rows import Row

if TYPE_CHECKING:
    from conftest import Record

PACKAGES = ("vae_training", "vae_export", "vae_runtime")


def test_installed_size(record: Record, benchmark: BenchmarkFixture) -> None:
    names = {"vae-edge[cpu]": needs("vae-edge", "cpu"), "torch": needs("torch")}
    sizes = benchmark.pedantic(lambda: {name: sum(map(size, all_)) for name, all_ in names.items()})  # type: ignore[no-untyped-call]  # pytest-benchmark leaves it untyped
    for name, total in sizes.items():
        listed = ", ".join(sorted(names[name]))
        record(
            Row(
                SIZES, name, "cpu", [], note=f"{total / 1e6:,.0f} MB: {listed}", facts={"bytes": float(total)}
            )
        )
    assert sizes["vae-edge[cpu]"] > 1e6
    assert sizes["torch"] > 1e8


def needs(name: str, extra: str = "") -> set[str]:
    """Return a distribution and all that it needs here, by name."""
    found: set[str] = set()
    waiting = [Requirement(f"{name}[{extra}]" if extra else name)]
    while waiting:
        requirement = waiting.pop()
        extras = [*requirement.extras, ""]
        if requirement.name.lower() in found:
            continue
        found.add(requirement.name.lower())
        for line in distribution(requirement.name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return found


def size(name: str) -> int:
    """Return the bytes of a distribution's files; of ours those of its packages, which may lie in a checkout."""
    if name == "vae-edge":
        return total(path for package in PACKAGES for path in folder_of(package).rglob("*"))
    return total(Path(str(file.locate())) for file in distribution(name).files or [])


def total(paths: Iterable[Path]) -> int:
    """Add up the files' sizes, but for what Python compiles from them when they are first used."""
    return sum(path.stat().st_size for path in paths if path.suffix != ".pyc" and path.is_file())


def folder_of(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
