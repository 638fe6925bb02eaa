"""Deliberate mistakes for mutation tests, and the tests that should detect each; see `experiments.mutations`.

Texts are as short as possible and occur exactly once in their file, which a test checks.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """A deliberate mistake.

    Attributes:
        fault: description of the mistake.
        file: the file to be changed.
        text: the current text, which occurs exactly once.
        replacement: the text that replaces it.
        tests: tests that should detect it, as arguments of pytest.
    """

    fault: str
    file: str
    text: str
    replacement: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "the sign of a loss term is wrong",
        "cmgan_jax/training/losses.py",
        "jnp.mean(jnp.square(error.real)) + jnp.mean",
        "jnp.mean(jnp.square(error.real)) - jnp.mean",
        ("tests/test_losses.py",),
    ),
    Mutation(
        "the discriminator also learns from scores that failed",
        "cmgan_jax/training/losses.py",
        "jnp.sum(weight * jnp.square(prediction - target))",
        "jnp.sum(jnp.square(prediction - target))",
        ("tests/test_losses.py",),
    ),
    Mutation(
        "targets are divided by PESQ's highest value and not by its range",
        "cmgan_jax/metrics/protocol.py",
        "self.high - scores) / self.span",
        "self.high - scores) / self.high",
        ("tests/test_score_targets.py::test_targets_of_known_scores",),
    ),
    Mutation(
        "targets are clipped to the wrong range",
        "cmgan_jax/metrics/protocol.py",
        "np.clip(target, 0.0, 1.0)",
        "np.clip(target, 0.1, 1.0)",
        ("tests/test_score_targets.py",),
    ),
    Mutation(
        "the power iteration computes its two vectors in the wrong order",
        "cmgan_jax/models/discriminator.py",
        "right = _unit(fixed.T @ left)",
        "right = _unit(fixed.T @ _unit(fixed @ right))",
        ("tests/test_discriminator.py",),
    ),
    Mutation(
        "padding leaks into the depthwise convolution",
        "cmgan_jax/models/conformer.py",
        "x = jnp.where(valid[..., None], x, 0.0)",
        "x = jnp.where(valid[..., None], x, x)",
        ("tests/test_generator.py::test_padded_items_equal_items_of_their_own_length",),
    ),
    Mutation(
        "attention also sees the padding",
        "cmgan_jax/models/attention.py",
        "jnp.where(valid[:, None, None], scores, -jnp.inf)",
        "jnp.where(valid[:, None, None], scores, scores)",
        ("tests/test_attention.py::test_attend_equals_the_gathered_form",),
    ),
    Mutation(
        "attention's embeddings of distances are in the reverse order",
        "cmgan_jax/models/attention.py",
        "near = self.positions[limit - reach : limit + reach + 1][::-1]",
        "near = self.positions[limit - reach : limit + reach + 1]",
        ("tests/test_attention.py::test_module_clamps_distances_and_orders_heads_and_halves",),
    ),
    Mutation(
        "the sub-pixel convolution interleaves along the wrong axis",
        "cmgan_jax/models/generator.py",
        "return x.reshape(batch, frames, self.factor * bins, self.features)",
        "x = x.reshape(batch, frames, bins, self.factor, -1).swapaxes(2, 3)\n"
        "        return x.reshape(batch, frames, self.factor * bins, self.features)",
        ("tests/test_generator.py::test_sub_pixel_interleaves_the_halves_along_frequency",),
    ),
    Mutation(
        "batch norm remembers the biased variance",
        "cmgan_jax/models/layers.py",
        "unbiased = variance * (count / max(count - 1, 1))",
        "unbiased = variance * (count / max(count, 1))",
        ("tests/test_layers.py::test_batch_norm_biased_to_normalise_unbiased_to_remember",),
    ),
    Mutation(
        "dropout draws the same mask on every device",
        "cmgan_jax/models/layers.py",
        "astype(jnp.uint32) * np.uint32(rows)",
        "astype(jnp.uint32) * np.uint32(0)",
        ("tests/test_layers.py::test_dropout_does_not_depend_on_the_number_of_devices",),
    ),
    Mutation(
        "a waveform has one frame too few",
        "cmgan_jax/spectral.py",
        "return samples // config.hop + 1",
        "return (samples - 1) // config.hop + 1",
        ("tests/test_spectral.py::test_stft_is_a_loop_over_frames",),
    ),
    Mutation(
        "the end of a padded waveform is one hop too late",
        "cmgan_jax/spectral.py",
        "config.hop * (frames[:, None] - 1)",
        "config.hop * frames[:, None]",
        ("tests/test_spectral.py::test_istft_with_frames_is_that_of_the_shorter_spectrum",),
    ),
    Mutation(
        "the moving average starts with its longest memory",
        "cmgan_jax/training/update.py",
        "decay = jnp.minimum(config.optimiser.ema_decay, (1 + count) / (10 + count))",
        "decay = jnp.maximum(config.optimiser.ema_decay, (1 + count) / (10 + count))",
        ("tests/test_steps.py::test_average_follows_its_formula",),
    ),
    Mutation(
        "an update that is not finite is made",
        "cmgan_jax/training/update.py",
        "made = made & jnp.isfinite(norm)",
        "made = made & True",
        ("tests/test_steps.py::test_a_gradient_that_is_not_finite_changes_nothing_but_the_count",),
    ),
    Mutation(
        "the discriminator is updated where the policy leaves the update out",
        "cmgan_jax/training/steps.py",
        "stats, rate, made & finite, config)",
        "stats, rate, finite, config)",
        ("tests/test_steps.py::test_skip_leaves_everything_and_logs_exactly_zero",),
    ),
    Mutation(
        "the devices' gradients are averaged where they should be summed",
        "cmgan_jax/training/steps.py",
        "gradient, total, on_estimate, on_clean = collectives.total(",
        "gradient, total, on_estimate, on_clean = collectives.mean(",
        ("tests/test_steps.py::test_devices_agree_on_the_raw_gradients",),
    ),
    Mutation(
        "the gradient is clipped to twice its bound",
        "cmgan_jax/training/state.py",
        "optax.clip_by_global_norm(config.clip_norm)",
        "optax.clip_by_global_norm(2 * config.clip_norm)",
        ("tests/test_steps.py::test_clipping_bounds_what_adam_sees",),
    ),
    Mutation(
        "learning rates halve an epoch too early",
        "cmgan_jax/training/state.py",
        "config.decay_factor ** (epoch // config.decay_every)",
        "config.decay_factor ** ((epoch + 1) // config.decay_every)",
        ("tests/test_steps.py::test_rates_halve_by_epoch",),
    ),
    Mutation(
        "a resumed run passes over one batch",
        "cmgan_jax/data/pipeline.py",
        'batches.set_state({"next_index": start_step})',
        'batches.set_state({"next_index": start_step + (start_step > 0)})',
        ("tests/test_pipeline.py::test_a_step_is_reached_without_those_before_it",),
    ),
    Mutation(
        "held-out speakers train, too",
        "cmgan_jax/data/holdout.py",
        "tuple(item for item in items if item.name not in names),",
        "tuple(items),",
        ("tests/test_corpus.py::test_held_out_speakers_are_the_last_tenth",),
    ),
    Mutation(
        "a file of several recordings has the length of its first",
        "cmgan_jax/data/recording.py",
        "self.frames = sum(self._lengths)",
        "self.frames = self._lengths[0]",
        ("tests/test_containers.py::test_several_recordings_in_a_file_are_read_one_after_the_other",),
    ),
    Mutation(
        "the lowest PESQ is taken for the best epoch",
        "cmgan_jax/training/selection.py",
        'scale.is_better(validation["score"], best["score"])',
        'scale.is_better(best["score"], validation["score"])',
        ("tests/test_validation.py",),
    ),
    Mutation(
        "an epoch that lacks a score can be the best",
        "cmgan_jax/training/selection.py",
        'return validation["complete"] and (',
        "return (",
        ("tests/test_validation.py::test_an_epoch_that_lacks_a_score_is_incomplete_and_cannot_win",),
    ),
    Mutation(
        "windows overlap by one edge and not by two",
        "cmgan_jax/inference/windows.py",
        "return self.length - self.fade - 2 * self.edge",
        "return self.length - self.fade - self.edge",
        ("tests/test_windows.py",),
    ),
    Mutation(
        "a window fades out where it should fade in",
        "cmgan_jax/inference/windows.py",
        "fresh[: layout.fade] = rise * fresh[: layout.fade] + (1 - rise) * self._tail",
        "fresh[: layout.fade] = (1 - rise) * fresh[: layout.fade] + rise * self._tail",
        ("tests/test_windows.py",),
    ),
    Mutation(
        "files get their names before their content is on the disk",
        "cmgan_jax/system/outputs.py",
        "os.fsync(opened)",
        "os.fstat(opened)",
        ("tests/test_durability.py",),
    ),
    Mutation(
        "checkpoints that are too old are kept and the newest deleted",
        "cmgan_jax/training/checkpoint.py",
        "for old in steps_in(self._folders[kind])[: -KEEP[kind]]:",
        "for old in steps_in(self._folders[kind])[KEEP[kind] :]:",
        ("tests/test_checkpoint.py::test_two_are_kept_and_one_best",),
    ),
    Mutation(
        "SI-SDR is the inverse ratio",
        "cmgan_jax/metrics/measures.py",
        "return 10.0 * np.log10(ratio)",
        "return -10.0 * np.log10(ratio)",
        ("tests/test_metrics.py::test_si_sdr_of_orthogonal_noise_is_the_power_ratio",),
    ),
    Mutation(
        "noise is mixed in at the inverse of its level",
        "cmgan_jax/data/mixing.py",
        "10 ** (-snr_db / 20)",
        "10 ** (snr_db / 20)",
        ("tests/test_mixing.py",),
    ),
)
