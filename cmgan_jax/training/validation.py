"""What a model is worth on held-out material: losses on fixed crops; the target metric, PESQ and SI-SDR on files."""

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
from cmgan_jax.metrics.protocol import PESQ, Scale
from cmgan_jax.metrics.scoring_pool import Score, ScorePool
from cmgan_jax.models.networks import Networks, make_networks
from cmgan_jax.precision import as_configured
from cmgan_jax.spectral import istft, magnitude, uncompress
from cmgan_jax.training.health import Pairs, bias_and_error, rank_correlation
from cmgan_jax.training.losses import adversarial_loss, magnitude_loss, ri_loss, time_loss
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
        numbers: `score` (mean of the target metric over the files that are compared; None unless every one of them was
            scored, since a mean of others does not compare), `complete` (whether that is so), `pesq` (mean MOS of those
            of them that PESQ can score as they are, noisy; None unless it scored each), `si_sdr` (mean of the compared
            files, dB; NaN if there are none), `scored`, `files` (how many are compared), `unscored` (reasons by file
            name), and, where it is not complete, `score_partial`: the mean of those scored, None if none was.
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
    generator: Any,
    discriminator: Any,
    held: Held,
    config: Config,
    pool: ScorePool,
    scale: Scale = PESQ,
    networks: Networks | None = None,
) -> dict[str, Any]:
    """Losses on the fixed crops, and how far the discriminator is from their true scores.

    Crops and not whole files: the discriminator has never heard another length.

    Args:
        generator: variables of the generator.
        discriminator: variables of the discriminator.
        held: the crops, each counted once whatever the batch.
        config: the run's configuration.
        pool: where the target metric is computed, while the next batch is enhanced.
        scale: of the target metric.
        networks: both networks, without an axis; None: those that the config names.

    Returns:
        Means of the losses by name; `calibration_bias`, `calibration_error` and `rank_correlation` over the crops that
        could be scored, and these as `predicted` and `score_targets`, the scores as targets, not clipped. Of a
        discriminator that is never taught there is nothing.
    """
    count = len(held.crops["clean"])
    networks = networks or make_networks(config)
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
        if not config.targets.every:
            continue
        predictions.append(measured.prediction)
        futures += [pool.score(*pair) for pair in zip(batch["clean"], measured.estimate, strict=False)]
    means = {name: float(np.mean(np.concatenate(values))) for name, values in collected.items()}
    if not config.targets.every:
        del means["loss_adversarial"]
        return means
    scores = np.array([future.result().value for future in futures], np.float64)
    pairs = Pairs(np.concatenate(predictions).astype(np.float64), scale.target(scores, clip=False)).finite()
    bias, error = bias_and_error(pairs)
    return means | {
        "calibration_bias": bias,
        "calibration_error": error,
        "rank_correlation": rank_correlation(pairs),
        "predicted": pairs.predicted.tolist(),
        "score_targets": pairs.true.tolist(),
    }


def score_noisy(held: Held, config: Config, pool: ScorePool, scale: Scale = PESQ) -> dict[str, Any]:
    """Score the held-out files as they are, and find which of them can be scored at all.

    A clean file that PESQ hears no speech in, or a pair that ends its process, can be scored in no epoch. It would make
    every epoch incomplete, and is left out of all of them instead.

    Args:
        held: the files.
        config: the run's configuration.
        pool: where scores are computed.
        scale: of the target metric.

    Returns:
        `score` (mean of the target metric over those scored; None if none was), `pesq` (mean MOS likewise), `si_sdr`
        (mean of the files that the target metric scored, dB; NaN if none), `scored`, `files` (all of them), and
        `unscored`: reasons by file name, of those that no epoch is to score. Where the target metric is not PESQ,
        `pesq_unscored` are those that PESQ is not to score.
    """
    files = _score(None, held, config, pool, (), () if scale.name != PESQ.name else None)
    reasons = _reasons(files.scores)
    numbers = {
        "score": _mean_score(files.scores),
        "pesq": _mean_score(files.scores if files.pesq is None else files.pesq),
        "si_sdr": _mean([distance for name, distance in files.distances.items() if name not in reasons]),
        "scored": len(files.scores) - len(reasons),
        "files": len(files.scores),
        "unscored": reasons,
    }
    return numbers if files.pesq is None else numbers | {"pesq_unscored": _reasons(files.pesq)}


