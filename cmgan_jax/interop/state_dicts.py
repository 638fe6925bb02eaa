"""Search for a network's tensors in a checkpoint: people save state dicts in many wrappings."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from cmgan_jax.config import DiscriminatorConfig, GeneratorConfig
from cmgan_jax.errors import UserError, listed
from cmgan_jax.interop.tables import discriminator_table, generator_table

_WORDS = 10  # more than the longest of the networks' names has
_AVERAGED = re.compile(r"(^|_)(ema|swa|averaged?)(_|$)")

Place = tuple[tuple[str, ...], str]
"""Location of a state dict: the keys that lead to its dict, and the prefix of all names in it."""


def find_state_dict(content: Mapping[str, Any], part: str) -> dict[str, np.ndarray]:
    """Find the tensors of one network in a checkpoint, by their plain names.

    They may lie in dicts within dicts, under any key, and their names may all begin with the same words, such as
    `module.` (DistributedDataParallel), `_orig_mod.` (torch.compile), `generator.` (Lightning), or several of them. The
    location with the most names of the network is taken, and everything else is left out. Among equal locations, a
    moving average's comes first, then one named like the network.

    Args:
        content: the content of a weights file.
        part: `generator` or `discriminator`.

    Raises:
        UserError: there are no such tensors, or several different networks of this kind.
    """
    tensors = list(_tensors(content))
    if not tensors:
        names = listed([str(name) for name in content]) if content else "nothing"
        raise UserError(
            f"the checkpoint holds no state dict of a {part}: tensors were expected, but there is {names}; "
            f'save model.state_dict(), alone or as {{"{part}": …}}'
        )
    known = _known(part)
    places = Counter(
        (keys, prefix) for keys, name, _ in tensors for prefix, plain in _endings(name) if _pattern(plain) in known
    )
    if not places:
        return {".".join((*keys, name)): tensor for keys, name, tensor in tensors}
    most = max(places.values())
    by_rank: dict[int, list[Place]] = {}
    for place, count in places.items():
        if count == most:
            by_rank.setdefault(_rank(place, part), []).append(place)
    first, *others = (_at(place, tensors) for place in by_rank[min(by_rank)])
    if any(not _equal(first, other) for other in others):
        found = [".".join(keys) or prefix or "the top" for keys, prefix in by_rank[min(by_rank)]]
        raise UserError(
            f"the checkpoint holds several networks that fit as its {part}: {listed(found)}; "
            f'save the one that is meant, alone or as {{"{part}": …}}'
        )
    return first


def _tensors(content: Mapping[Any, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Yield every tensor in nested dicts: the keys of its dict, its name in it, and the tensor."""
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            yield keys, str(name), value
        elif isinstance(value, Mapping):
            yield from _tensors(value, (*keys, str(name)))


def _endings(name: str) -> Iterator[tuple[str, str]]:
    """Yield every split of a name at a dot: the prefix with its dot, and the rest."""
    words = name.split(".")
    for i in range(max(0, len(words) - _WORDS), len(words)):
        yield "".join(f"{word}." for word in words[:i]), ".".join(words[i:])


def _pattern(name: str) -> str:
    """Replace the numbers in a name, as those of blocks and layers differ from network to network."""
    return re.sub(r"\d+", "#", name)


def _known(part: str) -> set[str]:
    """Return patterns of the network's names, without the counters, which a moving average may lack."""
    table = discriminator_table(DiscriminatorConfig())
    if part == "generator":
        strided = replace(GeneratorConfig(), early_strides=(2, 2), late_strides=(2, 2))
        table = (*generator_table(GeneratorConfig(), 1), *generator_table(strided, 1))
    return {_pattern(entry.torch) for entry in table if entry.flax}


def _rank(place: Place, part: str) -> int:
    keys, prefix = place
    words = [*keys, *prefix.split(".")]
    if any(_AVERAGED.search(word.lower()) for word in words):
        return 0
    return 1 if any(word in (part, f"{part}_state_dict") for word in words) else 2


def _at(place: Place, tensors: Iterable[tuple[tuple[str, ...], str, Any]]) -> dict[str, Any]:
    there, prefix = place
    return {
        name.removeprefix(prefix): tensor for keys, name, tensor in tensors if keys == there and name.startswith(prefix)
    }


def _equal(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> bool:
    return some.keys() == others.keys() and all(np.array_equal(some[name], others[name]) for name in some)
