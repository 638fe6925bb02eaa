"""All settings of the project, as frozen dataclasses that state which values are valid; `config_check` checks them.

The docstring of a field is also its help text on the command line. Each field states the bounds of its own value. A
constraint that bounds cannot express, or that involves several fields, is a method marked with `rule`. `recipes.py`
defines named sets of settings.
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
"""Array dtype for each `Config.precision`."""

FEWEST = 16
"""Minimum number of frames and of bins: the discriminator halves both four times."""

_INTERVAL = re.compile(r"(\d+(?:\.\d+)?) ?(min|steps)")


@dataclass(frozen=True)
class SpectralConfig:
    """Short-time Fourier transform: periodic Hamming window, centred, reflect-padded, with power-law compression."""

    sample_rate: int = 16_000
    """Sample rate of the model's input and output in Hz."""
    n_fft: int = setting(400, at_least=2 * FEWEST, at_most=65_536)
    """Length of the window and of the transform in samples."""
    hop: int = setting(100, at_least=1)
    """Hop between frames in samples."""
    exponent: float = setting(0.3, above=0, at_most=1)
    """Exponent of the power-law compression: magnitudes become |X| ** exponent, phases are kept."""

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
    """Channels of every feature map."""
    blocks: int = setting(4, at_least=0, at_most=256)
    """Number of two-stage (time, then frequency) conformer blocks."""
    heads: int = setting(4, at_least=1)
    """Number of attention heads; each has channels / heads dimensions."""
    dense_depth: int = setting(4, at_least=0, at_most=16)
    """Number of layers in a dilated dense block."""
    feed_forward_factor: int = setting(4, at_least=1, at_most=64)
    """Hidden width of a feed-forward module, as a multiple of channels."""
    convolution_factor: int = setting(2, at_least=1, at_most=64)
    """Inner width of a convolution module, as a multiple of channels."""
    kernel: int = setting(31, at_least=1, at_most=4_095)
    """Size of the depthwise kernel of a convolution module, in positions."""
    max_distance: int = setting(512, at_least=0, at_most=100_000)
    """Distance to which relative positions are clamped."""
    dropout: float = setting(0.2, at_least=0, below=1)
    """Dropout rate inside and after feed-forward modules, and after attention."""
    early_strides: tuple[int, ...] = setting((), at_least=2)
    """Strides of the convolutions that shrink the frequency axis before the encoder's dense block, in order; none in
    the paper."""
    late_strides: tuple[int, ...] = setting((2,), at_least=2)
    """Strides of the convolutions after the dense block. The decoders undo all strides in reverse order, and at each
    resolution between two strides they add the encoder's feature maps to their own."""
    output_channels: int = setting(0, at_least=0, zero="as all others")
    """Channels of the decoders' feature maps at full frequency resolution; 0: same as `channels`."""
    module: str = ""
    """Custom generator to use instead of the built-in one: `my_module:MyGenerator`, called with the config and the
    name of the device axis (see `cmgan_jax.models.networks`). It may use or ignore the sizes above."""
    recompute: bool = True
    """Recompute activations in the backward pass, which saves memory, instead of storing them, which saves time.
    Results are the same."""
    backend: Backend = "auto"
    """How the network is computed. `xla`: with XLA alone. `triton`: with this project's Triton kernels, which need
    jax_triton and an NVIDIA GPU of compute capability 8.0 or later. `auto`: with the kernels where they can run.
    Results differ only by rounding."""

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
    """Channels of the first convolution; the others have 2, 4 and 8 times as many."""
    dropout: float = setting(0.3, at_least=0, below=1)
    """Dropout rate between the two linear layers."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the generator's loss terms."""

    ri: float = setting(0.1, at_least=0, at_most=10**6)
    """Weight of the squared error of real and imaginary parts."""
    magnitude: float = setting(0.9, at_least=0, at_most=10**6)
    """Weight of the squared error of magnitudes."""
    time: float = setting(0.2, at_least=0, at_most=10**6)
    """Weight of the absolute error of waveforms."""
    adversarial: float = setting(0.05, at_least=0, at_most=10**6)
    """Weight of the adversarial term."""
    time_reference: Reference = "normalised"
    """Clean waveform that the time loss compares with. `unnormalised` reproduces a defect of the latest published
    code, which lowers the output level."""


