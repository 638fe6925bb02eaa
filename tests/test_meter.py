"""Running means, through a checkpoint and without one."""

import json
import math
import random

from cmgan_jax.training.position import Meter


def test_means_and_counts_by_hand() -> None:
    """What is not finite, or absent from a step, has no part in a mean; failures add up by reason."""
    meter = Meter()
    meter.add({"loss": 1.0, "pesq": 2.0}, {"timeout": 1})
    meter.add({"loss": 4.0, "pesq": math.nan}, {})
    meter.add({"loss": math.inf}, {"timeout": 2, "too short": 1})
    assert meter.summary() == {"loss": 2.5, "pesq": 2.0, "failures": {"timeout": 3, "too short": 1}}
    assert Meter().summary() == {"failures": {}}


def test_names_say_what_is_lowest_and_what_adds_up() -> None:
    meter = Meter()
    for loss, skipped in ((2.0, 1.0), (0.5, 0.0), (math.nan, 2.0), (1.0, 0.0)):
        meter.add({"loss_min": loss, "skipped_count": skipped}, {})
    assert meter.summary() == {"loss_min": 0.5, "skipped_count": 3.0, "failures": {}}


def test_a_trip_through_json_midway_changes_no_bit() -> None:
    """Sums and not means are kept: adding goes on in the same order with the same roundings."""
    draw = random.Random(0)
    unbroken = resumed = Meter()
    for i in range(40):
        if i == 17:
            resumed = Meter(json.loads(json.dumps(unbroken.to_dict())))
        loss, failures = draw.uniform(0, 1) / 3, {"timeout": i % 2}
        numbers = {"loss": loss, "loss_min": loss, "pesq": draw.uniform(1, 4), "skipped_count": i / 7}
        unbroken.add(numbers, failures)
        if resumed is not unbroken:
            resumed.add(numbers, failures)
    assert resumed is not unbroken
    assert resumed.to_dict() == unbroken.to_dict()
    assert resumed.summary() == unbroken.summary()


def test_a_restored_meter_leaves_what_it_came_from() -> None:
    meter = Meter()
    meter.add({"loss": 1.0}, {"timeout": 1})
    saved = meter.to_dict()
    Meter(saved).add({"loss": 1.0}, {"timeout": 1})
    assert saved == {"sums": {"loss": 1.0}, "counts": {"loss": 1}, "failures": {"timeout": 1}}
