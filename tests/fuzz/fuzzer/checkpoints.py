"""Targets of training: checkpoints of a run, and files of weights alone."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzzer.blind import blind_mutations
from fuzzer.containers import mutate_safetensors
from fuzzer.json_text import mutate_record, mutate_text
from fuzzer.sums import STATE, mended_checkpoint, require_right_checkpoint_sums
from fuzzer.target import READ, Files, Reader

_TENSORS = ("model.safetensors", "training.safetensors")


def checkpoints() -> Reader:
    """A step's folder, read as `vae-train --resume` reads it, to the point where the next step would be taken."""
    from vae_training.checkpoint import load_checkpoint
    from vae_training.loop import Trainer
    from vae_training.run_folder import RunFolder

    images, seed = _train()
    blind = blind_mutations([*seed.values()])

    def mutate(draw: Random) -> Files:
        files = dict(seed)
        name = draw.choice((STATE, STATE, *_TENSORS))
        if draw.random() < 0.3:
            files[name] = draw.choice(blind)(files[name], draw)
        elif name == STATE and draw.random() < 0.3:
            files[name] = mutate_text(files[name].decode(), draw).encode("utf-8", "surrogatepass")
        elif name == STATE:
            state = json.loads(files[name])
            part = draw.choice([key for key in state if key != "sha256"])
            state[part] = mutate_record(state[part], draw)
            files[name] = json.dumps(state).encode()
        else:
            files[name] = mutate_safetensors(files[name], draw)
        return mended_checkpoint(files) if draw.random() < 0.7 else files

    def read(folder: Path) -> str:
        checkpoint = load_checkpoint(folder)
        require_right_checkpoint_sums(folder, _TENSORS)
        Trainer(checkpoint.config, images, RunFolder(folder)).resume(checkpoint)
        return READ

    return Reader({"step": seed}, mutate, read)


def weights() -> Reader:
    """Weights alone, as `vae-export` takes them: pickled by PyTorch, and safetensors."""
    import safetensors.torch
    import torch

    from vae_export.sources import load_source
    from vae_training.config import ModelConfig
    from vae_training.model import VAE

    torch.set_num_threads(1)
    torch.manual_seed(0)
    state = VAE(ModelConfig(8, 8, 1, (3, 4), 2)).state_dict()
    pickled, plain = io.BytesIO(), safetensors.torch.save(state)
    torch.save(state, pickled)
    old = io.BytesIO()
    torch.save(state, old, _use_new_zipfile_serialization=False)
    seeds = {
        "zip": {"w.pth": pickled.getvalue()},
        "old": {"w.pth": old.getvalue()},
        "safe": {"w.safetensors": plain},
    }
    blind = blind_mutations([pickled.getvalue(), old.getvalue(), plain])

    def mutate(draw: Random) -> Files:
        name, data = next(iter(draw.choice(list(seeds.values())).items()))
        if name == "w.safetensors" and draw.random() < 0.7:
            return {name: mutate_safetensors(data, draw)}
        return {name: draw.choice(blind)(data, draw)}

    def read(folder: Path) -> str:
        for path in (folder / "w.pth", folder / "w.safetensors"):
            if path.exists():
                load_source(path)
        return READ

    return Reader(seeds, mutate, read)


def _train() -> tuple[Any, Files]:
    """Return the images and the last checkpoint of a small run."""
    import torch

    from vae_training import loop
    from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
    from vae_training.data import ImageSet
    from vae_training.run_folder import RunFolder

    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), np.uint8)
    images = ImageSet(pixels, None, "noise", "drawn for the fuzzer")
    config = Config(
        DataConfig(validation=0.25),
        ModelConfig(8, 8, 1, (3, 4), latent_size=2),
        TrainingConfig(epochs=1, batch_size=8, device="cpu", compile="off"),
    )
    drawn = ("plot_losses", "write_sample_sheet", "write_reconstruction_sheet")
    before = {name: getattr(loop, name) for name in drawn}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in drawn:  # pictures for people, which take longer than the training
                setattr(loop, name, lambda *_: None)
            run = RunFolder(Path(folder, "run"))
            loop.Trainer(config, images, run).run()
        finally:
            for name, function in before.items():
                setattr(loop, name, function)
        (step,) = run.checkpoints.glob("step-*")
        return images, {path.name: path.read_bytes() for path in step.iterdir()}
