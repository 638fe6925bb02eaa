"""Training crops in an order that depends on (seed, step) alone, and fixed validation crops.

Training reads one endless stream of items. The item at an index, and every random draw for it, depend on the seed and
that index only; batch k holds the items from k · batch on. So a run can start at any step without replaying earlier
ones, and the numbers of threads, devices and hosts do not change the training data.

`Lookahead` shows the next batch before it is taken.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypedDict

import grain
import numpy as np

from cmgan_jax.config import Config
from cmgan_jax.data import audio, augmentation, mixing
from cmgan_jax.data.audio import AudioError
from cmgan_jax.data.corpus import Clip, Corpus, Pair, stamp

_STREAM = 2**40
"""Length of the stream: more items than any run needs, as grain requires a length."""
_ORDER, _DRAWS, _FIXED = 1, 2, 3
"""Purposes of random numbers; each purpose has its own random stream."""
_BABBLE_VOICES = (3, 8)
"""Minimum and maximum number of voices in babble."""
_REMEDY = "mend it and go on with --resume, and with --data where the corpus lies elsewhere now"


class Crops(TypedDict):
    """Clean speech and its noisy version, float32, each [S] or [B, S] in [-1, 1]."""

    clean: np.ndarray
    noisy: np.ndarray


def training_batches(
    corpus: Corpus, config: Config, start_step: int = 0, host: int = 0, hosts: int = 1
) -> grain.DatasetIterator:
    """Iterate endlessly over batches of random crops, decoded and mixed in threads ahead of their use.

    The iterator's `get_state` returns a small dictionary for JSON: the number of batches taken. `close` ends its
    threads.

    Args:
        corpus: the checked files.
        config: gives `seed`, `batch`, the crop length and the numbers of `data`.
        start_step: batches to skip; nothing is decoded for them.
        host: index of this host among those that share a batch, from 0.
        hosts: number of hosts that share a batch; this one decodes only the `host`-th part of every batch.

    Returns:
        An iterator of `Crops` [B / hosts, S]. Its `next` raises AudioError if a file is missing or damaged.
    """
    options = grain.ReadOptions(num_threads=config.data.threads, prefetch_buffer_size=config.data.prefetch)
    share = config.batch // hosts
    indices = grain.MapDataset.range(_STREAM).map(
        lambda number: number // share * config.batch + host * share + number % share
    )
    items = indices.map(partial(training_item, corpus, config))
    batches = iter(items.batch(share).to_iter_dataset(options))
    batches.set_state({"next_index": start_step})
    return batches


def steps_per_epoch(corpus: Corpus, config: Config) -> int:
    """Steps of an epoch: as configured, or one pass over the training items (at least one step)."""
    return config.steps_per_epoch or max(1, len(corpus.items) // config.batch)


def stream_position(items: int, seed: int, index: int) -> int:
    """Return which item is at an index of the stream; each pass over the items has its own order."""
    passes, place = divmod(index, items)
    return int(_order(items, seed, passes)[place])


def names_of_batch(corpus: Corpus, config: Config, step: int) -> list[str]:
    """Return the names of the items in the batch that a step (counted from 0) trains on."""
    indices = range(step * config.batch, (step + 1) * config.batch)
    return [corpus.items[stream_position(len(corpus.items), config.seed, index)].name for index in indices]


def training_item(corpus: Corpus, config: Config, index: int) -> Crops:
    """Make the crop at an index of the stream.

    Args:
        corpus: the checked files.
        config: as for `training_batches`.
        index: index in the stream.

    Returns:
        `Crops` [S]; only the crop is decoded, and files shorter than it are repeated.

    Raises:
        AudioError: a file is missing, damaged, or has another length than when it was checked.
    """
    rng = np.random.default_rng((_unsigned(config.seed), _DRAWS, index))
    samples = config.crop_samples
    item = corpus.items[stream_position(len(corpus.items), config.seed, index)]
    start = mixing.crop_start(rng, item.frames, samples)
    if isinstance(item, Pair):
        clean = _crop(corpus, item.clean, item.frames, start, samples)
        return {"clean": clean, "noisy": _crop(corpus, item.noisy, item.frames, start, samples)}
    clean = _crop(corpus, item.path, item.frames, start, samples)
    changes, rate = config.augmentation, config.spectral.sample_rate
    clean = augmentation.room(clean, rng, changes, rate)
    if augmentation.without_noise(rng, changes):
        clean, noisy = mixing.mix(clean, np.zeros_like(clean), 0.0)
    else:
        snr = rng.uniform(config.data.snr_low, config.data.snr_high)
        noise = _noise(corpus, rng, item, corpus.speech, corpus.noise, samples, config.data.babble_share)
        clean, noisy = mixing.mix(clean, noise, snr)
    clean, noisy = augmentation.spoil((clean, noisy), rng, changes, rate)
    return {"clean": clean, "noisy": noisy}


def validation_crops(corpus: Corpus, config: Config) -> Crops:
    """Load the crops whose loss is compared from epoch to epoch.

    Args:
        corpus: the checked files.
        config: `data.validation_crops` is their number, at most one per held-out item.

    Returns:
        `Crops` [B, S]: the middles of evenly spaced held-out items; always the same.

    Raises:
        AudioError: a file is missing or damaged.
    """
    samples = config.crop_samples
    pairs = []
    for item in _spread(corpus.validation, config.data.validation_crops):
        start = max(item.frames - samples, 0) // 2
        if isinstance(item, Pair):
            pairs.append([_crop(corpus, path, item.frames, start, samples) for path in (item.clean, item.noisy)])
        else:
            whole = _fixed_mixture(item, corpus, config)
            pairs.append([mixing.repeat_to(side[start : start + samples], samples) for side in whole])
    clean, noisy = (np.stack(side) for side in zip(*pairs, strict=True))
    return {"clean": clean, "noisy": noisy}


def validation_files(corpus: Corpus, config: Config) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Load the held-out items that are enhanced and scored in full length.

    Args:
        corpus: the checked files.
        config: `data.validation_files` is their number; 0 means all.

    Returns:
        Name, clean and noisy signal of each, float32 [S] of its own length; evenly spaced and always the same.

    Raises:
        AudioError: a file is missing or damaged.
    """
    files = []
    for item in _spread(corpus.validation, config.data.validation_files):
        if isinstance(item, Pair):
            clean, noisy = (_crop(corpus, path, item.frames, 0, item.frames) for path in (item.clean, item.noisy))
        else:
            clean, noisy = _fixed_mixture(item, corpus, config)
        files.append((item.name, clean, noisy))
    return files


