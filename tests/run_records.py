"""Records as a run writes them, made up: for tests of what reads them."""

from typing import Any

import numpy as np


def made_up(epochs: int = 8, windows: int = 12, log_every: int = 10, seed: int = 0) -> list[dict[str, Any]]:
    """A run whose PESQ falls from epoch 6 on, with scores that fail now and then."""
    rng = np.random.default_rng(seed)
    records: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        for _ in range(windows):
            step = log_every * (1 + sum(record["kind"] == "step" for record in records))
            at = step / (windows * log_every)
            loss = float(0.2 * np.exp(-at) * rng.lognormal(0, 0.3)) if rng.random() > 0.1 else 0.0
            records.append(
                {
                    "kind": "step",
                    "step": step,
                    "epoch": epoch,
                    "generator_loss": float(0.1 + 0.4 * np.exp(-at / 2) + rng.normal(0, 0.01)),
                    **{f"loss_{term}": float(rng.lognormal(-at, 0.1)) for term in ("ri", "magnitude", "time")},
                    "loss_adversarial": float(rng.lognormal(-2, 0.1)),
                    "discriminator_loss": loss,
                    "discriminator_loss_estimate": loss * 0.6,
                    "discriminator_loss_clean": loss * 0.4,
                    "discriminator_loss_zero": float(loss == 0),
                    "discriminator_loss_small": float(loss < 1e-3),
                    "discriminator_update": float(loss > 0),
                    "rank_correlation": float(np.tanh(at) * 0.8 + rng.normal(0, 0.02)),
                    "window_error": float(0.3 * np.exp(-at) + 0.05),
                    "window_bias": float(0.2 * np.exp(-at)),
                    "clean_score": float(1 - 0.5 * np.exp(-at)),
                    "target_spread": float(0.1 + rng.normal(0, 0.01)),
                    "level_db": float(-0.5 * at),
                    "generator_gradient_norm": float(rng.lognormal(0, 0.3)),
                    "discriminator_gradient_norm": float(rng.lognormal(1, 0.3)),
                    "generator_rate": 5e-4 * 0.5 ** (epoch // 4),
                    "discriminator_rate": 1e-3 * 0.5 ** (epoch // 4),
                    "valid_share": float(1 - 0.1 * rng.random()),
                    "step_ms": float(rng.lognormal(6, 0.05)),
                    "pesq_wait_ms": float(rng.lognormal(3, 0.3)),
                    "data_wait_ms": float(rng.lognormal(0, 0.3)),
                    "failures": {"no_utterances": int(rng.integers(0, 3))},
                }
                | ({"adversarial_share": 0.1 + 0.01 * at, "adversarial_cosine": 0.2} if step % 40 == 0 else {})
            )
        true = rng.random(24) * 0.6
        records.append(
            {
                "kind": "epoch",
                "step": epoch * windows * log_every,
                "epoch": epoch,
                "train": {"generator_loss": 0.2, "failures": {"no_utterances": 9, "timeout": 1}},
                "validation": {
                    "loss": float(0.1 + 0.3 * np.exp(-epoch / 3)),
                    "pesq": 2.0 + 0.1 * epoch if epoch < 6 else 2.1,
                    "si_sdr": 10.0 + epoch / 4,
                    "rank_correlation": float(np.tanh(epoch / 4) * 0.7),
                    "calibration_error": 0.1,
                    "calibration_bias": 0.02,
                    "predicted": (true + rng.normal(0, 0.4 / epoch, 24)).tolist(),
                    "pesq_targets": true.tolist(),
                },
                "noisy": {"pesq": 1.97, "si_sdr": 8.4},
                "best": epoch < 6,
            }
        )
    return records
