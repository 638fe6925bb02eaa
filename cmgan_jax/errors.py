"""The one exception that reaches a person as a plain message instead of a traceback, and words fit for messages."""

LISTED = 5
"""Names that a message lists before it only counts."""


class UserError(Exception):
    """Something that a user caused and can mend: it names the thing, the reason and the remedy.

    Entry points print it on standard error and leave with its exit status.

    Attributes:
        status: the exit status; 2 says only that there is something to mend.
    """

    status = 2


def printable(name: object) -> str:
    """A file's name on one line, as any terminal shows it: line ends, control characters and stray bytes escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def lacks_memory(error: BaseException) -> bool:
    """Whether a device had too little memory for a program, which XLA tells by an error of the runtime."""
    return "RESOURCE_EXHAUSTED" in str(error)


def listed(names: list[str]) -> str:
    """A handful of names for a message, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(name[:120] for name in names[:LISTED]) + more
