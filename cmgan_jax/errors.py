"""The one exception that reaches a person as a plain message instead of a traceback."""


class UserError(Exception):
    """Something that a user caused and can mend: it names the thing, the reason and the remedy.

    Entry points print it on standard error and leave with exit status 2.
    """
