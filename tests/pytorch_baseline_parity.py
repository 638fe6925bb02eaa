"""Run where PyTorch is, by test_baseline: the baseline's deviations from the published code's own numbers."""

# pyright: reportMissingImports=false

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cmgan_jax.config import DiscriminatorConfig, GeneratorConfig, LossConfig, SpectralConfig
from cmgan_jax.interop.tables import generator_table
from experiments.pytorch_baseline.networks import load_discriminator, load_generator
from experiments.pytorch_baseline.training import Spectra, Trainer, generator_loss, magnitude


def deviation(found: torch.Tensor, expected: np.ndarray) -> float:
    """Largest, relative to the largest expected value."""
    return float(np.max(np.abs(found.detach().numpy() - expected)) / np.max(np.abs(expected)))


def without_dropout(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0


def main(folder: Path) -> dict[str, float]:
    numbers = dict(np.load(folder / "reference.npz"))
    sizes, discriminator_sizes, spectral = GeneratorConfig(), DiscriminatorConfig(), SpectralConfig()
    weights, discriminator_weights = (
        torch.load(folder / f"{n}.pt", weights_only=True) for n in ("generator", "discriminator")
    )
    generator, discriminator = (
        load_generator(sizes, spectral.bins, weights),
        load_discriminator(discriminator_sizes, discriminator_weights),
    )
    for module in (generator, discriminator):
        without_dropout(module)
    spectra, found = Spectra(spectral, torch.device("cpu")), {}
    noisy = torch.from_numpy(numbers["noisy_spec"])
    clean = torch.from_numpy(numbers["clean_spec"]).transpose(2, 3)

    generator.eval()
    discriminator.eval()
    with torch.no_grad():
        estimate = generator(noisy)
        expected = np.concatenate([numbers["eval_real"], numbers["eval_imag"]], axis=1)
        found["generator"] = deviation(estimate, expected)
        found["audio"] = deviation(spectra.synthesise(estimate), numbers["eval_audio"])
        score = discriminator(magnitude(clean), magnitude(torch.from_numpy(expected)))
        found["discriminator"] = deviation(score, numbers["disc_clean_est"][:, 0])

    generator.train()
    estimate = generator(noisy[:1])
    audio, reference = spectra.synthesise(estimate), torch.from_numpy(numbers["clean"][:1])
    # The published head's total: the un-normalised clean in the time loss.
    score = discriminator(magnitude(clean[:1]), magnitude(estimate))
    loss = generator_loss(estimate, clean[:1], audio, reference, score, LossConfig())
    found["loss"] = deviation(loss, numbers["loss_total_official"])
    loss.backward()
    found["gradient"] = gradient_deviation(generator, numbers)

    discriminator = load_discriminator(discriminator_sizes, discriminator_weights)
    without_dropout(discriminator)
    trainer = Trainer(generator, discriminator, spectral, torch.device("cpu"))
    shown = torch.from_numpy(numbers["train_est_mag"][:, 0])
    targets = torch.from_numpy(numbers["disc_targets"].astype(np.float32)).reshape(1)
    losses = [trainer.train_discriminator(magnitude(clean[:1]), shown, targets) for _ in range(3)]
    found["discriminator_updates"] = deviation(torch.stack(losses), numbers["disc_losses_3_adamw_steps"])
    return found


def gradient_deviation(generator: nn.Module, numbers: dict[str, Any]) -> float:
    """Of the whole gradient's norm, and that every published parameter has one here."""
    expected = [float(value[0]) for name, value in numbers.items() if name.startswith("grad/")]
    gradients = [parameter.grad for parameter in generator.parameters() if parameter.grad is not None]
    trained = [e for e in generator_table(GeneratorConfig(), 201) if e.flax and e.flax.startswith("params")]
    assert len(gradients) == len(expected) == len(trained)
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))
    return abs(norm / float(np.linalg.norm(expected)) - 1)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
