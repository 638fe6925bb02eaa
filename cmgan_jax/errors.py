"""The exception that is shown to users as a plain message instead of a traceback, and helpers for messages."""

LISTED = 5
"""Number of names that a message lists; further ones are only counted."""


class UserError(Exception):
    """An error that the user can correct; its message names the object, the reason and the remedy.

    Commands print the message to standard error and exit with its status.

    Attributes:
        status: exit status; the default is 2.
    """

    status = 2


def printable(name: object) -> str:
    """Escape line ends, control characters and undecodable bytes, so that a file name prints on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that a program ran out of device memory, which XLA reports as a runtime error."""
    return "RESOURCE_EXHAUSTED" in str(error)


def listed(names: list[str]) -> str:
    """List the first names for a message, and the number of the others."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(name[:120] for name in names[:LISTED]) + more
