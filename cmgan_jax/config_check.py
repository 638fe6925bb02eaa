"""The check that refuses numbers that cannot work."""

import math
from collections.abc import Iterable
from typing import Any, get_args

from cmgan_jax import limits
from cmgan_jax.config import DTYPES, Config, Mapping, Policy, Reference, is_specification
from cmgan_jax.errors import UserError
from cmgan_jax.metrics.built_in import BUILT_IN

FEWEST = 16
"""Frames and bins that the discriminator's four halvings need."""


def check(config: Config) -> None:
    """Refuse numbers that cannot work, before anything starts.

    Raises:
        UserError: every offending field with its value and what would be right.
    """
    c, s, g, d, a, o, t, w = (
        config,
        config.spectral,
        config.generator,
        config.data,
        config.augmentation,
        config.optimiser,
        config.targets,
        config.loss,
    )
    # The rules compare and compute: with numbers, and with such as do not overflow.
    _refuse(limits.of_other_types(config) or limits.beyond_reason(config))
    samples, hop = c.crop_samples, max(s.hop, 1)
    rules = [
        (0 <= c.seed < 2**32, "seed", c.seed, "0 to 2 ** 32 - 1"),
        (c.epochs >= 1, "epochs", c.epochs, "at least 1"),
        (c.steps_per_epoch >= 0, "steps-per-epoch", c.steps_per_epoch, "0 (one pass) or more"),
        (c.batch >= 1, "batch", c.batch, "at least 1"),
        (c.precision in DTYPES, "precision", c.precision, f"one of {', '.join(DTYPES)}"),
        (c.mapping in get_args(Mapping), "mapping", c.mapping, f"one of {', '.join(get_args(Mapping))}"),
        (
            not g.module or is_specification(g.module),
            "generator.module",
            g.module,
            "empty, or a module and a name in it, as my_module:MyGenerator",
        ),
        (c.log_every >= 1, "log-every", c.log_every, "at least 1"),
        (
            c.save_interval[0] >= 0 and (c.save_interval[1] == "min" or c.save_interval[0].is_integer()),
            "save-every",
            c.save_every,
            "a number with its unit, such as 10min or 500steps",
        ),
        (c.patience >= 1, "patience", c.patience, "at least 1"),
        (s.sample_rate == 16_000, "spectral.sample-rate", s.sample_rate, "16000, where wide-band PESQ is defined"),
        (
            s.n_fft >= 2 * FEWEST and s.n_fft % 4 == 0,
            "spectral.n-fft",
            s.n_fft,
            f"a multiple of 4, at least {2 * FEWEST}",
        ),
        (
            0 < s.hop <= s.n_fft // 2 and s.n_fft % hop == 0,
            "spectral.hop",
            s.hop,
            f"a divisor of n-fft ({s.n_fft}), at most half of it",
        ),
        (0 < s.exponent <= 1, "spectral.exponent", s.exponent, "above 0, at most 1"),
        (
            samples >= max(s.n_fft, (FEWEST - 1) * hop),
            "data.crop-seconds",
            d.crop_seconds,
            f"at least {max(s.n_fft, (FEWEST - 1) * hop)} samples: a window, and {FEWEST} frames",
        ),
        (samples % hop == 0, "data.crop-seconds", d.crop_seconds, f"a multiple of the hop ({s.hop} samples)"),
        (
            g.channels >= 1 and g.channels % max(g.heads, 1) == 0,
            "generator.channels",
            g.channels,
            "a multiple of heads",
        ),
        (
            len(g.strides) >= 1 and min(g.strides) >= 2 and (s.bins - 1) % math.prod(g.strides) == 0,
            "generator.late-strides",
            g.strides,
            f"at least one stride; each, early or late, at least 2, and their product a divisor of n-fft / 2 "
            f"({s.n_fft // 2})",
        ),
        (g.output_channels >= 0, "generator.output-channels", g.output_channels, "0 (as all others) or more"),
        (g.heads >= 1, "generator.heads", g.heads, "at least 1"),
        (g.blocks >= 0, "generator.blocks", g.blocks, "0 or more"),
        (g.dense_depth >= 0, "generator.dense-depth", g.dense_depth, "0 or more"),
        (g.feed_forward_factor >= 1, "generator.feed-forward-factor", g.feed_forward_factor, "at least 1"),
        (g.convolution_factor >= 1, "generator.convolution-factor", g.convolution_factor, "at least 1"),
        (g.kernel >= 1 and g.kernel % 2 == 1, "generator.kernel", g.kernel, "odd and positive"),
        (g.max_distance >= 0, "generator.max-distance", g.max_distance, "0 or more"),
        (0 <= g.dropout < 1, "generator.dropout", g.dropout, "at least 0, below 1"),
        (
            0 <= config.discriminator.dropout < 1,
            "discriminator.dropout",
            config.discriminator.dropout,
            "0 to below 1",
        ),
        (
            config.discriminator.channels >= 1,
            "discriminator.channels",
            config.discriminator.channels,
            "at least 1",
        ),
        (o.generator_rate > 0, "optimiser.generator-rate", o.generator_rate, "positive"),
        (o.discriminator_rate > 0, "optimiser.discriminator-rate", o.discriminator_rate, "positive"),
        (0 <= o.beta1 < 1, "optimiser.beta1", o.beta1, "at least 0, below 1"),
        (0 <= o.beta2 < 1, "optimiser.beta2", o.beta2, "at least 0, below 1"),
        (o.epsilon > 0, "optimiser.epsilon", o.epsilon, "positive"),
        (o.weight_decay >= 0, "optimiser.weight-decay", o.weight_decay, "0 or more"),
        (o.decay_every >= 1, "optimiser.decay-every", o.decay_every, "at least 1"),
        (o.decay_factor > 0, "optimiser.decay-factor", o.decay_factor, "positive"),
        (o.clip_norm >= 0, "optimiser.clip-norm", o.clip_norm, "0 (never) or more"),
        (0 <= o.ema_decay < 1, "optimiser.ema-decay", o.ema_decay, "at least 0, below 1"),
        *(
            (0 <= weight < math.inf, f"loss.{name}", weight, "0 or more, and finite")
            for name, weight in (
                ("ri", w.ri),
                ("magnitude", w.magnitude),
                ("time", w.time),
                ("adversarial", w.adversarial),
            )
        ),
        (
            w.time_reference in get_args(Reference),
            "loss.time-reference",
            w.time_reference,
            f"one of {', '.join(get_args(Reference))}",
        ),
        (
            t.metric in BUILT_IN or is_specification(t.metric),
            "targets.metric",
            t.metric,
            f"one of {', '.join(BUILT_IN)}, or a metric of your own as my_module:my_metric",
        ),
        (t.policy in get_args(Policy), "targets.policy", t.policy, f"one of {', '.join(get_args(Policy))}"),
        (t.time_limit > 0, "targets.time-limit", t.time_limit, "positive"),
        (t.workers >= 0, "targets.workers", t.workers, "0 (as many as cores) or more"),
        (0 <= t.inject_failures <= 1, "targets.inject-failures", t.inject_failures, "0 to 1"),
        (
            0 <= t.inject_batch_failures <= 1,
            "targets.inject-batch-failures",
            t.inject_batch_failures,
            "0 to 1",
        ),
        (d.validation_crops >= 1, "data.validation-crops", d.validation_crops, "at least 1"),
        (d.validation_files >= 0, "data.validation-files", d.validation_files, "0 (all) or more"),
        (d.snr_low <= d.snr_high, "data.snr-low", d.snr_low, f"at most snr-high ({d.snr_high})"),
        *(
            (0 <= getattr(a, name) <= 1, f"augmentation.{name}", getattr(a, name), "0 to 1")
            for name in ("clean_share", "reflection_share", "narrow_band_share", "clipping_share", "level_share")
        ),
        (
            -90 <= a.level_low <= a.level_high <= 0,
            "augmentation.level-low",
            a.level_low,
            f"at least -90, and at most level-high ({a.level_high}), which is at most 0",
        ),
        (0 <= d.babble_share <= 1, "data.babble-share", d.babble_share, "0 to 1"),
        (d.threads >= 1, "data.threads", d.threads, "at least 1"),
        (d.prefetch >= 1, "data.prefetch", d.prefetch, "at least 1"),
        (config.health.window >= 2, "health.window", config.health.window, "at least 2"),
        (
            config.health.adversarial_every >= 0,
            "health.adversarial-every",
            config.health.adversarial_every,
            "0 (never) or more",
        ),
        (config.health.diagnose_every >= 0, "health.diagnose-every", config.health.diagnose_every, "0 (none) or more"),
    ]
    _refuse([(name, value, right) for fits, name, value, right in rules if not fits])


def _refuse(broken: Iterable[tuple[str, Any, str]]) -> None:
    lines = [f"  --{name.replace('_', '-')} is {value}: it must be {right}" for name, value, right in broken]
    if lines:
        raise UserError("the configuration cannot work:\n" + "\n".join(lines))
