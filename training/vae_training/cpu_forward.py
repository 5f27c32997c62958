"""The same network, arranged for the CPU: the same parameters, the same numbers up to rounding, less time.

Of the classic architecture six things differ from `VAE.forward`, each measured in the training benchmark; of others
the first alone:

- Activations lie in memory with their channels last, as the CPU's convolutions want them.
- The encoder's heads have their weights rearranged to that order, instead of the activations to theirs: a
  copy of a weight costs less than one of a batch, forward and backward.
- ReLUs work in place: no convolution's backward pass needs what it put out.
- Nothing lies between the decoder's linear layer and the first transposed convolution, which is linear, too. So it is
  applied to what each latent adds to its input, which are fewer than the images of a batch, and latents are multiplied
  with what comes of that: 0.48 million multiply-adds an image instead of 1.23, in batches of 64.
- Otherwise that convolution leaves its bias to an addition: the gradient of a bias inside of it takes the CPU's library
  seven times as long as the sum that it is.
- The last transposed convolution has so few output channels that the CPU's own kernel is a poor fit. It is
  one matrix product, and the sum of the overlapping patches that come out of it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from vae_training.architectures import Decoder, Encoder
from vae_training.architectures.classic import ClassicDecoder, ClassicEncoder
from vae_training.model import VAE, reparameterize

# Times fewer multiply-adds: smaller products and copies of weights cost more for each of them.
_LEAST_GAIN = 1.5


def forward_on_cpu(model: VAE, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Do what `VAE.forward` does: images (N, C, H, W) and noise (N, D) to logits, mean and logvar."""
    mean, logvar = _encode(model.encoder, image.contiguous(memory_format=torch.channels_last))
    return decode_on_cpu(model.decoder, reparameterize(mean, logvar, noise)), mean, logvar


def _encode(encoder: Encoder, image: Tensor) -> tuple[Tensor, Tensor]:
    if not isinstance(encoder, ClassicEncoder):
        return encoder(image)  # type: ignore[no-any-return]  # torch modules return Any
    hidden = torch.relu_(encoder.conv1(image))
    hidden = torch.relu_(encoder.conv2(hidden))  # (N, F2, H/4, W/4), channels last
    channels = hidden.shape[1]
    features = hidden.permute(0, 2, 3, 1).flatten(1)  # (N, P * F2), no copy
    return _head(encoder.fc_mu, features, channels), _head(encoder.fc_logvar, features, channels)


def _head(head: nn.Linear, features: Tensor, channels: int) -> Tensor:
    """Apply a layer whose weight (D, F2 * P) has channels first to features (N, P * F2) that have them last."""
    weight = head.weight.view(head.out_features, channels, -1).transpose(1, 2).flatten(1)
    return F.linear(features, weight, head.bias)


def decode_on_cpu(decoder: Decoder, latent: Tensor) -> Tensor:
    """Do what `Decoder.logits` does: latents (N, D) to logits (N, C, H, W)."""
    if not isinstance(decoder, ClassicDecoder):
        return decoder.logits(latent)
    hidden_of = _both_at_once if _is_worth_it(decoder, len(latent)) else _in_turn
    hidden, last = hidden_of(decoder, latent), decoder.trans_conv2
    # Newer releases of torch type it.
    logits: Tensor = _DoubleByProduct.apply(hidden, last.weight, last.bias)  # type: ignore[no-untyped-call,unused-ignore]
    return logits


def _in_turn(decoder: ClassicDecoder, latent: Tensor) -> Tensor:
    """Lead latents (N, D) through the linear layer and the first transposed convolution: (N, F1, H/2, W/2)."""
    hidden = decoder.fc(latent).view(-1, *decoder.shape)  # (N, F2, H/4, W/4)
    if decoder.fc_relu:
        hidden = torch.relu_(hidden)
    convolution = decoder.trans_conv1
    hidden = hidden.contiguous(memory_format=torch.channels_last)
    hidden = F.conv_transpose2d(hidden, convolution.weight, stride=2, padding=1)
    return torch.relu_(hidden.add_(convolution.get_parameter("bias").view(-1, 1, 1)))


def _is_worth_it(decoder: ClassicDecoder, count: int) -> bool:
    """Tell whether `_both_at_once` may be taken for so many latents, and is much less to compute than `_in_turn`."""
    _, height, width = decoder.shape
    linear, convolution = decoder.fc, decoder.trans_conv1
    latents, features = linear.in_features, linear.out_features
    convolving = features * convolution.weight[0].numel()  # multiply-adds of one image
    in_turn = count * (latents * features + convolving)
    at_once = (latents + 1) * convolving + count * latents * (4 * height * width * convolution.out_channels)
    return not decoder.fc_relu and in_turn >= _LEAST_GAIN * at_once


