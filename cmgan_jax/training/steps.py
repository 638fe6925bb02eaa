"""The training step, split into three programs so that the host computes PESQ while the devices go on.

    generator_forward ──estimate──▶ host: PESQ ──targets──────────────────▶ discriminator_update
            └────residual──▶ generator_backward ──▶ generator_forward of the next batch (meanwhile)

The discriminator is evaluated in the backward pass only, so the forward pass of the next batch need not wait for its
update.

Each program is a pure function of states and arrays on one device. With networks that have no device axis, it can be
called and compiled directly; `compile_steps` maps it over the axis `shapes.AXIS` of a placement's devices. Random keys
derive from the config's seed and the state's step, so no random state is stored, and a resumed run is exact.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from cmgan_jax.config import Config
from cmgan_jax.models.networks import NetworkFactory, Networks, make_networks
from cmgan_jax.precision import as_configured
from cmgan_jax.shapes import AXIS
from cmgan_jax.spectral import compress, istft, magnitude, stft, uncompress, unit_rms_gain
from cmgan_jax.training import collectives
from cmgan_jax.training.draws import Draw, key_of
from cmgan_jax.training.losses import adversarial_loss, magnitude_loss, ri_loss, time_loss, weighted_mse
from cmgan_jax.training.parallel import Placement
from cmgan_jax.training.state import NetState
from cmgan_jax.training.update import apply_gradient, move_average

Metrics = dict[str, Array]


class Forward(NamedTuple):
    """Results of the forward pass.

    Attributes:
        estimate: float[B, S], enhanced waveforms at the normalised level, for scoring on the host.
        clean_magnitude: float[B, T, F], compressed, for the discriminator.
        estimate_magnitude: float[B, T, F], compressed, for the discriminator.
        residual: the vector-Jacobian product of the loss without its adversarial term and of `estimate_magnitude`, a
            pytree, for the backward pass.
        stats: batch statistics after the pass.
        loss: float[], loss without its adversarial term, as a mean over the global batch.
        metrics: terms of the loss and the output level, as means over the global batch.
    """

    estimate: Array
    clean_magnitude: Array
    estimate_magnitude: Array
    residual: Any
    stats: Any
    loss: Array
    metrics: Metrics


class Features(NamedTuple):
    """One batch in the form that the losses need: level-normalised waveforms and compressed spectra."""

    noisy_spectrum: Array
    clean_spectrum: Array
    clean_reference: Array


def features(batch: dict[str, Array], config: Config) -> Features:
    """Normalise the level of a batch and compute its spectra.

    Args:
        batch: `noisy` and `clean`, float[B, S] in [-1, 1].
        config: the run's configuration.

    Returns:
        Compressed noisy and clean spectra, complex[B, T, F], and the clean reference of the time loss, float[B, S].
    """
    factor = unit_rms_gain(batch["noisy"])
    noisy, clean = batch["noisy"] * factor, batch["clean"] * factor
    reference = clean if config.loss.time_reference == "normalised" else batch["clean"]
    noisy_spectrum, clean_spectrum = (
        compress(stft(audio, config.spectral), config.spectral) for audio in (noisy, clean)
    )
    return Features(noisy_spectrum, clean_spectrum, reference)


def _discriminate(
    discriminator: NetState, clean_magnitude: Array, other: Array, draw: Draw, config: Config, networks: Networks
) -> tuple[Array, Any]:
    """Apply the discriminator in training mode: scores float[B], and the spectral-norm vectors after the pass."""
    score, updated = networks.discriminator.apply(
        {"params": discriminator.params, "batch_stats": discriminator.batch_stats},
        clean_magnitude,
        other,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": key_of(config.seed, discriminator.step, draw)},
    )
    return cast(Array, score), updated.get("batch_stats", {})


@as_configured
def generator_forward(generator: NetState, batch: dict[str, Array], *, config: Config, networks: Networks) -> Forward:
    """Enhance a batch and compute the loss terms that need no discriminator, with residuals for the backward pass.

    Args:
        generator: state of the generator.
        batch: `noisy` and `clean`, float[B, S] in [-1, 1].
        config: the run's configuration.
        networks: both networks, for the axis that the function is mapped over, if any.

    Returns:
        See `Forward`.
    """
    noisy, clean, reference = features(batch, config)
    clean_magnitude = magnitude(clean)

    def loss(params: Any) -> tuple[tuple[Array, Array], tuple[Any, ...]]:
        spectrum, updated = networks.generator.apply(
            {"params": params, "batch_stats": generator.batch_stats},
            noisy,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key_of(config.seed, generator.step, Draw.GENERATOR)},
        )
        estimate_magnitude = magnitude(spectrum)
        audio = istft(uncompress(spectrum, config.spectral), config.spectral)
        terms = {
            "ri": ri_loss(spectrum, clean),
            "magnitude": magnitude_loss(estimate_magnitude, clean_magnitude),
            "time": time_loss(audio, reference),
        }
        others = sum((getattr(config.loss, name) * term for name, term in terms.items()), jnp.zeros(()))
        return (others, estimate_magnitude), (audio, updated.get("batch_stats", {}), terms)

    (others, estimate_magnitude), residual, (audio, stats, terms) = jax.vjp(loss, generator.params, has_aux=True)
    if not config.optimiser.cross_device_batchnorm:
        stats = collectives.of_first_device(stats, networks.axis_name)
    metrics = {f"loss_{name}": term for name, term in terms.items()}
    metrics["level_db"] = _level_db(audio, batch["clean"] * unit_rms_gain(batch["noisy"]), networks.axis_name)
    means = collectives.mean((others, metrics), networks.axis_name)
    return Forward(audio, clean_magnitude, estimate_magnitude, residual, stats, *means)


def generator_backward(
    generator: NetState,
    average: Any,
    discriminator: NetState,
    forward: Forward,
    rate: Array,
    *,
    config: Config,
    networks: Networks,
) -> tuple[NetState, Any, Any, Metrics]:
    """Compute the adversarial term and the generator's gradient, and update the generator.

    A non-finite update is skipped on every device; the step counter advances all the same.

    Args:
        generator: the state that the forward pass used.
        average: the moving average of its parameters, or None.
        discriminator: state of the discriminator, used in training mode as in the published code (one power iteration,
            dropout).
        forward: results of the forward pass; if its loss is not finite, no update is made.
        rate: float[], learning rate.
        config: the run's configuration.
        networks: both networks, for the axis that the function is mapped over, if any.

    Returns:
        The state and the average after the step; the discriminator's spectral-norm vectors after the pass; and as
        metrics the loss, its adversarial term, the norm of the unclipped gradient, and whether the update was made.
    """
    gradient, spectral_vectors, metrics = generator_gradient(discriminator, forward, config=config, networks=networks)
    finite = jnp.isfinite(metrics["generator_loss"])
    network, applied = apply_gradient(generator, gradient, forward.stats, rate, finite, config)
    if average is not None:
        average = move_average(average, network.params, generator.step, config)
    return network, average, spectral_vectors, metrics | {f"generator_{name}": value for name, value in applied.items()}


@as_configured
def generator_gradient(
    discriminator: NetState, forward: Forward, *, config: Config, networks: Networks
) -> tuple[Any, Any, Metrics]:
    """Compute the unclipped gradient of the mean loss, the discriminator's spectral-norm vectors, and the loss.

    For the arguments see `generator_backward`. The metrics hold the loss and its adversarial term.
    """
    one = jnp.ones(())
    if not config.targets.every:
        # A discriminator that is never trained is not evaluated either.
        (gradient,) = forward.residual((one, jnp.zeros_like(forward.estimate_magnitude)))
        gradient = collectives.mean(gradient, networks.axis_name)
        return gradient, discriminator.batch_stats, {"generator_loss": forward.loss}
    weighted, pull, (term, spectral_vectors) = _weighted_adversarial(discriminator, forward, config, networks)
    (gradient,) = forward.residual((one, *pull(one)))
    gradient, weighted, term = collectives.mean((gradient, weighted, term), networks.axis_name)
    return gradient, spectral_vectors, {"generator_loss": forward.loss + weighted, "loss_adversarial": term}


@as_configured
def gradient_norms(discriminator: NetState, forward: Forward, *, config: Config, networks: Networks) -> Metrics:
    """Measure how much of the generator's gradient comes from the adversarial term; nothing is updated.

    The gradients of the adversarial term and of the other terms add up to `generator_gradient`.

    Args:
        discriminator: the state that `generator_backward` used.
        forward: results of the forward pass.
        config: the run's configuration.
        networks: both networks, for the axis that the function is mapped over, if any.

    Returns:
        Norms of the gradients of the global batch's mean loss, float[] each: `others_norm` of the loss without its
        adversarial term, `adversarial_norm` of that term with its weight.
    """
    _, pull, _ = _weighted_adversarial(discriminator, forward, config, networks)

    def norm(weights: Array) -> Array:
        (gradient,) = forward.residual((weights[0], *pull(weights[1])))
        return _norm(collectives.mean(gradient, networks.axis_name))

    # A loop compiles the backward pass once, and takes no more memory than a single pass.
    others, adversarial = jax.lax.map(norm, jnp.eye(2))
    return {"others_norm": others, "adversarial_norm": adversarial}


def _weighted_adversarial(
    discriminator: NetState, forward: Forward, config: Config, networks: Networks
) -> tuple[Array, Callable[[Array], Any], tuple[Array, Any]]:
    """The weighted adversarial term, its pull-back to magnitudes, and (unweighted term, spectral-norm vectors)."""

    def loss(estimate_magnitude: Array) -> tuple[Array, tuple[Array, Any]]:
        score, stats = _discriminate(
            discriminator, forward.clean_magnitude, estimate_magnitude, Draw.ADVERSARIAL, config, networks
        )
        term = adversarial_loss(score)
        return config.loss.adversarial * term, (term, stats)

    return jax.vjp(loss, forward.estimate_magnitude, has_aux=True)


def _norm(gradient: Any) -> Array:
    vector, _ = ravel_pytree(gradient)
    return jnp.linalg.norm(vector)


def discriminator_update(
    discriminator: NetState,
    clean_magnitude: Array,
    estimate_magnitude: Array,
    value: Array,
    weight: Array,
    made: Array,
    rate: Array,
    *,
    config: Config,
    networks: Networks,
) -> tuple[NetState, Metrics]:
    """Update the discriminator towards the scores of the estimates, and towards 1 for clean speech.

    Args:
        discriminator: state of the discriminator, with the spectral-norm vectors from `generator_backward`.
        clean_magnitude: float[B, T, F], compressed.
        estimate_magnitude: float[B, T, F], compressed.
        value: float[B], targets, all finite (`score_targets.fill`).
        weight: float[B], weight of each target.
        made: bool[], whether to make the update; policy `skip` may drop it.
        rate: float[], learning rate.
        config: the run's configuration.
        networks: both networks, for the axis that the function is mapped over, if any.

    Returns:
        The state after the step; and as metrics the losses, the predictions float[B] as `predicted`, the gradient
        norm, and whether the update was made.
    """
    gradient, stats, metrics = discriminator_gradient(
        discriminator, clean_magnitude, estimate_magnitude, value, weight, config=config, networks=networks
    )
    finite = jnp.isfinite(metrics["discriminator_loss"])
    network, applied = apply_gradient(discriminator, gradient, stats, rate, made & finite, config)
    # The published code logs 0 for an update that it skips.
    metrics["discriminator_loss"] = jnp.where(made, metrics["discriminator_loss"], 0.0)
    return network, metrics | {f"discriminator_{name}": value for name, value in applied.items()}


@as_configured
def discriminator_gradient(
    discriminator: NetState,
    clean_magnitude: Array,
    estimate_magnitude: Array,
    value: Array,
    weight: Array,
    *,
    config: Config,
    networks: Networks,
) -> tuple[Any, Any, Metrics]:
    """Unclipped gradient of the discriminator's loss over the global batch, its spectral-norm vectors, and metrics."""
    ones = jnp.ones_like(value)
    count, total_weight = collectives.total((jnp.sum(ones), jnp.sum(weight)), networks.axis_name)

    def loss(params: Any) -> tuple[Array, tuple[Any, ...]]:
        network, scores = replace(discriminator, params=params), []
        # The estimate, then the reference, with a power iteration each, in the order of the published code.
        for draw, other in ((Draw.ESTIMATE, estimate_magnitude), (Draw.CLEAN, clean_magnitude)):
            score, stats = _discriminate(network, clean_magnitude, other, draw, config, networks)
            network = replace(network, batch_stats=stats)
            scores.append(score)
        on_estimate = weighted_mse(scores[0], value, weight, total_weight)
        on_clean = weighted_mse(scores[1], ones, ones, count)
        return on_estimate + on_clean, (network.batch_stats, on_estimate, on_clean, scores)

    (total, (stats, on_estimate, on_clean, scores)), gradient = jax.value_and_grad(loss, has_aux=True)(
        discriminator.params
    )
    # Each device holds its share of a global mean, so the shares are summed.
    gradient, total, on_estimate, on_clean = collectives.total(
        (gradient, total, on_estimate, on_clean), networks.axis_name
    )
    metrics = {
        "discriminator_loss": total,
        "discriminator_loss_estimate": on_estimate,
        "discriminator_loss_clean": on_clean,
        "clean_score": collectives.mean(jnp.mean(scores[1]), networks.axis_name),
        "predicted": collectives.joined(scores[0], networks.axis_name),
    }
    return gradient, stats, metrics


