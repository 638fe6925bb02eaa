"""Spectrograms as PNG images, made with numpy and zlib only."""

import struct
import zlib

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW = 512
"""Length of the Hann window in samples: 32 ms at 16 kHz, which resolves harmonics and still localises onsets."""
HOP = 160
"""Samples between columns before they are merged: 10 ms at 16 kHz."""
COLUMNS = 1_200
"""Maximum number of columns in an image; neighbouring columns of a longer signal are merged."""
RANGE_DB = 75.0
"""Dynamic range in dB: levels this far below the reference, or farther, have the darkest colour."""
ANCHORS = ("#0a0a1f", "#33125f", "#7d2077", "#c73e63", "#f2814a", "#fcc45f", "#fdf6c8")
"""Colours from the quietest to the loudest; lightness increases throughout, so the order is visible without hue."""

_LEVELS = 64
_FLOOR = 1e-12


def power(signal: NDArray[np.floating]) -> Floats:
    """Compute short-time power spectra.

    Args:
        signal: [S]; the ends are padded with silence by half a window, so that columns are centred.

    Returns:
        [257, columns], the lowest frequency first, with at most `COLUMNS` columns.
    """
    padded = np.pad(np.asarray(signal, np.float64), WINDOW // 2)
    frames = sliding_window_view(padded, WINDOW)[::HOP]
    merged = -(-len(frames) // COLUMNS)
    taper = np.hanning(WINDOW + 1)[:-1]
    columns = [
        np.mean(np.abs(np.fft.rfft(frames[start : start + merged] * taper, axis=-1)) ** 2, axis=0)
        for start in range(0, len(frames), merged)
    ]
    return np.stack(columns, axis=1)


def image(spectra: Floats, reference: float) -> bytes:
    """Draw spectra as PNG, in decibels below a reference.

    Args:
        spectra: [bins, columns], power, the lowest frequency first; it becomes the lowest row.
        reference: power with the brightest colour; use the same for images that are to be compared.

    Returns:
        The PNG file's content, with 64 colours.
    """
    decibels = 10 * np.log10((spectra + _FLOOR) / (reference + _FLOOR))
    levels = np.clip(np.rint((decibels / RANGE_DB + 1) * (_LEVELS - 1)), 0, _LEVELS - 1)
    return png(levels[::-1].astype(np.uint8), palette())


def palette() -> NDArray[np.uint8]:
    """Interpolate the colours of `ANCHORS`: [64, 3]."""
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in ANCHORS], np.float64)
    place = np.linspace(0, len(anchors) - 1, _LEVELS)
    channels = [np.interp(place, np.arange(len(anchors)), anchors[:, i]) for i in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def png(pixels: NDArray[np.uint8], colours: NDArray[np.uint8]) -> bytes:
    """Encode an indexed image as PNG.

    Args:
        pixels: [rows, columns], indices into the colours.
        colours: [at most 256, 3].

    Returns:
        The file's content.

    References:
        ISO/IEC 15948 (Portable Network Graphics), sections 5 and 11.
    """
    rows, columns = pixels.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    # Each row begins with its filter type: 0 for none.
    data = np.pad(pixels, ((0, 0), (1, 0))).tobytes()
    chunks = ((b"IHDR", header), (b"PLTE", colours.tobytes()), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
