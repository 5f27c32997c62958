"""What can be exported: runs, checkpoints and weights of the classic code; and what is refused."""

from __future__ import annotations

import os
import pickle  # noqa: TID251 - to write files that must not be loaded
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from small_runs import Interrupting, train
from torch import Tensor, nn

from vae_export.errors import SourceError
from vae_export.sources import load_source
from vae_runtime.errors import VaeError
from vae_training.checkpoint import list_checkpoints, newest_checkpoint
from vae_training.config import Config, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.errors import CheckpointError
from vae_training.interruption import Interrupted
from vae_training.run_folder import RunFolder

Plain = Callable[..., nn.Module]

TINY = ModelConfig(8, 8, 1, (3, 5), 2)


def same(found: Any, expected: Any) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name].float()) for name in expected
    )


def test_weights_saved_by_the_classic_code_are_read_as_they_are(tmp_path: Path, plain_vae: Plain) -> None:
    plain = plain_vae()
    torch.save(plain.state_dict(), tmp_path / "weights.pth")
    source = load_source(tmp_path / "weights.pth")
    assert source.model.config == TINY
    assert (source.name, source.config, dict(source.metrics)) == ("weights", None, {})
    assert same(source.model.state_dict(), plain.state_dict())
    assert not source.model.training
    assert not any(parameter.requires_grad for parameter in source.model.parameters())


@torch.no_grad()
def test_a_read_model_computes_what_the_classic_code_computes(tmp_path: Path, plain_vae: Plain) -> None:
    plain: Any = plain_vae(height=24, width=24, filters=(32, 64), latents=20)
    torch.save(plain.state_dict(), tmp_path / "weights.pth")
    model = load_source(tmp_path / "weights.pth").model
    assert model.config == ModelConfig()
    image, latent = torch.rand(3, 1, 24, 24), torch.randn(3, 20)
    torch.testing.assert_close(model.encoder(image), plain.encode(image), rtol=0, atol=1e-6)
    torch.testing.assert_close(model.decoder(latent), plain.decode(latent), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("sizes", "config"),
    [
        ({"channels": 3}, ModelConfig(8, 8, 3, (3, 5), 2)),
        ({"height": 32, "width": 32, "filters": (2, 7), "latents": 11}, ModelConfig(32, 32, 1, (2, 7), 11)),
        ({"height": 8, "width": 8, "filters": (1, 1), "latents": 1}, ModelConfig(8, 8, 1, (1, 1), 1)),
    ],
)
def test_sizes_are_read_off_the_shapes(
    tmp_path: Path, plain_vae: Plain, sizes: dict[str, Any], config: ModelConfig
) -> None:
    torch.save(plain_vae(**sizes).state_dict(), tmp_path / "weights.pth")
    assert load_source(tmp_path / "weights.pth").model.config == config


def test_images_that_are_not_square_need_their_size(tmp_path: Path, plain_vae: Plain) -> None:
    path = tmp_path / "weights.pth"
    torch.save(plain_vae(height=8, width=12).state_dict(), path)
    with pytest.raises(SourceError, match="not square; give their --image-size HEIGHTxWIDTH"):
        load_source(path)
    assert load_source(path, image_size=(8, 12)).model.config.image_shape == (1, 8, 12)
    with pytest.raises(SourceError, match="which images of 8x16 do not give"):
        load_source(path, image_size=(8, 16))


