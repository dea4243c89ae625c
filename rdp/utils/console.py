"""What commands print: tables for people, and lines on standard error."""

import sys

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Where tables are shown: a terminal, or a log."""
    # A log is read by machines and people later: never squeeze a table to the width of nobody's terminal.
    return Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)


def show(*tables: Table) -> None:
    """Print tables."""
    to = console()
    for table in tables:
        to.print(table)


def tell(line: str) -> None:
    """A line on standard error, at once."""
    print(line, file=sys.stderr, flush=True)
