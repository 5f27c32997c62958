"""What stands behind a model: its opened graphs, and the one place that decides on chunks, threads and memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.bundle import ROLES_OF_A_PRIOR, Bundle
from vae_runtime.card import Card
from vae_runtime.chunks import chunk_size, encoder_chunk_size, for_each_chunk
from vae_runtime.device_memory import OnDevice
from vae_runtime.device_outputs import PICTURE, SUM
from vae_runtime.errors import BundleError, ClosedError, NonFiniteError, printable, shown
from vae_runtime.images import (
    Images,
    all_finite,
    as_float32,
    as_floats,
    as_images,
    fill_pictures,
    picture_shape,
    require_finite,
    require_images,
    to_uint8,
)
from vae_runtime.latent import Latents, require_latents
from vae_runtime.memory import ALWAYS_TRIED, require_memory
from vae_runtime.requests import FLOAT32, Dtype, ImageArray, image_dtype
from vae_runtime.session import Graph
from vae_runtime.threads import thread_count


class Engine:
    """The graphs of a bundle, ready to run. Safe to use from several threads."""

    def __init__(
        self, bundle: Bundle, provider: str, threads: int | None, *, check_finite: bool, tf32: bool
    ) -> None:
        """Open the graphs; arguments and errors as those of `load`."""
        self.check_finite, self.tf32 = check_finite, tf32
        self.source = bundle.source
        allowed = thread_count(threads)
        self._closed = False
        self._bundle, self._provider = bundle, provider
        self.roles = tuple(bundle.graphs)
        # What only some calls need is opened by the first of them, so that the others need not wait for it.
        self._decoder = decoder = self._open("decoder")
        if decoder.provider == "cpu":
            # Where `auto` finds no GPU for the decoder, the others need not look for one: most work is the decoder's,
            # and with a graph on a GPU the CPU would be given one thread.
            self._provider = "cpu"
        early = (role for role in self.roles if role not in ROLES_OF_A_PRIOR)
        self._graphs = {role: decoder if role == "decoder" else self._open(role) for role in early}
        self._opened_late: dict[str, Graph] = {}
        for graph in self._graphs.values():
            _refuse_stranger(graph, decoder)
        on_cpu = self.providers == ("cpu",)
        self.card: Card = decoder.card
        self.image_shape, self.latent_size = self.card.image_shape, self.card.latent_size
        self.latent_bytes = 4 * self.latent_size
        self._one_latent = (1, self.latent_size)
        self._pixels = math.prod(self.image_shape)
        # So many images with their latents are not worth asking the system for memory.
        self._surely_fit = ALWAYS_TRIED // (2 * self.latent_bytes + 4 * self._pixels)
        self.chunk = chunk_size(self.image_shape, on_gpu=not on_cpu)
        self.encoder_chunk = encoder_chunk_size(self.chunk, on_gpu=not on_cpu)
        self.threads = allowed if on_cpu else 1

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that really run the graphs, by their short names."""
        return tuple(sorted({graph.provider for graph in self._graphs.values()}))

    def _open(self, role: str) -> Graph:
        data = self._bundle.graphs[role]
        return Graph(role, data, source=self.source, provider=self._provider, tf32=self.tf32)

    def has(self, role: str) -> bool:
        """Whether the bundle has a graph of this role."""
        return role in self.roles

    def close(self) -> None:
        """Release the sessions. Runs under way in other threads end."""
        self._closed = True
        for graph in (*self._graphs.values(), *tuple(self._opened_late.values())):
            graph.close()

    def require_open(self) -> None:
        """Raise `ClosedError` after `close`, which an empty request would not notice otherwise."""
        if self._closed:
            raise ClosedError(f"{self.source}: the model is closed; load it again")

    def run(self, role: str, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Run one chunk through a graph, and look at what comes out."""
        outputs = (self._graphs.get(role) or self._late(role)).run(batch)
        if self.check_finite:
            for output in outputs:
                if not all_finite(output):
                    raise self._non_finite(role, output)
        return outputs

    def _late(self, role: str) -> Graph:
        """Return a graph that is opened when it is first asked for.

        There is no lock, which a fork or an interruption could leave taken: threads that ask at once open it more
        than once, and the first of these graphs is kept.
        """
        if role not in self._opened_late:
            graph = self._open(role)
            _refuse_stranger(graph, self._graphs["decoder"])
            self._opened_late.setdefault(role, graph)
            if self._closed:  # perhaps meanwhile, by a thread that did not see this graph
                graph.close()
        return self._opened_late[role]

    def _non_finite(self, role: str, output: npt.NDArray[np.float32]) -> NonFiniteError:
        bad = int(np.count_nonzero(~np.isfinite(output)))
        return NonFiniteError(
            f"{self.source}: the {role} produced {bad} NaN or infinite values of {output.size}; "
            "its weights are broken, or its input is far outside of what it was trained on"
        )

    def in_chunks(self, total: int, work: Callable[[slice], None], *, at_most: int | None = None) -> None:
        """Call `work` on slices that cover `range(total)`, with as many threads as are allowed.

        A slice is a chunk, or `at_most` so much where a piece of work takes more than its chunk of memory.
        """
        self.require_open()
        for_each_chunk(total, work, chunk=at_most or self.chunk, threads=self.threads)

    def encode(self, images: npt.NDArray[Any]) -> list[Latents]:
        """Return mean and logvar of a chunk of images or pictures that were checked."""
        most = self.encoder_chunk
        if len(images) <= most:
            return self.run("encoder", as_floats(images))
        # As a request for no more than this cuts them: whatever else is asked for, no bit differs.
        pieces = (self.encode(images[start : start + most]) for start in range(0, len(images), most))
        return [np.concatenate(outputs) for outputs in zip(*pieces, strict=True)]

    def decode_one(self, latents: npt.ArrayLike) -> Images | None:
        """Decode a single latent by the shortest way; None where it is not just that, or anything is wrong with it.

        What is checked is what others check and tell: one after the other that takes a fifth of the time.
        """
        if not (
            type(latents) is np.ndarray
            and latents.dtype is FLOAT32
            and latents.shape == self._one_latent
            and all_finite(latents)
        ):
            return None
        made = self._decoder.run_one(latents)
        return made[0] if made is not None and all_finite(made[0]) else None

    def decode_into(
        self, latents: Latents, images: ImageArray, observe: Callable[[Images], Images] | None = None
    ) -> None:
        """Decode a chunk of latents into an array of images or of pictures; `observe` may write over what is made."""
        if observe is None and self._decoded_on_device(latents, images):
            return
        (made,) = self.run("decoder", latents)
        if observe is not None:
            made = observe(made)
        if images.dtype is FLOAT32:
            images[...] = made
        elif self.check_finite:
            fill_pictures(made, images)
        else:
            to_uint8(made, images)

    def sample_into(
        self, noise: Latents, images: ImageArray, observe: Callable[[Images], Images] | None = None
    ) -> None:
        """Lead a chunk of noise through the prior and the decoder; otherwise as `decode_into`."""
        if observe is None and self._sampled_on_device(noise, images):
            return
        self.decode_into(self.through_prior(noise), images, observe)

    def _sampled_on_device(self, noise: Latents, images: ImageArray) -> bool:
        """Sample from a learned prior without its latents leaving the device; False where that cannot be, or is NaN."""
        prior = self._graphs.get("prior")
        if prior is None or not (prior.is_on_device and self._graphs["decoder"].is_on_device):
            return False
        sums = _new_sums(noise)
        latents = prior.keep(noise, sums)
        return latents is not None and all_finite(sums) and self._decoded_on_device(latents, images)

    def _decoded_on_device(self, latents: Latents | OnDevice, images: ImageArray) -> bool:
        """Have the device write a chunk of images or pictures to their place; False where it cannot, or made NaN.

        What is wrong with them shows where they are made once more.
        """
        decoder = self._graphs["decoder"]
        if not decoder.is_on_device:
            return False
        sums = _new_sums(images)
        if images.dtype is FLOAT32:
            wanted = {"image": images}
        else:
            channels, height, width = self.image_shape
            wanted = {PICTURE: images.reshape(-1, height, width, channels)}
        return decoder.fill(latents, {**wanted, SUM: sums}) and all_finite(sums)

    def through_prior(self, noise: Latents) -> Latents:
        """Return the latents of a chunk of noise: itself, where no prior was learned."""
        return self.run("prior", noise)[0] if "prior" in self._graphs else noise

    def require_images(self, array: npt.NDArray[Any]) -> None:
        """Raise `InputError` unless type and shape are those of this model's images or pictures."""
        require_images(array.dtype, array.shape, self.image_shape)

    def require_latents(self, array: npt.NDArray[Any]) -> None:
        """Raise `InputError` unless type and shape are those of this model's latents."""
        require_latents(array.dtype, array.shape, self.latent_size)

    def checked_images(self, array: npt.NDArray[Any], begins_at: int = 0) -> Images:
        """Return images or pictures as `encode` takes them, chunk by chunk; `begins_at` is the row that is row 0."""
        return as_images(array, self.image_shape, check_finite=self.check_finite, begins_at=begins_at)

    def checked_latents(self, array: npt.NDArray[Any], begins_at: int = 0) -> Latents:
        """Return latents as `decode_into` takes them, chunk by chunk; `begins_at` is the row that is row 0."""
        latents = as_float32(array)
        if self.check_finite:
            require_finite(latents, "latents", begins_at=begins_at)
        return latents

    def new_latents(self, arrays: int, n: int) -> list[Latents]:
        """Return arrays (n, D) float32 to write into."""
        return [np.empty((n, self.latent_size), np.float32) for _ in range(arrays)]

    def new_images(self, n: int, dtype: Dtype) -> ImageArray:
        """Return an array of `n` images or pictures to write into, or raise where there is no room for it."""
        kind = image_dtype(dtype)
        self.require_room(n, self._pixels * kind.itemsize, "images")
        each = self.image_shape if kind is FLOAT32 else picture_shape(self.image_shape)
        return np.empty((n, *each), kind)

    def require_room(self, n: int, bytes_each: int, what: str) -> None:
        """Raise where memory cannot hold so many, before any of them is made: noise alone can take minutes."""
        if n > self._surely_fit:
            require_memory(int(n) * bytes_each, f"{shown(int(n))} {what}")

    def require_room_for_decoding(self, n: int, dtype: Dtype) -> None:
        """Raise where memory cannot hold `n` images and their latents."""
        if n > self._surely_fit:
            self.require_room(n, self.bytes_of_one(dtype), "images and their latents")

    def bytes_of_one(self, dtype: Dtype) -> int:
        """Return what an image and its latent take."""
        return self.latent_bytes + self._pixels * image_dtype(dtype).itemsize


def _refuse_stranger(graph: Graph, decoder: Graph) -> None:
    """Raise unless both graphs come from one export: an encoder of another training means nothing here."""
    differing = graph.card.differences(decoder.card)
    if "bundle_id" in differing:
        raise BundleError(
            f"{graph.source} and {decoder.source} come from different exports "
            f"({_short(graph.card)} and {_short(decoder.card)}); expected graphs of one bundle"
        )
    if differing:
        raise BundleError(f"{graph.source} and {decoder.source} disagree about {', '.join(differing)}")


def _new_sums(rows: npt.NDArray[Any]) -> Latents:
    return np.empty((len(rows), 1), np.float32)


def _short(card: Card) -> str:
    return printable(card.bundle_id[:12])
