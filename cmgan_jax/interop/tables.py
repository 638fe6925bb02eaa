"""The two networks as tables: every tensor's published name, its path here, and the permutation of its axes.

A table is built from a network's sizes; `naming` iterates over it to read, write and check weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cmgan_jax.config import DiscriminatorConfig, GeneratorConfig

Axes = tuple[int, ...]
# Torch axes in flax's order; an omitted axis has size 1 in torch and does not exist in flax.
_VECTOR: Axes = (0,)
_TABLE: Axes = (0, 1)
_LINEAR: Axes = (1, 0)  # (out, in) -> (in, out)
_CONV: Axes = (2, 3, 1, 0)  # OIHW -> HWIO
_POINTWISE: Axes = (1, 0)  # (out, in, 1) -> (in, out): a linear layer in this project
_DEPTHWISE: Axes = (2, 0)  # (C, 1, width) -> (width, C)

COUNTER = ".num_batches_tracked"
"""Suffix of the name of a BatchNorm's counter."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor in both frameworks.

    Attributes:
        torch: its name in a state dict.
        flax: its path in the variables, beginning with the collection; None for a counter that flax does not use.
        shape: its shape in torch.
        axes: torch axes in flax's order, without axes of size 1 that flax does not have.
    """

    torch: str
    flax: str | None
    shape: tuple[int, ...]
    axes: Axes = _VECTOR

    def to_flax(self, tensor: np.ndarray) -> np.ndarray:
        """Convert from torch's layout to flax's, as contiguous float32."""
        dropped = tuple(axis for axis in range(tensor.ndim) if axis not in self.axes)
        squeezed = np.squeeze(tensor, dropped)
        ranks = np.argsort(np.argsort(self.axes))
        return np.array(squeezed.transpose(ranks), np.float32, order="C")

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Convert from flax's layout to torch's, as contiguous float32."""
        dropped = tuple(axis for axis in range(len(self.shape)) if axis not in self.axes)
        return np.array(np.expand_dims(array.transpose(np.argsort(self.axes)), dropped), np.float32, order="C")


def _norm(torch: str, flax: str, channels: int) -> Iterator[TensorEntry]:
    yield TensorEntry(f"{torch}.weight", f"params/{flax}/scale", (channels,))
    yield TensorEntry(f"{torch}.bias", f"params/{flax}/bias", (channels,))


def _prelu(torch: str, flax: str, slopes: int) -> Iterator[TensorEntry]:
    yield TensorEntry(f"{torch}.weight", f"params/{flax}/slope", (slopes,))


def _affine(torch: str, flax: str, shape: tuple[int, ...], axes: Axes = _CONV) -> Iterator[TensorEntry]:
    """Yield a convolution or linear layer with a bias; `shape` is the weight's."""
    yield TensorEntry(f"{torch}.weight", f"params/{flax}/kernel", shape, axes)
    yield TensorEntry(f"{torch}.bias", f"params/{flax}/bias", shape[:1])


def _conv_unit(names: Sequence[str], flax: str, shape: tuple[int, ...]) -> Iterator[TensorEntry]:
    """Yield a convolution, instance norm and PReLU with the given torch names; `shape` is the kernel's."""
    conv, norm, prelu = names
    yield from _affine(conv, f"{flax}/conv/conv", shape)
    yield from _norm(norm, f"{flax}/norm", shape[0])
    yield from _prelu(prelu, f"{flax}/prelu", shape[0])


def _numbered(torch: str) -> list[str]:
    """Torch names of a convolution unit whose three parts are numbered."""
    return [f"{torch}.{part}" for part in range(3)]


