"""What a killed process left goes; what a living one, another host's or somebody else's has stays."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cmgan_jax.data import audio
from cmgan_jax.system import temporaries

ROOT = Path(__file__).resolve().parents[1]

# Says what it has made, then waits for its end or for a word.
HOLDER = """
import sys
from pathlib import Path
from cmgan_jax import temporaries

file = temporaries.beside(Path(sys.argv[1]) / "a.wav")
file.touch()
with temporaries.folder(Path(sys.argv[1])) as folder:
    (folder / "inner").touch()
    print(file.name, folder.name, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path):
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, set(process.stdout.readline().split())
        process.kill()


def write(folder: Path) -> None:
    audio.write(folder / "b.wav", np.zeros(100, np.float32), 16_000)


@pytest.mark.subprocess
def test_what_a_killed_process_left_goes_at_the_next_write(tmp_path: Path, holder) -> None:
    process, made = holder
    foreign = {".thesis.tmp", ".123-456.tmp", ".123-456-0000beef.tmp"}  # The last one is another host's.
    for name in foreign:
        (tmp_path / name).touch()
    write(tmp_path)
    assert set(os.listdir(tmp_path)) == made | foreign | {"b.wav"}
    process.kill()
    process.wait()
    temporaries.sweep(tmp_path)
    assert set(os.listdir(tmp_path)) == foreign | {"b.wav"}


def test_a_folder_goes_with_its_block(tmp_path: Path) -> None:
    def stopped() -> None:
        with temporaries.folder(tmp_path) as folder:
            (folder / "inner").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert os.listdir(tmp_path) == []


def test_sweeping_where_nothing_is_or_nothing_may_be_read_is_no_trouble(tmp_path: Path) -> None:
    temporaries.sweep(tmp_path / "none")
    (tmp_path / "file").touch()
    temporaries.sweep(tmp_path / "file")