def score_files(
    generator: Any,
    held: Held,
    config: Config,
    pool: ScorePool,
    left_out: Collection[str] = (),
    scale: Scale = PESQ,
    pesq_left_out: Collection[str] = (),
    networks: Networks | None = None,
) -> Scored:
    """Enhance full files and score each against its clean reference.

    Args:
        generator: variables of the generator.
        held: the files.
        config: the run's configuration.
        pool: where scores are computed, while the next file is enhanced.
        left_out: names of those that are not scored, `unscored` of `score_noisy`.
        scale: of the target metric.
        pesq_left_out: names of those that PESQ does not score where it is not the target metric, `pesq_unscored`.
        networks: both networks, without an axis; None: those that the config names.
    """
    beside = pesq_left_out if scale.name != PESQ.name else None
    files = _score(generator, held, config, pool, left_out, beside, networks)
    reasons, mean = _reasons(files.scores), _mean_score(files.scores)
    complete = bool(files.scores) and not reasons
    score = mean if complete else None
    numbers = {
        "score": score,
        "complete": complete,
        "pesq": score if files.pesq is None else None if _reasons(files.pesq) else _mean_score(files.pesq),
        "si_sdr": _mean(list(files.distances.values())),
        "scored": len(files.scores) - len(reasons),
        "files": len(files.scores),
        "unscored": reasons,
    }
    return Scored(numbers if complete else numbers | {"score_partial": mean}, files.kept)


class _Files(NamedTuple):
    """Scores by the target metric, PESQ where that is another one, SI-SDR by file name, and files that are shown."""

    scores: dict[str, Score]
    pesq: dict[str, Score] | None
    distances: dict[str, float]
    kept: dict[str, np.ndarray]


def _score(
    generator: Any | None,
    held: Held,
    config: Config,
    pool: ScorePool,
    left_out: Collection[str],
    pesq_left_out: Collection[str] | None,
    networks: Networks | None = None,
) -> _Files:
    """Score the files, and keep the enhanced ones that are shown, also if they are left out.

    Args:
        generator: see `score_files`; None: the files as they are.
        held: likewise.
        config: likewise.
        pool: likewise.
        left_out: likewise.
        pesq_left_out: likewise; None: PESQ is the target metric.
        networks: likewise.
    """
    files = _Files({}, None if pesq_left_out is None else {}, {}, {})
    shown = {name for name, _, _ in held.shown}
    # Whole files take longer than the crops that the run's limit is for.
    limit = max(config.targets.time_limit, TIME_LIMIT)
    for _ in range(ATTEMPTS):
        futures, pesq = {}, {}
        for name, clean, noisy in held.files:
            counts = name not in left_out and _lacks(files.scores, name)
            beside = (
                files.pesq is not None
                and name not in left_out
                and name not in (pesq_left_out or ())
                and _lacks(files.pesq, name)
            )
            if not (counts or beside) and (name in files.kept or name not in shown):
                continue
            enhanced = noisy if generator is None else enhance(generator, noisy, config, networks=networks)
            if name in shown:
                files.kept[name] = enhanced
            if counts:
                futures[name] = pool.score(clean, enhanced, time_limit=limit)
                files.distances[name] = float(si_sdr(clean, enhanced))
            if beside:
                pesq[name] = pool.score(clean, enhanced, time_limit=limit, metric=PESQ.name)
        files.scores.update({name: future.result() for name, future in futures.items()})
        if files.pesq is not None:
            files.pesq.update({name: future.result() for name, future in pesq.items()})
    return files


def _lacks(scores: dict[str, Score], name: str) -> bool:
    return name not in scores or scores[name].failure is not None


def _reasons(scores: dict[str, Score]) -> dict[str, str]:
    return {name: str(score.failure) for name, score in scores.items() if score.failure is not None}


def _mean_score(scores: dict[str, Score]) -> float | None:
    values = [score.value for score in scores.values() if score.failure is None]
    return _mean(values) if values else None


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan
