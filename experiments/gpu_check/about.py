"""What the measured machine is: card, driver, versions, revision; a process of its own, which gives the device back."""

import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tyro

from cmgan_jax.benchmarking import report
from cmgan_jax.cli._cli import run
from cmgan_jax.runtime import find_devices, prepare_programs, share_device
from cmgan_jax.system.outputs import write_json
from cmgan_jax.training.provenance import describe

ALSO = ("triton", "jax-triton", "jax-cuda13-plugin", "jax-cuda12-plugin", "torch")
"""Packages beside those of a run, whose versions are recorded where they are installed."""


@dataclass(frozen=True)
class Arguments:
    """Tell what this machine is."""

    json: Path
    """File for it."""


def driver() -> str | None:
    """Version of the NVIDIA driver; None where nobody tells."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None


def about() -> dict[str, Any]:
    """The machine as benchmarks record it, driver, versions and revision."""
    described = describe("", "")
    versions = described["versions"]
    for package in ALSO:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "machine": report.machine(),
        "driver": driver(),
        "versions": versions,
        "revision": described["source"],
    }


def main() -> None:
    """Write it."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.gpu_check.about")
    prepare_programs()
    share_device()
    find_devices()
    write_json(arguments.json, about())


if __name__ == "__main__":
    run(main)
