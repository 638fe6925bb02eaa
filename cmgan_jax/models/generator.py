"""TSCNet, the generator of CMGAN (Cao et al. 2022): encoder, two-stage conformers, mask and complex decoders."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cmgan_jax.config import Backend, GeneratorConfig
from cmgan_jax.models import backends
from cmgan_jax.models.chunks import ONLY_KEPT
from cmgan_jax.models.conformer import Conformer
from cmgan_jax.models.layers import Conv, InstanceNorm, PReLU
from cmgan_jax.shapes import check_shape
from cmgan_jax.spectral import magnitude

BLOCKS = "blocks"
"""Name of the subtree with the stacked variables of all two-stage blocks, [block, ...]."""


def stack_blocks(collection: dict[str, Any]) -> dict[str, Any]:
    """Stack the subtrees `block_0`, `block_1`, … of a collection into the single subtree that the generator uses."""
    names = sorted((name for name in collection if name.startswith("block_")), key=lambda name: int(name[6:]))
    others = {name: tree for name, tree in collection.items() if name not in names}
    if not names:
        return others
    return others | {BLOCKS: jax.tree.map(lambda *leaves: np.stack(leaves), *(collection[name] for name in names))}


def split_blocks(collection: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `stack_blocks`."""
    others = {name: tree for name, tree in collection.items() if name != BLOCKS}
    stacked = collection.get(BLOCKS, {})
    count = min((len(leaf) for leaf in jax.tree.leaves(stacked)), default=0)
    return others | {f"block_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)}


class ConvUnit(nn.Module):
    """Convolution, instance norm, PReLU. For the fields see `Conv`."""

    features: int
    kernel: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    stride: int = 1
    dilation: int = 1
    backend: Backend = "auto"

    @nn.compact
    def __call__(self, x: Array, *more: Array, valid: Array | None = None) -> Array:
        """[B, T, F, C] and further inputs with more channels -> [B, T, F', features]."""
        how = self.padding, self.stride, self.dilation, True, self.backend
        x = Conv(self.features, self.kernel, *how, name="conv")(x, *more)
        return PReLU(name="prelu")(InstanceNorm(name="norm")(x, valid))


class DilatedDense(nn.Module):
    """Dense block of causal convolutions with doubling dilation in time; new features precede older ones."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, x: Array, valid: Array | None = None) -> Array:
        """[B, T, F, C] -> [B, T, F, C], the features of the last layer."""
        seen = [x]
        for i in range(self.config.dense_depth):
            dilation = 2**i
            how = ((dilation, 0), (1, 1)), 1, dilation, self.config.backend
            unit = ConvUnit(self.config.channels, (2, 3), *how, name=f"layer_{i}")
            seen.insert(0, unit(*seen, valid=valid))
        return seen[0]


class Encoder(nn.Module):
    """Maps three channels at F bins to C channels at the resolution of the conformers."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, x: Array, valid: Array | None = None) -> tuple[Array, tuple[Array, ...]]:
        """[B, T, F, 3] -> [B, T, F', C] and the feature maps before every stride except the first, finest first."""
        c = self.config
        if not c.early_strides:
            x = ConvUnit(c.channels, (1, 1), backend=c.backend, name="input")(x, valid=valid)
        features = []
        for i, stride in enumerate(c.early_strides):
            x = _down(c, stride, f"early_{i}")(x, valid=valid)
            features.append(x)
        x = DilatedDense(c, name="dense")(x, valid)
        if features:
            features[-1] = x
        for i, stride in enumerate(c.late_strides):
            x = _down(c, stride, f"down_{i}" if i else "down")(x, valid=valid)
            if i + 1 < len(c.late_strides):
                features.append(x)
        return x, tuple(features)


def _down(config: GeneratorConfig, stride: int, name: str) -> ConvUnit:
    """Downsample from F to (F - 1) / stride + 1 bins; each output bin sees all input bins up to its neighbours'."""
    how = ((0, 0), (stride - 1, stride - 1)), stride, 1, config.backend
    return ConvUnit(config.channels, (1, 2 * stride - 1), *how, name=name)


class TwoStage(nn.Module):
    """A conformer over time, then one over frequency, with a residual around each. For the fields see `Generator`."""

    config: GeneratorConfig
    axis_name: str | None = None
    batchnorm_axis: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool, valid: Array | None = None) -> Array:
        """[B, T, F, C] -> [B, T, F, C]."""
        batch, frames, bins, channels = x.shape
        # Sequences are ordered by batch item first; dropout relies on this.
        over_time = x.transpose(0, 2, 1, 3).reshape(batch * bins, frames, channels)
        mask = None if valid is None else jnp.repeat(valid, bins, axis=0)
        conformer = Conformer(self.config, self.axis_name, self.batchnorm_axis, name="time")
        over_time = over_time + conformer(over_time, train, mask)
        over_bins = over_time.reshape(batch, bins, frames, channels).transpose(0, 2, 1, 3)
        over_bins = over_bins.reshape(batch * frames, bins, channels)
        conformer = Conformer(self.config, self.axis_name, self.batchnorm_axis, name="frequency")
        over_bins = over_bins + conformer(over_bins, train)
        return over_bins.reshape(batch, frames, bins, channels)