def _level_db(estimate: Array, clean: Array, axis_name: str | None) -> Array:
    powers = (jnp.sum(jnp.square(audio)) + 1e-12 for audio in (estimate, clean))
    loud, reference = collectives.total(tuple(powers), axis_name)
    return 10 * jnp.log10(loud / reference)


class Steps(NamedTuple):
    """The programs, mapped over a placement: arrays are [D, B, ...], states are replicated; `norms` runs rarely."""

    forward: Callable[..., Forward]
    backward: Callable[..., tuple[NetState, Any, Any, Metrics]]
    update: Callable[..., tuple[NetState, Metrics]]
    norms: Callable[..., Metrics]


def compile_steps(config: Config, placement: Placement, network_factory: NetworkFactory = make_networks) -> Steps:
    """Map the programs over devices; each is compiled at its first call. A state is donated if it is returned anew.

    Args:
        config: the run's configuration.
        placement: the devices, and how programs are mapped over them.
        network_factory: builds both networks for the devices' axis.
    """
    networks = network_factory(config, AXIS)
    axes: Any = Forward  # With the same fields, but holding axes instead of arrays.
    left = axes(0, 0, 0, 0, None, None, None)
    programs = {
        program: partial(program, config=config, networks=networks)
        for program in (generator_forward, generator_backward, discriminator_update, gradient_norms)
    }
    return Steps(
        forward=placement.map(programs[generator_forward], (None, 0), left),
        backward=placement.map(
            programs[generator_backward], (None, None, None, left, None), (None, None, None, None), donate=(0, 1)
        ),
        update=placement.map(programs[discriminator_update], (None, 0, 0, 0, 0, None, None), (None, None), donate=(0,)),
        norms=placement.map(programs[gradient_norms], (None, left), None),
    )