def _upsampling(decoder: str, c: GeneratorConfig) -> Iterator[TensorEntry]:
    """Yield a decoder's dense block and all layers up to its convolution to the full frequency resolution."""
    width = c.channels
    yield from _dense_block(f"{decoder}.dense_block", f"{decoder}/dense", c)
    for i, stride in reversed(list(enumerate(c.strides))[1:]):
        torch, flax = f"{decoder}.upsampling_{i}", f"{decoder}/upsampling"
        yield from _affine(f"{torch}.conv", f"{flax}/sub_pixel_{i}/conv/conv", (stride * width, width, 1, 3))
        yield from _norm(f"{torch}.norm", f"{flax}/norm_{i}", width)
        yield from _prelu(f"{torch}.prelu", f"{flax}/prelu_{i}", width)
    shape = (c.strides[0] * (c.output_channels or width), width, 1, 3)
    yield from _affine(f"{decoder}.sub_pixel.conv", f"{decoder}/sub_pixel/conv/conv", shape)


def _dense_block(torch: str, flax: str, c: GeneratorConfig) -> Iterator[TensorEntry]:
    for i in range(c.dense_depth):
        names = [f"{torch}.{part}{i + 1}" for part in ("conv", "norm", "prelu")]
        yield from _conv_unit(names, f"{flax}/layer_{i}", (c.channels, c.channels * (i + 1), 2, 3))


def _feed_forward(torch: str, flax: str, c: GeneratorConfig) -> Iterator[TensorEntry]:
    hidden = c.channels * c.feed_forward_factor
    yield from _affine(f"{torch}.fn.fn.net.0", f"{flax}/expand", (hidden, c.channels), _LINEAR)
    yield from _affine(f"{torch}.fn.fn.net.3", f"{flax}/contract", (c.channels, hidden), _LINEAR)
    yield from _norm(f"{torch}.fn.norm", f"{flax}/norm", c.channels)