def test_a_size_that_is_not_divisible_by_four_is_refused(tmp_path: Path, plain_vae: Plain) -> None:
    torch.save(plain_vae().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(VaeError, match="multiple of 4") as refused:
        load_source(tmp_path / "weights.pth", image_size=(9, 9))
    assert refused.value.exit_code == 3


def test_the_relu_that_some_versions_have_can_be_asked_for(tmp_path: Path, plain_vae: Plain) -> None:
    torch.save(plain_vae().state_dict(), tmp_path / "weights.pth")
    assert load_source(tmp_path / "weights.pth", fc_relu=True).model.config.fc_relu


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": state, "epoch": 5},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}}, "loss": 1.5},
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}},
        lambda state: {"net": state, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}, "epoch": 5},
        lambda state: {f"my.own_net.{name}": tensor for name, tensor in state.items()},
        lambda state: {"net": state, "loss": torch.tensor(1.5)},
        lambda state: {"G": state, "D": {"conv.weight": torch.zeros(3, 3)}},
        lambda state: {half: half_of(half, state) for half in ("encoder", "decoder")},
        lambda state: {
            "epoch": 5,
            **{f"{half}_state_dict": half_of(half, state, "module.") for half in ("decoder", "encoder")},
        },
        lambda state: {
            name.replace("encoder.", "encoder._orig_mod."): tensor for name, tensor in state.items()
        },
    ],
    ids=[
        "bare",
        "DataParallel",
        "compiled DataParallel",
        "state_dict",
        "model_state_dict",
        "model",
        "Lightning",
        "under any name",
        "in any module",
        "beside a loss",
        "beside a critic",
        "halves",
        "halves in DataParallel",
        "compiled half",
    ],
)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_what_training_code_wraps_around_weights_is_seen_through(
    tmp_path: Path, plain_vae: Plain, wrap: Callable[[Any], Any], legacy: bool
) -> None:
    state = plain_vae().state_dict()
    path = tmp_path / "weights.pt"
    torch.save(wrap(dict(state)), path, _use_new_zipfile_serialization=not legacy)
    assert same(load_source(path).model.state_dict(), state)


