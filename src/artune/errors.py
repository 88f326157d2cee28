"""The exceptions that a user is meant to read."""


class ArtuneError(Exception):
    """Bad input or a state the user must mend.

    The message is one line that names the file, key or argument and says what to do; the command line prints it
    without a traceback and exits with status 2. A line break or control character in it, of a key or name that it
    quotes, is shown as its escape.
    """

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


class SharedError(ArtuneError):
    """An error that every process of a command raises at the same place; the first one alone prints it."""


class StoppedError(SharedError):
    """A signal asked to stop and the state is saved; the exit status is not 0, so that the command is run again."""
