"""The list of mistakes that the tests are tried with: each can be made, and what should notice it is there."""

from pathlib import Path
from typing import Any

import pytest

from cmgan_jax.errors import UserError
from experiments.mutation_list import MUTATIONS, Mutation
from experiments.mutations import copy_tree, first_failure, mutated, page

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.fault)
def test_each_can_be_made_and_its_tests_are_there(mutation: Mutation) -> None:
    """Its text stands in the file exactly once, and what comes of it is a program still."""
    source = (ROOT / mutation.file).read_text()
    compile(mutated(mutation, source), mutation.file, "exec")
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text() if name else (ROOT / file).is_file(), test


@pytest.mark.parametrize("source", ["nothing", "one\none"])
def test_a_text_that_does_not_stand_there_once_is_refused(source: str) -> None:
    with pytest.raises(UserError, match=r"a\.py: 'one' stands there [02] times and not once"):
        mutated(Mutation("", "a.py", "one", "two", ()), source)


def test_the_page_tells_what_no_test_noticed() -> None:
    record: dict[str, Any] = {"fault": "a loss is wrong", "file": "a.py", "noticed_by": None}
    text = page([record, record | {"noticed_by": "tests/test_a.py::test_b"}])
    assert "2 mistakes, 1 noticed." in text
    assert "| a loss is wrong | `a.py` | none |" in text
    assert "| a loss is wrong | `a.py` | `tests/test_a.py::test_b` |" in text


@pytest.mark.subprocess
def test_the_first_test_that_fails_is_named(tmp_path: Path) -> None:
    """Of two that fail; tests that cannot be run are an error, not a mistake that was noticed."""
    (tmp_path / "test_a.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', ['a b', 'c'])\ndef test_b(n):\n    assert n != 'a b'\n"
        "def test_c(): assert False\ndef test_d(): pass\n"
    )
    assert first_failure(tmp_path, ("test_a.py",)) == "test_a.py::test_b"
    assert first_failure(tmp_path, ("test_a.py::test_d",)) is None
    with pytest.raises(UserError, match="the tests could not be run"):
        first_failure(tmp_path, ("test_a.py::test_e",))


def test_a_copy_has_all_of_the_package(tmp_path: Path) -> None:
    """What it lacked would come from the installed package, without the mistake."""
    copy_tree(tmp_path / "tree")
    for part in ("cmgan_jax", "experiments", "tests"):
        files = {path.relative_to(ROOT) for path in (ROOT / part).rglob("*.py")}
        assert files == {path.relative_to(tmp_path / "tree") for path in (tmp_path / "tree" / part).rglob("*.py")}
    assert (tmp_path / "tree" / "pyproject.toml").is_file()
