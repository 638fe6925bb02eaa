"""Named recipes and presets, and configs to and from plain containers."""

import json
from dataclasses import replace

import pytest

from cmgan_jax.config import Config
from cmgan_jax.errors import UserError
from cmgan_jax.recipes import PRESETS, RECIPES, flatten, from_dict, make_config, override, to_dict
from cmgan_jax.training.identity import differences


def differing(one: Config, other: Config) -> set[str]:
    first, second = flatten(one), flatten(other)
    return {path for path in first if first[path] != second[path]} - {"recipe", "preset"}


def test_published_recipes_differ_in_one_number() -> None:
    """The time loss's clean reference: what changed in the published code in May 2023."""
    assert differing(make_config("published_2022"), make_config("published_head")) == {"loss.time_reference"}


def test_recipes_say_how_and_presets_how_large() -> None:
    """No number is set by both, so that their order does not matter; the paper's size is the default."""
    for recipe, how in RECIPES.items():
        for preset, size in PRESETS.items():
            assert not set(how) & set(size)
            made = make_config(recipe, preset)
            assert (made.recipe, made.preset) == (recipe, preset)
            values = flatten(made)
            assert all(values[path] == value for path, value in (how | size).items())
    assert differing(make_config(), Config()) == set(RECIPES["recommended"])


@pytest.mark.parametrize(("names", "known"), [(("new", "paper"), RECIPES), (("recommended", "new"), PRESETS)])
def test_unknown_names_list_the_known(names: tuple[str, str], known: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"unknown (recipe|preset) 'new'") as refusal:
        make_config(*names)
    assert ", ".join(known) in str(refusal.value)


def test_a_config_survives_json() -> None:
    """Tuples are lists in JSON, and come back as tuples: a config is hashable."""
    config = override(make_config("published_head", "tiny"), {"data.validation_speakers": ("p226", "p287")})
    back = from_dict(json.loads(json.dumps(to_dict(config))))
    assert back == config
    assert hash(back) == hash(config)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"colour": 1, "epoch": 2}, "config .*: colour, epoch"),
        ({"loss": {"ri": 1.0, "phase": 1.0}}, r"config\.loss .*: phase"),
        ({"loss": 0.5}, r"config\.loss .*0\.5"),
    ],
)
def test_fields_of_another_version_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_dict(values)


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({"remat": False}, True),
        ({"targets": {"late_discriminator": False}}, True),
        ({"targets": {"late_discriminator": True}}, False),
    ],
)
def test_fields_of_earlier_versions_are_left_out(values: dict[str, object], same: bool) -> None:
    """The model can be used in any case; a run with a value that computes something else is another run."""
    assert from_dict(values) == Config()
    lines = differences({"config": to_dict(Config())}, {"config": values})
    gone = "targets.late_discriminator: the run has True, and this version has no such option"
    assert lines == ([] if same else [gone])


def test_a_field_that_was_renamed_keeps_its_value() -> None:
    earlier = {"health": {"judge_every": 7}}
    assert from_dict(earlier) == override(Config(), {"health.diagnose_every": 7})
    asked = {"config": to_dict(override(Config(), {"health.diagnose_every": 7}))}
    assert differences(asked, {"config": earlier}) == []
    assert differences({"config": to_dict(Config())}, {"config": earlier}) == [
        "health.diagnose_every: the run has 7, asked for 25"
    ]


def test_fields_that_are_absent_have_their_defaults() -> None:
    assert from_dict({"batch": 4, "loss": {"time": 0.0}}) == override(Config(), {"batch": 4, "loss.time": 0.0})


def test_override_replaces_what_the_path_names_and_nothing_else() -> None:
    config = Config()
    changed = override(config, {"seed": 7, "data.threads": 5})
    assert changed == replace(config, seed=7, data=replace(config.data, threads=5))
    assert config == Config()
    for path in ("colour", "loss.colour", "colour.red", "seed.red"):
        with pytest.raises(KeyError, match=path):
            override(config, {path: 1})


def test_flatten_names_every_number_once() -> None:
    flat = flatten(Config())
    assert flat["loss.time"] == 0.2
    assert flat["seed"] == 0
    assert override(Config(), flat) == Config()
