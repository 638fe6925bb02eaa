"""Both networks of the published CMGAN as PyTorch modules, as published: channels first, attention scores in memory.

They are written from the architecture's description. Modules are named like this project's variables; the `load_*`
functions read a state dict with the published names, using the table of this project's import and export.
"""

# pyright: reportMissingImports=false

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmgan_jax.config import DiscriminatorConfig, GeneratorConfig
from cmgan_jax.interop.tables import TensorEntry, discriminator_table, generator_table


class ConvUnit(nn.Module):
    """Convolution, instance norm, PReLU: [B, C, T, F]."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], **options: Any):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, **options)
        self.norm = nn.InstanceNorm2d(outputs, affine=True)
        self.prelu = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, T, F] -> [B, outputs, T', F']."""
        return self.prelu(self.norm(self.conv(x)))


class Dense(nn.Module):
    """Dilated dense block, causal in time; new features are put before the old ones."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        for i in range(c.dense_depth):
            unit = ConvUnit(c.channels * (i + 1), c.channels, (2, 3), dilation=(2**i, 1))
            self.add_module(f"layer_{i}", unit)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, F] -> [B, C, T, F]."""
        seen = out = x
        for i, unit in enumerate(self.children()):
            out = unit(functional.pad(seen, (1, 1, 2**i, 0)))
            seen = torch.cat([out, seen], dim=1)
        return out


def _down(inputs: int, outputs: int, stride: int) -> ConvUnit:
    return ConvUnit(inputs, outputs, (1, 2 * stride - 1), stride=(1, stride), padding=(0, stride - 1))


class Encoder(nn.Module):
    """Encode to C channels at the conformers' resolution."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.early = [f"early_{i}" for i in range(len(c.early_strides))] or ["input"]
        self.late = [f"down_{i}" if i else "down" for i in range(len(c.late_strides))]
        if not c.early_strides:
            self.input = ConvUnit(3, c.channels, (1, 1))
        for i, stride in enumerate(c.early_strides):
            self.add_module(f"early_{i}", _down(c.channels if i else 3, c.channels, stride))
        self.dense = Dense(c)
        for name, stride in zip(self.late, c.late_strides, strict=True):
            self.add_module(name, _down(c.channels, c.channels, stride))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[B, 3, T, F] -> [B, C, T, F'], and the feature maps between strides, finest first."""
        features = []
        for name in self.early:
            x = self.get_submodule(name)(x)
            features.append(x)
        x = self.dense(x)
        features[-1] = x
        for name in self.late:
            x = self.get_submodule(name)(x)
            features.append(x)
        # Without early strides, the first map is at the full resolution, where the decoders take none.
        return x, features[1:] if "input" in self.early else features


class FeedForward(nn.Module):
    """Layer norm, expansion, SiLU and contraction, with dropout after each linear layer."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.norm = nn.LayerNorm(c.channels)
        self.expand = nn.Linear(c.channels, c.channels * c.feed_forward_factor)
        self.contract = nn.Linear(c.channels * c.feed_forward_factor, c.channels)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[sequences, N, C]."""
        return self.dropout(self.contract(self.dropout(functional.silu(self.expand(self.norm(x))))))


class Attention(nn.Module):
    """Self-attention with a table of relative positions; scores and embeddings of all pairs are kept in memory."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.heads, self.limit = c.heads, c.max_distance
        width = c.channels // c.heads
        self.scale = width**-0.5
        self.norm = nn.LayerNorm(c.channels)
        self.query = nn.Linear(c.channels, c.channels, bias=False)
        self.key_value = nn.Linear(c.channels, 2 * c.channels, bias=False)
        self.output = nn.Linear(c.channels, c.channels)
        self.positions = nn.Embedding(2 * c.max_distance + 1, width)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[sequences, N, C]."""
        x = self.norm(x)
        parts = (self.query(x), *self.key_value(x).chunk(2, dim=-1))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        place = torch.arange(x.shape[1], device=x.device)
        distance = (place[:, None] - place[None, :]).clamp(-self.limit, self.limit) + self.limit
        content = torch.einsum("shik,shjk->shij", query, key)
        relative = torch.einsum("shik,ijk->shij", query, self.positions(distance).to(query.dtype))
        weights = ((content + relative) * self.scale).softmax(dim=-1)
        out = torch.einsum("shij,shjk->shik", weights, value).transpose(1, 2).flatten(-2)
        return self.dropout(self.output(out))


