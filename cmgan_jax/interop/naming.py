"""The map between the published state dicts and this project's variables, exact in both directions.

Sizes are inferred from the tensors; `tables` lists the tensors of a network of these sizes; reading, writing and error
messages iterate over that table.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from cmgan_jax.config import DiscriminatorConfig, GeneratorConfig
from cmgan_jax.errors import UserError, listed
from cmgan_jax.interop.state_dicts import find_state_dict
from cmgan_jax.interop.tables import COUNTER, TensorEntry, discriminator_table, generator_table
from cmgan_jax.models.generator import split_blocks, stack_blocks

Shapes = Mapping[str, tuple[int, ...]]


def generator_from_torch(
    content: Mapping[str, Any], claimed: GeneratorConfig | None = None
) -> tuple[GeneratorConfig, dict[str, Any]]:
    """Convert a published generator to this project's variables.

    Args:
        content: content of a weights file: a state dict, plain or in a wrapping that `find_state_dict` searches.
        claimed: sizes recorded with the weights, used for what no tensor shows, such as the dropout. None uses the
            default ones.

    Returns:
        The sizes found and the variables `params` and `batch_stats`, float32. `generator_bins` gives the number of
        frequency bins, `batches_tracked` the number of training steps.

    Raises:
        UserError: tensors are missing, unknown, or have another shape or dtype; the message lists them by name.
    """
    state_dict = find_state_dict(content, "generator")
    config, bins = _generator_sizes(_shapes(state_dict), claimed or GeneratorConfig())
    variables = _from_torch("generator", list(generator_table(config, bins)), state_dict)
    return config, {kind: stack_blocks(collection) for kind, collection in variables.items()}


def discriminator_from_torch(
    content: Mapping[str, Any], claimed: DiscriminatorConfig | None = None
) -> tuple[DiscriminatorConfig, dict[str, Any]]:
    """Convert a published discriminator to this project's variables; spectral-norm vectors go to `batch_stats`.

    Args, Returns and Raises are as in `generator_from_torch`.
    """
    state_dict = find_state_dict(content, "discriminator")
    config = _discriminator_sizes(_shapes(state_dict), claimed or DiscriminatorConfig())
    return config, _from_torch("discriminator", list(discriminator_table(config)), state_dict)


def generator_to_torch(variables: Mapping[str, Any], batches: int = 0) -> dict[str, np.ndarray]:
    """Convert this project's generator to a published state dict.

    Args:
        variables: `params` and `batch_stats`, as from `Generator.init`.
        batches: training steps taken, for BatchNorm's counters, which neither code computes with.

    Returns:
        A state dict in the published order, float32 (the counters int64).

    Raises:
        UserError: the variables are not those of a generator; the message lists what differs.
    """
    flat = flatten_dict({kind: split_blocks(collection) for kind, collection in variables.items()}, sep="/")
    # Only the counts decide which names exist; the other sizes are inferred from the result.
    named = GeneratorConfig(
        blocks=_count(flat, r"params/(block_\d+)/"),
        dense_depth=_count(flat, r"params/encoder/dense/(layer_\d+)/"),
        early_strides=(2,) * _count(flat, r"params/encoder/(early_\d+)/"),
        late_strides=(2,) * _count(flat, r"params/encoder/(down\w*)/"),
    )
    state_dict = _to_torch("generator", list(generator_table(named, 1)), flat, batches)
    _check("generator", list(generator_table(*generator_sizes(state_dict, GeneratorConfig()))), state_dict)
    return state_dict


def discriminator_to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Convert this project's discriminator to a published state dict.

    Args, Returns and Raises are as in `generator_to_torch`.
    """
    flat = flatten_dict(variables, sep="/")
    state_dict = _to_torch("discriminator", list(discriminator_table(DiscriminatorConfig())), flat, 0)
    sizes = discriminator_sizes(state_dict, DiscriminatorConfig())
    _check("discriminator", list(discriminator_table(sizes)), state_dict)
    return state_dict


def generator_sizes(state_dict: Mapping[str, np.ndarray], claimed: GeneratorConfig) -> tuple[GeneratorConfig, int]:
    """Infer the sizes of a generator from its tensors.

    Args:
        state_dict: tensors by plain names, as returned by `find_state_dict` and `generator_to_torch`.
        claimed: provides the sizes that no tensor shows.

    Returns:
        The sizes and the number of frequency bins.
    """
    return _generator_sizes(_shapes(state_dict), claimed)


def discriminator_sizes(state_dict: Mapping[str, np.ndarray], claimed: DiscriminatorConfig) -> DiscriminatorConfig:
    """Infer the sizes of a discriminator from its tensors; the arguments are as in `generator_sizes`."""
    return _discriminator_sizes(_shapes(state_dict), claimed)


def generator_bins(variables: Mapping[str, Any]) -> int:
    """Return the frequency bins F that a generator is made for: its last PReLU has a slope for each."""
    return int(np.shape(variables["params"]["mask_decoder"]["prelu"]["slope"])[0])


def batches_tracked(content: Mapping[str, Any]) -> int:
    """Return the training batches counted by a generator's BatchNorms; 0 if the state dict has no counters."""
    state_dict = find_state_dict(content, "generator")
    return max((int(value.max(initial=0)) for name, value in state_dict.items() if name.endswith(COUNTER)), default=0)


# --- the walk over a table ---------------------------------------------------------------------------------


