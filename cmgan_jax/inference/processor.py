"""Recordings as people have them: any rate, any number of channels, whole or as a stream. Knows no model.

The network hears 16 kHz. Other rates are resampled there and back (soxr, HQ), so what lies above 8 kHz is not
enhanced: it is left out of the result, for the noise in it would stand alone.
"""

import numpy as np
import soxr

from cmgan_jax.data.audio import RATES
from cmgan_jax.inference.pieces import Network, window_stream
from cmgan_jax.inference.strength import Strength, refuse_strength

Floats = np.ndarray

NOT_FINITE = (
    "the model gives numbers that are not finite: its training diverged, or its file is damaged; use another one"
)
"""What is said where a result is no sound."""
RESAMPLER_SAMPLES = 4_000
"""Samples, at the lower of two rates, that resampling there and back may hold back (measured: up to 2,700)."""
BLOCK_SECONDS = 30.0
"""An array is enhanced in blocks of this length: memory."""
_CHANNELS_OF_FEW_SAMPLES = 2
"""So many channels may have fewer samples than channels; of more, that is an array the other way round."""


class Processor:
    """Enhances recordings with a network.

    Attributes:
        network: what enhances pieces, and how long signals are cut for it.
        strength: how much of the enhanced signal is heard: a share from 0 to 1, or `auto`, which chooses it for each
            piece (`strength.share`).

    Raises:
        UserError: another strength.
    """

    def __init__(self, network: Network, strength: Strength = "auto"):
        refuse_strength(strength)
        self.network = network
        self.strength: Strength = strength

    @property
    def sample_rate(self) -> int:
        """Samples per second of what the network hears."""
        return self.network.spectral.sample_rate

    def enhance(self, audio: Floats, sample_rate: int, mono: bool = False) -> Floats:
        """Enhance a recording; each channel by itself.

        Args:
            audio: float[S] or [S, channels], nominally in [-1, 1], S of at least 1.
            sample_rate: samples per second.
            mono: enhance the mean of the channels instead, and give that one channel.

        Returns:
            float32 of the same shape ([S, 1] from [S, channels] if mono), at the same rate and level. Silence stays
            silence. A constant offset is left out where it is beyond what speech has: it is no sound.

        Raises:
            ValueError: another rank, channels before samples, no samples, integers, NaN or infinity, or a rate outside
                1,000 to 768,000 Hz.
        """
        audio = np.asarray(audio)
        if audio.ndim not in (1, 2) or audio.size == 0:
            raise ValueError(f"audio has shape {list(audio.shape)}, expected [S] or [S, channels], S of at least 1")
        if audio.ndim == 2 and audio.shape[1] > max(audio.shape[0], _CHANNELS_OF_FEW_SAMPLES):
            raise ValueError(
                f"audio has shape {list(audio.shape)}, which as [S, channels] is {audio.shape[1]} channels of "
                f"{audio.shape[0]} samples: transpose it (audio.T) if it is [channels, S]"
            )
        _require_hertz(sample_rate)
        if mono and audio.ndim == 2:
            audio = audio.mean(axis=1, keepdims=True)
        stream = self.stream(sample_rate, 1 if audio.ndim == 1 else audio.shape[1], whole=True)
        size = round(BLOCK_SECONDS * sample_rate)
        done = [stream.push(audio[start : start + size]) for start in range(0, len(audio), size)]
        return np.concatenate([*done, stream.flush()]).reshape(audio.shape)

    def stream(self, sample_rate: int, channels: int = 1, whole: bool = False) -> "EnhancedStream":
        """Begin to enhance a recording that arrives in blocks.

        Args:
            sample_rate: samples per second.
            channels: how many.
            whole: hold back what `enhance` would enhance as a whole, so that the result is the same. Otherwise all is
                windows, as `enhance` makes of a long recording, and the latency is one window.

        Raises:
            ValueError: a rate outside 1,000 to 768,000 Hz, or a number of channels below 1.
        """
        return EnhancedStream(self.network, sample_rate, channels, whole, self.strength)