def half_of(half: str, state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    return {
        f"{prefix}{name.removeprefix(f'{half}.')}": tensor
        for name, tensor in state.items()
        if name.startswith(f"{half}.")
    }


def test_an_average_of_weights_is_read_without_its_counter_which_is_told(
    tmp_path: Path, plain_vae: Plain, caplog: pytest.LogCaptureFixture
) -> None:
    plain = plain_vae()
    averaged = torch.optim.swa_utils.AveragedModel(plain)
    torch.save(averaged.state_dict(), tmp_path / "weights.pth")
    assert same(load_source(tmp_path / "weights.pth").model.state_dict(), plain.state_dict())
    assert "left out what is of neither encoder nor decoder: n_averaged" in caplog.text


@pytest.mark.parametrize("extra", ["decoder.gain", "encoder.steps"])
def test_a_number_that_is_of_a_half_is_not_left_out(tmp_path: Path, plain_vae: Plain, extra: str) -> None:
    torch.save({**plain_vae().state_dict(), extra: torch.tensor(2.0)}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=rf"do not fit the model: {extra} is \(\), expected nothing"):
        load_source(tmp_path / "weights.pth")


def test_data_parallel_itself_is_seen_through(tmp_path: Path, plain_vae: Plain) -> None:
    plain = plain_vae()
    torch.save(nn.DataParallel(plain).state_dict(), tmp_path / "weights.pth")
    assert same(load_source(tmp_path / "weights.pth").model.state_dict(), plain.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_precisions_become_float32(
    tmp_path: Path, plain_vae: Plain, dtype: torch.dtype, suffix: str
) -> None:
    state = {name: tensor.to(dtype) for name, tensor in plain_vae().state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    found = load_source(path).model.state_dict()
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert same(found, state)


def test_a_run_gives_its_newest_checkpoint_settings_and_last_metrics(run: Path) -> None:
    source = load_source(run)
    newest = newest_checkpoint(RunFolder(run).checkpoints)
    assert same(source.model.state_dict(), newest.weights)
    assert source.name == "run"
    assert source.config == Config.from_toml(run / "config.toml")
    assert source.metrics["epoch"] == 2
    assert not source.model.training


def test_a_single_checkpoint_gives_the_metrics_of_its_own_epoch(run: Path) -> None:
    first, second = list_checkpoints(RunFolder(run).checkpoints)
    assert load_source(first).metrics["epoch"] == 1
    assert load_source(second).metrics["epoch"] == 2
    assert load_source(first).name == "run"


def test_metrics_of_another_epoch_than_the_checkpoints_are_not_told_as_its_own(
    run: Path, tmp_path: Path
) -> None:
    copied = RunFolder(Path(shutil.copytree(run, tmp_path / "run")))
    first, second = copied.metrics.read_bytes().splitlines(keepends=True)
    copied.metrics.write_bytes(first + second.replace(b"loss", b"lost"))
    assert load_source(copied.path).metrics == {}
    copied.metrics.write_bytes(b"\n" + second)
    assert load_source(copied.path).metrics["epoch"] == 2


def test_weights_of_mid_epoch_are_not_told_with_the_metrics_of_the_epoch_before(
    tmp_path: Path, make_images: Callable[..., ImageSet]
) -> None:
    config = Config(
        model=ModelConfig(8, 8, 1, (3, 5), 2), training=TrainingConfig(2, 8, device="cpu", compile="off")
    )
    with pytest.raises(Interrupted):
        train(config, make_images(), tmp_path, Interrupting(7))
    assert RunFolder(tmp_path).read_metrics()[-1]["epoch"] == 1
    assert load_source(tmp_path).metrics == {}


def test_weights_inside_of_a_checkpoint_are_weights_too(run: Path) -> None:
    path = list_checkpoints(RunFolder(run).checkpoints)[-1] / "model.safetensors"
    source = load_source(path)
    assert source.config is None
    assert same(source.model.state_dict(), load_source(run).model.state_dict())


def test_a_torn_newest_checkpoint_gives_way_to_the_one_before(run: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    (list_checkpoints(copied / "checkpoints")[-1] / "model.safetensors").write_bytes(b"torn")
    assert load_source(copied).metrics["epoch"] == 1


@pytest.mark.parametrize("option", [{"image_size": (8, 8)}, {"fc_relu": True}])
def test_what_a_run_says_itself_cannot_be_said_again(run: Path, option: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="its settings are in the folder"):
        load_source(run, **option)


def test_what_is_not_there_or_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match="no such file or folder; expected a run folder, a checkpoint, a bundle or"
    ):
        load_source(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="holds no checkpoints; expected a folder that vae-train wrote"):
        load_source(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_source(tmp_path)


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("encoder.conv1.weight"), "not the weights of the classic architecture.*found encoder.conv1.bias"),
        (without("encoder.fc_mu.weight"), "not the weights of the classic architecture"),
        (without("decoder.fc.bias"), "decoder.fc.bias is missing, expected"),
        (lambda s: {**s, "decoder.more": torch.zeros(3)}, r"decoder.more is \(3,\), expected nothing"),
        (lambda s: {**s, "decoder.fc.bias": torch.zeros(3)}, r"decoder.fc.bias is \(3,\), expected \(20,\)"),
        (lambda s: {**s, "encoder.conv1.weight": torch.tensor(1.0)}, "not the weights of the classic"),
        (lambda s: {**s, "encoder.conv1.weight": torch.zeros(3, 2, 4, 4)}, r"h: model\.channels is 2; expected 1 or 3"),
        (lambda s: {**s, "encoder.conv2.weight": torch.zeros(0, 3, 4, 4)}, "not the weights of the classic"),
        (lambda s: {**s, "encoder.fc_mu.weight": torch.zeros(2, 23)}, "takes 23 values"),
        (lambda s: {**s, "encoder.conv1.weight": torch.zeros(3, 1, 5, 5)}, "weights do not fit the model"),
        (lambda _: {"features.0.weight": torch.zeros(3)}, "found features.0.weight"),
        (lambda s: {**s, "decoder.fc.bias": torch.full((20,), torch.nan)}, "decoder.fc.bias hold NaN"),
        (lambda s: {**s, "decoder.fc.bias": torch.full((20,), torch.inf)}, "decoder.fc.bias hold NaN or infinite"),
        (lambda s: {**s, "decoder.fc.bias": torch.full((20,), 1e300, dtype=torch.float64)}, "NaN or infinite"),
    ],
)  # fmt: skip
def test_other_weights_are_refused_with_what_does_not_fit(
    tmp_path: Path, plain_vae: Plain, change: Callable[[Any], Any], words: str
) -> None:
    torch.save(change(dict(plain_vae().state_dict())), tmp_path / "weights.pth")
    with pytest.raises(VaeError, match=words) as refused:
        load_source(tmp_path / "weights.pth")
    assert refused.value.exit_code == (5 if "NaN or infinite" in str(refused.value) else 3)
    assert "weights.pth" in str(refused.value) or "model.channels" in str(refused.value)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.canary}'",)


