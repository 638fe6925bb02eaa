"""Signals that ask a program to end: it tidies up, says which one it was, and its status tells it too."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.subprocess

# Waits with a file that it deletes at its end, and takes a second over that.
PROGRAM = """
import sys, time
from pathlib import Path
from cmgan_jax.cli._cli import run

def main():
    path = Path(sys.argv[1])
    try:
        path.touch()
        time.sleep(60 if len(sys.argv) < 3 else 1)
    finally:
        time.sleep(0.5)
        path.unlink()

run(main)
"""
ENDING = ["SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU"]


def begin(path: Path, *more: str, ignored: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """The program, once it waits."""
    shell = f"trap '' {' '.join(name.removeprefix('SIG') for name in ignored)}; " if ignored else ""
    words = ["sh", "-c", shell + 'exec "$@"', "sh", sys.executable, "-c", PROGRAM, str(path), *more]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not path.exists():
        assert process.poll() is None
    return process


@pytest.mark.parametrize("name", ENDING)
def test_a_signal_ends_a_program_that_tidies_up(tmp_path: Path, name: str) -> None:
    """Also when it comes twice, as from a shell and the terminal, or from a scheduler."""
    process = begin(tmp_path / "work")
    process.send_signal(signal.Signals[name])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + signal.Signals[name], f"stopped by {name}\n")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGINT"])
def test_what_was_ignored_at_the_start_ends_nothing(tmp_path: Path, name: str) -> None:
    """As under `nohup`, and as a shell has its background programs ignore Ctrl-C."""
    process = begin(tmp_path / "work", "briefly", ignored=(name,))
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