class EnhancedStream:
    """A recording that arrives in blocks of any size.

    Attributes:
        latency: samples by which the result lags behind, always: after n samples, max(0, n - latency) are out.
    """

    def __init__(
        self,
        network: Network,
        sample_rate: int,
        channels: int = 1,
        whole: bool = False,
        strength: Strength = "auto",
    ):
        _require_hertz(sample_rate)
        if channels < 1:
            raise ValueError(f"{channels} channels: there must be at least 1")
        heard = network.spectral.sample_rate
        resampled = sample_rate != heard
        self._down = soxr.ResampleStream(sample_rate, heard, channels, dtype="float32") if resampled else None
        self._up = soxr.ResampleStream(heard, sample_rate, channels, dtype="float32") if resampled else None
        self._windows = window_stream(network, whole, channels, centred=True, strength=strength)
        self._ready: list[Floats] = []
        self._channels, self._pushed, self._returned = channels, 0, 0
        self._axes: tuple[int, ...] = (channels,)
        resampling = 0 if sample_rate == heard else RESAMPLER_SAMPLES / min(sample_rate, heard)
        held = network.layout.whole if whole else network.layout.length
        self.latency = int(np.ceil((held / heard + resampling) * sample_rate))

    def push(self, block: Floats) -> Floats:
        """Take samples and give as many as the latency allows.

        Args:
            block: float[S] (one channel) or [S, channels], finite.

        Returns:
            float32[S'], or [S', channels] where the block had two axes.

        Raises:
            ValueError: another shape, integers, NaN or infinity.
        """
        block = np.asarray(block)
        if not np.issubdtype(block.dtype, np.floating):
            raise ValueError(f"audio is of {block.dtype}, expected floating point in [-1, 1]")
        columns = block[:, None] if block.ndim == 1 else block
        if columns.ndim != 2 or columns.shape[1] != self._channels:
            turned = columns.ndim == 2 and len(columns) == self._channels
            remedy = "; transpose it (block.T) if it is [channels, S]" if turned else ""
            raise ValueError(f"a block has shape {list(block.shape)}, expected [S, {self._channels}]{remedy}")
        if not np.isfinite(columns).all():
            raise ValueError("audio holds NaN or infinity")
        self._pushed += len(columns)
        self._axes = block.shape[1:]
        columns = np.array(columns, np.float32, order="C")
        done = self._windows.push(columns if self._down is None else self._down.resample_chunk(columns))
        self._ready.append(done if self._up is None else self._up.resample_chunk(done))
        return self._take(max(0, self._pushed - self.latency))

    def flush(self) -> Floats:
        """The rest, shaped like `push`'s, after the last block; as many samples as went in are out then."""
        if self._down is None or self._up is None:
            self._ready.append(self._windows.flush())
        else:
            nothing = np.zeros((0, self._channels), np.float32)
            done = self._windows.push(self._down.resample_chunk(nothing, last=True))
            done = np.concatenate([done, self._windows.flush()])
            self._ready.append(self._up.resample_chunk(done, last=True))
        return self._take(self._pushed)

    def _take(self, until: int) -> Floats:
        """The next samples; zeros where rounding of rates has lost the last."""
        count = max(0, until - self._returned)
        self._returned += count
        ready = np.concatenate([*self._ready, np.zeros((0, self._channels), np.float32)])
        self._ready = [ready[count:]]
        done = np.pad(ready[:count], ((0, max(0, count - len(ready))), (0, 0)))
        return done.reshape(count, *self._axes)


def _require_hertz(sample_rate: float) -> None:
    """Refuse what is no sample rate.

    Raises:
        ValueError: it is outside 1,000 to 768,000.
    """
    if not RATES[0] <= sample_rate <= RATES[1]:
        kilo = f", e.g. {sample_rate * 1000:.0f} for {sample_rate} kHz" if 1 <= sample_rate < RATES[0] else ""
        raise ValueError(f"a sample rate of {sample_rate} Hz: it is given in Hz, {RATES[0]} to {RATES[1]}{kilo}")