def _fixed_mixture(item: Clip, corpus: Corpus, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Mix a held-out clip with held-out noise; the draws depend on its name only, not on the seed or other files."""
    name = int.from_bytes(hashlib.sha256(item.name.encode(errors="surrogateescape")).digest()[:8], "big")
    rng = np.random.default_rng((_FIXED, name))
    clean = _crop(corpus, item.path, item.frames, 0, item.frames)
    snr = rng.uniform(config.data.snr_low, config.data.snr_high)
    clips = tuple(clip for clip in corpus.validation if isinstance(clip, Clip))
    noise = _noise(corpus, rng, item, clips, corpus.validation_noise, item.frames, config.data.babble_share)
    return mixing.mix(clean, noise, snr)


def _noise(
    corpus: Corpus,
    rng: np.random.Generator,
    item: Clip,
    speech: Sequence[Clip],
    noises: Sequence[Clip],
    samples: int,
    babble_share: float,
) -> np.ndarray:
    """Draw a crop of a noise file, or babble of clips other than the item."""
    if rng.random() < babble_share and len(speech) > 1:
        count = int(rng.integers(_BABBLE_VOICES[0], _BABBLE_VOICES[1] + 1))
        chosen = [speech[int(n)] for n in rng.choice(len(speech), min(count + 1, len(speech)), replace=False)]
        # One more voice than needed was drawn, so that the item itself can be dropped if it is among them.
        others = [clip for clip in chosen if clip.path != item.path][:count]
        return mixing.babble([_random_crop(corpus, rng, clip, samples) for clip in others])
    return _random_crop(corpus, rng, noises[int(rng.integers(len(noises)))], samples)


def _random_crop(corpus: Corpus, rng: np.random.Generator, clip: Clip, samples: int) -> np.ndarray:
    return _crop(corpus, clip.path, clip.frames, mixing.crop_start(rng, clip.frames, samples), samples)


def _crop(corpus: Corpus, path: Path, frames: int, start: int, samples: int) -> np.ndarray:
    wanted = min(samples, frames - start)
    try:
        part = audio.read(path, start, wanted)
        present = stamp(path)
    except AudioError as error:
        raise AudioError(path, f"{error.reason}, though it was sound when it was checked; {_REMEDY}") from error
    if len(part) != wanted or present != corpus.stamps.get(path, present):
        raise AudioError(path, f"has changed since it was checked, when it had {frames} samples; {_REMEDY}")
    return mixing.repeat_to(part, samples)


def _spread(items: Sequence[Pair | Clip], count: int) -> list[Pair | Clip]:
    """Choose `count` evenly spaced items; all of them if the count is 0 or larger than their number."""
    count = min(count, len(items)) or len(items)
    return [items[(2 * k + 1) * len(items) // (2 * count)] for k in range(count)]


@lru_cache(maxsize=4)
def _order(items: int, seed: int, passes: int) -> np.ndarray:
    return np.random.default_rng((_unsigned(seed), _ORDER, passes)).permutation(items)


def _unsigned(seed: int) -> int:
    """Map a seed, which may be negative, to the unsigned integer that numpy needs."""
    return seed % 2**64


class Lookahead:
    """An iterator of batches that can peek at the next one; its state counts only the batches taken.

    Args:
        batches: the iterator of `training_batches`; nothing else may take from it.
    """

    def __init__(self, batches: grain.DatasetIterator):
        self._batches = batches
        self._ahead: tuple[dict[str, Any], Crops] | None = None

    def look(self) -> Crops:
        """Return the batch that `take` gives next. Raises what the iterator's `next` raises."""
        if self._ahead is None:
            self._ahead = self._batches.get_state(), next(self._batches)
        return self._ahead[1]

    def take(self) -> Crops:
        """Return the next batch. Raises what the iterator's `next` raises."""
        batch, self._ahead = self.look(), None
        return batch

    def get_state(self) -> dict[str, Any]:
        """Return the number of batches taken, as a dictionary for JSON."""
        return self._batches.get_state() if self._ahead is None else self._ahead[0]

    def close(self) -> None:
        """End the iterator's threads."""
        self._batches.close()
