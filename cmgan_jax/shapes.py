"""The dimension letters of this project, explained once, and the check that uses them.

Every docstring writes shapes with these letters; a lower-case string such as `bft` names an axis order.

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
"""Name of the mapped device axis, wherever a collective needs one."""


def check_shape(name: str, shape: Sequence[int], expected: Sequence[int | str]) -> dict[str, int]:
    """Compare a shape with its description before any arithmetic uses it.

    Args:
        name: what the array is, for the message.
        shape: the shape found.
        expected: an int for an exact size, a letter for any size; a letter used twice must agree.

    Returns:
        The size bound to each letter.

    Raises:
        ValueError: rank or a size differs; the message shows both.
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
