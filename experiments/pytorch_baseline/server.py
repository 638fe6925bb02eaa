"""Server of the published CMGAN in PyTorch: it reads requests on standard input, one line of JSON each."""

# pyright: reportMissingImports=false

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from cmgan_jax.benchmarking.memory import peak_rss, reset_peak
from cmgan_jax.recipes import from_dict
from experiments.pytorch_baseline.networks import Discriminator, Generator
from experiments.pytorch_baseline.published_pesq import JoinedPesq
from experiments.pytorch_baseline.training import Trainer

Answer = dict[str, Any]


class Refused(Exception):
    """This interpreter lacks something; the text is for the user."""


class Session:
    """The networks at one size and in one mode.

    Args:
        request: `config` (plain), `compiled`, `precision` (fp32, tf32, bf16), `clean` and `noisy` as files
            of float32 [B, S].
    """

    def __init__(self, request: Answer):
        config = from_dict(request["config"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = request["precision"]
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        # All crops have one shape, so the fastest algorithm of each convolution is searched once.
        torch.backends.cudnn.benchmark = True
        # Channels-last is the layout that a GPU's matrix units read without copies.
        self.layout = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        torch.manual_seed(config.seed)
        self.generator = Generator(config.generator, config.spectral.bins).to(self.device, memory_format=self.layout)
        discriminator = Discriminator(config.discriminator).to(self.device, memory_format=self.layout)
        compiled: Callable[[nn.Module], Any] = torch.compile if request["compiled"] else lambda module: module
        self.trainer = Trainer(
            compiled(self.generator), compiled(discriminator), config.spectral, self.device, precision == "bf16"
        )
        self.clean, self.noisy = (np.load(request[name]) for name in ("clean", "noisy"))
        self.targets = torch.full((len(self.clean),), 0.5, device=self.device)
        here = [torch.from_numpy(wave).to(self.device) for wave in (self.clean, self.noisy)]
        self.waves = here
        with torch.no_grad():
            self.spectrum = self.trainer.spectra.analyse(here[1])
        self.magnitudes = (self.spectrum.square().sum(dim=1) + 1e-12).sqrt().transpose(1, 2)
        self.pesq: JoinedPesq | None = None
        self.waited: list[float] = []

    def run(self, program: str) -> None:
        """Dispatch one run of a program."""
        trainer = self.trainer
        if program == "forward":
            self.generator.eval()
            with torch.inference_mode(), trainer.computing():
                trainer.generator(self.spectrum)
            self.generator.train()
        elif program == "generator":
            trainer.train_generator(*self.waves)
        elif program == "discriminator":
            trainer.train_discriminator(self.magnitudes, self.magnitudes, self.targets)
        else:
            if program == "step" and self.pesq is None:
                if importlib.util.find_spec("pesq") is None:
                    raise Refused("whole steps need PESQ where PyTorch is: pip install pesq==0.0.4")
                self.pesq = JoinedPesq()
            pesq = self.pesq if program == "step" else None
            self.waited.append(trainer.step(self.clean, self.noisy, pesq))

    def sample(self, program: str, runs: int) -> Answer:
        """Run a program `runs` times; return the seconds per run, and the milliseconds waited for PESQ."""
        self.waited.clear()
        began = time.perf_counter()
        for _ in range(runs):
            self.run(program)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return {"seconds": (time.perf_counter() - began) / runs, "pesq_wait_ms": [1e3 * w for w in self.waited]}

    def enhance(self, files: list[str], batch: int) -> Answer:
        """Enhance arrays [windows, S], `batch` at a time; return seconds, and peak resident set size in bytes."""
        pieces = [torch.from_numpy(np.load(file)) for file in files]
        reset_peak()
        self.generator.eval()
        spectra, began = self.trainer.spectra, time.perf_counter()
        with torch.inference_mode():
            for windows in (part for piece in pieces for part in piece.split(batch)):
                audio = windows.to(self.device)
                factor = (audio.shape[1] / audio.square().sum(dim=1, keepdim=True)).sqrt()
                with self.trainer.computing():
                    estimate = self.trainer.generator(spectra.analyse(audio * factor))
                (spectra.synthesise(estimate.float()) / factor).cpu()
        seconds = time.perf_counter() - began
        self.generator.train()
        return {"seconds": seconds, "rss": peak_rss()}

    def describe(self) -> Answer:
        """Describe version, device, settings and number of parameters."""
        cuda = self.device.type == "cuda"
        return {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "threads": torch.get_num_threads(),
            "settings": "fused AdamW, cudnn.benchmark, "
            + ("channels_last, pinned copies" if cuda else "contiguous tensors, malloc tuned"),
            "parameters": sum(parameter.numel() for parameter in self.generator.parameters()),
        }

    def memory(self) -> Answer:
        """Return the peak resident set size, and the device's peak memory where it is counted, in bytes."""
        return {"rss": peak_rss(), "device": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None}

    def close(self) -> None:
        """End the scoring processes."""
        if self.pesq is not None:
            self.pesq.close()


def serve() -> None:
    """Answer requests until standard input ends, on a separate stream, as libraries print to standard output."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    session: Session | None = None
    try:
        for line in sys.stdin:
            request = json.loads(line)
            what = request.pop("do")
            answer: Answer
            try:
                if what == "open":
                    session = Session(request)
                    answer = session.describe()
                else:
                    answer = getattr(session, what)(**request)
            except Refused as reason:
                answer = {"refused": str(reason)}
            print(json.dumps(answer), file=answers, flush=True)
    finally:
        if session is not None:
            session.close()


if __name__ == "__main__":
    serve()
