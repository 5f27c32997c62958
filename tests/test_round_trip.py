"""From images to pictures through the three commands, compared with PyTorch at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from PIL import Image
from plain_vae import PlainVAE
from processes import environment, run_to_its_end
from torch.nn.functional import binary_cross_entropy

from vae_export.cli import vae_export
from vae_training.cli import vae_train

# A process that imports torch takes seconds to start: the README's commands and `make demo` have theirs.
IN_THIS_PROCESS = {"vae-train": vae_train, "vae-export": vae_export}


class Commands:
    """Runs the commands in a folder: `vae-run` as a process, the others in this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, *arguments: object) -> str:
        """Run a command and return what it wrote to stdout."""
        words = [str(argument) for argument in arguments]
        if name in IN_THIS_PROCESS:
            done = CliRunner().invoke(IN_THIS_PROCESS[name], words, catch_exceptions=False)
            assert done.exit_code == 0, f"{name} {words}: {done.stderr}"
            return done.stdout
        code = "from vae_runtime.cli import main; main()"
        ended = run_to_its_end("-c", code, *words, timeout=120, cwd=self.folder, env=environment())
        assert ended.returncode == 0, f"{name} {words}: {ended.stderr}"
        return ended.stdout


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path)


def gradients(count: int, height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    """Slopes of light in every direction."""
    draws = np.random.default_rng(1)
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j][..., None]
    slopes = draws.uniform(-60, 60, (2, count, 1, 1, channels))
    return np.rint(128 + slopes[0] * rows + slopes[1] * columns).astype(np.uint8)


@torch.no_grad()
def require_equal_to(plain: PlainVAE, command: Commands, folder: Path, images: npt.NDArray[np.uint8]) -> None:
    """Compare `vae-run` on the bundle with the classic code, both ways."""
    latents = np.random.default_rng(2).standard_normal((9, 20), dtype=np.float32)
    np.save(folder / "latents.npy", latents)
    command("vae-run", "decode", "latents.npy", "--float", "--model", "bundle", "-o", "decoded.npy")
    decoded = plain.decode(torch.from_numpy(latents)).numpy()
    np.testing.assert_allclose(np.load(folder / "decoded.npy"), decoded, rtol=0, atol=1e-5)

    np.save(folder / "some.npy", images[:9])
    command("vae-run", "encode", "some.npy", "--model", "bundle", "-o", "encoded.npz")
    pixels = images[:9, None] if images.ndim == 3 else np.moveaxis(images[:9], 3, 1)
    mean, logvar = plain.encode(torch.from_numpy(pixels.astype(np.float32) / 255))
    with np.load(folder / "encoded.npz") as encoded:
        np.testing.assert_allclose(encoded["mean"], mean.numpy(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(encoded["logvar"], logvar.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "mode"),
    [
        pytest.param((24, 24, 1), "L", id="gray 24x24"),
        pytest.param((16, 20, 3), "RGB", id="colour 16x20"),
    ],
)
def test_trained_exported_and_run(
    tmp_path: Path, command: Commands, shape: tuple[int, int, int], mode: str
) -> None:
    height, width, channels = shape
    images = gradients(64, *shape)
    images = images[..., 0] if channels == 1 else images
    np.save(tmp_path / "images.npy", images)
    command(
        "vae-train", "--data", "images.npy", "--epochs", 2, "--batch-size", 32, "--device", "cpu", "-o", "run"
    )
    told = command("vae-export", "run", "-o", "bundle", "--opset", 17)
    assert "opset 17, fp32" in told

    bundle = ("--model", "bundle")
    command(
        "vae-run", "sample", "-n", 6, "--rows", 2, "--columns", 3, "--seed", 7, *bundle, "-o", "samples.png"
    )
    command("vae-run", "interpolate", 1, 2, "--steps", 5, "--rows", 1, *bundle, "-o", "between.png")
    command("vae-run", "reconstruct", "images.npy", *bundle, "-o", "again.npy")
    with Image.open(tmp_path / "samples.png") as image:
        assert (image.mode, image.size) == (mode, (3 * width, 2 * height))
    with Image.open(tmp_path / "between.png") as image:
        assert (image.mode, image.size) == (mode, (5 * width, height))
    again = np.load(tmp_path / "again.npy")
    assert (again.shape, again.dtype) == (images.shape, np.uint8)
    assert "FAILED" not in (checked := command("vae-run", "check", *bundle))
    assert checked.endswith("Everything holds.\n")

    plain = PlainVAE(height, width, channels)
    weights = max((tmp_path / "run/checkpoints").iterdir()) / "model.safetensors"
    plain.load_state_dict(safetensors.torch.load_file(weights), strict=True)
    require_equal_to(plain, command, tmp_path, images)


def test_weights_of_the_classic_code_run_at_opset_17_as_they_did_in_pytorch(
    tmp_path: Path, command: Commands
) -> None:
    torch.manual_seed(0)
    plain = PlainVAE()
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3)
    images = gradients(64, 24, 24, 1)[..., 0]
    pixels = torch.from_numpy(images[:, None].astype(np.float32) / 255)
    for _ in range(10):
        mean, logvar = plain.encode(pixels)
        latent = mean + torch.randn_like(mean) * torch.exp(logvar / 2)
        bce = binary_cross_entropy(plain.decode(latent), pixels, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())
        adam.zero_grad()
        (bce + 0.5 * kl).backward()
        adam.step()
    torch.save(plain.state_dict(), tmp_path / "weights.pth")
    command("vae-export", "weights.pth", "--opset", 17, "-o", "bundle")
    require_equal_to(plain, command, tmp_path, images)
