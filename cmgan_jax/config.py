"""Every setting of the project, in frozen dataclasses, with what its value may be; `config_check` refuses all others.

The text under a field is also its help on the command line. A field states its own bounds; what several fields may be
together, and what no bound can tell, is a `rule` of the dataclass that holds them. `recipes.py` has sets of settings
by name.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from cmgan_jax.constraints import LARGEST, is_specification, rule, setting

Policy = Literal["mask", "mean_fill", "batch_mean", "skip"]
Reference = Literal["normalised", "unnormalised"]
Precision = Literal["fp32", "tf32", "bf16"]
Mapping = Literal["pmap", "jit"]
Backend = Literal["auto", "xla", "triton"]

DTYPES: dict[str, str] = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16"}
"""Array types by precision."""

FEWEST = 16
"""Frames and bins that the discriminator's four halvings need."""

_INTERVAL = re.compile(r"(\d+(?:\.\d+)?) ?(min|steps)")


@dataclass(frozen=True)
class SpectralConfig:
    """Time-frequency analysis: periodic Hamming window, centred, reflect-padded, power-law compressed."""

    sample_rate: int = 16_000
    """Samples per second of everything that the model hears."""
    n_fft: int = setting(400, at_least=2 * FEWEST, at_most=65_536)
    """Window and transform length in samples."""
    hop: int = setting(100, at_least=1)
    """Samples between frames."""
    exponent: float = setting(0.3, above=0, at_most=1)
    """Power-law compression of magnitudes: |X| ** exponent, phase kept."""

    @property
    def bins(self) -> int:
        """Frequency bins of a one-sided spectrum."""
        return self.n_fft // 2 + 1

    @rule("sample_rate")
    def _rate_of_pesq(self) -> str | None:
        return None if self.sample_rate == 16_000 else "16000, where wide-band PESQ is defined"

    @rule("n_fft")
    def _quarters(self) -> str | None:
        return f"a multiple of 4, at least {2 * FEWEST}" if self.n_fft % 4 else None

    @rule("hop", "n_fft")
    def _hop_divides(self) -> str | None:
        divides = self.hop <= self.n_fft // 2 and self.n_fft % self.hop == 0
        return None if divides else f"a divisor of n-fft ({self.n_fft}), at most half of it"


