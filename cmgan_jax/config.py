"""Every setting of the project, in frozen dataclasses; `config_check` refuses those that cannot work.

The text under a field is also its help on the command line. `recipes.py` gives the settings their names.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

Policy = Literal["mask", "mean_fill", "batch_mean", "skip"]
Reference = Literal["normalised", "unnormalised"]
Precision = Literal["fp32", "tf32", "bf16"]
Mapping = Literal["pmap", "jit"]

DTYPES: dict[str, str] = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16"}
"""Array types by precision."""

_SPECIFICATION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?) ?(min|steps)")


def is_specification(text: str) -> bool:
    """Whether a text names something in a module, in the form `my_package.my_module:name`."""
    return _SPECIFICATION.fullmatch(text) is not None


@dataclass(frozen=True)
class SpectralConfig:
    """Time-frequency analysis: periodic Hamming window, centred, reflect-padded, power-law compressed."""

    sample_rate: int = 16_000
    """Samples per second of everything that the model hears."""
    n_fft: int = 400
    """Window and transform length in samples."""
    hop: int = 100
    """Samples between frames."""
    exponent: float = 0.3
    """Power-law compression of magnitudes: |X| ** exponent, phase kept."""

    @property
    def bins(self) -> int:
        """Frequency bins of a one-sided spectrum."""
        return self.n_fft // 2 + 1


@dataclass(frozen=True)
class GeneratorConfig:
    """TSCNet: encoder, two-stage conformer blocks, mask decoder and complex decoder."""

    channels: int = 64
    """Width of every feature map."""
    blocks: int = 4
    """Two-stage (time, then frequency) conformer blocks."""
    heads: int = 4
    """Attention heads; each is channels / heads wide."""
    dense_depth: int = 4
    """Layers of a dilated dense block."""
    feed_forward_factor: int = 4
    """Hidden width of a feed-forward module, in channels."""
    convolution_factor: int = 2
    """Inner width of a convolution module, in channels."""
    kernel: int = 31
    """Depthwise kernel of a convolution module, in positions."""
    max_distance: int = 512
    """Relative positions are clamped to this distance."""
    dropout: float = 0.2
    """Dropout rate of feed-forward and attention outputs."""
    early_strides: tuple[int, ...] = ()
    """Strides of the convolutions that shrink the frequency axis before the encoder's dense block, in order; none in
    the paper."""
    late_strides: tuple[int, ...] = (2,)
    """Strides of those after the dense block. The decoders undo all strides in reverse order, and at each resolution
    between two strides they add the encoder's feature maps to their own."""
    output_channels: int = 0
    """Width of the decoders' feature maps at the full frequency resolution; 0: as wide as all others."""
    module: str = ""
    """A generator of one's own in the place of this one: `my_module:MyGenerator`, called with the config and the name
    of the devices' axis (see `cmgan_jax.models.networks`). The sizes above are then its own affair."""
    recompute: bool = True
    """Compute activations again in the backward pass, which saves memory, instead of keeping them, which saves time.
    It changes no result."""

    @property
    def strides(self) -> tuple[int, ...]:
        """All strides of the encoder, in order."""
        return (*self.early_strides, *self.late_strides)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Metric discriminator: four spectral-normalised convolutions, global max pool, two linear layers."""

    channels: int = 16
    """Width of the first convolution; the others are 2, 4 and 8 times as wide."""
    dropout: float = 0.3
    """Dropout rate between the two linear layers."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the generator's loss terms."""

    ri: float = 0.1
    """Weight of the real and imaginary parts' squared error."""
    magnitude: float = 0.9
    """Weight of the magnitudes' squared error."""
    time: float = 0.2
    """Weight of the waveforms' absolute error."""
    adversarial: float = 0.05
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
    workers: int = 0
    """Scoring processes, a thread each; 0: as many as cores, at most the batch."""
    time_limit: float = 10.0
    """Seconds that one score may take before its worker is replaced."""
    inject_failures: float = 0.0
    """For experiments: share of scores that are made to fail, drawn per sample."""
    inject_batch_failures: float = 0.0
    """For experiments: share of batches in which one score is made to fail."""


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW for both networks, rates stepped by epoch."""

    generator_rate: float = 5e-4
    """Initial learning rate of the generator."""
    discriminator_rate: float = 1e-3
    """Initial learning rate of the discriminator."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.999
    """Decay of the second moment."""
    epsilon: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.01
    """Decoupled weight decay, multiplied by the rate (torch's default; optax's is 1e-4)."""
    decay_every: int = 30
    """Epochs after which both rates are multiplied by `decay_factor`."""
    decay_factor: float = 0.5
    """See `decay_every`."""
    clip_norm: float = 0.0
    """Global norm to which raw gradients are clipped; 0: never."""
    ema_decay: float = 0.0
    """Decay a step of the moving average of the generator that is validated and saved; 0: none."""
    cross_device_batchnorm: bool = True
    """Batch statistics over the global batch; without it each device has its own and device 0's are kept."""


