"""The one base class of faults that a message explains, and the exit code of those that may pass by themselves."""

EXIT_TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: a job ended early, and the same command continues it."""


class Explained(Exception):
    """A fault whose message names the place, what was found there and the remedy; a traceback would only hide it.

    A job that such a fault ends prints the message and exits with `exit_code`. Everything else that escapes a job is a
    fault of the program: it ends with its traceback and exit code 1. Classes that stand for a bad value are ValueErrors
    too, for those who call the package from Python.

    Attributes:
        exit_code: the exit code of the job that the fault ends; 2, as command-line tools end on bad usage, unless a
            class says other.
    """

    exit_code = 2
