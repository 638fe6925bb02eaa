"""Try libraries that could take the place of parts that are our own: `python -m experiments.libraries lock pool`.

They are no dependencies of this project. Install those that are tried into an environment of their own, beside it:
pip install filelock pebble loky atomicwrites mutagen pydantic av pystoi pyroomacoustics cachetools jinja2 matplotlib
plotly pillow bagit torch
"""

import contextlib
import errno
import fcntl
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """A folder for a trial."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def speech(seconds: float = 1.0) -> np.ndarray:
    """Noise that is louder and softer in turns, float32 [S]."""
    rng, samples = np.random.default_rng(0), round(seconds * RATE)
    return (0.1 * rng.standard_normal(samples) * (1 + np.sin(np.arange(samples) / 900))).astype(np.float32)


def python(program: str, *words: str, limit: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own."""
    command = [sys.executable, "-W", "ignore", "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)


def median_ms(work: Callable[[], object], times: int = 9) -> float:
    """Median time of a call in milliseconds."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(1e3 * (time.perf_counter() - began))
    return sorted(found)[times // 2]


def starts() -> Iterator[str]:
    """Processor time of importing each library, less that of an empty program; size on disk; version."""

    def seconds(program: str) -> float:
        found = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            python(program)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return sorted(found)[2]

    empty = seconds("pass")
    modules = {
        **{"filelock": "filelock", "Pebble": "pebble", "loky": "loky", "cachetools": "cachetools", "bagit": "bagit"},
        **{"mutagen": "mutagen", "pydantic": "pydantic.dataclasses", "av": "av", "pystoi": "pystoi"},
        **{"scipy": "scipy.signal", "pyroomacoustics": "pyroomacoustics", "Jinja2": "jinja2"},
        **{
            "matplotlib": "matplotlib.figure",
            "plotly": "plotly.graph_objects",
            "pillow": "PIL.Image",
            "torch": "torch",
        },
    }
    for package, module in modules.items():
        files = metadata.files(package) or []
        size = sum(Path(str(file.locate())).stat().st_size for file in files if Path(str(file.locate())).is_file())
        cost = 1e3 * (seconds(f"import {module}") - empty)
        yield f"{package} {metadata.version(package)}: import {cost:.0f} ms, {size / 1e6:.1f} MB without what it needs"


def lock() -> Iterator[str]:
    """Locks of filelock beside ours: what a second process learns, a paused holder, file systems without locks."""
    filelock = import_module("filelock")
    program = "import sys, time, filelock\nlock = getattr(filelock, sys.argv[1])(sys.argv[2], **eval(sys.argv[3]))\n"
    program += "lock.acquire(); print('held', flush=True); time.sleep(60)"
    kinds = {"FileLock": {}, "SoftFileLease": {"lease_duration": 3.0, "heartbeat_interval": 1.0}}
    for kind, options in kinds.items():
        with new_folder() as folder:
            path = folder / "run.lock"
            command = [sys.executable, "-c", program, kind, str(path), repr(options)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
                assert holder.stdout is not None
                holder.stdout.readline()
                second = getattr(filelock, kind)(path, timeout=0, **options)
                try:
                    second.acquire()
                except filelock.Timeout as error:
                    yield f"{kind}: a second is refused: {error}".replace(str(folder), "")
                yield f"{kind}: the file holds {path.read_text()!r}"
                holder.send_signal(signal.SIGSTOP)
                waiting = getattr(filelock, kind)(path, timeout=10, **options)
                try:
                    waiting.acquire()
                    yield f"{kind}: taken from a holder that was paused"
                    waiting.release()
                except filelock.Timeout:
                    yield f"{kind}: not taken from a holder that was paused"
                holder.kill()
    usual = fcntl.flock
    for number in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with new_folder() as folder, warnings.catch_warnings(record=True) as told:
            fcntl.flock = refuse
            try:
                filelock.FileLock(folder / "run.lock", timeout=0).acquire()
                yield f"FileLock, {errno.errorcode[number]}: held, {len(told)} warnings"
            except OSError as error:
                yield f"FileLock, {errno.errorcode[number]}: {error!r}"
            finally:
                fcntl.flock = usual


def checkpoint() -> Iterator[str]:
    """What CheckpointManager restores of checkpoints with one bit changed or a file cut to half."""
    import logging

    import orbax.checkpoint as ocp

    from cmgan_jax.system import checksums

    logging.disable(logging.CRITICAL)
    state = {"a": np.random.default_rng(0).standard_normal((500, 1000)).astype(np.float32)}
    items = {"save": {"state": ocp.args.StandardSave(state), "run": ocp.args.JsonSave({"x": 1})}}
    items["restore"] = {"state": ocp.args.StandardRestore(state), "run": ocp.args.JsonRestore()}
    with new_folder() as folder:
        manager = ocp.CheckpointManager(folder / "whole")
        manager.save(1, args=ocp.args.Composite(**items["save"]))
        manager.wait_until_finished()
        checksums.write(folder / "whole" / "1")
        listed = sorted(path for path in (folder / "whole" / "1").rglob("*") if path.is_file())
        names = [path.relative_to(folder / "whole") for path in listed if path.name != checksums.NAME]
        large = [name for name in names if (folder / "whole" / name).stat().st_size > 100_000]
        rng = random.Random(0)
        for damage in ("one bit changed", "a file cut to half"):
            counts = {"as it was": 0, "other numbers, no error": 0, "error": 0, "found by checksums": 0}
            for number in range(20):
                copy = folder / f"{damage} {number}"
                shutil.copytree(folder / "whole", copy)
                damaged = copy / rng.choice(large if damage == "one bit changed" else names)
                content = bytearray(damaged.read_bytes())
                if damage == "one bit changed":
                    content[rng.randrange(len(content))] ^= 1
                else:
                    del content[len(content) // 2 :]
                damaged.write_bytes(content)
                counts["found by checksums"] += checksums.damage(copy / "1") is not None
                try:
                    reader = ocp.CheckpointManager(copy)
                    read = reader.restore(reader.latest_step(), args=ocp.args.Composite(**items["restore"]))
                    same = np.array_equal(read["state"]["a"], state["a"]) and read["run"] == {"x": 1}
                    counts["as it was" if same else "other numbers, no error"] += 1
                except Exception:  # noqa: BLE001 - whatever it raises is counted
                    counts["error"] += 1
            yield f"CheckpointManager, {damage}, 20 times: {counts}"


def echo(number: int) -> int:
    """A job."""
    return number


def crash_at_five(number: int) -> int:
    """A job that now and then kills its process."""
    if number == 5:
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(0.02)
    return number


def leave() -> None:
    """An initialiser that ends its process."""
    os._exit(1)


def hang() -> None:
    """A job that only SIGKILL ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def pool() -> Iterator[str]:
    """What a crash costs in each pool of processes, and what is left of it when its parent is killed."""
    import concurrent.futures
    import multiprocessing

    pebble, loky = import_module("pebble"), import_module("loky")
    spawn = multiprocessing.get_context("spawn")
    kinds: dict[str, Callable[[], Any]] = {
        "pebble": lambda: pebble.ProcessPool(2, context=spawn),
        "concurrent.futures": lambda: concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn),
        "loky": lambda: loky.ProcessPoolExecutor(2),
    }
    for kind, make in kinds.items():
        executor = make()
        submit = executor.submit if kind != "pebble" else lambda job, number, p=executor: p.schedule(job, [number])
        submit(echo, 1).result(60)
        lost, futures = 0, []
        for number in range(40):
            try:
                futures.append(submit(crash_at_five, number))
            except Exception:  # noqa: BLE001 - whatever it raises is counted
                lost += 1
        for future in futures:
            try:
                future.result(60)
            except Exception:  # noqa: BLE001 - whatever it raises is counted
                lost += 1
        yield f"{kind}: one crash among 40 jobs costs {lost}"
    executor = pebble.ProcessPool(1, initializer=leave, context=spawn)
    try:
        yield f"pebble, a worker that ends as it starts: {executor.schedule(echo, [1]).result(20)}"
    except Exception as error:  # noqa: BLE001 - whatever it raises is told
        yield f"pebble, a worker that ends as it starts: {error!r}"
    with pebble.ProcessPool(1, context=spawn) as executor:
        executor.schedule(echo, [1]).result(60)
        began = time.perf_counter()
        hanging, after = executor.schedule(hang, timeout=1), executor.schedule(echo, [1])
        with contextlib.suppress(TimeoutError):
            hanging.result(60)
        told = time.perf_counter() - began
        after.result(60)
        done = time.perf_counter() - began
        yield f"pebble, a job that hangs, limit 1 s: told after {told:.1f} s, the next job is done after {done:.1f} s"
    from cmgan_jax.metrics.scoring_pool import ScorePool

    with ScorePool(2, time_limit=60.0) as ours:
        scores = [ours.score(speech(), speech()) for _ in range(40)]
        scores[4].result(60)
        os.kill(ours.pids[0], signal.SIGSEGV)
        failures = [score.result(60).failure for score in scores]
        yield f"ours: one crash among 40 scores costs {len(failures) - failures.count(None)}"
    with ScorePool(1, time_limit=1.0) as ours:
        os.kill(ours.pids[0], signal.SIGSTOP)
        began = time.perf_counter()
        hanging, after = ours.score(speech(), speech()), ours.score(speech(), speech(), time_limit=60)
        hanging.result(60)
        told = time.perf_counter() - began
        after.result(60)
        done = time.perf_counter() - began
        yield f"ours, likewise: told after {told:.1f} s, the next score is there after {done:.1f} s"
    programs = {
        "pebble": "import multiprocessing as m, pebble, experiments.libraries as l\n"
        "p = pebble.ProcessPool(2, context=m.get_context('spawn')); [p.schedule(l.hang, timeout=50) for _ in '12']",
        "concurrent.futures": "import multiprocessing as m, concurrent.futures as c, experiments.libraries as l\n"
        "p = c.ProcessPoolExecutor(2, mp_context=m.get_context('spawn')); [p.submit(l.hang) for _ in '12']",
        "ours": "from cmgan_jax.metrics.scoring_pool import ScorePool; import os, signal\n"
        "p = ScorePool(2, time_limit=50); [os.kill(pid, signal.SIGSTOP) for pid in p.pids]",
    }
    for kind, program in programs.items():
        program += "\nimport time; time.sleep(3); print(1, flush=True); time.sleep(60)"
        with subprocess.Popen(
            [sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE
        ) as parent:
            assert parent.stdout is not None
            parent.stdout.readline()
            there = _of_session(parent.pid)
            parent.kill()
        time.sleep(2)
        left = _of_session(parent.pid)
        yield f"{kind}: {len(there)} processes with 2 workers that hang; 2 s after its parent is killed {len(left)}"
        for process in left:
            os.kill(process, signal.SIGKILL)


def _of_session(session: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, _, _, of = path.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(path.name))
    return found


def curves() -> Iterator[str]:
    """Curves on a disk that is full after 20,000 bytes (a limit on files stands for it)."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\nimport sys, os, threading\n"
    writer = "from tensorboardX import SummaryWriter; w = SummaryWriter(sys.argv[1], flush_secs=1); n = 0\n"
    writer += "def go():\n global n\n for n in range(1, 2_001): w.add_scalar('a', n, n)\n"
    writer += "t = threading.Thread(target=go, daemon=True); t.start(); t.join(15)\n"
    writer += (
        "print(n - t.is_alive(), 'of 2,000 points taken, then', 'blocked' if t.is_alive() else 'done', flush=True)\n"
    )
    writer += "os._exit(0)"
    ours = "from pathlib import Path; from cmgan_jax.training.records import Curves\n"
    ours += "c, told = Curves(Path(sys.argv[1])), 0\nfor n in range(2_000):\n try: c.add(n, {'a': n})\n"
    ours += " except OSError: told += 1\nprint('2,000 of 2,000 points taken,', told, 'errors told of')"
    events = (
        "from tensorboardX.event_file_writer import EventsWriter as W\nfrom tensorboardX.proto.event_pb2 import Event\n"
    )
    events += "files = lambda: len(os.listdir('/proc/self/fd'))\nbefore = files(); w = W(sys.argv[1] + '/x')\n"
    events += (
        "try:\n for n in range(2_000): w.write_event(Event(step=n, wall_time=1)); w.flush()\nexcept OSError: pass\n"
    )
    events += "try: w.close()\nexcept OSError as error: print('close:', error.strerror, end=', ')\n"
    events += "print('open files after it:', files() - before)"
    for kind, program in (("SummaryWriter", writer), ("EventsWriter", events), ("ours", ours)):
        with new_folder() as folder:
            yield f"{kind}: {python(limit + program, str(folder)).stdout.strip()}"


def weights() -> Iterator[str]:
    """The ways of safetensors to read: numbers in bfloat16, and a file that is cut while it is read."""
    import ml_dtypes
    from safetensors.numpy import load, save

    try:
        load(save({"a": np.ones(2, ml_dtypes.bfloat16)}))
    except KeyError as error:
        yield f"safetensors.numpy.load of bfloat16: {error!r}"
    program = "import os, sys; from safetensors import safe_open\nwith safe_open(sys.argv[1], 'np') as file:\n"
    program += " os.truncate(sys.argv[1], 4096); file.get_tensor('a').sum()"
    with new_folder() as folder:
        (folder / "x").write_bytes(save({"a": np.zeros(1_000_000, np.float32)}))
        yield f"safe_open, the file is cut meanwhile: exit status {python(program, str(folder / 'x')).returncode}"


def containers() -> Iterator[str]:
    """Samples that libsndfile and PyAV find, without a look at the file's structure, in files of 16,000 samples."""
    import soundfile

    from cmgan_jax.data import audio
    from cmgan_jax.data.audio import AudioError

    av = import_module("av")

    def encoded(kind: str, subtype: str) -> bytes:
        content = io.BytesIO()
        soundfile.write(content, speech(), RATE, format=kind, subtype=subtype)
        return content.getvalue()

    def by_libsndfile(content: bytes) -> int:
        return len(soundfile.read(io.BytesIO(content))[0])

    def by_av(content: bytes) -> int:
        with av.open(io.BytesIO(content)) as file:
            return sum(frame.samples for frame in file.decode(audio=0))

    def by_ours(content: bytes) -> int:
        name = Path("x")
        with audio.open_stream(name, io.BytesIO(content)) as file:
            return sum(map(len, audio.blocks(name, file, file.frames)))

    for kind, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):
        content = encoded(kind, subtype)
        cases = {"whole": content, "cut to half": content[: len(content) // 2], "two in a file": content + content}
        for case, given in cases.items():
            found = {}
            for name, read in {"libsndfile": by_libsndfile, "PyAV": by_av, "ours": by_ours}.items():
                try:
                    found[name] = str(read(given))
                except (AudioError, soundfile.LibsndfileError, av.FFmpegError) as error:
                    found[name] = "refused: " + str(error).partition("; ")[0][:60]
            yield f"{kind}, {case}: {found}"


def tags() -> Iterator[str]:
    """What mutagen carries from one file to another."""
    import soundfile

    mutagen = import_module("mutagen")
    latin = "Café".encode("latin-1")
    chunks = {b"bext": bytes(602), b"cue ": bytes(4), b"LIST": b"INFOINAM\4\0\0\0" + latin}
    with new_folder() as folder:
        for name in ("a.wav", "b.wav"):
            soundfile.write(folder / name, speech(), RATE)
        added = b"".join(key + len(body).to_bytes(4, "little") + body for key, body in chunks.items())
        content = (folder / "a.wav").read_bytes() + added
        (folder / "a.wav").write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
        source = mutagen.File(folder / "a.wav")
        target = mutagen.File(folder / "b.wav")
        if source.tags:
            target.add_tags()
            target.tags.update(source.tags)
            target.save()
        kept = [key.decode() for key in chunks if key in (folder / "b.wav").read_bytes()]
        yield f"mutagen, chunks of {[key.decode() for key in chunks]} in WAV: tags {source.tags}, kept {kept}"
        try:
            mutagen.File(io.BytesIO(b"FORM" + bytes(8)))
        except Exception as error:  # noqa: BLE001 - whatever it raises is told
            yield f"mutagen, a damaged AIFF file: {error!r}"


def charts() -> Iterator[str]:
    """Time and size of a chart of 300 points."""
    from cmgan_jax.report.charts import Axis, Series, line_chart

    figure, plotly = import_module("matplotlib.figure"), import_module("plotly.graph_objects")
    x = np.arange(300.0)
    y = np.sin(x / 20)

    def ours() -> str:
        return line_chart("A", [Series("a", x, y)], Axis("x"), Axis("y"))

    def by_matplotlib() -> str:
        made = figure.Figure(figsize=(4, 2.2))
        made.subplots().plot(x, y)
        text = io.StringIO()
        made.savefig(text, format="svg")
        return text.getvalue()

    def by_plotly(script: bool) -> str:
        return plotly.Figure(plotly.Scatter(x=x, y=y)).to_html(include_plotlyjs=script, full_html=False)

    by_matplotlib()
    kinds = {"ours": ours, "matplotlib": by_matplotlib, "plotly": lambda: by_plotly(False)}
    for kind, make in kinds.items():
        yield f"{kind}: {median_ms(make):.1f} ms, {len(make()) / 1e3:.0f} kB, scripts: {make().count('<script')}"
    yield f"plotly with its script, once a page: {len(by_plotly(True)) / 1e6:.1f} MB"


def files() -> Iterator[str]:
    """Whole or absent: atomicwrites; a folder's sums: bagit; a float WAV by libsndfile, twice."""
    import soundfile

    with new_folder() as folder:
        (folder / "real").write_text("old")
        (folder / "link").symlink_to("real")
        with import_module("atomicwrites").atomic_write(str(folder / "link"), overwrite=True) as file:
            file.write("new")
        mode = (folder / "link").lstat().st_mode & 0o777
        still = (folder / "link").is_symlink()
        yield f"atomicwrites: the link is {'kept' if still else 'replaced by a file'}, mode {mode:o}"
        bag = folder / "bag"
        (bag / "state").mkdir(parents=True)
        (bag / "state" / "a").write_text("a")
        import_module("bagit").make_bag(str(bag), checksums=["sha256"])
        yield f"bagit: {sorted(str(path.relative_to(bag)) for path in bag.rglob('*') if path.is_file())}"
        for name in ("1.wav", "2.wav"):
            soundfile.write(folder / name, speech(), RATE, subtype="FLOAT")
            time.sleep(1.1)
        same = (folder / "1.wav").read_bytes() == (folder / "2.wav").read_bytes()
        yield f"soundfile, a WAV file of floats written twice: the bytes are {'equal' if same else 'not equal'}"
    program = "import rich.console, time\nwith rich.console.Console().status('works'): time.sleep(2)"
    yield f"rich's status into a pipe writes {python(program).stdout!r}"


def metrics() -> Iterator[str]:
    """STOI of pystoi beside ours, and resampling by scipy; reflections by pyroomacoustics beside ours."""
    from scipy import signal as filters

    from cmgan_jax.data.augmentation import reflect
    from cmgan_jax.data.prepare.synthetic_speech import make_speakers, synthesise
    from cmgan_jax.metrics import intelligibility, measures

    stoi, rooms = import_module("pystoi").stoi, import_module("pyroomacoustics")
    clean = np.concatenate([synthesise(4.0, make_speakers(1)[0], seed) for seed in range(2)])
    clean[len(clean) // 3 : len(clean) // 2] *= 1e-4
    noisy = clean + (0.05 * np.random.default_rng(1).standard_normal(len(clean))).astype(np.float32)
    pair = np.stack([clean, noisy]).astype(np.float64)
    ours, theirs = measures.stoi(clean, noisy, RATE), stoi(clean, noisy, RATE)
    yield f"STOI: ours {ours:.5f}, pystoi {theirs:.5f}"
    yield f"STOI of {len(clean) / RATE:.0f} s: ours {median_ms(lambda: measures.stoi(clean, noisy, RATE)):.0f} ms, " + (
        f"pystoi {median_ms(lambda: stoi(clean, noisy, RATE)):.0f} ms"
    )
    found = intelligibility.resample(pair, RATE, 10_000)
    expected = filters.resample_poly(pair, 10_000, RATE, axis=-1)
    yield f"resampling: ours and scipy's differ by {np.abs(found - expected).max():.0e}; " + (
        f"ours {median_ms(lambda: intelligibility.resample(pair, RATE, 10_000)):.1f} ms, "
        f"scipy {median_ms(lambda: filters.resample_poly(pair, 10_000, RATE, axis=-1)):.1f} ms"
    )
    crop = clean[: 2 * RATE]

    def room() -> None:
        made = rooms.ShoeBox([5.0, 4.0, 3.0], fs=RATE, max_order=2, materials=rooms.Material(0.3))
        made.add_source([1.0, 1.0, 1.5], signal=crop)
        made.add_microphone([3.0, 2.0, 1.5])
        made.simulate()

    yield (
        f"a room for a crop of 2 s: ours {median_ms(lambda: reflect(crop, np.random.default_rng(0), RATE)):.1f} ms, "
        + (f"pyroomacoustics of order 2 {median_ms(room):.1f} ms")
    )


def settings() -> Iterator[str]:
    """What pydantic tells of a config with two wrong fields, and whether one can be made before it is checked."""
    pydantic, dataclasses = import_module("pydantic"), import_module("pydantic.dataclasses")

    class Sub:
        crop: float = pydantic.Field(2.0, gt=0)
        batch: int = pydantic.Field(4, ge=1)

    config = dataclasses.dataclass(Sub)
    try:
        config(crop=-1.0, batch=0)
    except pydantic.ValidationError as error:
        yield f"pydantic: made of two wrong fields it raises at once: {[e['msg'] for e in error.errors()]}"
    yield f"pydantic: batch of true becomes {config(batch=True).batch!r}, of '3' becomes {config(batch='3').batch!r}"


def hosts() -> Iterator[str]:
    """A 64-bit number through JAX's own exchange between two processes."""
    program = "import sys, jax, numpy as np\njax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))\n"
    program += "from jax.experimental import multihost_utils as m\nx = np.float64(1) / 3\n"
    program += "y = np.asarray(m.process_allgather(x)); print(y.dtype, float(abs(y[0] - x)))"
    results: list[str] = []

    def run(index: int) -> None:
        results.append(python(program, "localhost:29517", str(index)).stdout.strip())

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield f"process_allgather of float64: type and error {results}"


TRIALS = {
    trial.__name__: trial
    for trial in (
        starts,
        lock,
        checkpoint,
        pool,
        curves,
        weights,
        containers,
        tags,
        charts,
        files,
        metrics,
        settings,
        hosts,
    )
}
"""Every trial by its name."""


def main() -> None:
    """Run the trials that are named, or all."""
    for name in sys.argv[1:] or TRIALS:
        for line in TRIALS[name]():
            print(json.dumps({"trial": name, "found": line}, ensure_ascii=False), flush=True)
    # Pools that broke would wait for their processes.
    os._exit(0)


if __name__ == "__main__":
    main()
