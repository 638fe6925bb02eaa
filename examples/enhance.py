"""Clean an array, a stream and a folder with one enhancer.

    python examples/enhance.py noisy.wav --out cleaned

The model is the small one that comes with the package. `--checkpoint` names another: a run folder, a checkpoint in it,
or a file of weights (safetensors, or PyTorch's).
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from cmgan_jax import Enhancer
from cmgan_jax.inference.files import enhance_file, plan


def clean_array(enhancer: Enhancer, noisy: np.ndarray, sample_rate: int) -> np.ndarray:
    """Array in, array out: the same shape, rate and level. Any rate from 1 to 768 kHz will do."""
    return enhancer.enhance(noisy, sample_rate)


def clean_blocks(enhancer: Enhancer, blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
    """A recording that arrives in blocks of any size; the result lags behind by `stream.latency` samples."""
    stream = enhancer.stream(sample_rate)
    for block in blocks:
        yield stream.push(block)
    yield stream.flush()


def clean_folder(enhancer: Enhancer, folder: Path, out: Path) -> list[Path]:
    """Every recording of a folder, written below `out` under its own name. Inputs are never replaced."""
    jobs = plan([folder], out)
    for job in jobs:
        enhance_file(enhancer, job)
    return [job.target for job in jobs]


def main() -> None:
    """Clean a file three times: as a whole, in blocks of a tenth of a second, and as the folder that holds it."""
    parser = argparse.ArgumentParser(description="Clean a recording.")
    parser.add_argument(
        "--checkpoint", help="run folder, checkpoint or file of weights, instead of the package's model"
    )
    parser.add_argument("noisy", type=Path, help="recording")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()

    enhancer = Enhancer.from_checkpoint(arguments.checkpoint)
    noisy, rate = soundfile.read(arguments.noisy, dtype="float32")
    if noisy.ndim > 1:
        noisy = noisy.mean(axis=1)

    arguments.out.mkdir(parents=True, exist_ok=True)
    soundfile.write(arguments.out / "whole.wav", clean_array(enhancer, noisy, rate), rate)

    blocks = [noisy[start : start + rate // 10] for start in range(0, len(noisy), rate // 10)]
    streamed = np.concatenate(list(clean_blocks(enhancer, blocks, rate)))
    soundfile.write(arguments.out / "streamed.wav", streamed, rate)

    written = clean_folder(enhancer, arguments.noisy.resolve().parent, arguments.out / "folder")
    print(f"whole.wav, streamed.wav and {len(written)} files of the folder are in {arguments.out}")


if __name__ == "__main__":
    main()
