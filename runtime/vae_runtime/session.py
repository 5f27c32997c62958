"""One opened graph: an onnxruntime session, its card, and the provider that really runs it."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from vae_runtime.card import Card, card_of
from vae_runtime.config_variable import no_config_from_models
from vae_runtime.device_memory import DEVICES, OnDevice, run_bound
from vae_runtime.device_outputs import ADDED, SUM, with_pictures, with_sums
from vae_runtime.errors import (
    BundleError,
    ClosedError,
    EnvironmentProblem,
    ProviderError,
    ResourceLimitError,
    VaeError,
    one_line,
    shortened,
)
from vae_runtime.gpu_libraries import load_gpu_libraries
from vae_runtime.installation import import_onnxruntime
from vae_runtime.leaving import calls_under_way
from vae_runtime.memory import is_exhaustion
from vae_runtime.providers import GPUS, ONNXRUNTIME_NAMES, candidates, refuse_unopened
from vae_runtime.releases import what_it_needs
from vae_runtime.scan import Scan, scan
from vae_runtime.single_runs import SingleRuns
from vae_runtime.wheels import installed_wheels

_log = logging.getLogger(__name__)

Batch = npt.NDArray[np.float32]
_T = TypeVar("_T")
_Given = TypeVar("_Given")

# What the README promises of every graph: input, then outputs.
SIGNATURES = {
    "encoder": ("image", ("mean", "logvar")),
    "decoder": ("latent", ("image",)),
    "prior": ("noise", ("latent",)),
    "prior_inverse": ("latent", ("noise", "log_density")),
    "prior_density": ("latent", ("log_density",)),
}

# A folder that does not exist: a graph that names external data finds nothing there.
_NO_FOLDER = "/nonexistent/vae-edge"
# Nodes whose inputs are all constant are computed when the graph is opened, and kept: a decoder's folded layers
# among them. Together they may take this much; what would grow beyond is left to each call, since a chain of
# twenty small nodes could ask for gigabytes here. Known from 1.27 on.
_MOST_FOLDED = 64 << 20  # bytes

# Computes a shape, for which onnxruntime uses the processor whatever the provider.
_ON_THE_PROCESSOR = "Shape"

# Numbers of a row, in and out, for which memory stays bound: 512 kB for each thread that is inside at a time. With more
# of them what is saved is little beside what is computed.
_MOST_BOUND = 1 << 17

_UNBOUND = "done without bound memory: %s"

_FATAL_ONLY = 4  # onnxruntime's log level: what goes wrong comes as an exception, not on stderr


class _About(NamedTuple):
    """What is known of a graph before it is opened, and how that is wanted."""

    source: str
    seen: Scan
    card: Card
    tf32: bool


class _Opened(NamedTuple):
    """A session, and on what."""

    session: Any
    provider: str
    added: int
    """How many outputs were added to the file's own: they come last."""