def _from_torch(part: str, table: list[TensorEntry], state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    _check(part, table, state_dict)
    refuse_not_finite(f"the {part}", state_dict)
    flat = {entry.flax: entry.to_flax(state_dict[entry.torch]) for entry in table if entry.flax}
    return unflatten_dict(flat, sep="/")


def refuse_not_finite(whose: str, tensors: Mapping[str, Any]) -> None:
    """Check that all weights are finite.

    Raises:
        UserError: some are NaN or infinite; the message lists the tensors by name.
    """
    bad = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if bad:
        raise UserError(
            f"{whose} has weights that are not finite ({listed(bad)}): its training diverged, or the file is damaged; "
            "use another checkpoint"
        )


def _to_torch(part: str, table: list[TensorEntry], flat: Mapping[str, Any], batches: int) -> dict[str, np.ndarray]:
    paths = {entry.flax: len(entry.axes) for entry in table if entry.flax}
    _report(
        f"these are not the variables of a {part}",
        missing=[path for path in paths if path not in flat],
        unknown=[path for path in flat if path not in paths],
        wrong=[
            f"{path} has {np.ndim(flat[path])} axes, not {rank}"
            for path, rank in paths.items()
            if path in flat and np.ndim(flat[path]) != rank
        ],
    )
    return {
        entry.torch: entry.to_torch(np.asarray(flat[entry.flax])) if entry.flax else np.array(batches, np.int64)
        for entry in table
    }


def _check(part: str, table: list[TensorEntry], state_dict: Mapping[str, np.ndarray]) -> None:
    known = {entry.torch: entry for entry in table}
    wrong = []
    for name, tensor in state_dict.items():
        if name in known:
            kind = np.floating if known[name].flax else np.integer
            if tensor.shape != known[name].shape:
                wrong.append(f"{name} has shape {list(tensor.shape)}, not {list(known[name].shape)}")
            elif not np.issubdtype(tensor.dtype, kind):
                wrong.append(f"{name} is of {tensor.dtype}, not {kind.__name__}")
    _report(
        f"this is not the state dict of a {part} that this project knows",
        # State dicts written before BatchNorm had counters are complete without them.
        missing=[entry.torch for entry in table if entry.flax and entry.torch not in state_dict],
        unknown=[name for name in state_dict if name not in known],
        wrong=wrong,
    )


def _report(title: str, **faults: list[str]) -> None:
    lines = [f"  {kind}: {listed(names)}" for kind, names in faults.items() if names]
    if lines:
        raise UserError("\n".join([f"{title}; was the right file given?", *lines]))


# --- sizes, inferred from the tensors ---------------------------------------------------------------------------


def _shapes(state_dict: Mapping[str, np.ndarray]) -> Shapes:
    return {name: tensor.shape for name, tensor in state_dict.items()}


def _size(shapes: Shapes, pattern: str, axis: int, default: int) -> int:
    """Return the size that most tensors of a name agree on, so that a faulty one is outvoted and then listed.

    If there is no such tensor, any number will do, as all of them are then listed as missing.
    """
    sizes = Counter(shape[axis] for name, shape in shapes.items() if axis < len(shape) and re.fullmatch(pattern, name))
    return max(sizes.most_common(1)[0][0], 1) if sizes else default


def _strides(shapes: Shapes, unit: str) -> tuple[int, ...]:
    """Infer the strides of the convolutions in units of this name: a kernel is 2 · stride - 1 bins wide."""
    widths = {
        match[1]: shape[-1] for name, shape in shapes.items() if (match := re.match(rf"({unit})\.0\.weight", name))
    }
    return tuple((width + 1) // 2 for _, width in sorted(widths.items()))


def _count(names: Mapping[str, Any], pattern: str) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _generator_sizes(shapes: Shapes, default: GeneratorConfig) -> tuple[GeneratorConfig, int]:
    conformer = r"TSCB_\d+\.(time|freq)_conformer"
    positions, depthwise = rf"{conformer}\.attn\.fn\.rel_pos_emb\.weight", rf"{conformer}\.conv\.net\.4\.conv"
    channels = _size(shapes, r"dense_encoder\..*bias", 0, default.channels)
    width = _size(shapes, positions, 1, max(channels // default.heads, 1))
    distances = _size(shapes, positions, 0, 2 * default.max_distance + 1)
    hidden = _size(shapes, rf"{conformer}\.ff.*net\.0\.bias", 0, default.feed_forward_factor * channels)
    inner = _size(shapes, rf"{depthwise}\.bias", 0, default.convolution_factor * channels)
    early, late = (_strides(shapes, rf"dense_encoder\.{name}") for name in (r"early_\d+", r"(?:conv_2|late_\d+)"))
    output = _size(shapes, r"complex_decoder\.prelu\.weight", 0, channels)
    config = GeneratorConfig(
        channels=channels,
        early_strides=early,
        late_strides=late or (() if early else default.late_strides),
        output_channels=default.output_channels if output == (default.output_channels or channels) else output,
        blocks=_count(shapes, r"(TSCB_\d+)\."),
        heads=max(channels // width, 1),
        dense_depth=_count(shapes, r"dense_encoder\.dilated_dense\.(conv\d+)\."),
        feed_forward_factor=hidden // channels,
        convolution_factor=inner // channels,
        kernel=_size(shapes, rf"{depthwise}\.weight", 2, default.kernel),
        max_distance=distances // 2,
        dropout=default.dropout,
        recompute=default.recompute,
        backend=default.backend,
    )
    return config, _size(shapes, r"mask_decoder\.prelu_out\.weight", 0, 201)


def _discriminator_sizes(shapes: Shapes, default: DiscriminatorConfig) -> DiscriminatorConfig:
    return replace(default, channels=_size(shapes, r"layers\.[12]\.(weight|bias)", 0, default.channels))
