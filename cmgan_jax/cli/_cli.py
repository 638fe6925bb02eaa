"""The wrapper around every entry point: what a user can cause ends in a sentence, not in a traceback."""

import errno
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import NoReturn

from cmgan_jax import extras
from cmgan_jax.errors import UserError, lacks_memory, printable
from cmgan_jax.system import signals, streams

USER_ERROR = 2
"""Exit status after something that the user can mend; the command-line parser uses the same."""
BY_SIGNAL = 128
"""Added to a signal's number, as shells report it, where one ended the program."""
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT."""
BROKEN_PIPE = 141
"""Exit status when the reader of our output has gone: 128 + SIGPIPE."""

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose a folder on another disk",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "permission denied; choose a path that you may read or write",
    errno.EPERM: "operation not permitted; choose a path that you may read or write",
    errno.EROFS: "the file system is read-only; choose a folder on another one",
    errno.ENOENT: "no such file or folder; check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; check the path",
    errno.EISDIR: "a folder, where a file was expected; check the path",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
    errno.EEXIST: "something of that name is there already, and no folder; choose another path",
    errno.ELOOP: "the link leads back to itself; check the path",
    errno.EFBIG: "the file would be larger than is allowed here; choose another disk or raise the limit (ulimit -f)",
    errno.EIO: "the disk or network gave an error; check it, or choose another folder",
    errno.EBUSY: "in use by something else; try again or choose another path",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
}

_SMALLER = (
    "take fewer crops or windows at once (--batch), shorter ones (--window, --whole), --precision bf16, more devices, "
    "or leave the device to this program alone"
)


def begin(extra: str = "", hook: bool = True) -> None:
    """Make the process ready for a program, before the program's libraries are imported, which may open files.

    Args:
        extra: the optional packages that the program may need; see `cmgan_jax.extras`.
        hook: have an import that fails end in a sentence; `run` ends this.
    """
    streams.open_missing()
    # XLA reports as errors what is none for a user, as a slow compilation, of which our own lines tell. What is an
    # error comes as an exception, too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if hook:
        sys.excepthook = partial(_end, extra)


def run(main: Callable[[], int | None], answers: bool = True, extra: str = "") -> NoReturn:
    """Run an entry point and leave with its exit status.

    The program is not ended by its output: what nobody reads, or a full disk refuses, is dropped. A signal that asks
    the program to end raises an exception in it, so that it tidies up; a training catches it before.

    Args:
        main: the program; what it returns is the exit status, None meaning 0.
        answers: standard output holds what the program was asked for; where it got lost, the status is not 0. False:
            it only tells of the work, the results of which are files.
        extra: the optional packages that the program may need; see `cmgan_jax.extras`.

    Raises:
        SystemExit: always, except that an error which is not the user's passes through with its traceback.
            A `UserError`'s own, 2 after an error of the file system that the user can mend or where the device's memory
            is too small, 128 + its number after a signal, and where output got lost 141 (the reader has gone) or 2.
    """
    sys.excepthook = sys.__excepthook__
    streams.open_missing()
    streams.endure()
    try:
        with signals.caught(signals.Stopper()):
            sys.argv[1:] = map(with_home, sys.argv[1:])
            status = main() or 0
    except BaseException as error:
        explained = explain(error, extra)
        if explained is None:
            raise
        words, status = explained
        print(words, file=sys.stderr)
    sys.stdout.flush()
    if status == 0 and answers:
        status = _status_of_output()
    sys.exit(status)


def explain(error: BaseException, extra: str = "") -> tuple[str, int] | None:
    """What to tell of an error that a user can cause, and the exit status; None: it is another one.

    Args:
        error: what was raised.
        extra: the optional packages that the program may need.
    """
    if isinstance(error, UserError):
        return str(error), error.status
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, signals.Stopped):
        return f"stopped by {error.signal.name}", BY_SIGNAL + error.signal
    if isinstance(error, OSError) and (remedy := _REMEDIES.get(error.errno or 0)):
        return f"{printable(error.filename or 'file system')}: {remedy}", USER_ERROR
    if isinstance(error, RuntimeError) and lacks_memory(error):
        return f"the device lacks memory ({str(error).splitlines()[0]}): {_SMALLER}", USER_ERROR
    if line := extras.lacking(error, extra):
        return line, USER_ERROR
    return None


def _end(extra: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The exception hook until `run` begins."""
    explained = explain(error, extra)
    if explained is None and isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        explained = f"the package {package} is not installed: pip install cmgan-jax installs what it needs", USER_ERROR
    if explained is None and isinstance(error, ValueError) and (names := _quoted_variables(str(error))):
        explained = f"the environment variable {names}: {error}; set it otherwise, or unset it", USER_ERROR
    if explained is None:
        sys.__excepthook__(kind, error, trace)
        return
    words, status = explained
    print(words, file=sys.stderr, flush=True)
    # The interpreter itself would leave with 1.
    os._exit(status)


def _quoted_variables(message: str) -> str:
    """Settings of JAX in the environment that an error message names, or whose value it quotes."""
    ours = [(name, value) for name, value in os.environ.items() if name.startswith("JAX_")]
    return ", ".join(name for name, value in ours if name in message.upper() or repr(value) in message)


_HOME = re.compile(r"(?P<before>(?:[^~\s]+=)?)(?P<path>~(?P<user>[^/]*)(?:/.*)?)", re.DOTALL)


def with_home(word: str) -> str:
    """A word of the command line in which ~ or ~user begins a path: expanded, also after `--flag=` and `NAME=`.

    Shells expand it at a word's begin alone, and `--out=~/x` would make a folder of that name.

    Raises:
        UserError: nobody knows whose home that is. A file that is named so is left alone.
    """
    match = _HOME.fullmatch(word)
    if match is None or (not match["before"] and match["user"] and os.path.lexists(word)):
        return word
    path = os.path.expanduser(match["path"])
    if path.startswith("~"):
        if not match["user"]:
            raise UserError(f"{printable(word)}: no home folder is known (HOME is not set); write the whole path")
        raise UserError(f"{printable(word)}: no user of that name; check the path, or write ./~…")
    return match["before"] + path


def _status_of_output() -> int:
    """The status that tells whether standard output has arrived; a full disk is told of besides."""
    lost = streams.loss(sys.stdout)
    if lost is None or lost.errno == errno.EBADF:
        return 0  # It was closed on purpose.
    if lost.errno in (errno.EPIPE, errno.EIO):
        return BROKEN_PIPE
    print(f"standard output: {_REMEDIES.get(lost.errno or 0, str(lost))}", file=sys.stderr)
    return USER_ERROR