@dataclass(frozen=True)
class GeneratorConfig:
    """TSCNet: encoder, two-stage conformer blocks, mask decoder and complex decoder."""

    channels: int = setting(64, at_least=1, at_most=4_096)
    """Width of every feature map."""
    blocks: int = setting(4, at_least=0, at_most=256)
    """Two-stage (time, then frequency) conformer blocks."""
    heads: int = setting(4, at_least=1)
    """Attention heads; each is channels / heads wide."""
    dense_depth: int = setting(4, at_least=0, at_most=16)
    """Layers of a dilated dense block."""
    feed_forward_factor: int = setting(4, at_least=1, at_most=64)
    """Hidden width of a feed-forward module, in channels."""
    convolution_factor: int = setting(2, at_least=1, at_most=64)
    """Inner width of a convolution module, in channels."""
    kernel: int = setting(31, at_least=1, at_most=4_095)
    """Depthwise kernel of a convolution module, in positions."""
    max_distance: int = setting(512, at_least=0, at_most=100_000)
    """Relative positions are clamped to this distance."""
    dropout: float = setting(0.2, at_least=0, below=1)
    """Dropout rate of feed-forward and attention outputs."""
    early_strides: tuple[int, ...] = setting((), at_least=2)
    """Strides of the convolutions that shrink the frequency axis before the encoder's dense block, in order; none in
    the paper."""
    late_strides: tuple[int, ...] = setting((2,), at_least=2)
    """Strides of those after the dense block. The decoders undo all strides in reverse order, and at each resolution
    between two strides they add the encoder's feature maps to their own."""
    output_channels: int = setting(0, at_least=0, zero="as all others")
    """Width of the decoders' feature maps at the full frequency resolution; 0: as wide as all others."""
    module: str = ""
    """A generator of one's own in the place of this one: `my_module:MyGenerator`, called with the config and the name
    of the devices' axis (see `cmgan_jax.models.networks`). The sizes above are then its own affair."""
    recompute: bool = True
    """Compute activations again in the backward pass, which saves memory, instead of keeping them, which saves time.
    It changes no result."""
    backend: Backend = "auto"
    """What computes the network: `xla` alone; `triton`, which has kernels of its own for NVIDIA GPUs from compute
    capability 8.0 on, where jax_triton is installed; `auto`: with those kernels where they can run. It changes results
    by rounding alone."""

    @rule("module")
    def _names_a_generator(self) -> str | None:
        if not self.module or is_specification(self.module):
            return None
        return "empty, or a module and a name in it, as my_module:MyGenerator"

    @property
    def strides(self) -> tuple[int, ...]:
        """All strides of the encoder, in order."""
        return (*self.early_strides, *self.late_strides)

    @rule("channels", "heads")
    def _heads_divide(self) -> str | None:
        return f"a multiple of heads ({self.heads})" if self.channels % self.heads else None

    @rule("kernel")
    def _kernel_has_a_middle(self) -> str | None:
        return None if self.kernel % 2 else "odd"

    @rule("late_strides", "early_strides")
    def _some_stride(self) -> str | None:
        return None if self.strides else "at least one stride where early-strides has none"


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Metric discriminator: four spectral-normalised convolutions, global max pool, two linear layers."""

    channels: int = setting(16, at_least=1, at_most=4_096)
    """Width of the first convolution; the others are 2, 4 and 8 times as wide."""
    dropout: float = setting(0.3, at_least=0, below=1)
    """Dropout rate between the two linear layers."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the generator's loss terms."""

    ri: float = setting(0.1, at_least=0, at_most=10**6)
    """Weight of the real and imaginary parts' squared error."""
    magnitude: float = setting(0.9, at_least=0, at_most=10**6)
    """Weight of the magnitudes' squared error."""
    time: float = setting(0.2, at_least=0, at_most=10**6)
    """Weight of the waveforms' absolute error."""
    adversarial: float = setting(0.05, at_least=0, at_most=10**6)
    """Weight of the adversarial term."""
    time_reference: Reference = "normalised"
    """Clean waveform of the time loss; `unnormalised` is the published head's defect, which
    lowers the output gain."""


@dataclass(frozen=True)
class TargetConfig:
    """What the discriminator learns: a metric of each estimate, PESQ unless another is named, scored on the host."""

    metric: str = "pesq"
    """What is scored: pesq, stoi, estoi, si_sdr, csig, cbak, covl; or a metric of your own as my_module:my_metric."""
    policy: Policy = "mask"
    """A failed score: `mask` gives it no weight, `mean_fill` the mean of the valid ones, `batch_mean` gives
    every item the mean, `skip` drops the whole update (published code)."""
    clip: bool = True
    """Clip targets to [0, 1]; without it those of PESQ reach 1.04, above what a sigmoid can give."""
    every: int = setting(1, at_least=0, zero="never")
    """Steps between updates of the discriminator, which have the estimates scored; 0: never, and the generator learns
    from the other terms of its loss alone."""
    workers: int = setting(0, at_least=0, at_most=1_024, zero="as many as cores")
    """Scoring processes, a thread each; 0: as many as cores, at most the batch."""
    time_limit: float = setting(10.0, above=0, at_most=86_400)
    """Seconds that one score may take before its worker is replaced."""
    inject_failures: float = setting(0.0, at_least=0, at_most=1)
    """For experiments: share of scores that are made to fail, drawn per sample."""
    inject_batch_failures: float = setting(0.0, at_least=0, at_most=1)
    """For experiments: share of batches in which one score is made to fail."""


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW for both networks, rates stepped by epoch."""

    generator_rate: float = setting(5e-4, above=0, at_most=1)
    """Initial learning rate of the generator."""
    discriminator_rate: float = setting(1e-3, above=0, at_most=1)
    """Initial learning rate of the discriminator."""
    beta1: float = setting(0.9, at_least=0, below=1)
    """Decay of the first moment."""
    beta2: float = setting(0.999, at_least=0, below=1)
    """Decay of the second moment."""
    epsilon: float = setting(1e-8, above=0, at_most=1)
    """Added to the root of the second moment."""
    weight_decay: float = setting(0.01, at_least=0, at_most=100)
    """Decoupled weight decay, multiplied by the rate (torch's default; optax's is 1e-4)."""
    decay_every: int = setting(30, at_least=1)
    """Epochs after which both rates are multiplied by `decay_factor`."""
    decay_factor: float = setting(0.5, above=0, at_most=10)
    """See `decay_every`."""
    clip_norm: float = setting(0.0, at_least=0, zero="never")
    """Global norm to which raw gradients are clipped; 0: never."""
    ema_decay: float = setting(0.0, at_least=0, below=1)
    """Decay a step of the moving average of the generator that is validated and saved; 0: none."""
    cross_device_batchnorm: bool = True
    """Batch statistics over the global batch; without it each device has its own and device 0's are kept."""


