"""Logs as the published trainer and its offspring write them, with a known share of everything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

EVERY, PER_EPOCH = 500, 5
"""Steps between lines, and lines an epoch: 2,892 steps of 4 crops of the 11,572 files."""

Printed = Callable[[float], str]


def exact(value: float) -> str:
    """As the published code prints: the shortest form of the float."""
    return repr(float(value))


def six(value: float) -> str:
    return f"{value:.6f}"


@dataclass(frozen=True)
class Training:
    """What a log tells of.

    Attributes:
        discriminator: losses of the logged steps, float[epochs, PER_EPOCH].
        generator: likewise.
        validation: loss, float[epochs].
        pesq: float[epochs].
    """

    discriminator: np.ndarray
    generator: np.ndarray
    validation: np.ndarray
    pesq: np.ndarray


def training(discriminator: np.ndarray, pesq: Sequence[float] = (), seed: int = 0) -> Training:
    """Losses of the generator fall; PESQ rises, unless it is given."""
    rng = np.random.default_rng(seed)
    count = len(discriminator)
    at = np.arange(count)
    trend = 0.05 + 0.05 * 0.8**at
    generator = trend[:, None] + rng.normal(0, 0.01, (count, PER_EPOCH))
    known = np.array(pesq) if len(pesq) else 2.9 - 0.6 * 0.75**at
    return Training(discriminator, generator, trend - 0.003, known)


def ordinary(count: int, seed: int = 1) -> np.ndarray:
    """Discriminator losses of a healthy training: 0.0015 to 0.05."""
    return np.random.default_rng(seed).uniform(0.0015, 0.05, (count, PER_EPOCH))


def converged(count: int, share: float = 0.56, seed: int = 2) -> np.ndarray:
    """0.000003 to 0.063, exactly this share of them under 0.001, none 0."""
    rng = np.random.default_rng(seed)
    total = count * PER_EPOCH
    small = round(share * total)
    logs = np.concatenate(
        [rng.uniform(np.log(4e-6), np.log(9e-4), small - 1), rng.uniform(np.log(2e-3), np.log(0.06), total - small - 1)]
    )
    losses = np.append(np.exp(logs), [3e-6, 0.063])
    return rng.permutation(losses).reshape(count, PER_EPOCH)


def skipped(count: int, share: float = 0.56, seed: int = 3) -> np.ndarray:
    """Ordinary losses, exactly this share of them replaced by 0."""
    losses = ordinary(count, seed)
    chosen = np.random.default_rng(seed).permutation(losses.size)[: round(share * losses.size)]
    losses.flat[chosen] = 0.0
    return losses


COLLAPSING = (2.45, 2.50, 2.53, 2.58, 2.61, 2.64, 2.62, 2.15, 2.08, 2.2, 2.0, 2.12)
"""By epoch from 0: the best in epoch 5, 2.0 to 2.2 from epoch 7 on."""


def text_log(of: Training, printed: Printed = exact, devices: int = 1, prefix: str = "INFO:root:") -> str:
    """The published text log; every device has the same losses but for a thousandth."""
    lines = ["Namespace(batch_size=4, cut_len=32000, epochs=120, init_lr=0.0005, log_interval=500)"]
    for epoch in range(len(of.discriminator)):
        for i in range(PER_EPOCH):
            for device in range(devices):
                factor = 1 + 1e-3 * device
                losses = of.generator[epoch, i] * factor, of.discriminator[epoch, i] * factor
                generator, discriminator = map(printed, losses)
                lines.append(
                    f"{prefix}GPU: {device}, Epoch {epoch}, Step {EVERY * (i + 1)}, loss: {generator}, "
                    f"disc_loss: {discriminator}"
                )
        lines += [
            f"{prefix}GPU: {device}, Generator loss: {printed(of.validation[epoch])}, "
            f"Discriminator loss: {printed(0.02)}"
            for device in range(devices)
        ]
    return "\n".join(lines) + "\n"


def step_csv(of: Training) -> str:
    lines = ["timestamp,epoch,step,gen_loss,disc_loss,lr_gen,lr_disc"]
    for epoch in range(len(of.discriminator)):
        lines += [
            f"2025-11-20 10:{epoch:02}:{i:02},{epoch},{EVERY * (i + 1)},{of.generator[epoch, i]:.6f},"
            f"{of.discriminator[epoch, i]:.6f},0.00050000,0.00100000"
            for i in range(PER_EPOCH)
        ]
    return "\r\n".join(lines) + "\r\n"


def epoch_csv(of: Training) -> str:
    lines = [
        "timestamp,epoch,train_gen_loss_avg,train_disc_loss_avg,test_gen_loss,test_disc_loss,test_pesq,lr_gen,lr_disc,"
        "is_best"
    ]
    lowest = np.inf
    for epoch, loss in enumerate(of.validation):
        best, lowest = loss < lowest, min(loss, lowest)
        lines.append(
            f"2025-11-20 11:{epoch:02}:00,{epoch},{np.mean(of.generator[epoch]):.6f},"
            f"{np.mean(of.discriminator[epoch]):.6f},{loss:.6f},0.020000,{of.pesq[epoch]:.4f},0.00050000,0.00100000,"
            f"{'YES' if best else 'NO'}"
        )
    return "\r\n".join(lines) + "\r\n"
