"""Exact rewritings of the decoder: other layers that compute the same pictures, up to rounding, for less time.

Other architectures than the classic one are written as they are. Three facts are used:

- Nothing stands between the classic decoder's linear layer and its first transposed convolution. Both are
  linear, so they are one linear layer (`fold`).
- A transposed convolution of kernel 4, stride 2 and padding 1 is a 3x3 convolution with four times as many
  channels, whose channels are then laid out as 2x2 pixels (`sub_pixel`).
- A 3x3 convolution of pixels that were laid out so is another 3x3 convolution of the channels before that,
  whose own channels are laid out afterwards (`before_shuffle`).

By the last two a decoder stays on one grid of H/4 x W/4 positions up to its last step (`on_coarse_grid`). That
takes more multiplications, but all of them in the form that kernels for 8-bit integers are made for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from vae_export.coders import Coders, Form
from vae_export.folding import folding_pays
from vae_training.architectures.classic import ClassicDecoder


class FoldedDecoder(nn.Module):
    """The decoder with its first two layers as one."""

    def __init__(self, expand: nn.Linear, trans_conv2: nn.ConvTranspose2d, size: tuple[int, int]) -> None:
        """Take the layers, and the height and width of what the first one puts out, channels first."""
        super().__init__()
        self.expand = expand
        self.trans_conv2 = trans_conv2
        self.size = size

    def logits(self, latent: Tensor) -> Tensor:
        """(N, D) to the logits of pixels, (N, C, H, W)."""
        hidden = torch.relu(self.expand(latent))  # before the reshape: so onnxruntime does both at once
        hidden = hidden.view(-1, self.trans_conv2.in_channels, *self.size)  # (N, F1, H/2, W/2)
        return self.trans_conv2(hidden)  # type: ignore[no-any-return]  # torch modules return Any

    def forward(self, latent: Tensor) -> Tensor:
        """(N, D) to images (N, C, H, W) in [0, 1]."""
        return torch.sigmoid(self.logits(latent))

    def extra_repr(self) -> str:
        """Return what the layers do not show."""
        return f"size={self.size}"


class CoarseDecoder(nn.Module):
    """The decoder on a grid of H/4 x W/4 positions: each holds what becomes its 4x4 pixels in its channels."""

    def __init__(
        self, expand: nn.Linear, convolutions: list[nn.Conv2d], size: tuple[int, int], *, expand_relu: bool
    ) -> None:
        """Take the layers, the grid's size, and whether a ReLU stands behind the first one.

        What `expand` puts out has its channels last: as integer kernels want it, and for nothing, since the
        order of a linear layer's outputs is free.
        """
        super().__init__()
        self.expand = expand
        self.convolutions = nn.ModuleList(convolutions)
        self.size = size
        self.expand_relu = expand_relu
        self.channels = convolutions[0].in_channels

    def forward(self, latent: Tensor) -> Tensor:
        """(N, D) to images (N, C, H, W) in [0, 1]."""
        hidden = self.expand(latent)
        if self.expand_relu:
            hidden = torch.relu(hidden)
        hidden = hidden.view(-1, *self.size, self.channels).permute(0, 3, 1, 2)
        *earlier, last = self.convolutions
        for convolution in earlier:
            hidden = torch.relu(convolution(hidden))
        return F.pixel_shuffle(torch.sigmoid(last(hidden)), 4)

    def extra_repr(self) -> str:
        """Return what the layers do not show."""
        return f"size={self.size}, expand_relu={self.expand_relu}"


def rewrite(model: Coders, precision: str) -> Form:
    """Return the model in the form that is the fastest in a precision.

    What is chosen was measured (onnxruntime 1.32, two AVX-512 cores, one thread, batches of 64), in
    microseconds an image of the 24x24 gray decoder with 32 latents:

    | form of the decoder | fp32 | int8 |
    | --- | --- | --- |
    | as PyTorch has it | 41 | 85, since integers have no kernel for transposed convolutions |
    | folded | 6.5 | - |
    | on the coarse grid | 80 | 15 |
    | folded, on the coarse grid | 39 | 8.6 |

    So fp16 takes the folded form and int8 the coarse one, folded where possible. fp32 takes the folded form, too,
    but gets it from `folding`, which keeps the weights as they are: what is multiplied out is larger than they.
    """
    if precision == "fp32":
        return Form(model.config, model.encoder, model.decoder)
    decoder = model.decoder
    if isinstance(decoder, ClassicDecoder) and not decoder.fc_relu:
        latent_size, filters = decoder.fc.in_features, decoder.trans_conv1.out_channels
        if folding_pays(latent_size, decoder.shape, filters, precision):
            decoder = fold(decoder)
    if precision == "int8" and isinstance(decoder, (ClassicDecoder, FoldedDecoder)):
        decoder = on_coarse_grid(decoder)
    return Form(model.config, model.encoder, decoder)


@torch.no_grad()
def fold(decoder: ClassicDecoder) -> FoldedDecoder:
    """Return a decoder without a ReLU behind its linear layer in the form with one layer less.

    The product of the two layers is computed in float64 and rounded once.
    """
    first, (_, height, width) = decoder.trans_conv1, decoder.shape
    weight, bias = first.weight.double(), _bias(first).double()

    def through_first(features: Tensor) -> Tensor:
        grid = features.double().reshape(-1, *decoder.shape)
        return F.conv_transpose2d(grid, weight, stride=2, padding=1)

    columns = through_first(decoder.fc.weight.t())  # (D, F1, H/2, W/2): what each latent alone makes
    constant = through_first(decoder.fc.bias[None])[0] + bias.view(-1, 1, 1)
    expand = _linear(columns.flatten(1).t(), constant.flatten())
    return FoldedDecoder(expand, decoder.trans_conv2, (2 * height, 2 * width))


@torch.no_grad()
def on_coarse_grid(decoder: ClassicDecoder | FoldedDecoder) -> CoarseDecoder:
    """Return the decoder, folded or not, in the form that computes on the grid of H/4 x W/4 positions."""
    if isinstance(decoder, FoldedDecoder):
        height, width = (side // 2 for side in decoder.size)
        filters = decoder.trans_conv2.in_channels

        def in_blocks(rows: Tensor) -> Tensor:
            grid = F.pixel_unshuffle(rows.t().reshape(-1, filters, *decoder.size), 2)
            return grid.permute(2, 3, 1, 0).flatten(0, 2)

        expand = _linear(in_blocks(decoder.expand.weight), in_blocks(decoder.expand.bias[:, None])[:, 0])
        earlier = []
    else:
        _, height, width = decoder.shape

        def channels_last(rows: Tensor) -> Tensor:
            return rows.reshape(*decoder.shape, *rows.shape[1:]).movedim(0, 2).flatten(0, 2)

        expand = _linear(channels_last(decoder.fc.weight), channels_last(decoder.fc.bias))
        earlier = [_convolution(sub_pixel(decoder.trans_conv1.weight), _bias(decoder.trans_conv1), 4)]
    last = before_shuffle(sub_pixel(decoder.trans_conv2.weight))  # (C * 2 * 2 * 2 * 2, 4 * F1, 3, 3)
    # Two shuffles by 2, of the pixel in its 2x2 and of the 2x2 in the 4x4, are one by 4.
    blocks = last.view(-1, 2, 2, 2, 2, *last.shape[1:]).permute(0, 3, 1, 4, 2, 5, 6, 7).flatten(0, 4)
    final = _convolution(blocks, _bias(decoder.trans_conv2), 16)
    relu = isinstance(decoder, FoldedDecoder) or decoder.fc_relu
    return CoarseDecoder(expand, [*earlier, final], (height, width), expand_relu=relu)


def sub_pixel(weight: Tensor) -> Tensor:
    """Return the 3x3 convolution that, with its channels laid out as 2x2 pixels, is a transposed convolution.

    Args:
        weight: (I, O, 4, 4), of a transposed convolution of stride 2 and padding 1.

    Returns:
        (4 O, I, 3, 3), for padding 1 and a pixel shuffle by 2 behind it.
    """
    # Row 2 q + d takes row q + t of the input, t from -1 to 1, by the kernel's row d + 1 - 2 t, if it has one.
    taps = _ones([(d, t, d + 1 - 2 * (t - 1)) for d in range(2) for t in range(3)], (2, 3, 4), weight)
    return torch.einsum("iokl,dtk,eul->odeitu", weight, taps, taps).flatten(0, 2)


def before_shuffle(weight: Tensor) -> Tensor:
    """Return the convolution before a pixel shuffle by 2 that does the same as another one behind it.

    Args:
        weight: (P, Q, 3, 3), of padding 1, of a convolution behind the shuffle.

    Returns:
        (4 P, 4 Q, 3, 3), of padding 1, before it.
    """
    # Row 2 r + a takes row 2 r + a + t of the input, t from -1 to 1, which is row b of block r + c.
    rows = [(a, (a + t) // 2 + 1, (a + t) % 2, t + 1) for a in range(2) for t in (-1, 0, 1)]
    taps = _ones(rows, (2, 3, 2, 3), weight)
    return torch.einsum("pqtu,acbt,defu->padqbfce", weight, taps, taps).flatten(3, 5).flatten(0, 2)


def _ones(places: Sequence[tuple[int, ...]], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return zeros with a one at each of the places that lie inside."""
    tensor = like.new_zeros(shape)
    for place in places:
        if all(0 <= index < size for index, size in zip(place, shape, strict=True)):
            tensor[place] = 1.0
    return tensor


def _bias(layer: nn.ConvTranspose2d) -> Tensor:
    return layer.get_parameter("bias")


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return a linear layer of the weights, in float32."""
    layer = nn.Linear(weight.shape[1], weight.shape[0]).requires_grad_(False)
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer


def _convolution(weight: Tensor, bias: Tensor, repeats: int) -> nn.Conv2d:
    """Return a 3x3 convolution whose outputs have the biases, each for so many channels in a row."""
    outputs, inputs = weight.shape[:2]
    layer = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1).requires_grad_(False)
    layer.weight.copy_(weight)
    layer.get_parameter("bias").copy_(bias.repeat_interleave(repeats))
    return layer