@dataclass(frozen=True)
class DataConfig:
    """Crops, mixing and the held-out part."""

    crop_seconds: float = setting(2.0, above=0, at_most=600)
    """Length of a training crop; shorter files are repeated."""
    validation_speakers: tuple[str, ...] = ()
    """Speakers (name prefixes such as p287, or folders) held out for validation; none: the last tenth of
    the speakers, at least 1."""
    validate_on_test: bool = False
    """Validate on DIR/test, as the published code does. Selection on it flatters the result."""
    validation_crops: int = setting(64, at_least=1)
    """Fixed crops whose loss is computed each epoch."""
    validation_files: int = setting(0, at_least=0, zero="all")
    """Full held-out files enhanced and scored each epoch; 0: all."""
    snr_low: float = setting(-2.5, at_least=-100, at_most=100)
    """Lowest signal-to-noise ratio, in dB, of speech mixed with noise on the fly."""
    snr_high: float = setting(17.5, at_least=-100, at_most=100)
    """Highest such ratio, in dB."""
    babble_share: float = setting(0.1, at_least=0, at_most=1)
    """Share of mixtures whose noise is babble made of other speech."""
    threads: int = setting(2, at_least=1, at_most=1_024)
    """Threads that decode and mix."""
    prefetch: int = setting(4, at_least=1, at_most=10_000)
    """Batches prepared ahead."""

    @rule("snr_low", "snr_high")
    def _ratios_in_order(self) -> str | None:
        return f"at most snr-high ({self.snr_high})" if self.snr_low > self.snr_high else None


@dataclass(frozen=True)
class AugmentationConfig:
    """What training mixtures suffer beside noise; nothing by default, and never for pairs or in validation."""

    clean_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of mixtures without noise, so that good recordings are left alone."""
    reflection_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of clean speech that gets early reflections of a random room, on both sides of the pair."""
    narrow_band_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of mixtures that lack everything above a random frequency between 3.4 and 7 kHz, on both sides."""
    clipping_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of mixtures whose noisy side is softly clipped."""
    level_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of mixtures that are brought to a random level and rounded to 16 bits there."""
    level_low: float = setting(-40.0, at_least=-90, at_most=0)
    """Lowest such level of the noisy side, root mean square in dB of full scale."""
    level_high: float = setting(-10.0, at_least=-90, at_most=0)
    """Highest such level."""

    @rule("level_low", "level_high")
    def _levels_in_order(self) -> str | None:
        return f"at most level-high ({self.level_high})" if self.level_low > self.level_high else None


@dataclass(frozen=True)
class InferenceConfig:
    """How long recordings are cut for the trained network, unless whoever uses it says otherwise."""

    whole: float = setting(20.0, above=0, at_most=600)
    """Seconds of audio that are enhanced as a whole, as the published evaluation does up to 16 s."""
    window: float = setting(8.0, above=0, at_most=600)
    """Longer audio is enhanced in overlapping windows of so many seconds; also a stream's latency."""
    edge: float = setting(0.5, at_least=0, at_most=600)
    """Seconds at a window's ends that are not used, for want of context; at most an eighth of the window."""
    fade: float = setting(0.5, at_least=0, at_most=600)
    """Seconds in which two windows are cross-faded; at most an eighth of the window."""

    @rule("whole", "window")
    def _whole_holds_a_window(self) -> str | None:
        return f"at least inference.window ({self.window})" if self.whole < self.window else None