class SubPixel(nn.Module):
    """Sub-pixel convolution: produces `factor` times the channels and interleaves them along frequency."""

    features: int
    factor: int = 2
    backend: Backend = "auto"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, T, F, C] -> [B, T, factor F, features]."""
        batch, frames, bins, _ = x.shape
        x = Conv(self.factor * self.features, (1, 3), ((0, 0), (1, 1)), backend=self.backend, name="conv")(x)
        return x.reshape(batch, frames, self.factor * bins, self.features)


class Upsampling(nn.Module):
    """Undoes all strides of the encoder except the first, and adds the encoder's feature map at each resolution."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, x: Array, features: tuple[Array, ...], valid: Array | None = None) -> Array:
        """[B, T, F', C] and the encoder's feature maps, finest first -> [B, T, F'', C]."""
        for i, stride in reversed(list(enumerate(self.config.strides))[1:]):
            x = SubPixel(self.config.channels, stride, self.config.backend, name=f"sub_pixel_{i}")(x)
            x = PReLU(name=f"prelu_{i}")(InstanceNorm(name=f"norm_{i}")(x, valid))
            # Bin k of F' corresponds to bin stride · k, so the bins beyond the last one have no counterpart.
            x = x[:, :, : x.shape[2] - stride + 1]
            x = x + features[i - 1]
        return x


