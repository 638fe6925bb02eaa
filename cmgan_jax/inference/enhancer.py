"""Three lines from a noisy recording to a clean one.

enhancer = Enhancer()
clean = enhancer.enhance(noisy, sample_rate)
stream = enhancer.stream(sample_rate)  # stream.push(block), …, stream.flush()
"""

from collections.abc import Sequence
from pathlib import Path

from cmgan_jax.inference.enhance import WindowConfig, network
from cmgan_jax.inference.processor import Processor
from cmgan_jax.inference.strength import Strength
from cmgan_jax.inference.weights import Weights, load
from cmgan_jax.models.networks import NetworkFactory


class Enhancer(Processor):
    """A generator that enhances recordings.

    Args:
        weights: the generator; None: the small model that is shipped with the package.
        windows: how long recordings are cut into windows; the window length is also the latency of a stream.
        seconds: expected lengths of recordings, if known; programs are compiled to fit them.
        strength: share of the enhanced signal in the result, from 0 to 1; `auto` lowers it for recordings that are
            already clean.

    Attributes:
        weights: the generator.

    Raises:
        UserError: the windows or the strength are invalid.
    """

    def __init__(
        self,
        weights: Weights | None = None,
        windows: WindowConfig | None = None,
        seconds: Sequence[float] = (),
        strength: Strength = "auto",
    ):
        self.weights = weights or load()
        of = self.weights
        super().__init__(network(of.variables, of.config, windows, seconds, of.networks), strength)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path | None = None,
        step: int | None = None,
        windows: WindowConfig | None = None,
        seconds: Sequence[float] = (),
        network_factory: NetworkFactory | None = None,
        strength: Strength = "auto",
    ) -> "Enhancer":
        """Load an enhancer from a checkpoint or a weights file.

        Args:
            path: a run folder (its best checkpoint), its `latest` or `best`, one checkpoint, or a file of weights (see
                `load`); None: the small model that is shipped with the package.
            step: step of the checkpoint to load from a run folder.
            windows: how long recordings are cut into windows; the window length is also the latency of a stream.
            seconds: expected lengths of recordings, if known; programs are compiled to fit them.
            network_factory: builds the networks of a run with a custom generator; see `load`.
            strength: share of the enhanced signal in the result; see `Enhancer`.

        Raises:
            UserError: the path holds no generator, it cannot be read, or the windows or the strength are invalid.
        """
        return cls(load(path, step, network_factory), windows, seconds, strength)