class Convolution(nn.Module):
    """Layer norm, pointwise, GLU, depthwise, batch norm, SiLU, pointwise."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        inner = c.channels * c.convolution_factor
        self.norm = nn.LayerNorm(c.channels)
        self.expand = nn.Conv1d(c.channels, 2 * inner, 1)
        self.depthwise = nn.Conv1d(inner, inner, c.kernel, padding=c.kernel // 2, groups=inner)
        self.batch_norm = nn.BatchNorm1d(inner)
        self.contract = nn.Conv1d(inner, c.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[sequences, N, C]."""
        x = functional.glu(self.expand(self.norm(x).transpose(1, 2)), dim=1)
        return self.contract(functional.silu(self.batch_norm(self.depthwise(x)))).transpose(1, 2)


class Conformer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, layer norm."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.feed_forward_1 = FeedForward(c)
        self.attention = Attention(c)
        self.convolution = Convolution(c)
        self.feed_forward_2 = FeedForward(c)
        self.norm = nn.LayerNorm(c.channels)

    def forward(self, x: Tensor) -> Tensor:
        """[sequences, N, C]."""
        x = x + 0.5 * self.feed_forward_1(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.feed_forward_2(x))


class TwoStage(nn.Module):
    """A conformer over time and one over frequency, with a residual around each."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.time, self.frequency = Conformer(c), Conformer(c)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, F]."""
        batch, channels, frames, bins = x.shape
        x = x.permute(0, 3, 2, 1).reshape(batch * bins, frames, channels)
        x = x + self.time(x)
        x = x.reshape(batch, bins, frames, channels).transpose(1, 2).reshape(batch * frames, bins, channels)
        x = x + self.frequency(x)
        return x.reshape(batch, frames, bins, channels).permute(0, 3, 1, 2)


class SubPixel(nn.Module):
    """A convolution to `factor` times the channels, which are interleaved along frequency."""

    def __init__(self, inputs: int, outputs: int, factor: int):
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(inputs, factor * outputs, (1, 3), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, F] -> [B, outputs, T, factor F]."""
        parts = self.conv(x).unflatten(1, (self.factor, -1))
        return parts.permute(0, 2, 3, 4, 1).flatten(-2)


class Upsampling(nn.Module):
    """Undo all strides except the first, adding the encoder's feature map at each resolution."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        self.strides = c.strides
        for i, stride in enumerate(c.strides):
            if i:
                self.add_module(f"sub_pixel_{i}", SubPixel(c.channels, c.channels, stride))
                self.add_module(f"norm_{i}", nn.InstanceNorm2d(c.channels, affine=True))
                self.add_module(f"prelu_{i}", nn.PReLU(c.channels))

    def forward(self, x: Tensor, features: list[Tensor]) -> Tensor:
        """[B, C, T, F'] and the encoder's feature maps, finest first -> [B, C, T, F'']."""
        for i in range(len(self.strides) - 1, 0, -1):
            for part in ("sub_pixel", "norm", "prelu"):
                x = self.get_submodule(f"{part}_{i}")(x)
            x = x[..., : x.shape[-1] - self.strides[i] + 1] + features[i - 1]
        return x


class MaskDecoder(nn.Module):
    """Decoder of the magnitude mask; its last PReLU has one slope per bin."""

    def __init__(self, c: GeneratorConfig, bins: int):
        super().__init__()
        outputs = c.output_channels or c.channels
        self.dense, self.upsampling = Dense(c), Upsampling(c)
        self.sub_pixel = SubPixel(c.channels, outputs, c.strides[0])
        self.reduce = ConvUnit(outputs, 1, (1, c.strides[0]))
        self.scale = nn.Conv2d(1, 1, 1)
        self.prelu = nn.PReLU(bins, init=-0.25)

    def forward(self, x: Tensor, features: list[Tensor]) -> Tensor:
        """[B, C, T, F'] and the encoder's feature maps -> [B, 1, T, F]."""
        x = self.scale(self.reduce(self.sub_pixel(self.upsampling(self.dense(x), features))))
        return self.prelu(x.squeeze(1).transpose(1, 2)).transpose(1, 2).unsqueeze(1)


class ComplexDecoder(nn.Module):
    """Decoder of the real and imaginary parts that are added."""

    def __init__(self, c: GeneratorConfig):
        super().__init__()
        outputs = c.output_channels or c.channels
        self.dense, self.upsampling = Dense(c), Upsampling(c)
        self.sub_pixel = SubPixel(c.channels, outputs, c.strides[0])
        self.norm = nn.InstanceNorm2d(outputs, affine=True)
        self.prelu = nn.PReLU(outputs)
        self.reduce = nn.Conv2d(outputs, 2, (1, c.strides[0]))

    def forward(self, x: Tensor, features: list[Tensor]) -> Tensor:
        """[B, C, T, F'] and the encoder's feature maps -> [B, 2, T, F]."""
        x = self.sub_pixel(self.upsampling(self.dense(x), features))
        return self.reduce(self.prelu(self.norm(x)))


