"""The letters that stand for dimensions in this project, and a shape check that uses them.

All docstrings write shapes with these letters; a lower-case string such as `bft` denotes an axis order.

=====  ==================================================================
D      devices that share a step (the mapped axis, named "batch")
B      items in a batch; with a leading D, the items of one device
S      samples of a waveform (16 kHz)
T      frames of a spectrogram: S / hop + 1
F      frequency bins: n_fft / 2 + 1 (201), or about half of it inside the generator (101)
C      channels of a feature map
N      positions of an attention: T in a time conformer, F in a frequency conformer
H, K   attention heads, and the width of one head
=====  ==================================================================

Feature maps are channels-last: [B, T, F, C] (`btfc`). Spectra are complex [B, T, F] (`btf`).
"""

from collections.abc import Sequence

AXIS = "batch"
"""Name of the mapped device axis, for collectives."""


def check_shape(name: str, shape: Sequence[int], expected: Sequence[int | str]) -> dict[str, int]:
    """Check that a shape is as expected.

    Args:
        name: description of the array, for the message.
        shape: the actual shape.
        expected: an int for an exact size, or a letter for any size; equal letters stand for equal sizes.

    Returns:
        The size of each letter.

    Raises:
        ValueError: the rank or a size differs; the message shows both shapes.
    """
    sizes: dict[str, int] = {}
    fits = len(shape) == len(expected) and all(
        have == (sizes.setdefault(want, have) if isinstance(want, str) else want)
        for have, want in zip(shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, expected))
        raise ValueError(f"{name} has shape {list(shape)}, expected [{wanted}]")
    return sizes
