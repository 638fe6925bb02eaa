"""Three lines from a checkpoint to a clean recording.

enhancer = Enhancer.from_checkpoint("runs/demo")
clean = enhancer.enhance(noisy, sample_rate)
stream = enhancer.stream(sample_rate)  # stream.push(block), …, stream.flush()
"""

from collections.abc import Sequence
from pathlib import Path

from cmgan_jax.inference.enhance import WindowConfig, network
from cmgan_jax.inference.processor import Processor
from cmgan_jax.inference.weights import Weights, load
from cmgan_jax.models.networks import NetworkFactory


class Enhancer(Processor):
    """A generator that enhances recordings.

    Attributes:
        weights: the generator.
    """

    def __init__(self, weights: Weights, windows: WindowConfig | None = None, seconds: Sequence[float] = ()):
        self.weights = weights
        super().__init__(network(weights.variables, weights.config, windows, seconds, weights.networks))

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        step: int | None = None,
        windows: WindowConfig | None = None,
        seconds: Sequence[float] = (),
        network_factory: NetworkFactory | None = None,
    ) -> "Enhancer":
        """Load one.

        Args:
            path: a run folder (its best checkpoint), its `latest` or `best`, one checkpoint, or a generator's state
                dict as PyTorch saved it.
            step: which checkpoint of a run folder.
            windows: how long recordings are cut; also what a stream's latency is.
            seconds: of the recordings to come, where they are known: programs are compiled to fit them.
            network_factory: builds the networks of a run with a generator of one's own; see `load`.

        Raises:
            UserError: nothing of the kind is there, it cannot be read, or the windows cannot be cut.
        """
        return cls(load(Path(path), step, network_factory), windows, seconds)
