"""The ``rdp`` command: each step of the workflow, for a person or a rule to run."""

import os
import sys

import typer

from rdp.cli import archive, auditing, comparing, data, library, machine, provenance, reporting, store, training
from rdp.errors import Terminated, UserError
from rdp.utils import optional

app = typer.Typer(
    help="Benchmark suite and paper pipeline for ResidualDroppath and the Plain Neural Net Hypothesis.\n\n"
    "A study (config/studies/NAME.yaml) asks for runs; plan shows them, train makes records of them, "
    "report turns records into figures and a page. Snakemake does all of it: snakemake --cores all",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _group in (training, reporting, auditing, comparing, provenance, archive, store, library, machine):
    app.add_typer(_group.app)
app.add_typer(data.app, name="data")

_UsageError = typer.BadParameter.__base__  # which typer keeps to itself, with the click in it


def main() -> None:
    """Run the command; bad input is one line on standard error and status 2."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except _UsageError as error:
        said, path = error.format_message(), error.ctx.command_path if error.ctx else "rdp"
        # No command at all is told with all there are.
        line = said if "\n" in said else f"rdp: {UserError(said)} ({path} --help tells more)"
        print(line, file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        print(f"rdp: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (extra := optional.extra_of(error.name or "")) is None:
            raise
        print(f"rdp: {optional.absent(f'rdp {sys.argv[1]}', extra)}", file=sys.stderr)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:  # `rdp plan … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Terminated:
        sys.exit(143)