class MaskDecoder(nn.Module):
    """Predicts a mask for the compressed magnitude; its last PReLU has one slope per frequency bin."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, x: Array, features: tuple[Array, ...], valid: Array | None = None) -> Array:
        """[B, T, F', C] and the encoder's feature maps -> float32[B, T, F]."""
        c = self.config
        x = DilatedDense(c, name="dense")(x, valid)
        x = Upsampling(c, name="upsampling")(x, features, valid)
        x = SubPixel(c.output_channels or c.channels, c.strides[0], c.backend, name="sub_pixel")(x)
        x = ConvUnit(1, (1, c.strides[0]), backend=c.backend, name="reduce")(x, valid=valid)
        x = Conv(1, (1, 1), backend=c.backend, name="scale")(x)
        return PReLU(-0.25, name="prelu")(x[..., 0].astype(jnp.float32))


class ComplexDecoder(nn.Module):
    """Predicts a complex spectrum that is added to the masked spectrum."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, x: Array, features: tuple[Array, ...], valid: Array | None = None) -> Array:
        """[B, T, F', C] and the encoder's feature maps -> complex64[B, T, F]."""
        c = self.config
        x = DilatedDense(c, name="dense")(x, valid)
        x = Upsampling(c, name="upsampling")(x, features, valid)
        x = SubPixel(c.output_channels or c.channels, c.strides[0], c.backend, name="sub_pixel")(x)
        x = PReLU(name="prelu")(InstanceNorm(name="norm")(x, valid))
        x = Conv(2, (1, c.strides[0]), backend=c.backend, name="reduce")(x).astype(jnp.float32)
        return jax.lax.complex(x[..., 0], x[..., 1])


class Generator(nn.Module):
    """Maps a compressed noisy spectrum to a compressed enhanced spectrum.

    Attributes:
        config: sizes and rates.
        axis_name: mapped axis that splits the batch; None: the batch is not split.
        batchnorm_axis: mapped axis over which batch norm shares its statistics; None: each device uses its own.
        dtype: dtype of matrix products and activations, float32 or bfloat16; see `layers`.
    """

    config: GeneratorConfig
    axis_name: str | None = None
    batchnorm_axis: str | None = None
    dtype: str = "float32"

    @nn.compact
    def __call__(self, noisy: Array, train: bool = False, frames: Array | None = None) -> Array:
        """Enhance a batch of spectra.

        Args:
            noisy: complex[B, T, F], compressed spectra of level-normalised audio; F - 1 must be a multiple of the
                product of all strides.
            train: whether to use batch statistics and dropout.
            frames: int[B], number of valid frames of each item; None: all T. The other frames are padding and do not
                affect the result, so that items of different lengths can share a batch, and a few compiled shapes
                serve any length.

        Returns:
            complex[B, T, F], compressed.

        Raises:
            ValueError: the rank is not 3, or the strides do not divide F - 1.
        """
        sizes = check_shape("compressed spectrum", noisy.shape, "BTF")
        product = math.prod(self.config.strides)
        if (sizes["F"] - 1) % product:
            strides = " · ".join(map(str, self.config.strides))
            raise ValueError(
                f"compressed spectrum has {sizes['F']} bins; strides of {strides} need one more than a multiple of "
                f"{product}"
            )
        valid = None if frames is None else jnp.arange(sizes["T"]) < frames[:, None]
        again = partial(nn.remat, policy=ONLY_KEPT) if self.config.recompute else lambda module: module
        x = jnp.stack([magnitude(noisy), noisy.real, noisy.imag], axis=-1).astype(self.dtype)
        x, features = again(Encoder)(self.config, name="encoder")(x, valid)
        if self.config.blocks:
            x = self._initialised(x) if self.is_initializing() else self._through_blocks(x, train, valid)
        mask = again(MaskDecoder)(self.config, name="mask_decoder")(x, features, valid)
        # mask · magnitude · (cos, sin) of the noisy phase equals mask · noisy, without trigonometric functions.
        return mask * noisy + again(ComplexDecoder)(self.config, name="complex_decoder")(x, features, valid)

    @property
    def _block(self) -> TwoStage:
        return TwoStage(self.config, self.axis_name, self.batchnorm_axis, name=BLOCKS)

    def _initialised(self, x: Array) -> Array:
        """Apply all blocks and create their variables."""
        through = nn.scan(
            lambda block, x, _: (block(x, False, None), None),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=self.config.blocks,
        )
        return through(self._block, x, None)[0]

    def _through_blocks(self, x: Array, train: bool, valid: Array | None) -> Array:
        """Apply all blocks, either in a loop, which compiles one block only, or unrolled where a loop is slower."""
        block = self._block.clone(parent=None)
        stacked = {kind: tree[BLOCKS] for kind, tree in self.variables.items() if BLOCKS in tree}
        keys = jax.random.split(self.make_rng("dropout"), self.config.blocks) if train and self.config.dropout else None

        def one(x: Array, block_variables: Any) -> tuple[Array, Any]:
            variables, key = block_variables
            rngs = None if key is None else {"dropout": key}
            return block.apply(variables, x, train, valid, rngs=rngs, mutable=["batch_stats"])

        if backends.blocks_in_loop(train):
            x, updated = jax.lax.scan(one, x, (stacked, keys))
        else:
            each = []
            for i in range(self.config.blocks):
                x, updated = one(x, jax.tree.map(lambda leaf, i=i: leaf[i], (stacked, keys)))
                each.append(updated)
            updated = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        if train:
            self.put_variable("batch_stats", BLOCKS, updated["batch_stats"])
        return x