@pytest.mark.parametrize("kind", ["inside", "instead", "plain pickle", "legacy"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl"])
def test_a_file_with_code_in_it_is_refused_and_nothing_runs(
    tmp_path: Path, plain_vae: Plain, monkeypatch: pytest.MonkeyPatch, kind: str, suffix: str
) -> None:
    canary, path = tmp_path / "canary", tmp_path / f"weights{suffix}"
    evil: Any = Evil(canary)
    if kind == "inside":
        evil = {**plain_vae().state_dict(), "extra": evil}
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=kind != "legacy")

    calls = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: (calls.append(k), load(*a, **k))[1])
    with pytest.raises(
        SourceError, match=r"refused: .*holds more than tensors.*Save the weights alone"
    ) as refused:
        load_source(path)
    assert refused.value.exit_code == 3
    assert not canary.exists()
    assert [call["weights_only"] for call in calls] == [True]  # once, and never again without

    pickle.loads(pickle.dumps(Evil(canary)))  # noqa: S301 - the bait works
    assert canary.exists()


def test_a_whole_pickled_model_is_refused_with_the_way_to_save_it(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(SourceError, match=r"torch\.save\(model\.state_dict\(\), path\)"):
        load_source(tmp_path / "model.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["cut", "cut short", "empty", "text", "zeros", "another kind"])
def test_damaged_files_are_refused(tmp_path: Path, plain_vae: Plain, suffix: str, damage: str) -> None:
    path = tmp_path / f"weights{suffix}"
    state = plain_vae().state_dict()
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    data = path.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    content = {
        "cut": data[: len(data) // 2],
        "cut short": data[:60],
        "empty": b"",
        "text": b"Hello, these are my weights.\n",
        "zeros": bytes(2000),
        "another kind": (tmp_path / "array.npy").read_bytes(),
    }
    path.write_bytes(content[damage])
    with pytest.raises(VaeError, match=path.name.replace(".", r"\.")) as refused:
        load_source(path)
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}, 3, {"state_dict": {}}, None, torch.zeros(3)])
def test_files_without_tensors_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(SourceError, match="without tensors by name; expected a state dict"):
        load_source(tmp_path / "weights.pth")


def test_of_two_state_dicts_none_is_chosen(tmp_path: Path, plain_vae: Plain) -> None:
    state = plain_vae().state_dict()
    torch.save({"net": state, "critic": state}, tmp_path / "weights.pth")
    with pytest.raises(
        SourceError, match=r"holds several state dicts \(net, critic\); expected that of the VAE"
    ):
        load_source(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["WEIGHTS.PTH", "weights.Pt", "weights.SafeTensors"])
def test_suffixes_may_be_in_capitals(tmp_path: Path, plain_vae: Plain, name: str) -> None:
    state = plain_vae().state_dict()
    (safetensors.torch.save_file if "Safe" in name else torch.save)(state, tmp_path / name)
    assert same(load_source(tmp_path / name).model.state_dict(), state)


def test_a_dictionary_that_holds_itself_has_an_end(tmp_path: Path) -> None:
    first: dict[str, Any] = {}
    first["model"] = {"state_dict": first}
    torch.save(first, tmp_path / "weights.pth")
    with pytest.raises(SourceError, match="without tensors"):
        load_source(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["weights.onnx", "weights.txt", "weights"])
def test_files_of_another_kind_are_refused_with_the_kinds_that_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SourceError, match=r"unknown kind; expected \.pth, \.pt, .*\.safetensors"):
        load_source(tmp_path / name)