class Generator(nn.Module):
    """Compressed noisy spectrum in, enhanced out, as real and imaginary parts [B, 2, T, F]."""

    def __init__(self, c: GeneratorConfig, bins: int):
        super().__init__()
        self.encoder = Encoder(c)
        self.blocks = c.blocks
        for i in range(c.blocks):
            self.add_module(f"block_{i}", TwoStage(c))
        self.mask_decoder = MaskDecoder(c, bins)
        self.complex_decoder = ComplexDecoder(c)

    def forward(self, noisy: Tensor) -> Tensor:
        """[B, 2, T, F] -> [B, 2, T, F]."""
        magnitude = noisy.square().sum(dim=1, keepdim=True).sqrt()
        x, features = self.encoder(torch.cat([magnitude, noisy], dim=1))
        for i in range(self.blocks):
            x = self.get_submodule(f"block_{i}")(x)
        return self.mask_decoder(x, features) * noisy + self.complex_decoder(x, features)


class Discriminator(nn.Module):
    """Score magnitudes against their clean reference, [B, F, T] each."""

    def __init__(self, c: DiscriminatorConfig):
        super().__init__()
        inputs = 2
        for i in range(4):
            width = 2**i * c.channels
            conv = nn.Conv2d(inputs, width, 4, stride=2, padding=1, bias=False)
            self.add_module(f"conv_{i}", nn.utils.spectral_norm(conv))
            self.add_module(f"norm_{i}", nn.InstanceNorm2d(width, affine=True))
            self.add_module(f"prelu_{i}", nn.PReLU(width))
            inputs = width
        self.hidden = nn.utils.spectral_norm(nn.Linear(inputs, inputs // 2))
        self.dropout = nn.Dropout(c.dropout)
        self.hidden_prelu = nn.PReLU(inputs // 2)
        self.output = nn.utils.spectral_norm(nn.Linear(inputs // 2, 1))
        self.slope = nn.Parameter(torch.ones(1))

    def forward(self, clean: Tensor, other: Tensor) -> Tensor:
        """[B, F, T] twice -> [B], in (0, 1)."""
        x = torch.stack([clean, other], dim=1)
        for i in range(4):
            for part in ("conv", "norm", "prelu"):
                x = self.get_submodule(f"{part}_{i}")(x)
        x = self.hidden_prelu(self.dropout(self.hidden(x.amax(dim=(2, 3)))))
        return torch.sigmoid(self.slope * self.output(x)).squeeze(1)


_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "mean": "running_mean",
    "variance": "running_var",
    "positions": "positions.weight",
    "depthwise_kernel": "depthwise.weight",
    "depthwise_bias": "depthwise.bias",
}


def _generator_name(entry: TensorEntry) -> str:
    *path, leaf = str(entry.flax).split("/")[1:]
    if path[-1] == "conv" and leaf in ("kernel", "bias"):
        path.pop()  # In this project, convolutions have one more wrapper.
    return ".".join([*path, _LEAVES.get(leaf, leaf)])


def _discriminator_name(entry: TensorEntry) -> str:
    *path, leaf = str(entry.flax).split("/")[1:]
    if path and path[-1] == "spectral_norm":
        return ".".join([*path[:-1], f"weight_{leaf}"])
    return ".".join([*path, "weight_orig" if leaf == "kernel" else _LEAVES.get(leaf, leaf) if path else leaf])


def _fill(module: nn.Module, named: Iterable[tuple[str, str]], published: Mapping[str, Tensor]) -> None:
    renamed = {ours: published[theirs] for ours, theirs in named}
    lacking, unknown = module.load_state_dict(renamed, strict=False)
    left = [name for name in lacking if not name.endswith("num_batches_tracked")]
    if left or unknown:
        raise ValueError(f"tensors that do not fit: {left + unknown}")


def load_generator(c: GeneratorConfig, bins: int, published: Mapping[str, Tensor]) -> Generator:
    """Make a generator with the weights of a published state dict.

    Raises:
        KeyError: a tensor is missing.
        ValueError: tensor names do not match the network's.
    """
    generator = Generator(c, bins)
    entries = [entry for entry in generator_table(c, bins) if entry.flax]
    _fill(generator, [(_generator_name(entry), entry.torch) for entry in entries], published)
    return generator


def load_discriminator(c: DiscriminatorConfig, published: Mapping[str, Tensor]) -> Discriminator:
    """Make a discriminator with the weights and spectral-norm vectors of a published state dict.

    Raises:
        KeyError: a tensor is missing.
        ValueError: tensor names do not match the network's.
    """
    discriminator = Discriminator(c)
    named = [(_discriminator_name(entry), entry.torch) for entry in discriminator_table(c)]
    _fill(discriminator, named, published)
    return discriminator
