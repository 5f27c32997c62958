"""All that reads strangers' bytes, and how much of the work each gets."""

from __future__ import annotations

from fuzzer.arrays import configs, npy_files, npz_files
from fuzzer.checkpoints import checkpoints, weights
from fuzzer.graphs import bundles, cards, scan_against_onnxruntime
from fuzzer.target import Target

TARGETS = {
    target.name: target
    for target in (
        Target("scan", 0.40, scan_against_onnxruntime),
        Target("bundle", 0.15, bundles),
        Target("card", 0.10, cards),
        Target("npy", 0.08, npy_files),
        Target("npz", 0.07, npz_files),
        Target("config", 0.08, configs),
        Target("checkpoint", 0.08, checkpoints),
        Target("weights", 0.04, weights),
    )
}
