"""Train the discriminator on a metric of your own.

    cmgan train --data DIR --out runs/mine --targets.metric examples.custom_metric:LogSpectralDistance

Any class with these five attributes and `score` is a metric. It is found in the working directory or among the
installed modules, tried on a short synthetic pair before anything trains, and then called in worker processes.
`python examples/custom_metric.py CLEAN ESTIMATE` scores two files with it.
"""

import sys

import numpy as np
import soundfile

from cmgan_jax.metrics import NoScore

FLOOR_DB = -80.0
"""Level below the loudest bin at which spectra end: what is quieter is not heard."""


class LogSpectralDistance:
    """Root mean square difference of two spectrograms in decibels, averaged over frames; lower is better."""

    name = "lsd"
    low = 0.0
    high = 30.0
    unit = "dB"
    higher_is_better = False

    def score(self, clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
        """Compare two signals of one length; both are brought to the same level first."""
        spectra = [self._decibels(signal, sample_rate) for signal in (clean, estimate)]
        return float(np.mean(np.sqrt(np.mean((spectra[0] - spectra[1]) ** 2, axis=-1))))

    @staticmethod
    def _decibels(signal: np.ndarray, sample_rate: int) -> np.ndarray:
        size = sample_rate // 40
        frames = np.lib.stride_tricks.sliding_window_view(signal.astype(np.float64), size)[:: size // 2]
        power = np.abs(np.fft.rfft(frames * np.hanning(size), axis=-1)) ** 2
        if not power.any():
            raise NoScore("silent")
        return np.maximum(10 * np.log10(power / power.max() + 1e-12), FLOOR_DB)


if __name__ == "__main__":
    (clean, rate), (estimate, _) = (soundfile.read(path, dtype="float32") for path in sys.argv[1:3])
    print(f"{LogSpectralDistance().score(clean, estimate, rate):.2f} dB")
