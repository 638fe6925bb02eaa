"""The package: its public names, the command `cmgan`, what a wheel holds, and what is said of missing packages."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import cmgan_jax
from cmgan_jax.benchmarking.baseline import find_baseline
from cmgan_jax.cli.command import COMMANDS
from cmgan_jax.errors import UserError
from cmgan_jax.extras import EXTRAS
from cmgan_jax.version import UNKNOWN, find_version

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = ("jax", "numpy", "soundfile", "tyro", "flax", "rich")
MODULES = {"orbax-checkpoint": "orbax"}
"""Packages that are imported by another name."""


def python(program: str, *words: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """A program in a process of its own, which finds this checkout."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def cmgan(*words: str, before: str = "", cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """The command, started as pip's script starts it; what is to be run before it."""
    return python(f"{before}\nfrom cmgan_jax.cli.command import main\nmain()", *words, cwd=cwd)


def without(*modules: str) -> str:
    """A line of Python after which these packages cannot be imported."""
    return f"sys.modules.update(dict.fromkeys({modules!r}))"


WATCH = f"""
import atexit
atexit.register(lambda: print("imported", [name for name in {HEAVY!r} if name in sys.modules]))
"""


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("trian",), ("export",), ("export", "--help"), ()])
@pytest.mark.subprocess
def test_what_needs_no_library_imports_none(words: tuple[str, ...]) -> None:
    assert cmgan(*words, before=WATCH).stdout.splitlines()[-1] == "imported []"


@pytest.mark.subprocess
def test_help_lists_every_command() -> None:
    done = cmgan("--help")
    assert done.returncode == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{command.summary}$", done.stdout, re.MULTILINE), name
    assert "stablehlo" in cmgan("export", "-h").stdout
    assert "diagnose" not in cmgan("export", "-h").stdout


