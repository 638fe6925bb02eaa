"""The wrapper around every entry point: errors that a user can cause end in a sentence, not in a traceback."""

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
"""Exit status after an error that the user can fix; the command-line parser uses the same."""
BY_SIGNAL = 128
"""Exit status of a program ended by a signal, minus the signal's number, as in shells."""
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT."""
BROKEN_PIPE = 141
"""Exit status when the reader of the output has gone: 128 + SIGPIPE."""

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
    """Prepare the process, before a program's libraries are imported, which may open files.

    Args:
        extra: the optional packages that the program may need; see `cmgan_jax.extras`.
        hook: make a failing import end in a sentence, until `run` begins.
    """
    streams.open_missing()
    # XLA logs as errors some messages that are none for the user, such as on a slow compilation, which our own output
    # covers. Real errors raise an exception as well.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if hook:
        sys.excepthook = partial(_end, extra)


def run(main: Callable[[], int | None], answers: bool = True, extra: str = "") -> NoReturn:
    """Run an entry point and exit with its status.

    Output errors do not end the program: output that has no reader, or that a full disk refuses, is dropped. A
    termination signal raises an exception in the program, so that it cleans up; a training catches the signal itself.

    Args:
        main: the program; its return value is the exit status, where None means 0.
        answers: whether standard output is the program's result, so that the status is not 0 if output is lost. If
            False, it only reports on work whose results are files.
        extra: the optional packages that the program may need; see `cmgan_jax.extras`.

    Raises:
        SystemExit: always, except that an error not caused by the user propagates with its traceback. The status is
            that of a `UserError`, 2 after a file-system error that the user can fix or if the device's memory is too
            small, 128 + its number after a signal, and 141 (the reader has gone) or 2 if output was lost.
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
    """Return the message and exit status for an error that a user can cause; None for other errors.

    Args:
        error: the exception.
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
    """The exception hook that is active until `run` begins."""
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
    # The interpreter itself would exit with status 1.
    os._exit(status)


def _quoted_variables(message: str) -> str:
    """Find JAX settings in the environment whose name or value appears in an error message."""
    ours = [(name, value) for name, value in os.environ.items() if name.startswith("JAX_")]
    return ", ".join(name for name, value in ours if name in message.upper() or repr(value) in message)


_HOME = re.compile(r"(?P<before>(?:[^~\s]+=)?)(?P<path>~(?P<user>[^/]*)(?:/.*)?)", re.DOTALL)


def with_home(word: str) -> str:
    """Expand ~ or ~user at the beginning of a path in a command-line word, also after `--flag=` and `NAME=`.

    Shells expand it only at a word's beginning, so `--out=~/x` would make a folder named ~.

    Raises:
        UserError: the user is unknown. The name of an existing file is left unchanged.
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
    """Return the exit status for the state of standard output; a full disk is also reported."""
    lost = streams.loss(sys.stdout)
    if lost is None or lost.errno == errno.EBADF:
        return 0  # It was closed on purpose.
    if lost.errno in (errno.EPIPE, errno.EIO):
        return BROKEN_PIPE
    print(f"standard output: {_REMEDIES.get(lost.errno or 0, str(lost))}", file=sys.stderr)
    return USER_ERROR
