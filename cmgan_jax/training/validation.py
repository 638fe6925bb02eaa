"""What a model is worth on held-out material: losses on fixed crops, PESQ and SI-SDR on full files."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax import Array

from cmgan_jax.config import Config
from cmgan_jax.data.pipeline import Crops
from cmgan_jax.evaluation.scores import TIME_LIMIT
from cmgan_jax.inference.enhance import enhance
from cmgan_jax.metrics.measures import si_sdr
from cmgan_jax.metrics.scoring_pool import PesqPool, Score
from cmgan_jax.models.networks import Networks
from cmgan_jax.precision import as_configured
from cmgan_jax.spectral import istft, magnitude, uncompress
from cmgan_jax.training.health import Pairs, bias_and_error, rank_correlation
from cmgan_jax.training.losses import adversarial_loss, magnitude_loss, ri_loss, time_loss
from cmgan_jax.training.pesq_targets import target_of
from cmgan_jax.training.steps import features

ATTEMPTS = 2
"""How often a file is scored until there is a score: a worker may be killed, and a machine may stand still."""


@dataclass(frozen=True)
class Held:
    """Held-out material, in memory.

    Attributes:
        crops: `clean` and `noisy`, float32[n, S].
        files: (name, clean, noisy) of full files, float32[S'] each.
    """

    crops: Crops
    files: list[tuple[str, np.ndarray, np.ndarray]]

    @property
    def shown(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """The files that are followed through the run: the first and the last."""
        return [self.files[0], *self.files[1:][-1:]]


class Scored(NamedTuple):
    """What enhancing the held-out files gave.

    Attributes:
        summary: `pesq` (mean MOS of the files that are compared; None unless every one of them was scored, since a mean
            of others does not compare), `complete` (whether that is so), `si_sdr` (mean of the same files, dB; NaN if
            there are none), `scored`, `files` (how many are compared), `unscored` (reasons by file name), and, where it
            is not complete, `pesq_partial`: the mean of those scored, None if none was.
        enhanced: float32[S'] of the files that are shown, by name.
    """

    summary: dict[str, Any]
    enhanced: dict[str, np.ndarray]


class ValidationBatch(NamedTuple):
    """What is found of a batch of crops.

    Attributes:
        losses: float[B] by name: the four terms, and their weighted sum without the adversarial one as `loss`.
        prediction: float[B], the discriminator's, on the estimates.
        estimate: float[B, S], at the normalised level.
    """

    losses: dict[str, Array]
    prediction: Array
    estimate: Array


@partial(jax.jit, static_argnames=("config", "networks"))
@as_configured
def measure_batch(
    generator: Any, discriminator: Any, batch: dict[str, Array], *, config: Config, networks: Networks
) -> ValidationBatch:
    """Enhance crops in evaluation mode, take the losses of each, and ask the discriminator.

    Args:
        generator: variables of the generator.
        discriminator: variables of the discriminator.
        batch: `clean` and `noisy`, float[B, S].
        config: the run's configuration.
        networks: both networks, without an axis.
    """
    noisy, clean, reference = features(batch, config)
    spectrum = cast(Array, networks.generator.apply(generator, noisy, train=False))
    audio = istft(uncompress(spectrum, config.spectral), config.spectral)
    magnitudes = magnitude(clean), magnitude(spectrum)
    prediction = cast(Array, networks.discriminator.apply(discriminator, *magnitudes, train=False))
    terms = {
        "ri": jax.vmap(ri_loss)(spectrum, clean),
        "magnitude": jax.vmap(magnitude_loss)(*reversed(magnitudes)),
        "time": jax.vmap(time_loss)(audio, reference),
        "adversarial": jax.vmap(adversarial_loss)(prediction),
    }
    weights = config.loss
    loss = weights.ri * terms["ri"] + weights.magnitude * terms["magnitude"] + weights.time * terms["time"]
    return ValidationBatch({"loss": loss} | {f"loss_{name}": term for name, term in terms.items()}, prediction, audio)


def measure_crops(
    generator: Any, discriminator: Any, held: Held, config: Config, pool: PesqPool, networks: Networks
) -> dict[str, Any]:
    """Losses on the fixed crops, and how far the discriminator is from their true PESQ.

    Crops and not whole files: the discriminator has never heard another length.

    Args:
        generator: variables of the generator.
        discriminator: variables of the discriminator.
        held: the crops, each counted once whatever the batch.
        config: the run's configuration.
        pool: where PESQ is computed, while the next batch is enhanced.
        networks: both networks, without an axis.

    Returns:
        Means of the losses by name; `calibration_bias`, `calibration_error` and `rank_correlation` over the crops that
        could be scored, and these as `predicted` and `pesq_targets`, (PESQ - 1) / 3.5.
    """
    count = len(held.crops["clean"])
    collected: dict[str, list[np.ndarray]] = {}
    predictions: list[np.ndarray] = []
    futures = []
    for start in range(0, count, config.batch):
        # The last batch is filled up with earlier crops, so that one compiled shape serves; they are not counted.
        rows = np.arange(start, start + config.batch) % count
        batch = {"clean": held.crops["clean"][rows], "noisy": held.crops["noisy"][rows]}
        measured = jax.tree.map(
            lambda leaf, counted=count - start: np.asarray(leaf)[:counted],
            measure_batch(generator, discriminator, batch, config=config, networks=networks),
        )
        for name, values in measured.losses.items():
            collected.setdefault(name, []).append(values)
        predictions.append(measured.prediction)
        futures += [pool.score(*pair) for pair in zip(batch["clean"], measured.estimate, strict=False)]
    pesq = np.array([future.result().pesq for future in futures], np.float64)
    pairs = Pairs(np.concatenate(predictions).astype(np.float64), target_of(pesq, clip=False)).finite()
    bias, error = bias_and_error(pairs)
    return {name: float(np.mean(np.concatenate(values))) for name, values in collected.items()} | {
        "calibration_bias": bias,
        "calibration_error": error,
        "rank_correlation": rank_correlation(pairs),
        "predicted": pairs.predicted.tolist(),
        "pesq_targets": pairs.true.tolist(),
    }


def score_noisy(held: Held, config: Config, pool: PesqPool) -> dict[str, Any]:
    """Score the held-out files as they are, and find which of them can be scored at all.

    A clean file that PESQ hears no speech in, or a pair that ends its process, can be scored in no epoch. It would make
    every epoch incomplete, and is left out of all of them instead.

    Args:
        held: the files.
        config: the run's configuration.
        pool: where PESQ is computed.

    Returns:
        `pesq` (mean MOS of those scored; None if none was), `si_sdr` (mean of the same, dB; NaN likewise), `scored`,
        `files` (all of them), and `unscored`: reasons by file name, of those that no epoch is to score.
    """
    scores, distances, _ = _score(None, held, config, pool, None)
    reasons = _reasons(scores)
    return {
        "pesq": _mean_pesq(scores),
        "si_sdr": _mean([distance for name, distance in distances.items() if name not in reasons]),
        "scored": len(scores) - len(reasons),
        "files": len(scores),
        "unscored": reasons,
    }


def score_files(
    generator: Any, held: Held, config: Config, pool: PesqPool, networks: Networks, left_out: Collection[str] = ()
) -> Scored:
    """Enhance full files and score each against its clean reference.

    Args:
        generator: variables of the generator.
        held: the files.
        config: the run's configuration.
        pool: where PESQ is computed, while the next file is enhanced.
        networks: both networks, without an axis.
        left_out: names of those that are not scored, `unscored` of `score_noisy`.
    """
    scores, distances, kept = _score(generator, held, config, pool, networks, left_out)
    reasons, mean = _reasons(scores), _mean_pesq(scores)
    complete = bool(scores) and not reasons
    numbers = {
        "pesq": mean if complete else None,
        "complete": complete,
        "si_sdr": _mean(list(distances.values())),
        "scored": len(scores) - len(reasons),
        "files": len(scores),
        "unscored": reasons,
    }
    return Scored(numbers if complete else numbers | {"pesq_partial": mean}, kept)


def _score(
    generator: Any | None,
    held: Held,
    config: Config,
    pool: PesqPool,
    networks: Networks | None,
    left_out: Collection[str] = (),
) -> tuple[dict[str, Score], dict[str, float], dict[str, np.ndarray]]:
    """PESQ and SI-SDR of the files by name, and the enhanced ones that are shown, also if they are left out."""
    scores: dict[str, Score] = {}
    distances: dict[str, float] = {}
    kept: dict[str, np.ndarray] = {}
    shown = {name for name, _, _ in held.shown}
    # Whole files take longer than the crops that the run's limit is for.
    limit = max(config.targets.time_limit, TIME_LIMIT)
    for _ in range(ATTEMPTS):
        futures = {}
        for name, clean, noisy in held.files:
            counts = name not in left_out and (name not in scores or scores[name].failure is not None)
            if not counts and (name in kept or name not in shown):
                continue
            enhanced = noisy if generator is None else enhance(generator, noisy, config, networks=networks)
            if name in shown:
                kept[name] = enhanced
            if counts:
                futures[name] = pool.score(clean, enhanced, time_limit=limit)
                distances[name] = float(si_sdr(clean, enhanced))
        scores |= {name: future.result() for name, future in futures.items()}
    return scores, distances, kept


def _reasons(scores: dict[str, Score]) -> dict[str, str]:
    return {name: str(score.failure) for name, score in scores.items() if score.failure is not None}


def _mean_pesq(scores: dict[str, Score]) -> float | None:
    values = [score.pesq for score in scores.values() if score.failure is None]
    return _mean(values) if values else None


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan
