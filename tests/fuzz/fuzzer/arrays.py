"""Targets that hold arrays and settings: .npy, .npz, and config.toml."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random

import numpy as np

from fuzzer.blind import blind_mutations
from fuzzer.containers import mutate_npy, mutate_npz, mutate_toml
from fuzzer.target import READ, Files, Reader


def _arrays() -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    return {
        "pictures": draws.integers(0, 256, (5, 8, 12), np.uint8),
        "images": draws.random((2, 3, 4, 4), np.float32),
        "fortran": np.asfortranarray(draws.random((3, 4))),
        "swapped": draws.random((3, 4)).astype(">f4"),
        "groups": np.arange(5),
        "empty": np.zeros((0, 8, 8), np.uint8),
    }


def npy_files() -> Reader:
    """One array: read at once, and piece by piece; two readings that have to agree."""
    from vae_runtime.arrays import read_npy
    from vae_runtime.cli.rows import Rows

    seeds = {name: _npy(array) for name, array in _arrays().items()}
    corpus = list(seeds.values())
    blind = blind_mutations(corpus)

    def mutate(draw: Random) -> Files:
        data = draw.choice(corpus)
        return {"a.npy": mutate_npy(data, draw) if draw.random() < 0.6 else draw.choice(blind)(data, draw)}

    def read(folder: Path) -> str:
        array = read_npy(folder / "a.npy")
        if array.size and array.ndim:
            pieces = b"".join(rows.tobytes() for rows in Rows(folder / "a.npy"))
            assert array.tobytes() == pieces, "two readings of one file differ"
        assert array.nbytes <= (folder / "a.npy").stat().st_size, "more numbers than the file holds"
        return READ

    return Reader({name: {"a.npy": data} for name, data in seeds.items()}, mutate, read)


def npz_files() -> Reader:
    """Archives of arrays: the list of shapes, and every array."""
    from vae_runtime.arrays import npz_shapes, read_npz

    members = {f"{name}.npy": _npy(array) for name, array in _arrays().items()}
    seeds = {}
    for name, save in (("stored", np.savez), ("packed", np.savez_compressed)):
        archive = io.BytesIO()
        save(archive, **_arrays())
        seeds[name] = archive.getvalue()
    corpus = list(seeds.values())
    blind = blind_mutations(corpus)

    def mutate(draw: Random) -> Files:
        if draw.random() < 0.5:
            return {"a.npz": draw.choice(blind)(draw.choice(corpus), draw)}
        return {"a.npz": mutate_npz(members, draw)}

    def read(folder: Path) -> str:
        npz_shapes(folder / "a.npz")
        read_npz(folder / "a.npz")
        return READ

    return Reader({name: {"a.npz": data} for name, data in seeds.items()}, mutate, read)


def configs() -> Reader:
    """Settings of a run; those that are accepted can be written and read again."""
    from vae_training.config import Config, DataConfig, ModelConfig

    seeds = {
        "defaults": Config().to_toml(),
        "full": Config(
            DataConfig("a.npz", "images", "people", (24, 24), 1, 0.2, skip_bad=True),
            ModelConfig(latent_size=8),
        ).to_toml(),
    }
    corpus = [text.encode() for text in seeds.values()]
    blind = blind_mutations(corpus)

    def mutate(draw: Random) -> Files:
        data = draw.choice(corpus)
        if draw.random() < 0.3:
            return {"config.toml": draw.choice(blind)(data, draw)}
        return {"config.toml": mutate_toml(data.decode(), draw).encode("utf-8", "surrogatepass")}

    def read(folder: Path) -> str:
        path = folder / "config.toml"
        config = Config.from_toml(path)
        path.write_text(config.to_toml(), encoding="utf-8")
        assert Config.from_toml(path) == config, "settings that were written and read are others"
        return READ

    return Reader({name: {"config.toml": text.encode()} for name, text in seeds.items()}, mutate, read)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