def _both_at_once(decoder: ClassicDecoder, latent: Tensor) -> Tensor:
    """Do what `_in_turn` does: conv(z @ w + b) = z @ conv(w) + conv(b), conv being linear."""
    channels, height, width = decoder.shape
    linear, convolution = decoder.fc, decoder.trans_conv1
    size = linear.in_features
    # What each latent adds, and the bias: (D + 1, F2, H/4, W/4), channels last.
    weight = linear.weight.view(channels, -1, size).permute(2, 1, 0)
    rows = torch.cat([weight, linear.bias.view(1, channels, -1).transpose(1, 2)])
    rows = rows.view(size + 1, height, width, channels).permute(0, 3, 1, 2)
    rows = F.conv_transpose2d(rows, convolution.weight, stride=2, padding=1)  # (D + 1, F1, H/2, W/2)
    shape = rows.shape[2:] + rows.shape[1:2]
    bias = convolution.get_parameter("bias").expand(shape).reshape(1, -1)
    product = rows.permute(0, 2, 3, 1).flatten(1) + F.pad(bias, (0, 0, size, 0))  # onto the last row
    # A one behind the latents takes the bias along: added to the product it would be copied for every image first.
    hidden = torch.relu_(F.pad(latent, (0, 1), value=1.0) @ product)
    return hidden.view(-1, *shape).permute(0, 3, 1, 2)


class _DoubleByProduct(torch.autograd.Function):
    """A transposed convolution of kernel 4, stride 2 and padding 1 as one matrix product.

    Every input pixel makes a patch of 4x4 output pixels, and patches lie two apart: each output pixel is the
    sum of the four patches that cover it. In one dimension, with a border that is cut off at the end:

        patch 0    a0 a1 a2 a3
        patch 1          b0 b1 b2 b3
        patch 2                c0 c1 c2 c3
        output   | a0|a1 a2+b0 a3+b1 b2+c0 b3+c1 c2|c3 |

    A row of a patch is 2 * half + phase. Even and odd output rows (the two phases) are kept apart while they
    are summed, columns likewise: then every sum runs along rows that are contiguous in memory.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(N, F, h, w) channels last, (F, C, 4, 4) and (C,) to (N, C, 2 h, 2 w)."""
        count, _, height, width = image.shape
        pixels = image.permute(0, 2, 3, 1).flatten(0, 2)  # (N * h * w, F)
        ctx.save_for_backward(pixels, weight)
        patches = weight.flatten(1).t() @ pixels.t()  # (C * 16, N * h * w)
        patches = patches.view(-1, 2, 2, 2, 2, count, height, width)  # (C, half, phase, half, phase, N, h, w)
        phases = pixels.new_zeros(len(patches), 2, 2, count, height + 1, width + 1)
        for down in (0, 1):
            for right in (0, 1):
                phases[..., down : down + height, right : right + width] += patches[:, down, :, right]
        output = phases.permute(3, 0, 4, 1, 5, 2).reshape(count, -1, 2 * height + 2, 2 * width + 2)
        return output[:, :, 1:-1, 1:-1] + bias.view(-1, 1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of image, weight and bias: the convolution that the forward pass transposes."""
        pixels, weight = ctx.saved_tensors
        count, channels, height, width = gradients[0].shape
        height, width = height // 2, width // 2
        phases = F.pad(gradients[0], (1, 1, 1, 1)).view(count, channels, height + 1, 2, width + 1, 2)
        phases = phases.permute(1, 3, 5, 0, 2, 4).contiguous()  # (C, phase, phase, N, h + 1, w + 1)
        patches = phases.unfold(4, height, 1).unfold(5, width, 1)  # (C, phase, phase, N, half, half, h, w)
        patches = patches.permute(0, 4, 1, 5, 2, 3, 6, 7).reshape(channels * 16, -1)  # (C * 16, N * h * w)
        # Contiguous, or the product takes five times as long.
        rows = weight.flatten(1).t().contiguous()  # (C * 16, F)
        image = (patches.t() @ rows).view(count, height, width, -1)
        weights = (patches @ pixels).t().reshape(weight.shape)
        return image.permute(0, 3, 1, 2), weights, gradients[0].sum((0, 2, 3))
