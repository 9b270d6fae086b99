"""What goes wrong, and the exit status that says so."""

FAILED, USAGE, SHORTAGE, INTERRUPTED = 1, 2, 3, 130


class Failure(Exception):
    """A bad input or a failed operation: one line for the user, exit status 1.

    The message says what is wrong first, lowercase, without a full stop:
    ``cannot open 'x.qcow2': No such file or directory``.
    """

    status = FAILED


class Usage(Failure):
    """An option or argument that the tool does not take: exit status 2."""

    status = USAGE


class Shortage(Failure):
    """The site has not enough CPUs, memory, addresses or ports: exit status 3."""

    status = SHORTAGE


class Said(Failure):
    """A failure that a program of ours, or a driver, told of on stderr itself."""

    def __init__(self, message, status):
        super().__init__(message)
        self.status = status


def cause(error):
    """The words of an OSError without its errno and file name."""
    return error.strerror or str(error)
