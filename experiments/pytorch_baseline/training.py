"""A training step of the published recipe in PyTorch: spectra, losses, both updates, with PESQ in between."""

# pyright: reportMissingImports=false

import time
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cmgan_jax.config import LossConfig, OptimiserConfig, SpectralConfig
from experiments.pytorch_baseline.networks import Discriminator, Generator
from experiments.pytorch_baseline.published_pesq import JoinedPesq

GUARD = 1e-12
"""Added to a power before taking its root, whose derivative is infinite at 0."""


class Spectra:
    """Transforms between waveforms [B, S] and compressed spectra [B, 2, T, F]."""

    def __init__(self, config: SpectralConfig, device: torch.device):
        self._config = config
        self._window = torch.hamming_window(config.n_fft, device=device)

    def analyse(self, audio: Tensor) -> Tensor:
        """[B, S] -> [B, 2, T, F]."""
        c = self._config
        spectrum = torch.stft(audio, c.n_fft, c.hop, window=self._window, onesided=True, return_complex=True)
        return self._power(torch.view_as_real(spectrum).permute(0, 3, 2, 1), c.exponent)

    def synthesise(self, spectrum: Tensor) -> Tensor:
        """[B, 2, T, F] -> [B, S]."""
        c = self._config
        parts = self._power(spectrum, 1 / c.exponent).permute(0, 3, 2, 1).contiguous()
        return torch.istft(torch.view_as_complex(parts), c.n_fft, c.hop, window=self._window, onesided=True)

    def _power(self, parts: Tensor, exponent: float) -> Tensor:
        return parts * (parts.square().sum(dim=1, keepdim=True) + GUARD) ** ((exponent - 1) / 2)


def magnitude(spectrum: Tensor) -> Tensor:
    """[B, 2, T, F] -> [B, F, T]."""
    return (spectrum.square().sum(dim=1) + GUARD).sqrt().transpose(1, 2)


def generator_loss(
    estimate: Tensor, clean: Tensor, audio: Tensor, reference: Tensor, score: Tensor, weights: LossConfig
) -> Tensor:
    """Compute the published loss: spectra [B, 2, T, F], waveforms [B, S], the discriminator's score [B]."""
    ri = functional.mse_loss(estimate[:, 0], clean[:, 0]) + functional.mse_loss(estimate[:, 1], clean[:, 1])
    return (
        weights.ri * ri
        + weights.magnitude * functional.mse_loss(magnitude(estimate), magnitude(clean))
        + weights.time * functional.l1_loss(audio, reference)
        + weights.adversarial * functional.mse_loss(score, torch.ones_like(score))
    )


def adamw(module: nn.Module, rate: float, config: OptimiserConfig) -> torch.optim.AdamW:
    """Make the optimiser of one network; all parameters are updated by one kernel."""
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(module.parameters(), rate, betas, config.epsilon, config.weight_decay, fused=True)


class Trainer:
    """Training of both networks on one device.

    Args:
        generator: the published generator, which may be compiled.
        discriminator: the published discriminator, which may be compiled.
        spectral: settings of the transforms.
        bfloat16: whether the networks compute in bfloat16 (autocast); spectra and losses stay in float32.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        spectral: SpectralConfig,
        device: torch.device,
        bfloat16: bool = False,
    ):
        self.generator, self.discriminator = generator, discriminator
        self.spectra = Spectra(spectral, device)
        self._device, self._bfloat16 = device, bfloat16
        self._weights, numbers = LossConfig(), OptimiserConfig()
        self._optimise_generator = adamw(generator, numbers.generator_rate, numbers)
        self._optimise_discriminator = adamw(discriminator, numbers.discriminator_rate, numbers)

    def computing(self) -> AbstractContextManager[object]:
        """Return the context in which the networks compute."""
        return torch.autocast(self._device.type, torch.bfloat16) if self._bfloat16 else nullcontext()

    def train_generator(self, clean: Tensor, noisy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the generator forward and backward, and update it by AdamW.

        Args:
            clean: float[B, S].
            noisy: float[B, S].

        Returns:
            The estimate's waveform, and the magnitudes of clean speech and of the estimate.
        """
        factor = (noisy.shape[1] / noisy.square().sum(dim=1, keepdim=True)).sqrt()
        clean, noisy = clean * factor, noisy * factor
        clean_spectrum, noisy_spectrum = self.spectra.analyse(clean), self.spectra.analyse(noisy)
        clean_magnitude = magnitude(clean_spectrum)
        with self.computing():
            estimate = self.generator(noisy_spectrum)
        estimate = estimate.float()
        with self.computing():
            score = self.discriminator(clean_magnitude, magnitude(estimate))
        audio = self.spectra.synthesise(estimate)
        loss = generator_loss(estimate, clean_spectrum, audio, clean, score.float(), self._weights)
        self._optimise_generator.zero_grad()
        loss.backward()
        self._optimise_generator.step()
        return audio.detach(), clean_magnitude.detach(), magnitude(estimate).detach()

    def train_discriminator(self, clean: Tensor, estimate: Tensor, targets: Tensor) -> Tensor:
        """Run the discriminator on the estimate, then on clean speech; go backward, and update it by AdamW.

        Args:
            clean: float[B, F, T].
            estimate: float[B, F, T].
            targets: float[B].

        Returns:
            float[], the loss before the update. It stays on the device, because reading it would make the host wait for
            the device.
        """
        with self.computing():
            on_estimate = self.discriminator(clean, estimate)
            on_clean = self.discriminator(clean, clean)
        ones = torch.ones_like(targets)
        loss = functional.mse_loss(on_estimate.float(), targets) + functional.mse_loss(on_clean.float(), ones)
        self._optimise_discriminator.zero_grad()
        loss.backward()
        self._optimise_discriminator.step()
        return loss.detach()

    def step(self, clean: np.ndarray, noisy: np.ndarray, pesq: JoinedPesq | None) -> float:
        """Run a whole step with PESQ, or with a constant if `pesq` is None; return the seconds waited for scores."""
        here = [self._send(torch.from_numpy(wave)) for wave in (clean, noisy)]
        audio, clean_magnitude, estimate_magnitude = self.train_generator(*here)
        began = time.perf_counter()
        scores, waited = np.full(len(clean), 2.5), 0.0
        if pesq is not None:
            estimate = audio.cpu().numpy()
            began = time.perf_counter()
            scores = np.asarray(pesq.score(clean, estimate))
            waited = time.perf_counter() - began
        targets = self._send(torch.from_numpy(((scores - 1) / 3.5).astype(np.float32)))
        self.train_discriminator(clean_magnitude, estimate_magnitude, targets)
        return waited

    def _send(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device without blocking the host."""
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else tensor
