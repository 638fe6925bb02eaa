"""Run where PyTorch is, by test_baseline: the rebuilt generator's result for given weights, sizes and spectrum."""

# pyright: reportMissingImports=false

import json
import sys
from pathlib import Path

import numpy as np
import torch

from cmgan_jax.recipes import from_dict
from experiments.pytorch_baseline.networks import load_generator


def main(folder: Path) -> None:
    config = from_dict(json.loads((folder / "config.json").read_text()))
    weights = {name: torch.from_numpy(value) for name, value in np.load(folder / "weights.npz").items()}
    generator = load_generator(config.generator, config.spectral.bins, weights).eval()
    noisy = torch.from_numpy(np.load(folder / "noisy.npy"))
    with torch.no_grad():
        np.save(folder / "estimate.npy", generator(noisy).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
