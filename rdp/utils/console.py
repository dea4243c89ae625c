"""Output of commands: tables on standard output, log records on standard error."""

import logging
import sys
from contextlib import suppress

from rich.console import Console
from rich.table import Table


class StderrHandler(logging.Handler):
    """Writes records to what `sys.stderr` is at the time: a rich progress bar replaces it while the bar is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a full disk must not end a run
            print(self.format(record), file=sys.stderr, flush=True)


def configure_logging(verbosity: int = 0) -> None:
    """Send the log records of this package to standard error. A second call changes the level.

    Args:
        verbosity: -2 shows errors, -1 also warnings, 0 also information, 1 also debug messages.
    """
    logger = logging.getLogger("rdp")
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        handler = StderrHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(max(logging.INFO - 10 * verbosity, logging.DEBUG))


def verbosity() -> int:
    """The argument of `configure_logging` that gives a child process the same level."""
    return (logging.INFO - logging.getLogger("rdp").getEffectiveLevel()) // 10


def console() -> Console:
    """A console on standard output. A table in a log file is 200 columns wide."""
    return Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)


def show(*tables: Table) -> None:
    """Print tables on standard output."""
    target = console()
    for table in tables:
        target.print(table)