def _conformer(torch: str, flax: str, c: GeneratorConfig) -> Iterator[TensorEntry]:
    width, inner = c.channels, c.channels * c.convolution_factor
    yield from _feed_forward(f"{torch}.ff1", f"{flax}/feed_forward_1", c)

    attention, ours = f"{torch}.attn.fn", f"params/{flax}/attention"
    yield TensorEntry(f"{attention}.to_q.weight", f"{ours}/query/kernel", (width, width), _LINEAR)
    yield TensorEntry(f"{attention}.to_kv.weight", f"{ours}/key_value/kernel", (2 * width, width), _LINEAR)
    yield from _affine(f"{attention}.to_out", f"{flax}/attention/output", (width, width), _LINEAR)
    table = (2 * c.max_distance + 1, width // c.heads)
    yield TensorEntry(f"{attention}.rel_pos_emb.weight", f"{ours}/positions", table, _TABLE)
    yield from _norm(f"{torch}.attn.norm", f"{flax}/attention/norm", width)

    convolution, ours = f"{torch}.conv.net", f"{flax}/convolution"
    yield from _norm(f"{convolution}.0", f"{ours}/norm", width)
    yield from _affine(f"{convolution}.2", f"{ours}/expand", (2 * inner, width, 1), _POINTWISE)
    depthwise = f"params/{ours}/depthwise"
    yield TensorEntry(f"{convolution}.4.conv.weight", f"{depthwise}_kernel", (inner, 1, c.kernel), _DEPTHWISE)
    yield TensorEntry(f"{convolution}.4.conv.bias", f"{depthwise}_bias", (inner,))
    yield from _norm(f"{convolution}.5", f"{ours}/batch_norm", inner)
    yield TensorEntry(f"{convolution}.5.running_mean", f"batch_stats/{ours}/batch_norm/mean", (inner,))
    yield TensorEntry(f"{convolution}.5.running_var", f"batch_stats/{ours}/batch_norm/variance", (inner,))
    yield TensorEntry(f"{convolution}.5{COUNTER}", None, ())
    yield from _affine(f"{convolution}.7", f"{ours}/contract", (width, inner, 1), _POINTWISE)

    yield from _feed_forward(f"{torch}.ff2", f"{flax}/feed_forward_2", c)
    yield from _norm(f"{torch}.post_norm", f"{flax}/norm", width)


def generator_table(c: GeneratorConfig, bins: int) -> Iterator[TensorEntry]:
    """Yield every tensor of a generator for F = bins frequency bins, in the published order."""
    width = c.channels
    torch, flax = "dense_encoder", "encoder"
    if not c.early_strides:
        yield from _conv_unit(_numbered(f"{torch}.conv_1"), f"{flax}/input", (width, 3, 1, 1))
    for i, stride in enumerate(c.early_strides):
        shape = (width, width if i else 3, 1, 2 * stride - 1)
        yield from _conv_unit(_numbered(f"{torch}.early_{i}"), f"{flax}/early_{i}", shape)
    yield from _dense_block(f"{torch}.dilated_dense", f"{flax}/dense", c)
    for i, stride in enumerate(c.late_strides):
        # The published network has only one of these, without a number.
        names, ours = (_numbered(f"{torch}.late_{i}"), f"down_{i}") if i else (_numbered(f"{torch}.conv_2"), "down")
        yield from _conv_unit(names, f"{flax}/{ours}", (width, width, 1, 2 * stride - 1))

    for i in range(c.blocks):
        yield from _conformer(f"TSCB_{i + 1}.time_conformer", f"block_{i}/time", c)
        yield from _conformer(f"TSCB_{i + 1}.freq_conformer", f"block_{i}/frequency", c)

    output, first = c.output_channels or width, c.strides[0]
    torch = flax = "mask_decoder"
    yield from _upsampling(torch, c)
    names = [f"{torch}.{part}" for part in ("conv_1", "norm", "prelu")]
    yield from _conv_unit(names, f"{flax}/reduce", (1, output, 1, first))
    yield from _affine(f"{torch}.final_conv", f"{flax}/scale/conv", (1, 1, 1, 1))
    yield from _prelu(f"{torch}.prelu_out", f"{flax}/prelu", bins)

    torch = flax = "complex_decoder"
    yield from _upsampling(torch, c)
    yield from _prelu(f"{torch}.prelu", f"{flax}/prelu", output)
    yield from _norm(f"{torch}.norm", f"{flax}/norm", output)
    yield from _affine(f"{torch}.conv", f"{flax}/reduce/conv", (2, output, 1, first))


def _spectral(torch: str, flax: str, shape: tuple[int, ...], axes: Axes) -> Iterator[TensorEntry]:
    yield TensorEntry(f"{torch}.weight_orig", f"params/{flax}/kernel", shape, axes)
    # The columns of v run over (in, rows, columns) of the kernel; our feature map is frequency × time too, so v is
    # unchanged.
    columns = int(np.prod(shape[1:]))
    yield TensorEntry(f"{torch}.weight_u", f"batch_stats/{flax}/spectral_norm/u", shape[:1])
    yield TensorEntry(f"{torch}.weight_v", f"batch_stats/{flax}/spectral_norm/v", (columns,))


def discriminator_table(c: DiscriminatorConfig) -> Iterator[TensorEntry]:
    """Yield every tensor of a discriminator, in the published order."""
    inputs = 2
    for i, factor in enumerate((1, 2, 4, 8)):
        width = factor * c.channels
        yield from _spectral(f"layers.{3 * i}", f"conv_{i}", (width, inputs, 4, 4), _CONV)
        yield from _norm(f"layers.{3 * i + 1}", f"norm_{i}", width)
        yield from _prelu(f"layers.{3 * i + 2}", f"prelu_{i}", width)
        inputs = width
    for layer, flax, shape in ((14, "hidden", (inputs // 2, inputs)), (17, "output", (1, inputs // 2))):
        yield TensorEntry(f"layers.{layer}.bias", f"params/{flax}/bias", shape[:1])
        yield from _spectral(f"layers.{layer}", flax, shape, _LINEAR)
        if flax == "hidden":
            yield from _prelu("layers.16", "hidden_prelu", inputs // 2)
    yield TensorEntry("layers.18.slope", "params/slope", (1,))
