"""Build the generator, load weights, and apply it to a spectrum.

    python examples/load_weights.py generator.pt noisy.wav

The weights may be a run folder, a checkpoint, a safetensors file, or a state dict of the published PyTorch code.
"""

import argparse
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import soundfile

import cmgan_jax
from cmgan_jax.spectral import compress, istft, stft, uncompress, unit_rms_gain


def enhance(weights_path: str | Path, noisy: np.ndarray) -> np.ndarray:
    """Apply a generator by hand: what `Enhancer` does to a short recording, step by step.

    Args:
        weights_path: see above.
        noisy: float32[S], at 16 kHz; S is a multiple of the hop.

    Returns:
        float32[S], enhanced, at the level of the input.
    """
    weights = cmgan_jax.load(weights_path)
    spectral = weights.config.spectral

    @jax.jit
    def apply(variables: Any, wave: jax.Array) -> jax.Array:
        gain = unit_rms_gain(wave)  # The network expects a root mean square of 1.
        spectrum = compress(stft(wave * gain, spectral), spectral)  # complex[1, T, F], magnitudes to the power of 0.3
        enhanced = weights.generator.apply(variables, spectrum, train=False)
        return istft(uncompress(cast(jax.Array, enhanced), spectral), spectral) / gain

    return np.asarray(apply(weights.variables, jnp.asarray(noisy)[None]))[0]


def main() -> None:
    """Enhance the first two seconds of a recording and print what changed."""
    parser = argparse.ArgumentParser(description="Apply a generator to a spectrum.")
    parser.add_argument("weights", help="run folder, checkpoint or file of weights")
    parser.add_argument("noisy", type=Path, help="recording at 16 kHz")
    arguments = parser.parse_args()
    noisy, rate = soundfile.read(arguments.noisy, dtype="float32", always_2d=True)
    if rate != 16_000:
        raise SystemExit(f"{arguments.noisy} has {rate} Hz, and the network takes 16000: use cmgan_jax.Enhancer")
    noisy = noisy[: 2 * rate, 0]
    enhanced = enhance(arguments.weights, noisy)
    levels = [20 * np.log10(np.sqrt(np.mean(np.square(x))) + 1e-12) for x in (noisy, enhanced)]
    print(f"{len(enhanced) / rate:.2f} s enhanced: {levels[0]:.1f} dB in, {levels[1]:.1f} dB out (root mean square)")


if __name__ == "__main__":
    main()
