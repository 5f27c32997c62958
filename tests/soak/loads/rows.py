"""All rows of the table."""

from __future__ import annotations

from functools import partial

from loads import files, killed, memory, others, processes, threads
from loads.row import Row

ROWS = {
    row.name: row
    for row in (
        Row(
            "L1",
            "8 threads on one model",
            threads.eight_threads_on_one_model,
            partial(threads.eight_threads_on_one_model, 0.6, 1),
        ),
        Row(
            "L2",
            "8 threads, each request on several",
            threads.threads_within_threads,
            partial(threads.threads_within_threads, 0.4),
        ),
        Row("L3", "many sizes for a minute", memory.many_sizes_for_long),
        Row("L4", "open, use, close, 1,000 times", memory.many_loads, partial(memory.many_loads, 40, 20)),
        Row(
            "L5",
            "8 threads open, use, close",
            threads.threads_that_load_and_unload,
            partial(threads.threads_that_load_and_unload, 0.4),
        ),
        Row(
            "L6",
            "pools and forks",
            processes.pools_and_forks,
            partial(processes.pools_and_forks, 2, ("spawn",)),
        ),
        Row(
            "L7",
            "close() during calls",
            threads.closed_while_threads_run,
            partial(threads.closed_while_threads_run, 5),
        ),
        Row(
            "L8",
            "the interpreter ends during calls",
            processes.exits_during_calls,
            partial(processes.exits_during_calls, 1),
        ),
        Row("L9", "requests beyond memory", memory.requests_beyond_memory, memory.requests_beyond_memory),
        Row("L10", "killed while writing", killed.killed_while_writing),
        Row(
            "L11",
            "interrupted while sampling",
            processes.interrupted,
            partial(processes.interrupted, 1, 20),
        ),
        Row(
            "L12",
            "no room on the disk",
            files.no_room_for_files,
            partial(files.no_room_for_files, (0, 4_096), with_training=False),
        ),
        Row("L13", "mutated graphs", others.mutated_graphs),
        Row("L14", "bad input", others.bad_input),
        Row("L15", "training killed and resumed", killed.resumed_after_kills),
    )
}
