"""Programs whose output nobody reads any more, or a full disk refuses: they come to their end, with a true status."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.subprocess

# It prints before and after its work, which is a file; the first word is whether standard output is the answer.
PROGRAM = """
import sys
from pathlib import Path
from cmgan_jax.cli._cli import run

def main():
    for stream in (sys.stdout, sys.stderr):
        print("before", "x" * 100_000, file=stream, flush=True)
    Path(sys.argv[2]).write_text("done")
    print("after", "\\udcff")

run(main, answers=sys.argv[1] == "answers")
"""


def words(kind: str, work: Path) -> list[str]:
    return [sys.executable, "-c", PROGRAM, kind, str(work)]


@pytest.mark.parametrize(("kind", "status"), [("answers", 141), ("tells", 0)])
def test_work_is_done_when_the_reader_has_gone(tmp_path: Path, kind: str, status: int) -> None:
    with subprocess.Popen(
        words(kind, tmp_path / "work"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        assert process.wait(60) == status
    assert (tmp_path / "work").read_text() == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
@pytest.mark.parametrize(("kind", "status"), [("answers", 2), ("tells", 0)])
def test_work_is_done_when_the_disk_of_the_log_is_full(tmp_path: Path, kind: str, status: int) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            words(kind, tmp_path / "work"), cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == status
    assert (tmp_path / "work").read_text() == "done"
    _, *said = done.stderr.splitlines()
    remedy = "standard output: the disk is full; free some space or choose a folder on another disk"
    assert said == [remedy] * (kind == "answers")


def test_work_is_done_when_the_terminal_is_closed(tmp_path: Path) -> None:
    """What is written then is refused by another error than a pipe's."""
    ours, theirs = pty.openpty()
    slow = PROGRAM.replace("    for stream", "    sys.stdin.readline()\n    for stream")
    process = subprocess.Popen(
        [sys.executable, "-c", slow, "answers", str(tmp_path / "work")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    os.close(ours)
    process.communicate("go on\n", timeout=60)
    assert process.returncode == 141
    assert (tmp_path / "work").read_text() == "done"


@pytest.mark.parametrize("closed", [(1,), (2,), (0,), (0, 1, 2)])
def test_closed_streams_are_no_trouble(tmp_path: Path, closed: tuple[int, ...]) -> None:
    """Nor does a file that is opened later take their numbers, which whatever prints would write into."""
    program = PROGRAM.replace("write_text(", "open('w').fileno() > 2 and Path(sys.argv[2]).write_text(")
    shell = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-c", program, "answers", str(tmp_path / "work")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work").read_text() == "done"
    assert ("after \\udcff" in done.stdout) == (1 not in closed)
    assert done.stderr.startswith("before") == (2 not in closed)


def test_without_a_buffer_a_line_is_there_when_the_program_is_killed(tmp_path: Path) -> None:
    program = (
        "import os\nfrom cmgan_jax.cli._cli import run\n\ndef main():\n    print('said')\n    os._exit(3)\n\nrun(main)"
    )
    done = subprocess.run([sys.executable, "-u", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "said\n")


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing() -> None:
    """As node does with a terminal that both share; Python's own streams raise an error."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    program = "from cmgan_jax.cli._cli import run\n\nrun(lambda: print('x' * 1_000_000))"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=writer) as process:
        os.close(writer)
        with open(reader, "rb") as pipe:
            assert len(pipe.read()) == 1_000_001
    assert process.returncode == 0
