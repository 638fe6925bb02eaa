"""What a run tells a person, in a line each."""

from typing import Any

from cmgan_jax.config import Config


def of_epoch(config: Config, record: dict[str, Any]) -> str:
    """The scores of an epoch, from its record."""
    train, validation = record["train"], record["validation"]
    count = f"{validation['scored']} of {validation['files']} held-out files"
    pesq = f"PESQ {validation['pesq']:.3f} on {count}" if validation["complete"] else f"PESQ on {count} only"
    return (
        f"epoch {record['epoch']}/{config.epochs}: {pesq}, "
        f"SI-SDR {validation['si_sdr']:.2f} dB, validation loss {validation['loss']:.4f}; "
        f"training loss {train['generator_loss']:.4f}, discriminator {train['discriminator_loss']:.4f} "
        f"(updated in {train['discriminator_update']:.0%} of steps), {train['crops_per_second']:.1f} crops/s"
        + (" – best so far" if record["best"] else "")
        + (f" – incomplete, so not compared: {_listed(validation['unscored'])}" if validation["unscored"] else "")
    )


def of_left_out(noisy: dict[str, Any]) -> str:
    """The held-out files that no epoch can score, from the scores of the noisy files."""
    return (
        f"{len(noisy['unscored'])} of {noisy['files']} held-out files cannot be scored, and are left out of every "
        f"epoch: {_listed(noisy['unscored'])}"
    )


def of_error(error: BaseException) -> str:
    """The first line of an error: those of storage libraries run to pages."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return words.strip().split("\n")[0][:300] or type(error).__name__


def _listed(reasons: dict[str, str], most: int = 5) -> str:
    """Files with the reasons why they have no score: the first few of them."""
    named = [f"{name} ({reason})" for name, reason in reasons.items()]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")