@dataclass(frozen=True)
class DataConfig:
    """Crops, mixing and the held-out part."""

    crop_seconds: float = 2.0
    """Length of a training crop; shorter files are repeated."""
    validation_speakers: tuple[str, ...] = ()
    """Speakers (name prefixes such as p287, or folders) held out for validation; none: the last tenth of
    the speakers, at least 1."""
    validate_on_test: bool = False
    """Validate on DIR/test, as the published code does. Selection on it flatters the result."""
    validation_crops: int = 64
    """Fixed crops whose loss is computed each epoch."""
    validation_files: int = 0
    """Full held-out files enhanced and scored each epoch; 0: all."""
    snr_low: float = -2.5
    """Lowest signal-to-noise ratio, in dB, of speech mixed with noise on the fly."""
    snr_high: float = 17.5
    """Highest such ratio, in dB."""
    babble_share: float = 0.1
    """Share of mixtures whose noise is babble made of other speech."""
    threads: int = 2
    """Threads that decode and mix."""
    prefetch: int = 4
    """Batches prepared ahead."""


@dataclass(frozen=True)
class AugmentationConfig:
    """What training mixtures suffer beside noise; nothing by default, and never for pairs or in validation."""

    clean_share: float = 0.0
    """Share of mixtures without noise, so that good recordings are left alone."""
    reflection_share: float = 0.0
    """Share of clean speech that gets early reflections of a random room, on both sides of the pair."""
    narrow_band_share: float = 0.0
    """Share of mixtures that lack everything above a random frequency between 3.4 and 7 kHz, on both sides."""
    clipping_share: float = 0.0
    """Share of mixtures whose noisy side is softly clipped."""
    level_share: float = 0.0
    """Share of mixtures that are brought to a random level and rounded to 16 bits there."""
    level_low: float = -40.0
    """Lowest such level of the noisy side, root mean square in dB of full scale."""
    level_high: float = -10.0
    """Highest such level."""


@dataclass(frozen=True)
class HealthConfig:
    """What the metric-GAN is asked about itself while it trains."""

    measure: bool = True
    """Measure calibration and the adversarial share, report findings, and write report.html; without it the losses,
    shares and waits remain."""
    window: int = 256
    """Valid scores in the sliding window of bias, error and rank correlation."""
    adversarial_every: int = 200
    """Steps between measurements of the adversarial term's share of the generator's gradient, two backward passes
    each; 0: never."""
    diagnose_every: int = 25
    """Step records between findings, beside those of each epoch's end; 0: none."""


@dataclass(frozen=True)
class Config:
    """A run: how to train, how large, how long."""

    recipe: str = "recommended"
    """Name of the recipe that the numbers started from."""
    preset: str = "paper"
    """Name of the preset that the sizes started from."""
    seed: int = 0
    """Root of every random draw."""
    epochs: int = 120
    """Passes over the training set."""
    steps_per_epoch: int = 0
    """Steps of an epoch; 0: one pass over the training set."""
    batch: int = 16
    """Crops of a step over all devices together; it does not change with their number."""
    precision: Precision = "fp32"
    """In which the networks compute. `tf32`: an NVIDIA GPU rounds the operands of products and convolutions to ten
    bits; elsewhere it is `fp32`. `bf16`: products, convolutions and what passes between layers in bfloat16; parameters,
    statistics, norms, softmax, losses and spectra in float32 all the same."""
    mapping: Mapping = "pmap"
    """How a step is mapped over devices: `jax.pmap`, or `jax.jit` over a mesh of them. Both compute the same; `jit`
    serves a single host."""
    log_every: int = 20
    """Steps between records in metrics.jsonl."""
    save_every: str = "10min"
    """What a kill may cost: minutes (`10min`) or steps (`500steps`) between checkpoints; `0min`: at epochs' ends
    alone."""
    patience: int = 20
    """Steps in a row whose loss or gradient is not finite (they make no update) after which the run stops."""
    spectral: SpectralConfig = field(default_factory=SpectralConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
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
