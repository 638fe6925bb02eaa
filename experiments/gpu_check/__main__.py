"""Measure on one NVIDIA GPU what no other machine can tell: `python -m experiments.gpu_check --out results/gpu/NAME`.

Parts run in order of worth, each in processes of its own and within a time limit. A part whose record
(`OUT/PART.json`) says that it is done is skipped, so the command can be given again until all is done; parts that
failed are tried again, and of these what was finished is kept. Trainings go on from their checkpoints with every call.

    python -m experiments.gpu_check --out results/gpu/h100 --minutes 28
    python -m experiments.gpu_check --out results/gpu/h100 --only step pytorch
    python -m experiments.gpu_check --out results/gpu/h100 --corpora ../corpus --only train-small paper
    python -m experiments.gpu_check --out runs/rehearsal --rehearse      # on a CPU, smallest sizes, measures nothing

A machine without a network takes the packages that it lacks from a folder of wheels (`--wheels DIR`), made before on a
machine with the same system, processor and version of Python:

    pip wheel --no-deps --wheel-dir wheels pesq==0.0.4        # it comes as source and needs a C compiler
    pip download --dest wheels --find-links wheels --only-binary :all: \
        optax orbax-checkpoint grain scipy pesq==0.0.4 tensorboardX G722 \
        soundfile soxr safetensors tyro rich flax 'triton>=3.6,<3.8' 'jax-triton>=0.3.1,<0.5' pytest pytest-timeout

For another version of Python or another Linux add `--python-version 3.12 --platform manylinux2014_x86_64 --platform
manylinux_2_28_x86_64`. JAX with its plugin for the GPU, and PyTorch, are expected on the machine: add `'jax[cuda13]'`
and `torch` where it has none. Nothing is downloaded by the check itself.
"""

import sys

from cmgan_jax.cli._cli import run
from experiments.gpu_check.wheels import prepare


def main() -> int:
    """Install what is missing, then check; imports wait until the packages are there."""
    prepare(sys.argv[1:])
    from experiments.gpu_check.command import main as check

    return check()


if __name__ == "__main__":
    run(main)
