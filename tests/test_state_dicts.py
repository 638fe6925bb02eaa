"""A network's tensors are found in whatever a checkpoint wraps them in."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_enhance import random_variables

from cmgan_jax.errors import UserError
from cmgan_jax.interop.naming import batches_tracked, generator_from_torch, generator_to_torch
from cmgan_jax.interop.state_dicts import find_state_dict

State = dict[str, Any]


@pytest.fixture(scope="module")
def state() -> State:
    return generator_to_torch(random_variables(), 7)


def prefixed(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: value for name, value in state.items()}


def another(state: State) -> State:
    return {name: np.asarray(value + 1) for name, value in state.items()}


OPTIMISER = {"state": {0: {"exp_avg": np.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}

# What frameworks put in front: DistributedDataParallel `module.`, torch.compile `_orig_mod.` (either may be outside),
# Lightning the attribute's name, AveragedModel `module.` beside `n_averaged`.
WRAPPINGS: dict[str, Callable[[State], Any]] = {
    **{
        prefix: prefixed(prefix)
        for prefix in (
            "module.",
            "_orig_mod.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "generator.",
            "model.",
            "net.",
            "_forward_module.model.generator._orig_mod.",
        )
    },
    "average": lambda state: {"n_averaged": np.array(3), **prefixed("module.")(state)},
    "lightning": lambda state: {
        "epoch": 3,
        "state_dict": {**prefixed("generator.")(state), "stft.window": np.ones(4), "discriminator.layers.1.bias": SIX},
        "optimizer_states": [OPTIMISER],
        "hyper_parameters": {"lr": 0.1},
    },
    "trainer": lambda state: {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": OPTIMISER, "loss": 0.1},
    "gan": lambda state: {"gen": state, "disc": {"layers.1.bias": SIX}, "optim_g": OPTIMISER},
    "deep": lambda state: {"state_dict": {"networks": {"g": prefixed("module.")(state)}}},
    "beside": lambda state: {**state, "epoch": 3, "optimizer": OPTIMISER},
    "average first": lambda state: {"model": another(state), "model_ema": state},
    "average without counters": lambda state: {
        "model": another(state),
        "ema": {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
    },
    "named first": lambda state: {"net": another(state), "generator": state},
    "equal twice": lambda state: {"model": state, "best": state},
    "whole before a part": lambda state: {"generator": dict(list(another(state).items())[:9]), "net": state},
}
SIX = np.arange(6.0)


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_the_network_is_found(state: State, wrap: Callable[[State], Any]) -> None:
    found = find_state_dict(wrap(state), "generator")
    weights = [name for name in state if not name.endswith("num_batches_tracked")]
    assert [name for name in found if not name.endswith("num_batches_tracked")] == weights
    for name in weights:
        np.testing.assert_array_equal(found[name], state[name])


def test_counters_are_found_with_it(state: State) -> None:
    assert batches_tracked({"state_dict": prefixed("model.module.")(state)}) == 7


def test_several_that_differ_are_refused_by_name(state: State) -> None:
    with pytest.raises(UserError, match=r"several networks that fit as its generator: student, teacher;"):
        find_state_dict({"student": state, "teacher": another(state)}, "generator")


def test_an_error_names_a_handful(state: State) -> None:
    """Half of the tensors are gone and as many are foreign: five of each are named, the others counted."""
    half = dict(list(state.items())[::2]) | {f"other.{i}": SIX for i in range(90)}
    with pytest.raises(UserError) as error:
        generator_from_torch(prefixed("generator.")(half))
    missing, unknown = str(error.value).splitlines()[1:]
    for line, more in ((missing, len(state) // 2 - 5), (unknown, 85)):
        assert line.count(",") == 4
        assert abs(int(line.split(" and ")[1].split()[0]) - more) <= 2  # counters may be absent
    assert "generator." not in missing