def test_every_command_has_its_program() -> None:
    for command in COMMANDS.values():
        source = (ROOT / "cmgan_jax" / "cli" / f"{command.module}.py").read_text()
        assert "\ndef main(" in source
        same = (ROOT / "experiments" / f"{command.module}.py").read_text()
        assert f"from cmgan_jax.cli.{command.module} import main" in same
        assert f"run(main{'' if command.answers else ', answers=False'})" in same


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trian",), "cmgan has no command 'trian'; did you mean `cmgan train`? `cmgan --help` lists the commands"),
        (("export_torch",), "cmgan has no command 'export_torch'; did you mean `cmgan export`? "),
        (("--versoin",), "cmgan has no command '--versoin'; did you mean `cmgan --version`? "),
        (("xyzzy\n",), "cmgan has no command 'xyzzy\\n'; `cmgan --help` lists the commands"),
        (("export", "--out"), "cmgan export has 2 forms: `cmgan export stablehlo` and `cmgan export weights`"),
        ((), "cmgan needs a command; `cmgan --help` lists them"),
    ],
)
@pytest.mark.subprocess
def test_a_command_that_is_none_is_told_of_in_a_line(words: tuple[str, ...], said: str) -> None:
    done = cmgan(*words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(said)


@pytest.mark.subprocess
def test_the_version() -> None:
    assert cmgan("--version").stdout == f"cmgan-jax {cmgan_jax.__version__}\n"
    assert cmgan_jax.__version__ == PROJECT["version"]


def test_the_version_of_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cmgan_jax.version.NAME", "cmgan-jax-of-nobody")
    project = tmp_path / "pyproject.toml"
    assert find_version(project) == UNKNOWN
    project.write_text("[project]\nname = 'cmgan-jax-of-nobody'\nversion = '7.1'\n")
    assert find_version(project) == "7.1"
    # Somebody else's, next to an installed package.
    project.write_text("[project]\nname = 'other'\nversion = '7.1'\n")
    assert find_version(project) == UNKNOWN


@pytest.mark.subprocess
def test_python_m_is_the_same_command() -> None:
    words = [sys.executable, "-m", "cmgan_jax", "--version"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == cmgan("--version").stdout


@pytest.mark.subprocess
def test_flags_of_a_command_reach_it(tmp_path: Path) -> None:
    """Its usage names it as it was called, and a path's ~ is expanded."""
    assert cmgan("inspect", "--help").stdout.startswith("usage: cmgan inspect ")
    done = cmgan("inspect", str(tmp_path / "nothing"))
    assert (done.returncode, done.stderr.startswith(f"{tmp_path}/nothing: no such file or folder")) == (2, True)


@pytest.mark.parametrize(
    ("words", "missing", "said"),
    [
        (("train",), ("optax",), "training needs more packages: pip install 'cmgan-jax[train]'\n"),
        (("train",), ("pesq",), "training needs more packages: pip install 'cmgan-jax[train]'\n"),
        (("compare",), ("grain",), "training needs more packages: pip install 'cmgan-jax[train]'\n"),
        (("evaluate",), ("pesq",), "scoring needs more packages: pip install 'cmgan-jax[eval]'\n"),
        (("inspect",), ("rich",), "the package rich is not installed: pip install cmgan-jax installs what it needs\n"),
    ],
)
@pytest.mark.subprocess
def test_a_missing_package_is_told_of_with_its_extra(
    words: tuple[str, ...], missing: tuple[str, ...], said: str
) -> None:
    done = cmgan(*words, "--help", before=without(*missing))
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.subprocess
def test_enhancing_needs_no_optional_package(tmp_path: Path) -> None:
    """Every one of them is hidden; what is left refuses a file that is not there, and names it."""
    hidden = {module for extra in EXTRAS.values() for module in extra.modules} - {"scipy"}
    (tmp_path / "x.wav").touch()
    words = ("enhance", "--checkpoint", "none.pt", "--out", "out", "x.wav")
    done = cmgan(*words, before=without(*sorted(hidden), "tensorstore"), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("none.pt: no such file or folder")


@pytest.mark.subprocess
def test_enhancing_imports_nothing_that_it_does_not_use() -> None:
    """What JAX itself takes where it is there (flatbuffers) aside."""
    unused = ("scipy", "optax", "orbax", "grain", "pesq", "tensorboardX", "G722", "tensorstore")
    done = python(f"import cmgan_jax.cli.enhance; print([name for name in {unused!r} if name in sys.modules])")
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.subprocess
def test_a_run_folder_needs_orbax(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "x.wav").touch()
    words = ("enhance", "--checkpoint", ".", "--out", "out", "x.wav")
    # As damaged is refused what has no checksums; the reader is asked for after that.
    before = without("orbax") + "; import cmgan_jax.inference.weights as w; w.refuse_damaged = lambda path: None"
    done = cmgan(*words, before=before, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "training needs more packages: pip install 'cmgan-jax[train]'\n")


@pytest.mark.subprocess
def test_the_library_is_imported_name_by_name() -> None:
    program = f"""
import cmgan_jax
print([name for name in {HEAVY!r} if name in sys.modules])
print(cmgan_jax.make_config("recommended", "tiny").preset, cmgan_jax.Config().recipe, "jax" in sys.modules)
print(sorted(set(cmgan_jax.__all__) - set(dir(cmgan_jax))))
"""
    done = python(program)
    assert done.stdout.splitlines() == ["[]", "tiny recommended False", "[]"], done.stderr


@pytest.mark.subprocess
def test_every_public_name_is_there() -> None:
    program = """
import cmgan_jax
print([name for name in cmgan_jax.__all__ if getattr(cmgan_jax, name) is None])
from cmgan_jax import Enhancer, load, metrics
print(Enhancer.__module__, load.__module__, metrics.__name__)
"""
    done = python(program)
    modules = "cmgan_jax.inference.enhancer cmgan_jax.inference.weights cmgan_jax.metrics"
    assert done.stdout.splitlines() == ["[]", modules], done.stderr


def test_a_name_that_is_not_public() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Enhancr'"):
        _ = cmgan_jax.Enhancr  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.subprocess
def test_a_name_that_lacks_packages_says_which_extra_has_them() -> None:
    done = python(f"{without('pesq')}\nfrom cmgan_jax.metrics import pesq")
    last = done.stderr.splitlines()[-1]
    assert last == "cmgan_jax.extras.MissingPackages: scoring needs more packages: pip install 'cmgan-jax[eval]'"


SETUP = """
import os
{before}
import jax
import cmgan_jax
{change}
cmgan_jax.{name}
print("async", jax.config.read("jax_cpu_enable_async_dispatch"), "cache", jax.config.jax_compilation_cache_dir)
print("flags", "xla_gpu_enable_triton_gemm" in os.environ.get("XLA_FLAGS", ""))
"""


@pytest.mark.parametrize(
    ("name", "before", "change", "said"),
    [
        ("Enhancer", "", "", "async False cache {}/cmgan_jax/programs flags True"),
        ("load", "", "", "async False cache {}/cmgan_jax/programs flags True"),
        ("Config", "", "", "async True cache None flags False"),
        (
            "Generator",
            "",
            '{set}("jax_compilation_cache_dir", "{dir}/mine")',
            "async False cache {}/mine flags True",
        ),
        (
            "Generator",
            "",
            '{set}("jax_enable_compilation_cache", False)',
            "async False cache None flags True",
        ),
        (
            "Generator",
            'os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "1"',
            "",
            "async True cache {}/cmgan_jax/programs flags True",
        ),
    ],
)
@pytest.mark.subprocess
def test_the_library_sets_up_jax_but_for_what_is_chosen(
    name: str, before: str, change: str, said: str, tmp_path: Path
) -> None:
    plain = (
        f'os.environ["XDG_CACHE_HOME"] = {str(tmp_path)!r}; os.environ["XLA_FLAGS"] = ""\n'
        f'os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)\n{before}'
    )
    changed = change.replace("{set}", "jax.config.update").replace("{dir}", str(tmp_path))
    done = python(SETUP.format(name=name, before=plain, change=changed))
    assert " ".join(done.stdout.split()) == said.format(tmp_path), done.stderr


def _packages(lines: list[str]) -> dict[str, str]:
    """Requirements by package."""
    return {re.split(r"[<>=\[]", line)[0]: line for line in lines}


def test_requirements_are_those_of_the_package_and_its_extras() -> None:
    """requirements.txt is the full list of what runs, each with a reason."""
    wanted = _packages(PROJECT["dependencies"])
    for extra in EXTRAS:
        for package, line in _packages(PROJECT["optional-dependencies"][extra]).items():
            assert wanted.setdefault(package, line) == line
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert _packages([line.partition("  # ")[0] for line in lines]) == wanted
    assert all(line.partition("  # ")[2] for line in lines)


def test_extras_are_those_of_the_package() -> None:
    for name, extra in EXTRAS.items():
        packages = _packages(PROJECT["optional-dependencies"][name])
        assert {MODULES.get(package, package) for package in packages} == set(extra.modules)
    assert PROJECT["optional-dependencies"]["all"] == [f"cmgan-jax[{','.join(EXTRAS)}]"]
    assert set(COMMANDS[name].extra for name in COMMANDS) <= {"", *EXTRAS}


def test_the_published_program_is_told_to_be_in_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--against torch: the PyTorch program is part of a checkout"):
        find_baseline(tmp_path)
    assert find_baseline().modes(["eager-fp32"])[0].precision == "fp32"


@pytest.mark.subprocess
def test_the_published_program_is_found_from_anywhere(tmp_path: Path) -> None:
    """A script of pip's has its own folder on the path, and not the checkout's."""
    program = f"""
import cmgan_jax
sys.path.remove({str(ROOT)!r})
from cmgan_jax.benchmarking.baseline import find_baseline
print(find_baseline().modes(["eager-bf16"]))
"""
    done = python(program, cwd=tmp_path)
    assert done.stdout == "[Mode(compiled=False, precision='bf16')]\n", done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built from a copy: the build leaves folders beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    for name in ("cmgan_jax", "experiments", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "findings")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(folder / "source")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode and re.search("No matching distribution|Could not find a version|connection", done.stderr):
        pytest.skip("pip cannot fetch setuptools here, with which a wheel is built")
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.subprocess
def test_a_wheel_holds_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (info,) = {name.partition("/")[0] for name in names} - {"cmgan_jax"}
        metadata = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert info == f"cmgan_jax-{PROJECT['version']}.dist-info"
    here = [path for path in (ROOT / "cmgan_jax").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    held = [name for name in names if name.startswith("cmgan_jax/")]
    assert sorted(held) == sorted(str(path.relative_to(ROOT)) for path in here)
    assert f"{info}/licenses/LICENSE" in names
    assert "License-Expression: MIT" in metadata
    assert "cmgan = cmgan_jax.cli.command:main" in scripts
    needed = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert set(needed) == set(_packages(PROJECT["dependencies"]))
    assert "pesq" not in needed


@pytest.mark.subprocess
def test_a_wheel_runs_without_a_checkout(wheel: Path, tmp_path: Path) -> None:
    """It is unpacked, and its folder takes the checkout's place on the path."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom cmgan_jax.cli.command import main\nmain()"
    words = [sys.executable, "-c", program, "benchmark", "--against", "torch"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("--against torch: the PyTorch program is part of a checkout")
