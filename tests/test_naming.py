"""The map between published state dicts and our variables: exact both ways, complete, and strict about names."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmgan_jax.config import DiscriminatorConfig, GeneratorConfig
from cmgan_jax.errors import UserError
from cmgan_jax.interop.naming import (
    batches_tracked,
    discriminator_from_torch,
    discriminator_to_torch,
    find_state_dict,
    generator_bins,
    generator_from_torch,
    generator_to_torch,
)
from cmgan_jax.interop.torch_file import read_torch_file
from cmgan_jax.models.discriminator import Discriminator
from cmgan_jax.models.generator import Generator, split_blocks

# Every size differs from every other and from the published one, so that no two can be mistaken for each other.
SMALL = GeneratorConfig(
    channels=6,
    blocks=2,
    heads=2,
    dense_depth=3,
    feed_forward_factor=5,
    convolution_factor=4,
    kernel=7,
    max_distance=9,
)
STRIDED = replace(SMALL, early_strides=(2, 4), late_strides=(3, 5), output_channels=7)
BINS = 2 * 4 * 3 * 5 + 1


def shapes_of_generator(config: GeneratorConfig, bins: int) -> Any:
    return jax.eval_shape(Generator(config).init, jax.random.key(0), jnp.zeros((1, 3, bins), jnp.complex64))


def shapes_of_discriminator(config: DiscriminatorConfig) -> Any:
    magnitude = jnp.zeros((1, 16, 16))
    return jax.eval_shape(Discriminator(config).init, jax.random.key(0), magnitude, magnitude)


def filled(shapes: Any) -> Any:
    """Numbers that occur once each, so that any swap shows."""
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(leaf.dtype), shapes)


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return filled(shapes_of_generator(SMALL, BINS))


@pytest.fixture(scope="module")
def discriminator() -> dict[str, Any]:
    return filled(shapes_of_discriminator(DiscriminatorConfig(channels=3)))


def assert_equal_trees(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), found, expected)


@pytest.mark.parametrize("sizes", [SMALL, STRIDED], ids=["published", "strided"])
def test_generators_come_back_with_their_sizes(sizes: GeneratorConfig) -> None:
    # Expected: what went in. The trees are those of the models' own `init`, so the map is complete.
    generator = filled(shapes_of_generator(sizes, BINS))
    config, variables = generator_from_torch(generator_to_torch(generator))
    assert (config, generator_bins(variables)) == (sizes, BINS)
    assert_equal_trees(variables, generator)


def test_discriminators_come_back_with_their_sizes(discriminator: Any) -> None:
    config, variables = discriminator_from_torch(discriminator_to_torch(discriminator))
    assert config == DiscriminatorConfig(channels=3)
    assert_equal_trees(variables, discriminator)


def test_device_arrays_are_taken_too(discriminator: Any) -> None:
    state_dict = discriminator_to_torch(jax.tree.map(jnp.asarray, discriminator))
    assert all(type(value) is np.ndarray for value in state_dict.values())


def test_layouts(generator: Any, discriminator: Any) -> None:
    # Expected: torch's documented layouts, out × in × height × width, written out index by index.
    state_dict = generator_to_torch(generator)
    block = split_blocks(generator["params"])["block_1"]["frequency"]
    kernel = generator["params"]["mask_decoder"]["dense"]["layer_2"]["conv"]["conv"]["kernel"]
    assert state_dict["mask_decoder.dense_block.conv3.weight"][4, 17, 1, 2] == kernel[1, 2, 17, 4]
    torch = "TSCB_2.freq_conformer"
    assert state_dict[f"{torch}.ff2.fn.fn.net.3.weight"][1, 29] == block["feed_forward_2"]["contract"]["kernel"][29, 1]
    assert state_dict[f"{torch}.attn.fn.to_kv.weight"][11, 2] == block["attention"]["key_value"]["kernel"][2, 11]
    assert state_dict[f"{torch}.attn.fn.rel_pos_emb.weight"][18, 2] == block["attention"]["positions"][18, 2]
    assert state_dict[f"{torch}.conv.net.2.weight"][47, 5, 0] == block["convolution"]["expand"]["kernel"][5, 47]
    assert state_dict[f"{torch}.conv.net.4.conv.weight"][23, 0, 1] == block["convolution"]["depthwise_kernel"][1, 23]
    norm = split_blocks(generator["batch_stats"])["block_1"]["frequency"]["convolution"]["batch_norm"]
    np.testing.assert_array_equal(state_dict[f"{torch}.conv.net.5.running_mean"], norm["mean"])
    np.testing.assert_array_equal(state_dict[f"{torch}.conv.net.5.running_var"], norm["variance"])

    state_dict = discriminator_to_torch(discriminator)
    params, stats = discriminator["params"], discriminator["batch_stats"]
    assert state_dict["layers.3.weight_orig"][5, 2, 3, 1] == params["conv_1"]["kernel"][3, 1, 2, 5]
    assert state_dict["layers.14.weight_orig"][11, 23] == params["hidden"]["kernel"][23, 11]
    np.testing.assert_array_equal(state_dict["layers.3.weight_v"], stats["conv_1"]["spectral_norm"]["v"])
    np.testing.assert_array_equal(state_dict["layers.17.weight_u"], stats["output"]["spectral_norm"]["u"])


@pytest.mark.parametrize(
    ("part", "take", "give"),
    [
        ("generator", generator_from_torch, generator_to_torch),
        ("discriminator", discriminator_from_torch, discriminator_to_torch),
    ],
)
def test_published_state_dicts_come_back(shared: Path, part: str, take: Callable, give: Callable) -> None:
    published = read_torch_file(shared / "reference" / f"{part}.pt")
    config, variables = take(published)
    assert config == {"generator": GeneratorConfig(), "discriminator": DiscriminatorConfig()}[part]
    back = give(variables)
    assert list(back) == list(published)
    for name, tensor in published.items():
        np.testing.assert_array_equal(back[name], tensor, strict=True, err_msg=name)


def test_published_gradients_name_the_same_parameters(shared: Path) -> None:
    # reference.npz has a `grad/` for every parameter and a `buf/` for every buffer that a training step moves.
    names = np.load(shared / "reference" / "reference.npz").files
    variables = filled(shapes_of_generator(GeneratorConfig(), 201))
    parameters = {name.removeprefix("grad/") for name in names if name.startswith("grad/")}
    buffers = {name.removeprefix("buf/") for name in names if name.startswith("buf/")}
    # Ones in `params` and zeros in `batch_stats` tell which of the state dict's tensors come from where.
    ones = jax.tree.map(np.ones_like, variables["params"])
    zeros = jax.tree.map(np.zeros_like, variables["batch_stats"])
    marked = generator_to_torch({"params": ones, "batch_stats": zeros})
    assert {name for name, tensor in marked.items() if tensor.all()} == parameters
    assert buffers <= set(marked) - parameters


def test_spectral_vectors_belong_to_their_matrix(shared: Path) -> None:
    # torch's u and v are unit vectors near the singular pair of the (out, rest) matrix: sigma = u · W v > 0. With
    # another order of v's columns the pair is broken and sigma collapses.
    _, variables = discriminator_from_torch(read_torch_file(shared / "reference" / "discriminator.pt"))
    for name in ("conv_1", "conv_2", "conv_3", "hidden"):
        kernel, vectors = variables["params"][name]["kernel"], variables["batch_stats"][name]["spectral_norm"]
        matrix = np.moveaxis(kernel, (-1, -2), (0, 1)).reshape(kernel.shape[-1], -1)
        sigma = vectors["u"] @ matrix @ vectors["v"]
        assert sigma > 0.5 * np.linalg.norm(matrix, 2), name


def test_counters(generator: Any) -> None:
    state_dict = generator_to_torch(generator, batches=123)
    counters = {name: value for name, value in state_dict.items() if name.endswith("num_batches_tracked")}
    assert len(counters) == 4  # two blocks, two conformers each
    assert {(value.dtype, value.shape, int(value)) for value in counters.values()} == {(np.dtype(np.int64), (), 123)}
    assert batches_tracked(state_dict) == 123
    without = {name: value for name, value in state_dict.items() if name not in counters}
    assert batches_tracked(without) == 0
    assert_equal_trees(generator_from_torch(without)[1], generator)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"epoch": 3, "generator": state, "discriminator": {}},
        lambda state: {"model_state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {"state_dict": {"generator": {f"module.module.{name}": value for name, value in state.items()}}},
    ],
)
def test_wrapped_state_dicts(generator: Any, wrap: Callable[[Any], Any]) -> None:
    assert_equal_trees(generator_from_torch(wrap(generator_to_torch(generator)))[1], generator)


def test_half_precision_is_widened(discriminator: Any) -> None:
    halves = {name: value.astype(np.float16) for name, value in discriminator_to_torch(discriminator).items()}
    _, variables = discriminator_from_torch(halves)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}


def test_every_fault_is_listed_by_name(generator: Any) -> None:
    state_dict: dict[str, Any] = generator_to_torch(generator)
    del state_dict["complex_decoder.conv.bias"]
    del state_dict["dense_encoder.conv_1.0.bias"]  # tells the channels, with others
    state_dict["dense_encoder.conv_1.1.bias"] = np.zeros(5, np.float32)  # says otherwise
    state_dict["extra.weight"] = np.zeros(3, np.float32)
    state_dict["mask_decoder.norm.bias"] = np.zeros((1, 1), np.float32)
    state_dict["mask_decoder.norm.weight"] = np.zeros(1, np.int64)
    with pytest.raises(UserError) as error:
        generator_from_torch(state_dict)
    lines = str(error.value).splitlines()
    assert lines[1].strip() == "missing: dense_encoder.conv_1.0.bias, complex_decoder.conv.bias"
    assert lines[2].strip() == "unknown: extra.weight"
    assert lines[3].strip() == (
        "wrong: dense_encoder.conv_1.1.bias has shape [5], not [6], mask_decoder.norm.weight is of int64, "
        "not floating, mask_decoder.norm.bias has shape [1, 1], not [1]"
    )
    assert len(lines) == 4


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(generator: Any, number: float) -> None:
    state_dict: dict[str, Any] = generator_to_torch(generator)
    state_dict["mask_decoder.norm.bias"] = np.full_like(state_dict["mask_decoder.norm.bias"], number)
    with pytest.raises(UserError, match=r"not finite \(mask_decoder.norm.bias\): its training diverged"):
        generator_from_torch(state_dict)


@pytest.mark.parametrize("name", ["TSCB_1.time_conformer.attn.fn.rel_pos_emb.weight", "mask_decoder.prelu_out.weight"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 0), (2, 2, 2)])
def test_misshapen_sizes_are_refused(generator: Any, name: str, shape: tuple[int, ...]) -> None:
    if name.endswith("prelu_out.weight") and shape == (0,):
        shape = (1, 1)  # no slope at all is covered by the other tensor
    state_dict = generator_to_torch(generator) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        generator_from_torch(state_dict)


def test_the_other_network_and_other_things_are_refused(generator: Any, discriminator: Any) -> None:
    with pytest.raises(UserError, match=r"not the state dict of a generator.*right file(.|\n)*unknown: layers\.0"):
        generator_from_torch(discriminator_to_torch(discriminator))
    with pytest.raises(UserError, match=r"not the state dict of a discriminator(.|\n)*and \d+ more"):
        discriminator_from_torch(generator_to_torch(generator))
    for content, name in (({}, "nothing"), ({"epoch": 3}, "epoch"), ({"generator": {"a": [1]}}, "generator")):
        with pytest.raises(UserError, match=rf"but there is {name};"):
            find_state_dict(content, "generator")


def test_other_variables_are_refused(generator: Any, discriminator: Any) -> None:
    broken = {"params": {**generator["params"]}, "batch_stats": generator["batch_stats"]}
    del broken["params"]["mask_decoder"]
    broken["params"]["surplus"] = np.zeros(2)
    with pytest.raises(UserError, match=r"missing: params/mask_decoder/(.|\n)*unknown: params/surplus"):
        generator_to_torch(broken)
    broken = {**discriminator, "params": {**discriminator["params"], "slope": np.ones((1, 1))}}
    with pytest.raises(UserError, match=r"params/slope has 2 axes, not 1"):
        discriminator_to_torch(broken)
    broken["params"] = {**discriminator["params"], "slope": np.ones(2)}
    with pytest.raises(UserError, match=r"layers\.18\.slope has shape \[2\], not \[1\]"):
        discriminator_to_torch(broken)


def test_imported_networks_compute_what_the_published_ones_did(shared: Path) -> None:
    # reference.npz: discriminator outputs in eval mode, to 1e-5 as the project asks. (The generator's figures take
    # longer and have a test of their own with the model.)
    reference = np.load(shared / "reference" / "reference.npz")
    config, variables = discriminator_from_torch(read_torch_file(shared / "reference" / "discriminator.pt"))
    real, imag = np.moveaxis(reference["clean_spec"], 1, 0)
    clean = np.hypot(real, imag).swapaxes(1, 2)
    estimate = np.hypot(reference["eval_real"], reference["eval_imag"])[:, 0]
    score = jax.jit(Discriminator(config).apply)
    np.testing.assert_allclose(score(variables, clean, clean), reference["disc_clean_clean"][:, 0], rtol=1e-5)
    np.testing.assert_allclose(score(variables, clean, estimate), reference["disc_clean_est"][:, 0], rtol=1e-5)