@dataclass(frozen=True)
class HealthConfig:
    """What the metric-GAN is asked about itself while it trains."""

    measure: bool = True
    """Measure calibration and the adversarial share, report findings, and write report.html; without it the losses,
    shares and waits remain."""
    window: int = setting(256, at_least=2)
    """Valid scores in the sliding window of bias, error and rank correlation."""
    adversarial_every: int = setting(200, at_least=0, zero="never")
    """Steps between measurements of the adversarial term's share of the generator's gradient, two backward passes
    each; 0: never."""
    diagnose_every: int = setting(25, at_least=0, zero="none")
    """Step records between findings, beside those of each epoch's end; 0: none."""


@dataclass(frozen=True)
class Config:
    """A run: how to train, how large, how long."""

    recipe: str = "recommended"
    """Name of the recipe that the numbers started from."""
    preset: str = "paper"
    """Name of the preset that the sizes started from."""
    seed: int = setting(0, at_least=0, at_most=2**32 - 1)
    """Root of every random draw."""
    epochs: int = setting(120, at_least=1)
    """Passes over the training set."""
    steps_per_epoch: int = setting(0, at_least=0, zero="one pass")
    """Steps of an epoch; 0: one pass over the training set."""
    batch: int = setting(16, at_least=1, at_most=65_536)
    """Crops of a step over all devices together; it does not change with their number."""
    precision: Precision = "fp32"
    """In which the networks compute. `tf32`: an NVIDIA GPU rounds the operands of products and convolutions to ten
    bits; elsewhere it is `fp32`. `bf16`: products, convolutions and what passes between layers in bfloat16; parameters,
    statistics, norms, softmax, losses and spectra in float32 all the same."""
    mapping: Mapping = "pmap"
    """How a step is mapped over devices: `jax.pmap`, or `jax.jit` over a mesh of them. Both compute the same; `jit`
    serves a single host."""
    log_every: int = setting(20, at_least=1)
    """Steps between records in metrics.jsonl."""
    save_every: str = "10min"
    """What a kill may cost: minutes (`10min`) or steps (`500steps`) between checkpoints; `0min`: at epochs' ends
    alone."""
    patience: int = setting(20, at_least=1)
    """Steps in a row whose loss or gradient is not finite (they make no update) after which the run stops."""
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    health: HealthConfig = field(default_factory=HealthConfig)

    @property
    def save_interval(self) -> tuple[float, str]:
        """`save_every` as a number and its unit, `min` or `steps`; NaN where it is not of that form."""
        match = _INTERVAL.fullmatch(self.save_every.strip())
        return (float(match[1]), match[2]) if match else (math.nan, "")

    @property
    def dtype(self) -> str:
        """Type of the networks' products, by name."""
        return DTYPES[self.precision]

    @property
    def crop_samples(self) -> int:
        """Samples of a training crop."""
        return round(self.data.crop_seconds * self.spectral.sample_rate)

    @rule("save_every")
    def _interval_has_a_unit(self) -> str | None:
        number, unit = self.save_interval
        fits = number <= LARGEST and (unit == "min" or number.is_integer())
        return None if fits else "a number with its unit, such as 10min or 500steps"

    @rule("loss.adversarial", "targets.every")
    def _learns_from_a_taught_discriminator(self) -> str | None:
        untaught = self.loss.adversarial and not self.targets.every
        return "0 where targets.every is 0: the discriminator is never taught" if untaught else None

    @rule("generator.late_strides", "generator.early_strides", "spectral.n_fft")
    def _strides_divide(self) -> str | None:
        half, product = self.spectral.n_fft // 2, math.prod(self.generator.strides)
        return f"such that all strides' product, early and late, divides n-fft / 2 ({half})" if half % product else None

    @rule("data.crop_seconds", "spectral.sample_rate", "spectral.n_fft", "spectral.hop")
    def _crop_is_long_enough(self) -> str | None:
        fewest = max(self.spectral.n_fft, (FEWEST - 1) * self.spectral.hop)
        return None if self.crop_samples >= fewest else f"at least {fewest} samples: a window, and {FEWEST} frames"

    @rule("data.crop_seconds", "spectral.sample_rate", "spectral.hop")
    def _crop_is_of_whole_frames(self) -> str | None:
        hop = self.spectral.hop
        return f"a multiple of the hop ({hop} samples)" if self.crop_samples % hop else None
