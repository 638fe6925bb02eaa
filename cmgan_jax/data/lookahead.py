"""Batches of which the next one may be seen before it is taken."""

from typing import Any

import grain

from cmgan_jax.data.pipeline import Crops


class Lookahead:
    """An iterator of batches; its state is that of what was taken, whatever was looked at.

    Args:
        batches: of `pipeline.training_batches`; nobody else takes from it.
    """

    def __init__(self, batches: grain.DatasetIterator):
        self._batches = batches
        self._ahead: tuple[dict[str, Any], Crops] | None = None

    def look(self) -> Crops:
        """The batch that `take` gives next. Raises what the iterator's `next` does."""
        if self._ahead is None:
            self._ahead = self._batches.get_state(), next(self._batches)
        return self._ahead[1]

    def take(self) -> Crops:
        """The next batch. Raises what the iterator's `next` does."""
        batch, self._ahead = self.look(), None
        return batch

    def get_state(self) -> dict[str, Any]:
        """Ready for JSON: the number of batches taken."""
        return self._batches.get_state() if self._ahead is None else self._ahead[0]

    def close(self) -> None:
        """End the iterator's threads."""
        self._batches.close()