def test_a_flipped_bit_in_a_pytorch_file_is_refused_or_of_no_matter(tmp_path: Path, plain_vae: Plain) -> None:
    state = plain_vae().state_dict()
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    data, changed, refused = path.read_bytes(), [], 0
    for place in range(0, len(data), len(data) // 400):
        broken = bytearray(data)
        broken[place] ^= 1 << (place % 8)
        path.write_bytes(broken)
        try:
            if not same(load_source(path).model.state_dict(), state):
                changed.append(place)
        except VaeError as error:
            refused += 1
            assert error.exit_code == 3  # noqa: PT017 - a bit of padding may do nothing
    assert changed == []
    assert refused > 200


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path, plain_vae: Plain) -> None:
    torch.save(plain_vae().state_dict(), tmp_path / "weights.pth")
    with (
        zipfile.ZipFile(tmp_path / "weights.pth") as archive,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in archive.infolist():
            packed.writestr(member.filename, archive.read(member))
    with pytest.raises(SourceError, match="is compressed, which PyTorch's files never are"):
        load_source(tmp_path / "packed.pth")


def test_an_archive_whose_members_overlap_is_refused(tmp_path: Path, plain_vae: Plain) -> None:
    path = tmp_path / "weights.pth"
    torch.save(plain_vae().state_dict(), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist *= 40  # each member listed forty times, lying at one place
        archive._didModify = True
    with pytest.raises(SourceError, match="tells of more bytes than it has"):
        load_source(path)


def test_a_view_that_repeats_what_is_stored_is_refused(tmp_path: Path, plain_vae: Plain) -> None:
    state = dict(plain_vae().state_dict())
    state["encoder.conv1.bias"] = torch.zeros(1).expand(1 << 40)  # 1.6 kB of file
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    assert path.stat().st_size < 50_000
    with pytest.raises(
        SourceError, match=r"encoder\.conv1\.bias has 1099511627776 elements, more than are st"
    ):
        load_source(path)


def nested() -> Tensor:
    """Rows of different lengths in one tensor, which PyTorch warns of as unfinished."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows: Tensor = torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)])
    return rows


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(3).to_sparse(),
        nested(),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(3, device="meta"),
    ],
    ids=["sparse", "nested", "complex", "whole numbers", "without data"],
)
def test_tensors_that_are_no_weights_are_refused(tmp_path: Path, plain_vae: Plain, odd: Tensor) -> None:
    torch.save({**plain_vae().state_dict(), "encoder.conv1.bias": odd}, tmp_path / "weights.pth")
    with pytest.raises(SourceError, match=r"weights\.pth"):
        load_source(tmp_path / "weights.pth")


def test_names_that_are_no_text_are_passed_over(tmp_path: Path, plain_vae: Plain) -> None:
    """Among them PyTorch's storages, which warn of their own age when they are shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = torch.TypedStorage(1)
    weights = plain_vae().state_dict()
    torch.save({**weights, storage: torch.zeros(1), 3: torch.zeros(1)}, tmp_path / "weights.pth")
    found = load_source(tmp_path / "weights.pth").model.state_dict()
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in weights.items()
    }


def test_sizes_without_any_data_take_no_memory(tmp_path: Path, plain_vae: Plain) -> None:
    state = dict(plain_vae().state_dict())
    state["encoder.conv1.weight"] = torch.zeros(1 << 50, 1, 0, 4)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(VaeError) as refused:
        load_source(tmp_path / "weights.pth")
    assert refused.value.exit_code == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"weights{suffix}")
    with pytest.raises(CheckpointError, match="is a pipe, not a regular file"):
        load_source(tmp_path / f"weights{suffix}")


def test_weights_that_are_too_large_for_float32_are_refused(tmp_path: Path, plain_vae: Plain) -> None:
    state = {name: tensor.double() for name, tensor in plain_vae().state_dict().items()}
    state["decoder.fc.bias"][0] = 1e300
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"decoder\.fc\.bias hold NaN or infinite"):
        load_source(tmp_path / "weights.safetensors")


def test_a_checkpoint_without_its_run_is_read_without_metrics(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(list_checkpoints(RunFolder(run).checkpoints)[-1], tmp_path / "alone")
    assert load_source(copied).metrics == {}