@dataclass(frozen=True)
class TargetConfig:
    """Targets of the discriminator: scores of the estimates by a metric (PESQ by default), computed on the host."""

    metric: str = "pesq"
    """Target metric: pesq, stoi, estoi, si_sdr, csig, cbak, covl; or a custom metric as my_module:my_metric."""
    policy: Policy = "mask"
    """Treatment of failed scores. `mask`: the item gets weight 0. `mean_fill`: it gets the mean of the valid scores.
    `batch_mean`: every item gets that mean. `skip`: the whole update is dropped (published code)."""
    clip: bool = True
    """Clip targets to [0, 1]. Unclipped PESQ targets reach 1.04, which a sigmoid cannot produce."""
    every: int = setting(1, at_least=0, zero="never")
    """Steps between updates of the discriminator; estimates are scored only for these. 0: never, and the generator
    learns from the other terms of its loss alone."""
    workers: int = setting(0, at_least=0, at_most=1_024, zero="as many as cores")
    """Number of single-threaded scoring processes; 0: one per core, at most one per item of the batch."""
    time_limit: float = setting(10.0, above=0, at_most=86_400)
    """Time limit of one score in seconds; when it is exceeded, the worker process is replaced."""
    inject_failures: float = setting(0.0, at_least=0, at_most=1)
    """For experiments: probability with which each score is made to fail."""
    inject_batch_failures: float = setting(0.0, at_least=0, at_most=1)
    """For experiments: probability with which one score of a batch is made to fail."""


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW for both networks, with learning rates that decay in steps of epochs."""

    generator_rate: float = setting(5e-4, above=0, at_most=1)
    """Initial learning rate of the generator."""
    discriminator_rate: float = setting(1e-3, above=0, at_most=1)
    """Initial learning rate of the discriminator."""
    beta1: float = setting(0.9, at_least=0, below=1)
    """Decay rate of AdamW's first moment."""
    beta2: float = setting(0.999, at_least=0, below=1)
    """Decay rate of AdamW's second moment."""
    epsilon: float = setting(1e-8, above=0, at_most=1)
    """Constant added to the square root of AdamW's second moment."""
    weight_decay: float = setting(0.01, at_least=0, at_most=100)
    """Decoupled weight decay, multiplied by the learning rate (PyTorch's default; optax's is 1e-4)."""
    decay_every: int = setting(30, at_least=1)
    """Interval, in epochs, at which both learning rates are multiplied by `decay_factor`."""
    decay_factor: float = setting(0.5, above=0, at_most=10)
    """Factor of the learning-rate decay; see `decay_every`."""
    clip_norm: float = setting(0.0, at_least=0, zero="never")
    """Global norm to which gradients are clipped; 0: no clipping."""
    ema_decay: float = setting(0.0, at_least=0, below=1)
    """Decay per step of the exponential moving average of the generator, which is then validated and used; 0: none."""
    cross_device_batchnorm: bool = True
    """Compute batch-norm statistics over the global batch. Otherwise each device uses its own, and the running
    statistics are those of device 0."""


@dataclass(frozen=True)
class DataConfig:
    """Training crops, mixing of speech and noise, and the validation split."""

    crop_seconds: float = setting(2.0, above=0, at_most=600)
    """Length of a training crop in seconds; shorter files are repeated."""
    validation_speakers: tuple[str, ...] = ()
    """Speakers held out for validation, by name prefix (such as p287) or folder; empty: the last tenth of the
    speakers, at least 1."""
    validate_on_test: bool = False
    """Validate on DIR/test, as the published code does. Test scores are then too good, since the best epoch was
    selected on the test set."""
    validation_crops: int = setting(64, at_least=1)
    """Number of fixed crops whose loss is computed each epoch."""
    validation_files: int = setting(0, at_least=0, zero="all")
    """Number of whole held-out files that are enhanced and scored each epoch; 0: all."""
    snr_low: float = setting(-2.5, at_least=-100, at_most=100)
    """Lowest signal-to-noise ratio, in dB, of speech mixed with noise on the fly."""
    snr_high: float = setting(17.5, at_least=-100, at_most=100)
    """Highest signal-to-noise ratio, in dB, of speech mixed with noise on the fly."""
    babble_share: float = setting(0.1, at_least=0, at_most=1)
    """Share of mixtures whose noise is babble, made of other speech."""
    threads: int = setting(2, at_least=1, at_most=1_024)
    """Number of threads that decode and mix audio."""
    prefetch: int = setting(4, at_least=1, at_most=10_000)
    """Number of batches that are prepared ahead."""

    @rule("snr_low", "snr_high")
    def _ratios_in_order(self) -> str | None:
        return f"at most snr-high ({self.snr_high})" if self.snr_low > self.snr_high else None


