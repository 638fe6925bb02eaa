"""Files of results: refused before the work, whole or absent, written where links and devices lead."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
from test_enhance import noise
from test_enhance_cli import processor

from cmgan_jax.cli import _cli
from cmgan_jax.data.audio import AudioError
from cmgan_jax.errors import UserError
from cmgan_jax.inference.files import Job, enhance_file, refuse_torn
from cmgan_jax.inference.sink import Sink
from cmgan_jax.system.outputs import refuse_file, refuse_folder, write_text

ROOT = Path(__file__).parents[1]


def test_what_cannot_be_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_file("--json", None)
    refuse_file("--json", tmp_path / "new.json")
    refuse_file("--json", Path("/dev/null"))
    for path, message in (
        (tmp_path, "a folder has that name"),
        (tmp_path / "none" / "x.json", "its folder does not exist"),
    ):
        with pytest.raises(UserError, match=rf"--json .*{message}"):
            refuse_file("--json", path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # Who runs the tests may be allowed everything.
    with pytest.raises(UserError, match="permission denied"):
        refuse_file("--json", tmp_path / "new.json")


def test_what_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refuse_folder("--out", None)
    refuse_folder("--out", tmp_path / "new" / "deeper")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"--out .*file is no folder"):
            refuse_folder("--out", path)
    assert os.listdir(tmp_path) == ["file"]


def test_text_goes_where_a_link_or_a_device_leads(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    write_text(link, "words")
    assert link.is_symlink()
    assert target.read_text() == "words"
    write_text(Path("/dev/null"), "words")
    assert Path("/dev/null").is_char_device()
    reader, writer = os.pipe()
    write_text(Path(f"/dev/fd/{writer}"), "through a pipe")
    os.close(writer)
    with os.fdopen(reader) as file:
        assert file.read() == "through a pipe"
    assert sorted(os.listdir(tmp_path)) == ["link", "target"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.wav", {}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
    ],
)
@pytest.mark.parametrize("lacking", [1, 300, 0.3])
def test_a_disk_that_fills_leaves_no_torn_recording(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, kind: dict[str, Any], lacking: float
) -> None:
    """Some formats write their last data when they are closed, where libsndfile tells of no error."""
    source, target = tmp_path / name, tmp_path / "out" / name
    soundfile.write(source, noise(48_000), 16_000, **kind)
    enhance_file(processor(), Job(source, target, name))
    size, before = target.stat().st_size, target.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stands for the disk: it, too, refuses a write half way.
    room = size - lacking if lacking >= 1 else size * (1 - lacking)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), limits[1]))
    try:
        with pytest.raises(AudioError, match="File too large"):
            enhance_file(processor(), Job(source, target, name))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == before
    assert os.listdir(target.parent) == [name]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3"])
def test_ctrl_c_in_a_callback_of_the_library_is_not_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The signal comes while libsndfile writes, where Python would print it and go on with a torn file."""
    soundfile.write(tmp_path / name, noise(48_000), 16_000)
    counted, write = [], Sink.write

    def interrupted(self: Sink, data: bytes) -> int:
        counted.append(len(data))
        if len(counted) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return write(self, data)

    monkeypatch.setattr(Sink, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        enhance_file(processor(), Job(tmp_path / name, tmp_path / "out" / name, name))
    assert os.listdir(tmp_path / "out") == []
    assert capfd.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.subprocess
def test_what_is_written_to_standard_output_stays_in_its_file(tmp_path: Path) -> None:
    """`--json /dev/stdout > file`: the file must not be replaced under what is printed next."""
    code = "from cmgan_jax.system.outputs import *; write_text(Path('/dev/stdout'), 'first '); print('second')"
    with (tmp_path / "file").open("w") as out:
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=out, check=True)
    assert (tmp_path / "file").read_text() == "first second\n"


def test_fewer_samples_than_were_written_are_no_result(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.caf", noise(1_000), 16_000, subtype="ALAC_16")
    refuse_torn(tmp_path / "a.caf", tmp_path / "b.caf", 1_000)
    with pytest.raises(AudioError, match=r"b.caf: cannot be written: 1000 of 1001 samples are there"):
        refuse_torn(tmp_path / "a.caf", tmp_path / "b.caf", 1_001)


@pytest.mark.subprocess
def test_a_long_ogg_of_a_high_rate_is_written(tmp_path: Path) -> None:
    """12 s at 192 kHz come out of the network in one piece; libvorbis would put it on the stack. In a process of its
    own, which a fault would end."""
    with soundfile.SoundFile(tmp_path / "a.ogg", "w", 192_000, 1) as file:
        for _ in range(120):
            file.write(noise(19_200))
    code = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path; from dataclasses import replace\n"
        "from test_enhance_cli import *\n"
        "long = replace(LAYOUT, whole=400_000)\n"
        "network = Network(SpectralConfig(), long, ((1, 400_000),), lambda padded, *_: padded[:, 200:-200])\n"
        "enhance_file(Processor(network), Job(Path(sys.argv[1]), Path(sys.argv[2]), 'a'))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a.ogg"), str(tmp_path / "b.ogg")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert soundfile.info(tmp_path / "b.ogg").frames == 12 * 192_000


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EEXIST, "File exists", "out.pth"), "out.pth: something of that name is there already"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"), "the device lacks memory (RES"),
    ],
)
def test_an_entry_point_says_what_can_be_mended(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        _cli.run(main)
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


def test_other_errors_keep_their_traceback() -> None:
    def main() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        _cli.run(main)
