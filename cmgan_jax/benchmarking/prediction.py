"""What a set-up of many devices should reach, from one device's measurement and assumptions that are said aloud."""

import math
from dataclasses import dataclass
from statistics import NormalDist

CROPS = 11_572
"""Training crops of an epoch of VoiceBank+DEMAND."""
EPOCHS = 120
"""Epochs of the paper."""


@dataclass(frozen=True)
class Assumptions:
    """Numbers of the machines that were not measured."""

    devices_per_host: int = 8
    """Devices that share a fast link and a host's cores."""
    cores_per_host: int = 64
    """Cores that are free for PESQ on each host."""
    link: float = 200.0
    """GB/s that a device's all-reduce reaches within a host."""
    network: float = 20.0
    """GB/s between hosts, each way."""
    latency: float = 30.0
    """Microseconds of one exchange, however small, within a host."""
    network_latency: float = 60.0
    """Microseconds that hosts add to it."""
    straggling: float = 0.01
    """Standard deviation of a device's step time as a share of it; a step takes as long as its slowest device."""


@dataclass(frozen=True)
class OneDevice:
    """What is known of one device.

    Attributes:
        batch: crops of it.
        step: seconds of a step whose PESQ is a constant. PESQ has as long: from the estimate's arrival to the next
            one's.
        pesq: seconds of one score on one core.
        reduced: bytes that are all-reduced a step.
        exchanges: how many all-reduces a step has.
        source: where these numbers come from, in words.
    """

    batch: int
    step: float
    pesq: float
    reduced: int
    exchanges: int
    source: str

    @property
    def rounds(self) -> int:
        """Scores that a core computes behind a step; 1 where not even that fits."""
        return max(1, math.floor(self.step / self.pesq))


@dataclass(frozen=True)
class Prediction:
    """One number of devices.

    Attributes:
        devices: how many.
        step: seconds.
        exchange: seconds of it in collectives, none of them hidden.
        straggling: seconds of it spent waiting for the slowest.
        pesq_wait: seconds of it spent waiting for PESQ.
        crops_per_second: of all devices.
        efficiency: of `devices` times one alone.
        hours: for the paper's training.
        cores: that each host needs to keep PESQ hidden.
    """

    devices: int
    step: float
    exchange: float
    straggling: float
    pesq_wait: float
    crops_per_second: float
    efficiency: float
    hours: float
    cores: int


def predict(one: OneDevice, devices: int, assumed: Assumptions) -> Prediction:
    """Weak scaling: every device keeps its batch.

    All-reduces are rings, first within hosts, then between them: 2 (n - 1) / n of the bytes pass each link.

    Args:
        one: one device.
        devices: n.
        assumed: the machines.
    """
    here = min(devices, assumed.devices_per_host)
    hosts = math.ceil(devices / assumed.devices_per_host)
    within, between = (2 * (n - 1) / n * one.reduced for n in (here, hosts))
    exchange = within / (1e9 * assumed.link) + between / (1e9 * assumed.network)
    exchange += one.exchanges * 1e-6 * (assumed.latency * (here > 1) + assumed.network_latency * (hosts > 1))
    straggling = one.step * assumed.straggling * expected_maximum(devices)
    scoring = math.ceil(one.batch * here / assumed.cores_per_host) * one.pesq
    pesq_wait = max(0.0, scoring - one.step)
    step = one.step + exchange + straggling + pesq_wait
    rate = one.batch * devices / step
    alone = one.batch / one.step
    cores = math.ceil(one.batch * here / one.rounds)
    return Prediction(
        devices=devices,
        step=step,
        exchange=exchange,
        straggling=straggling,
        pesq_wait=pesq_wait,
        crops_per_second=rate,
        efficiency=rate / (devices * alone),
        hours=CROPS * EPOCHS / rate / 3600,
        cores=cores,
    )


def expected_maximum(count: int) -> float:
    """Of so many standard normal draws (Blom 1958), 0 for one."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0
