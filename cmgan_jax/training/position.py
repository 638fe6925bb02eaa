"""Where a run stands between two steps."""

from dataclasses import dataclass, field
from typing import Any

from cmgan_jax.training.health import Window
from cmgan_jax.training.meter import Meter


@dataclass
class Position:
    """Where a run stands; saved in every checkpoint, so that a resumed run goes on as if nothing had happened.

    Attributes:
        step: updates attempted.
        batches: state of the data iterator; None: at the beginning.
        window: totals since the last step record.
        epoch: totals since the epoch began.
        judged: the discriminator's last predictions beside the true scores.
        best: highest validation PESQ so far, with its epoch; None: no epoch has a score of every held-out file.
        noisy: scores of the held-out files as they are; `unscored` are those that no epoch is to score.
        not_finite: steps whose loss or gradient was not finite.
        in_a_row: how many of them were the last ones.
    """

    step: int = 0
    batches: Any = None
    window: Meter = field(default_factory=Meter)
    epoch: Meter = field(default_factory=Meter)
    judged: Window = field(default_factory=Window)
    best: dict[str, Any] | None = None
    noisy: dict[str, Any] | None = None
    not_finite: int = 0
    in_a_row: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        held = {name: getattr(self, name).to_dict() for name in ("window", "epoch", "judged")}
        return vars(self) | held

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Position":
        """What `to_dict` wrote."""
        meters = {name: Meter(saved[name]) for name in ("window", "epoch")}
        return cls(**{**saved, **meters, "judged": Window(saved["judged"])})
