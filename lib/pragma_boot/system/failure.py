"""What can go wrong, and the exit status for it."""

FAILED, USAGE, SHORTAGE, INTERRUPTED = 1, 2, 3, 130


class Failure(Exception):
    """A bad input or a failed operation: one line for the user, exit status 1.

    The message begins with what is wrong, in lower case, and has no full stop:
    ``cannot open 'x.qcow2': No such file or directory``.
    """

    status = FAILED

    def __init__(self, message: object, status: int | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status


class Usage(Failure):
    """An option or argument that the tool does not take: exit status 2."""

    status = USAGE


class Shortage(Failure):
    """The site is short of CPUs, memory, addresses or ports: exit status 3."""

    status = SHORTAGE


class Said(Failure):
    """A failure that one of our programs, or a driver, has already reported on stderr."""


def cause(error: OSError) -> str:
    """The text of an OSError without its errno and file name."""
    return error.strerror or str(error)
