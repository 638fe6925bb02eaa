"""What a model is worth on held-out material: losses on fixed crops, PESQ and SI-SDR on full files."""

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import numpy as np
from jax import Array

from cmgan_jax.config import Config
from cmgan_jax.data.pipeline import Crops
from cmgan_jax.evaluation.enhance import enhance
from cmgan_jax.evaluation.metrics import si_sdr
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.models.generator import Generator
from cmgan_jax.scoring.pesq_pool import PesqPool, Score
from cmgan_jax.spectral import istft, magnitude, uncompress
from cmgan_jax.training.losses import adversarial_loss, magnitude_loss, ri_loss, time_loss
from cmgan_jax.training.steps import views


@dataclass(frozen=True)
class Held:
    """Held-out material, in memory.

    Attributes:
        crops: `clean` and `noisy`, float32[n, S].
        files: (name, clean, noisy) of full files, float32[S'] each.
    """

    crops: Crops
    files: list[tuple[str, np.ndarray, np.ndarray]]


@partial(jax.jit, static_argnames=("config",))
def crop_losses(generator: Any, discriminator: Any, batch: dict[str, Array], *, config: Config) -> dict[str, Array]:
    """Loss terms of each crop in evaluation mode.

    Args:
        generator: variables of the generator.
        discriminator: variables of the discriminator.
        batch: `clean` and `noisy`, float[B, S].
        config: the run's numbers.

    Returns:
        float[B] by name: the four terms, and their weighted sum without the adversarial one as `loss`.
    """
    noisy, clean, reference = views(batch, config)
    spectrum = cast(Array, Generator(config.generator).apply(generator, noisy, train=False))
    audio = istft(uncompress(spectrum, config.spectral), config.spectral)
    magnitudes = magnitude(clean), magnitude(spectrum)
    verdict = cast(Array, Discriminator(config.discriminator).apply(discriminator, *magnitudes, train=False))
    terms = {
        "ri": jax.vmap(ri_loss)(spectrum, clean),
        "magnitude": jax.vmap(magnitude_loss)(*reversed(magnitudes)),
        "time": jax.vmap(time_loss)(audio, reference),
        "adversarial": jax.vmap(adversarial_loss)(verdict),
    }
    weights = config.loss
    loss = weights.ri * terms["ri"] + weights.magnitude * terms["magnitude"] + weights.time * terms["time"]
    return {"loss": loss} | {f"loss_{name}": term for name, term in terms.items()}


def validation_loss(generator: Any, discriminator: Any, held: Held, config: Config) -> dict[str, float]:
    """Means of `crop_losses` over all fixed crops, each counted once whatever the batch."""
    count = len(held.crops["clean"])
    collected: dict[str, list[np.ndarray]] = {}
    for start in range(0, count, config.batch):
        # The last batch is filled up with earlier crops, so that one compiled shape serves; they are not counted.
        rows = np.arange(start, start + config.batch) % count
        batch = {"clean": held.crops["clean"][rows], "noisy": held.crops["noisy"][rows]}
        losses = crop_losses(generator, discriminator, batch, config=config)
        for name, values in losses.items():
            collected.setdefault(name, []).append(np.asarray(values)[: count - start])
    return {name: float(np.mean(np.concatenate(values))) for name, values in collected.items()}


def score_files(generator: Any | None, held: Held, config: Config, pool: PesqPool) -> dict[str, Any]:
    """Enhance every full file and score it against its clean reference.

    Args:
        generator: variables of the generator; None scores the noisy files as they are.
        held: the files.
        config: the run's numbers.
        pool: where PESQ is computed, while the next file is enhanced.

    Returns:
        `pesq` (mean MOS of those scored; None if none was), `si_sdr` (mean, dB), `scored`, `files`, and `unscored`:
        reasons by file name.
    """
    futures, distances = {}, []
    for name, clean, noisy in held.files:
        enhanced = noisy if generator is None else enhance(generator, noisy, config)
        futures[name] = pool.score(clean, enhanced)
        distances.append(float(si_sdr(clean, enhanced)))
    scores: dict[str, Score] = {name: future.result() for name, future in futures.items()}
    values = [score.pesq for score in scores.values() if score.failure is None]
    return {
        "pesq": float(np.mean(values)) if values else None,
        "si_sdr": float(np.mean(distances)),
        "scored": len(values),
        "files": len(scores),
        "unscored": {name: str(score.failure) for name, score in scores.items() if score.failure is not None},
    }
