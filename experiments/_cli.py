"""The wrapper around every entry point: what a user can cause ends in a sentence, not in a traceback."""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from cmgan_jax.errors import UserError, lacks_memory, printable

USER_ERROR = 2
"""Exit status after something that the user can mend; the command-line parser uses the same."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells report it: 128 + SIGINT."""
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


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run an entry point and leave with its exit status.

    Args:
        main: the program; what it returns is the exit status, None meaning 0.

    Raises:
        SystemExit: always, except that an error which is not the user's passes through with its traceback.
            A `UserError`'s own, 2 after an error of the file system that the user can mend or where the device's memory
            is too small, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Standard error escapes what its encoding lacks; a name must not end the program here either.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
        # Here and not at interpreter exit, where a broken pipe could no longer be caught.
        sys.stdout.flush()
    except UserError as error:
        print(error, file=sys.stderr)
        status = error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # What is still buffered must not raise once more when the interpreter flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BROKEN_PIPE
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        print(f"{printable(error.filename or 'file system')}: {remedy}", file=sys.stderr)
        status = USER_ERROR
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        print(f"the device lacks memory ({str(error).splitlines()[0]}): {_SMALLER}", file=sys.stderr)
        status = USER_ERROR
    sys.exit(status)