class Graph:
    """A graph that is ready to run. Safe to call from several threads."""

    def __init__(
        self, role: str, data: bytes, *, source: str, provider: str = "auto", tf32: bool = False
    ) -> None:
        """Open a graph and check that it is what its role promises.

        Args:
            role: a name of `SIGNATURES`.
            data: the ONNX file's bytes.
            source: where they came from, for messages.
            provider: a name of `PROVIDER_NAMES`.
            tf32: let CUDA multiply with 10 bits of mantissa.

        Raises:
            BundleError: not an ONNX graph of this role.
            UnsafeBundleError: something in it that a bundle's graph may not hold.
            ProviderError: a provider named explicitly did not open.
            ResourceLimitError: not enough memory to open it.
        """
        self.role = role
        self.source = f"{source}/{role}.onnx"
        # Before onnxruntime, whose older versions read files that a graph names; the card from these very bytes.
        seen = scan(data, self.source)
        self.card = card_of(seen.metadata, role, self.source)
        with calls_under_way:
            opened = _open(data, _About(self.source, seen, self.card, tf32), provider)
        _check_signature(opened, self.card, self.source)
        self._session, self.provider, added = opened
        self.is_on_device = added > 0
        """Whether `fill` and `keep` do what they are for; decoders and priors alone can be."""
        self._input, self._outputs = SIGNATURES[role]
        self._rows = [_row(name, self.card) for name in self._outputs]
        row = _row(self._input, self.card)
        self._singles = SingleRuns({self._input: row}, dict(zip(self._outputs, self._rows, strict=True)))
        self._binds_singles = (
            self.provider == "cpu" and sum(map(math.prod, (row, *self._rows))) <= _MOST_BOUND
        )

    def run(self, batch: Batch) -> list[Batch]:
        """Run one batch.

        Args:
            batch: (N, ...) float32, C-contiguous, of the input's shape.

        Returns:
            One (N, ...) float32 array per output, in the order of `SIGNATURES`.

        Raises:
            ClosedError: `close` was called.
            BundleError: an output of another shape than the card promises, or nodes that fail on what they are given.
            ResourceLimitError: not enough memory; the graph stays usable.
            EnvironmentProblem: onnxruntime failed for another reason, on another device than the processor.
        """
        if len(batch) == 1:
            made = self.run_one(batch)
            if made is not None:
                return made
        outputs = self._call(self._run, batch, batch.shape)
        self._check_shapes(outputs, self._rows, len(batch))
        return outputs

    def _run(self, session: Any, batch: Batch) -> list[Batch]:
        return session.run(self._outputs, {self._input: batch})  # type: ignore[no-any-return]  # it has no types

    def run_one(self, batch: Batch) -> list[Batch] | None:
        """Run one row, (1, ...) float32, in memory that stays bound; None where that is not possible.

        Where it was not, `run` will do, or tell why not. The outputs have memory of their own.

        Raises:
            ClosedError: `close` was called.
        """
        if not self._binds_singles:
            return None
        try:
            return self._call(self._singles.run, batch, batch.shape)
        except (BundleError, EnvironmentProblem) as error:
            _log.info(_UNBOUND, error)
            return None

    def fill(self, given: Batch | OnDevice, wanted: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Run one batch on the device, and have outputs written to where they are wanted.

        Args:
            given: as `run`, or what another graph kept on the same device.
            wanted: arrays for outputs of the graph, or of `device_outputs`, by name.

        Returns:
            Whether that was possible. Where it was not, `run` will do, or tell why not.

        Raises:
            ClosedError: `close` was called.
        """
        return self._bound(given, wanted) is not None

    def keep(self, batch: Batch, sums: Batch) -> OnDevice | None:
        """Run one batch on the device, where the output stays; None where that was not possible.

        Args:
            batch: as `run`.
            sums: (N, 1) float32, for those of the output's rows: not finite where a number is not.

        Raises:
            ClosedError: `close` was called.
        """
        kept = self._bound(batch, {SUM: sums}, kept=self._outputs)
        return None if kept is None else kept[0]

    def _bound(
        self, given: Batch | OnDevice, wanted: Mapping[str, npt.NDArray[Any]], kept: Sequence[str] = ()
    ) -> list[OnDevice] | None:
        """Return what a run with bound memory kept; None where there could be no such run."""
        device = DEVICES[self.provider]

        def run(session: Any, batch: Batch | OnDevice) -> list[OnDevice]:
            return run_bound(session, {self._input: batch}, wanted, kept, device)

        try:
            return self._call(run, given, (len(next(iter(wanted.values()))),))
        except (BundleError, EnvironmentProblem) as error:
            _log.info(_UNBOUND, error)
            return None

    def _call(self, work: Callable[[Any, _Given], _T], given: _Given, shape: tuple[int, ...]) -> _T:
        """Return what comes of work with the session and what is given, a batch of this shape."""
        session = self._session  # a close() during the run must not take the session from under it
        if session is None:
            raise ClosedError(f"{self.source}: the model is closed; load it again")
        try:
            with calls_under_way:
                return work(session, given)
        except ClosedError:  # the interpreter is ending
            raise
        except Exception as error:
            if _is_of_the_host(error):
                raise
            raise self._kind_of_failure(error)(
                f"{self.source}: failed on a batch of shape {shape} "
                f"on provider {self.provider!r}: {one_line(error)}"
            ) from error

    def _kind_of_failure(self, error: Exception) -> type[VaeError]:
        """Tell what is at fault: on the processor, where nothing else can fail, it is the graph."""
        if is_exhaustion(error):
            return ResourceLimitError
        return BundleError if self.provider == "cpu" else EnvironmentProblem

    def _check_shapes(
        self, outputs: Sequence[npt.NDArray[Any]], rows: Sequence[tuple[int, ...]], count: int
    ) -> None:
        """Raise unless every output has a row for every input: onnxruntime does not hold a graph to that."""
        for output, row in zip(outputs, rows, strict=True):
            if output.shape != (count, *row):
                raise BundleError(
                    f"{self.source}: gave an output of shape {output.shape} for a batch of {count}; "
                    f"its card promises {(count, *row)}"
                )

    def close(self) -> None:
        """Release the session. Runs under way in other threads end as they would have."""
        self._session = None
        self._singles.release()


def _open(data: bytes, about: _About, provider: str) -> _Opened:
    """Open a session on the first candidate that really opens, and say which."""
    names = candidates(provider)
    for name in names:
        try:
            return _open_on(data, about, name)
        except ProviderError as error:
            if name == names[-1]:
                raise
            _log.info("auto: %s", error)
    raise ProviderError(
        f"{about.source}: the installed onnxruntime has none of the providers that 'auto' tries"
    )


def _open_on(data: bytes, about: _About, name: str) -> _Opened:
    more = _for_device(data, about.card) if name in DEVICES else data
    if more is not data:
        try:
            session = _session(more, about, name)
        except VaeError as error:
            # Perhaps only of what was added: an operator that this release does not have there.
            _log.info("pictures are made on the processor: %s", error)
        else:
            return _Opened(session, name, added=len(ADDED[about.card.role]))
    return _Opened(_session(data, about, name), name, added=0)


def _for_device(data: bytes, card: Card) -> bytes:
    """Return the file with what it is to give on a GPU besides, where that is anything."""
    if card.role == "decoder":
        return with_pictures(data, card.image_shape)
    return with_sums(data, card.latent_size) if card.role == "prior" else data


def _session(data: bytes, about: _About, name: str) -> Any:
    onnxruntime = import_onnxruntime()
    full_name = ONNXRUNTIME_NAMES[name]
    complaint = load_gpu_libraries(onnxruntime) if name in GPUS else ""
    try:
        session = no_config_from_models.during(
            lambda: onnxruntime.InferenceSession(
                data,
                _options(onnxruntime, about.seen, name),
                providers=_providers(name, tf32=about.tf32),
                enable_fallback=0,
                read_config_from_model=0,
            )
        )
    except Exception as error:
        if _is_of_the_host(error):
            raise
        raise _refusal(error, onnxruntime, about, name, complaint) from error
    if full_name not in session.get_providers():
        opened = ", ".join(session.get_providers())
        raise refuse_unopened(name, f"onnxruntime opened {opened} in its place", complaint)
    if hasattr(session, "_model_bytes"):
        session._model_bytes = None  # noqa: SLF001 - a second copy of the weights, kept for nothing
    _log.info("%s runs on %s", about.source, name)
    return session


def _is_of_the_host(error: Exception) -> bool:
    """Whether an error comes from a signal handler, say a limit of time, that ran while onnxruntime was called.

    Or from a host that called so deep down that onnxruntime's own functions are too many.
    """
    if isinstance(error, RecursionError) or type(error).__module__.split(".")[0] not in (
        "builtins",
        "onnxruntime",
    ):
        return True
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    return not innermost.f_globals.get("__name__", "").startswith(("onnxruntime", __package__))


def _refusal(
    error: Exception, onnxruntime: ModuleType, about: _About, name: str, complaint: str
) -> BundleError | EnvironmentProblem:
    """Return what it means that onnxruntime did not open a graph: is the graph, the provider or memory at fault?"""
    reason, source, seen = one_line(error), about.source, about.seen
    if is_exhaustion(error):
        return ResourceLimitError(f"{source}: not enough memory to open it: {reason}")
    wheel = next(iter(installed_wheels()), "onnxruntime")
    needs = what_it_needs(reason, seen.opset, seen.ir_version, str(onnxruntime.__version__), wheel)
    if needs is not None:
        return BundleError(f"{source}: {needs}")
    if name != "cpu" and not isinstance(error, _graph_errors(onnxruntime)):
        return refuse_unopened(name, reason, complaint)
    return BundleError(f"{source}: onnxruntime cannot open it: {reason}")


def _options(onnxruntime: ModuleType, seen: Scan, name: str) -> Any:
    options = onnxruntime.SessionOptions()
    # One thread inside: large requests are split over threads outside (see `chunks`), which is faster
    # for graphs this small, and leaves no pool of threads behind that a fork would lose.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps memory for every batch size that was ever seen
    options.log_severity_level = _FATAL_ONLY
    # Releases that do not know one of these ignore it.
    entries = {
        "session.load_model_format": "ONNX",
        "session.model_external_initializers_file_folder_path": _NO_FOLDER,
        "optimization.constant_folding_max_output_size_in_bytes": str(_MOST_FOLDED // max(1, seen.nodes)),
    }
    if name in GPUS and _ON_THE_PROCESSOR not in seen.operators:
        # Otherwise a provider that takes no node at all would open, too.
        entries["session.disable_cpu_ep_fallback"] = "1"
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


def _providers(name: str, *, tf32: bool) -> list[tuple[str, dict[str, str]]]:
    """Return what to open, in the order of preference, and how."""
    options = {
        "cuda": {
            # TF32 keeps 10 bits of a factor's mantissa: the pictures differ from the CPU's by 1e-3 then.
            "use_tf32": "1" if tf32 else "0",
            # Otherwise every batch size that is new is tried out with one way to convolve after the other, which takes
            # up to a second (https://github.com/microsoft/onnxruntime/issues/19838) and may end differently each time.
            "cudnn_conv_algo_search": "HEURISTIC",
        }
    }
    # CUDA takes the nodes that TensorRT does not; the processor must not.
    names = (name, "cuda") if name == "tensorrt" else (name,)
    return [(ONNXRUNTIME_NAMES[each], options.get(each, {})) for each in names]


def _graph_errors(onnxruntime: ModuleType) -> tuple[type[Exception], ...]:
    """Return the errors that mean that the graph is at fault, whatever the provider."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    return (state.InvalidProtobuf, state.InvalidGraph, state.NoSuchFile)


def _check_signature(opened: _Opened, card: Card, source: str) -> None:
    session, input_name, output_names = opened.session, *SIGNATURES[card.role]
    outputs = session.get_outputs()
    for kind, nodes, names in (
        ("inputs", session.get_inputs(), (input_name,)),
        ("outputs", outputs[: len(outputs) - opened.added], output_names),
    ):
        found = [(node.name, node.type, node.shape[1:]) for node in nodes]
        expected = [(name, "tensor(float)", list(_row(name, card))) for name in names]
        if found != expected:
            raise BundleError(
                f"{source}: its {kind} are {shortened(str(found))}; its card promises {expected}"
            )
    batch = session.get_inputs()[0].shape[0]
    if isinstance(batch, int):
        raise BundleError(
            f"{source}: takes {batch} at a time and no other number; expected a batch of any size"
        )


def _row(name: str, card: Card) -> tuple[int, ...]:
    """Return the shape of one image, one latent or one number, whichever an input or output of this name holds."""
    if name == "log_density":
        return ()
    return card.image_shape if name == "image" else (card.latent_size,)
