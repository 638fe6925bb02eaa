"""A run folder has one trainer at a time, and a dead one's lock does not block."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cmgan_jax.errors import UserError
from cmgan_jax.training import lock

HOLD = "import sys, time, pathlib; from cmgan_jax.training import lock\n"
HOLD += "with lock.hold(pathlib.Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)"


@pytest.mark.subprocess
def test_a_second_is_refused_with_the_first_s_host_and_number_until_it_dies(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        for attempt in (lock.refuse_held, lambda folder: lock.hold(folder).__enter__()):
            with pytest.raises(UserError) as refused:
                attempt(tmp_path)
            assert f"process {first.pid} on host {socket.gethostname()}" in str(refused.value)
        first.send_signal(signal.SIGKILL)
    assert (tmp_path / lock.NAME).exists()
    lock.refuse_held(tmp_path)
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / lock.NAME).read_text())["pid"] == os.getpid()
    assert not (tmp_path / lock.NAME).exists()


def test_it_is_given_back_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), lock.hold(tmp_path):
        raise ValueError("mine")
    lock.refuse_held(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("age", "refused"), [(5.0, True), (200.0, False)])
def test_a_holder_on_another_host_lives_while_its_file_is_touched(tmp_path: Path, age: float, refused: bool) -> None:
    """A file system that does not carry locks between hosts: the lock is free here, the file names another host."""
    path = tmp_path / lock.NAME
    path.write_text(json.dumps({"host": "elsewhere", "pid": 17}))
    os.utime(path, (time.time() - age, time.time() - age))
    if refused:
        with pytest.raises(UserError, match=r"process 17 on host elsewhere .* as of 5 s ago.*deleted"):
            lock.refuse_held(tmp_path)
    else:
        lock.refuse_held(tmp_path)


def test_a_holder_touches_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "TOUCH_SECONDS", 0.01)
    with lock.hold(tmp_path):
        os.utime(tmp_path / lock.NAME, (0, 0))
        end = time.monotonic() + 10
        while (tmp_path / lock.NAME).stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.mark.parametrize("content", ["", "half a", "[1]"])
def test_a_torn_lock_of_a_dead_one_does_not_block(tmp_path: Path, content: str) -> None:
    (tmp_path / lock.NAME).write_text(content)
    lock.refuse_held(tmp_path)
