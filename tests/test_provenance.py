"""The digest of parameters, and what a run records of its surroundings."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np

from cmgan_jax.training.provenance import PACKAGES, describe, digest

PARAMS = {"conv": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3, np.float32)}}


def test_digest_does_not_depend_on_order_or_place() -> None:
    turned = {"conv": dict(reversed(PARAMS["conv"].items()))}
    assert list(turned["conv"]) != list(PARAMS["conv"])
    strided = {"conv": PARAMS["conv"] | {"kernel": np.asfortranarray(PARAMS["conv"]["kernel"])}}
    for same in (turned, strided, jax.tree.map(jnp.asarray, PARAMS)):
        assert digest(same) == digest(PARAMS)
    assert re.fullmatch("[0-9a-f]{64}", digest(PARAMS))


def test_digest_changes_with_every_byte_and_name() -> None:
    seen = {digest(PARAMS)}
    for name, leaf in PARAMS["conv"].items():
        for byte in range(leaf.nbytes):
            changed = leaf.copy()
            changed.view(np.uint8).reshape(-1)[byte] ^= 1
            seen.add(digest({"conv": PARAMS["conv"] | {name: changed}}))
    assert len(seen) == 1 + 4 * 9
    swapped = {"conv": {"kernel": PARAMS["conv"]["bias"], "bias": PARAMS["conv"]["kernel"]}}
    assert digest(swapped) not in seen
    assert digest({"other": PARAMS["conv"]}) not in seen


def test_surroundings_are_ready_for_json() -> None:
    about = describe("f1n93r", "12 pairs")
    assert json.loads(json.dumps(about)) == about
    assert set(about["versions"]) == set(PACKAGES)
    assert about["versions"]["jax"] == jax.__version__
    assert about["data"] == {"fingerprint": "f1n93r", "description": "12 pairs"}
    assert about["device"].startswith("cpu")
    # A commit in a checkout, nothing in an installed package.
    assert about["source"] == {} or re.fullmatch("[0-9a-f]{40}", about["source"]["commit"])