@dataclass(frozen=True)
class AugmentationConfig:
    """Augmentation of training mixtures beyond noise; off by default, and never applied to pairs or in validation."""

    clean_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of mixtures without noise, from which the model learns to leave clean recordings unchanged."""
    reflection_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of mixtures whose speech gets early reflections of a random room, in the input and in the target."""
    narrow_band_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of mixtures that are low-pass filtered at a random frequency of 3.4 to 7 kHz, in the input and in the
    target."""
    clipping_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of mixtures whose input is softly clipped."""
    level_share: float = setting(0.0, at_least=0, at_most=1)
    """Share of mixtures that are scaled to a random level and then rounded to 16 bits."""
    level_low: float = setting(-40.0, at_least=-90, at_most=0)
    """Lowest random level of the input (`level_share`), as root mean square in dBFS."""
    level_high: float = setting(-10.0, at_least=-90, at_most=0)
    """Highest random level of the input (`level_share`), as root mean square in dBFS."""

    @rule("level_low", "level_high")
    def _levels_in_order(self) -> str | None:
        return f"at most level-high ({self.level_high})" if self.level_low > self.level_high else None


@dataclass(frozen=True)
class InferenceConfig:
    """How long recordings are cut into windows for the trained network, unless the caller overrides it."""

    whole: float = setting(20.0, above=0, at_most=600)
    """Longest audio, in seconds, that is enhanced as a whole; the published evaluation does so up to 16 s."""
    window: float = setting(8.0, above=0, at_most=600)
    """Length in seconds of the overlapping windows in which longer audio is enhanced; also the latency of a stream."""
    edge: float = setting(0.5, at_least=0, at_most=600)
    """Seconds discarded at each inner end of a window, which lack context; at most an eighth of the window."""
    fade: float = setting(0.5, at_least=0, at_most=600)
    """Length in seconds of the cross-fade between two windows; at most an eighth of the window."""

    @rule("whole", "window")
    def _whole_holds_a_window(self) -> str | None:
        return f"at least inference.window ({self.window})" if self.whole < self.window else None


@dataclass(frozen=True)
class HealthConfig:
    """Diagnostics that are measured during training."""

    measure: bool = True
    """Measure the discriminator's calibration and the adversarial share of the gradient, report findings, and write
    report.html. Losses, shares of valid scores and waiting times are recorded in any case."""
    window: int = setting(256, at_least=2)
    """Number of valid scores in the sliding window over which bias, error and rank correlation are computed."""
    adversarial_every: int = setting(200, at_least=0, zero="never")
    """Steps between measurements of the adversarial term's share of the generator's gradient; each measurement costs
    two backward passes. 0: never."""
    diagnose_every: int = setting(25, at_least=0, zero="none")
    """Step records between diagnoses, in addition to the one at the end of each epoch; 0: none in between."""


@dataclass(frozen=True)
class Config:
    """Complete configuration of a training run."""

    recipe: str = "recommended"
    """Name of the recipe that the settings started from."""
    preset: str = "paper"
    """Name of the preset that the sizes started from."""
    seed: int = setting(0, at_least=0, at_most=2**32 - 1)
    """Random seed from which all random numbers derive."""
    epochs: int = setting(120, at_least=1)
    """Number of epochs."""
    steps_per_epoch: int = setting(0, at_least=0, zero="one pass")
    """Steps per epoch; 0: one pass over the training set."""
    batch: int = setting(16, at_least=1, at_most=65_536)
    """Global batch size: crops per step over all devices together, whatever their number."""
    precision: Precision = "fp32"
    """Numerical precision of the networks. `tf32`: NVIDIA GPUs round the operands of matrix products and convolutions
    to ten bits; elsewhere it equals `fp32`. `bf16`: matrix products, convolutions and activations are bfloat16, while
    parameters, statistics, norms, softmax, losses and spectra stay float32."""
    mapping: Mapping = "pmap"
    """How a step is mapped over devices: with `jax.pmap`, or with `jax.jit` over a device mesh. Both compute the same;
    `jit` works on a single host only."""
    log_every: int = setting(20, at_least=1)
    """Steps between records in metrics.jsonl."""
    save_every: str = "10min"
    """Interval between checkpoints, in minutes (`10min`) or steps (`500steps`): the most work that a kill can cost.
    `0min`: only at the end of each epoch."""
    patience: int = setting(20, at_least=1)
    """Number of consecutive steps with a non-finite loss or gradient after which the run stops. Such steps make no
    update."""
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
        """`save_every` as a number and its unit, `min` or `steps`; NaN and an empty unit if it cannot be parsed."""
        match = _INTERVAL.fullmatch(self.save_every.strip())
        return (float(match[1]), match[2]) if match else (math.nan, "")

    @property
    def dtype(self) -> str:
        """Name of the dtype of the networks' matrix products."""
        return DTYPES[self.precision]

    @property
    def crop_samples(self) -> int:
        """Length of a training crop in samples."""
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
