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
        weights: the generator; None: the small model that comes with the package.
        windows: how long recordings are cut; also what a stream's latency is.
        seconds: of the recordings to come, where they are known: programs are compiled to fit them.
        strength: how much of the enhanced signal is heard: a share from 0 to 1, or `auto`, which takes less of it the
            cleaner a recording already is.

    Attributes:
        weights: the generator.

    Raises:
        UserError: the windows cannot be cut, or it is no strength.
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
        """Load one.

        Args:
            path: a run folder (its best checkpoint), its `latest` or `best`, one checkpoint, or a generator's state
                dict as PyTorch saved it; None: the small model that comes with the package.
            step: which checkpoint of a run folder.
            windows: how long recordings are cut; also what a stream's latency is.
            seconds: of the recordings to come, where they are known: programs are compiled to fit them.
            network_factory: builds the networks of a run with a generator of one's own; see `load`.
            strength: how much of the enhanced signal is heard; see `Enhancer`.

        Raises:
            UserError: nothing of the kind is there, it cannot be read, the windows cannot be cut, or it is no strength.
        """
        return cls(load(path, step, network_factory), windows, seconds, strength)
