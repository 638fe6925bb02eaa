"""Prediction of a multi-device set-up's speed from measurements of one device and explicit assumptions."""

import math
from dataclasses import dataclass
from statistics import NormalDist

CROPS = 11_572
"""Training crops per epoch of VoiceBank+DEMAND."""
EPOCHS = 120
"""Number of epochs in the paper."""


@dataclass(frozen=True)
class Assumptions:
    """Assumed properties of machines that were not measured."""

    devices_per_host: int = 8
    """Devices that share a fast link and one host's cores."""
    cores_per_host: int = 64
    """Free cores for PESQ on each host."""
    link: float = 200.0
    """Bandwidth in GB/s of a device's all-reduce within a host."""
    network: float = 20.0
    """Bandwidth in GB/s between hosts, in each direction."""
    latency: float = 30.0
    """Microseconds per collective within a host, whatever its size."""
    network_latency: float = 60.0
    """Microseconds that communication between hosts adds to each collective."""
    straggling: float = 0.01
    """Standard deviation of a device's step time, as a share of it; a step takes as long as its slowest device."""


@dataclass(frozen=True)
class OneDevice:
    """The measured properties of one device.

    Attributes:
        batch: crops per step.
        step: seconds of a step in which PESQ is a constant. This is also the time available for PESQ, from the arrival
            of one estimate to that of the next.
        pesq: seconds of one score on one core.
        reduced: bytes all-reduced per step.
        exchanges: all-reduces per step.
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
        """Scores that a core can compute during a step; at least 1."""
        return max(1, math.floor(self.step / self.pesq))


@dataclass(frozen=True)
class Prediction:
    """The predicted speed for one number of devices.

    Attributes:
        devices: number of devices.
        step: seconds of a step.
        exchange: seconds of it in collectives, assuming that none overlap with computation.
        straggling: seconds of it spent waiting for the slowest.
        pesq_wait: seconds of it spent waiting for PESQ.
        crops_per_second: throughput of all devices together.
        efficiency: throughput relative to `devices` times that of a single device.
        hours: hours for the paper's training.
        cores: cores that each host needs to keep PESQ hidden behind the step.
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
    """Predict weak scaling, in which the batch per device is constant.

    All-reduces are modelled as rings, first within hosts, then between them: 2 (n - 1) / n of the bytes pass each link.

    Args:
        one: the measured device.
        devices: number of devices n.
        assumed: the assumptions about the machines.
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
    """Expected maximum of `count` standard normal draws (Blom 1958); 0 for one."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count > 1 else 0.0
