"""Operation counts: multiply-adds of both networks, and the minimum memory traffic.

Memory traffic is counted as if all element-wise operations (norms, activations, dropout, residuals, concatenation) were
fused into the product before or after them, and attention never wrote its scores: each product reads its input and
writes its output once. Real programs move more, so the result is a lower bound. Weights, optimiser, transforms and
losses are neglected, as they are under one per cent at the paper's size.
"""

from dataclasses import dataclass

from cmgan_jax.config import Config, DiscriminatorConfig, GeneratorConfig
from cmgan_jax.spectral import frame_count

BYTES = {"fp32": 4, "tf32": 4, "bf16": 2}
"""Bytes per element, by precision."""

TRAINING = 3
"""Cost of a forward and a backward pass in forward passes: a product's gradient takes two products of its size."""
FROZEN = 2
"""The same if the weights get no gradient."""


@dataclass(frozen=True)
class Work:
    """Multiply-adds, and number of elements read and written."""

    macs: float = 0.0
    elements: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.macs + other.macs, self.elements + other.elements)

    def __mul__(self, factor: float) -> "Work":
        return Work(factor * self.macs, factor * self.elements)

    def floor(self, precision: str, macs_per_second: float, bytes_per_second: float) -> float:
        """Return the minimum seconds: the larger of arithmetic and memory traffic at the device's limits."""
        return max(self.macs / macs_per_second, self.elements * BYTES[precision] / bytes_per_second)


def total(parts: dict[str, Work]) -> Work:
    """Sum the work of all parts."""
    return sum(parts.values(), Work())


def _product(rows: int, inputs: int, outputs: int, taps: int = 1) -> Work:
    """A linear layer or convolution with `rows` output positions, each computed from `taps` input positions."""
    return Work(rows * inputs * outputs * taps, rows * (inputs + outputs))


def _dense_block(c: GeneratorConfig, positions: int) -> Work:
    layers = (_product(positions, c.channels * (i + 1), c.channels, taps=6) for i in range(c.dense_depth))
    return sum(layers, Work())


def _conformers(c: GeneratorConfig, positions: int, span: int) -> dict[str, Work]:
    """All conformers over sequences of `span` positions, with `positions` in total."""
    width, hidden, inner = c.channels, c.channels * c.feed_forward_factor, c.channels * c.convolution_factor
    once = {
        "feed-forward": (_product(positions, width, hidden) + _product(positions, hidden, width)) * 2,
        "qkvo": _product(positions, width, 3 * width) + _product(positions, width, width),
        # Query, key and value are read, the weighted values are written; scores are never written.
        "attention": Work(2 * positions * span * width, positions * 4 * width),
        "relative": Work(positions * span * width),
        "pointwise": _product(positions, width, 2 * inner) + _product(positions, inner, width),
        "depthwise": Work(positions * inner * c.kernel, positions * 3 * inner),
    }
    return {name: work * c.blocks for name, work in once.items()}


def generator_work(c: GeneratorConfig, frames: int, bins: int) -> dict[str, Work]:
    """Count one forward pass over one crop, by part.

    Args:
        c: the network's sizes.
        frames: number of frames T.
        bins: number of frequency bins F.
    """
    width, output, full = c.channels, c.output_channels or c.channels, frames * bins
    # Number of positions at every resolution, from all bins down to the conformers' resolution.
    fewer = [bins]
    for stride in c.strides:
        fewer.append((fewer[-1] - 1) // stride + 1)
    positions, early = [frames * each for each in fewer], len(c.early_strides)
    last = positions[-1]
    encoder = _dense_block(c, positions[early])
    if not early:
        encoder += _product(full, 3, width)
    for i, stride in enumerate(c.strides):
        # A strided convolution reads every position and computes fewer.
        inputs = 3 if early and i == 0 else width
        macs = positions[i + 1] * inputs * width * (2 * stride - 1)
        encoder += Work(macs, positions[i] * inputs + positions[i + 1] * width)
    decoder = _dense_block(c, last)
    for i, stride in reversed(list(enumerate(c.strides))):
        decoder += _product(positions[i + 1], width, stride * (width if i else output), taps=3)
    time, frequency = _conformers(c, last, frames), _conformers(c, last, fewer[-1])
    return {
        "encoder": encoder,
        **{f"time {name}": work for name, work in time.items()},
        **{f"frequency {name}": work for name, work in frequency.items()},
        "mask decoder": decoder + _product(full, output, 1, taps=c.strides[0]) + _product(full, 1, 1),
        "complex decoder": decoder + _product(full, output, 2, taps=c.strides[0]),
    }


def discriminator_work(c: DiscriminatorConfig, frames: int, bins: int) -> Work:
    """Count one forward pass over one pair of magnitudes."""
    work, inputs, positions = Work(), 2, frames * bins
    for factor in (1, 2, 4, 8):
        outputs, before = factor * c.channels, positions
        frames, bins = frames // 2, bins // 2
        positions = frames * bins
        work += Work(positions * inputs * outputs * 16, before * inputs + positions * outputs)
        inputs = outputs
    return work


def program_work(config: Config, samples: int | None = None) -> dict[str, Work]:
    """Count the work of each benchmarked program for one crop.

    Args:
        config: the configuration.
        samples: number of samples S in a crop; None uses the config's.

    Returns:
        `forward`, one pass of the generator; `generator`, its training pass with the discriminator's score and its
        gradient; `discriminator`, its update on an estimate and on clean speech; `step`, the last two together.
    """
    frames, bins = frame_count(samples or config.crop_samples, config.spectral), config.spectral.bins
    forward = total(generator_work(config.generator, frames, bins))
    discriminator_pass = discriminator_work(config.discriminator, frames, bins)
    generator, discriminator = forward * TRAINING + discriminator_pass * FROZEN, discriminator_pass * (2 * TRAINING)
    return {
        "forward": forward,
        "generator": generator,
        "discriminator": discriminator,
        "step": generator + discriminator,
    }
