"""From which batch on a GPU pays, as the benchmarks say it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measuring.break_even import break_even, break_even_lines
from measuring.promises import OURS
from measuring.report import write_markdown
from measuring.rows import Row

BATCHES = [1, 16, 64, 256, 4096]


def rows(
    device: str, seconds: dict[int, float], implementation: str = OURS, series: str = "decode"
) -> list[Row]:
    return [
        Row(f"{series}, batch {batch}", implementation, device, [each] * 3, batch, series=series)
        for batch, each in seconds.items()
    ]


@pytest.mark.parametrize(
    ("on_gpu", "first"),
    [
        ([1, 1, 1, 1, 1], 1),
        ([9, 9, 1, 1, 1], 64),
        ([9, 1, 9, 1, 1], 256),  # one lucky batch below is no promise
        ([9, 9, 9, 9, 9], None),
        ([1, 1, 1, 1, 9], None),
        ([5, 5, 5, 5, 1], 4096),  # as long is not faster
    ],
)
def test_it_is_the_batch_from_which_on_every_larger_one_is_faster(
    on_gpu: list[float], first: int | None
) -> None:
    both = rows("cpu", dict.fromkeys(BATCHES, 5.0)) + rows("cuda", dict(zip(BATCHES, on_gpu, strict=True)))
    assert break_even(both, "decode") == (first, BATCHES)
    assert break_even(both, "encode") is None


@given(st.dictionaries(st.integers(1, 5000), st.tuples(st.floats(0.01, 9), st.floats(0.01, 9)), min_size=1))
def test_every_batch_from_there_on_is_faster_and_the_one_before_is_not(
    measured: dict[int, tuple[float, float]],
) -> None:
    both = [
        row
        for place, device in enumerate(("cpu", "cuda"))
        for row in rows(device, {batch: pair[place] for batch, pair in measured.items()})
    ]
    found = break_even(both, "decode")
    assert found is not None
    first, batches = found
    assert batches == sorted(measured)
    above = [batch for batch in batches if first is not None and batch >= first]
    below = batches[: len(batches) - len(above)]
    assert all(measured[batch][1] < measured[batch][0] for batch in above)
    assert not below or measured[below[-1]][1] >= measured[below[-1]][0]


def test_it_stands_in_the_table_where_a_gpu_was_measured_and_only_there(tmp_path: Path) -> None:
    cpu, cuda = rows("cpu", {1: 1.0, 4096: 4.0}), rows("cuda", {1: 2.0, 4096: 3.0, 9000: 1.0})
    machine = {"processor": "a processor", "processors": 2}
    write_markdown(tmp_path / "cpu.md", cpu, machine, None)
    assert "GPU pays" not in (tmp_path / "cpu.md").read_text(encoding="utf-8")
    write_markdown(tmp_path / "both.md", cpu + cuda, machine, None)
    said = "decode: CUDA is faster than the CPU from batch 4,096 on (measured: 1, 4,096)."
    assert f"- {said}\n" in (tmp_path / "both.md").read_text(encoding="utf-8")
    others = rows("cuda", {1: 0.1, 4096: 0.1}, implementation="PyTorch")
    assert break_even_lines(cpu + cuda + others) == [said]
    slow = rows("cuda", {1: 9.0, 4096: 9.0})
    assert break_even_lines(cpu + slow) == [
        "decode: on no batch is CUDA faster than the CPU (measured: 1, 4,096)."
    ]
