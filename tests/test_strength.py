"""How much of the enhanced signal is heard. Signals of known ratios; no network."""

from itertools import pairwise

import numpy as np
import pytest

from cmgan_jax.config import SpectralConfig
from cmgan_jax.errors import UserError
from cmgan_jax.inference.pieces import Network
from cmgan_jax.inference.processor import Processor
from cmgan_jax.inference.strength import (
    FULL_UP_TO,
    LEAST,
    LEAST_FROM,
    Mixer,
    automatic_share,
    estimated_ratio,
    mixed,
)
from cmgan_jax.inference.windows import Layout

SPECTRAL = SpectralConfig()
RATE = SPECTRAL.sample_rate


def pair(ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """A noisy signal and an enhanced one, to which the noisy one adds noise at a ratio in dB."""
    draw = np.random.default_rng(0)
    kept, taken = draw.standard_normal((2, RATE))
    taken *= np.linalg.norm(kept) / np.linalg.norm(taken) / 10 ** (ratio / 20)
    return (kept + taken).astype(np.float32), kept.astype(np.float32)


def halving() -> Network:
    """A network that takes half of everything away."""
    layout = Layout(RATE, 0, 0, SPECTRAL.hop, 1, RATE)
    half = SPECTRAL.n_fft // 2
    return Network(SPECTRAL, layout, ((1, RATE),), lambda padded, *_: 0.5 * padded[:, half:-half])


@pytest.mark.parametrize("ratio", [-10.0, 0.0, 17.5, 40.0])
def test_the_ratio_of_what_is_kept_to_what_is_taken(ratio: float) -> None:
    assert estimated_ratio(*pair(ratio)) == pytest.approx(ratio, abs=1e-3)


def test_a_ratio_of_nothing() -> None:
    noisy, _ = pair(0.0)
    assert estimated_ratio(noisy, noisy) == np.inf
    assert estimated_ratio(noisy, np.zeros_like(noisy)) == -np.inf


def test_a_given_share_mixes() -> None:
    noisy, enhanced = pair(5.0)
    np.testing.assert_allclose(mixed(0.25, noisy, enhanced), 0.75 * noisy + 0.25 * enhanced, atol=1e-6)
    np.testing.assert_array_equal(mixed(0.0, noisy, enhanced), noisy)
    np.testing.assert_array_equal(mixed(1.0, noisy, enhanced), enhanced)


def test_auto_takes_less_the_cleaner_a_recording_is() -> None:
    shares = [automatic_share(ratio) for ratio in np.linspace(-20, 60, 161)]
    assert all(later <= earlier for earlier, later in pairwise(shares))
    assert automatic_share(FULL_UP_TO) == 1
    assert automatic_share((FULL_UP_TO + LEAST_FROM) / 2) == pytest.approx((1 + LEAST) / 2)
    assert automatic_share(LEAST_FROM) == automatic_share(np.inf) == LEAST


def test_auto_mixes_by_the_estimated_ratio() -> None:
    noisy, enhanced = pair(FULL_UP_TO - 0.1)
    assert Mixer("auto")(noisy, enhanced) is enhanced
    noisy, enhanced = pair((FULL_UP_TO + LEAST_FROM) / 2)
    half = (1 + LEAST) / 2
    np.testing.assert_allclose(Mixer("auto")(noisy, enhanced), noisy + half * (enhanced - noisy), atol=1e-3)


def test_auto_remembers_earlier_pieces_of_the_same_channel() -> None:
    """A clean piece after noisy ones of equal energy counts as noisy; in a channel of its own it does not."""
    noisy, clean = pair(0.0), pair(LEAST_FROM + 1)
    alone = Mixer("auto")(*clean)
    mixer = Mixer("auto", channels=2)
    silence = np.zeros(RATE, np.float32)
    for piece in (noisy, (silence, silence), noisy, clean):
        last = mixer(*piece)
    np.testing.assert_array_equal(last, alone)
    assert mixer(*clean) is clean[1]
    np.testing.assert_allclose(alone, mixed(LEAST, *clean))


@pytest.mark.parametrize(("strength", "left"), [(1.0, 0.5), (0.5, 0.75), (0.0, 1.0)])
def test_a_processor_mixes_each_piece(strength: float, left: float) -> None:
    noisy = pair(0.0)[0] * np.float32(0.1)
    found = Processor(halving(), strength).enhance(noisy, RATE)
    np.testing.assert_allclose(found, left * noisy, atol=1e-6)


def test_a_stream_has_the_same_strength() -> None:
    noisy = pair(0.0)[0] * np.float32(0.1)
    stream = Processor(halving(), 0.5).stream(RATE)
    found = np.concatenate([stream.push(noisy[:5_000]), stream.push(noisy[5_000:]), stream.flush()])
    np.testing.assert_allclose(found, 0.75 * noisy, atol=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), "much", None])
def test_what_is_no_strength_is_refused(strength: object) -> None:
    with pytest.raises(UserError, match="must be auto, or a number from 0"):
        Processor(halving(), strength)  # pyright: ignore[reportArgumentType]
