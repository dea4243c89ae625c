"""The ``rdp`` command: every step of the workflow, for a person or a rule."""

import os
import sys
from typing import Annotated, Any

import typer

from rdp.cli import data, results, store, tools, training
from rdp.errors import Terminated, UserError
from rdp.utils import distribution
from rdp.utils.console import configure_logging

PANELS = {
    "Plan and run": ("plan", "train", "tune", "status", "watch", "retry"),
    "Results": ("collect", "probe", "speed", "claims", "plot", "report", "audit", "diff", "checklist", "crate"),
    "Store": ("store", "adopt", "pack", "unpack", "weights"),
    "Data": ("data",),
    "Tools": ("bench", "schema", "snakefile"),
}

app = typer.Typer(
    help="Benchmark residual learning: ResidualDroppath and the Plain Neural Net Hypothesis.\n\n"
    "A study (config/studies/NAME.yaml) defines runs. plan shows them, train runs them, and report turns their "
    "records into figures and a page. All of it, in parallel: snakemake --cores all --config study=NAME",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for _module in (training, results, store, tools):
    app.add_typer(_module.app)
app.add_typer(data.app, name="data")

_UsageError: Any = typer.BadParameter.__bases__[0]  # not exported by typer, which has its own copy of click


def _level(flag: str, letter: str, sign: int, text: str) -> Any:
    def callback(count: int) -> None:
        if count:
            configure_logging(sign * count)

    return typer.Option(
        flag, letter, count=True, callback=callback, expose_value=False, metavar="", show_default=False, help=text
    )


def _show_version(asked: bool) -> None:
    if asked:
        print(f"{distribution.NAME} {distribution.version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, expose_value=False, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    verbose: Annotated[int, _level("--verbose", "-v", 1, "Show debug messages.")] = 0,
    quiet: Annotated[int, _level("--quiet", "-q", -1, "Show only warnings and errors; -qq: errors.")] = 0,
) -> None: ...


def _build() -> Any:
    """Return the command with its panels in order. --verbose and --quiet may follow any command below it."""
    root: Any = typer.main.get_group(app)
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    for name in root.commands:
        root.commands[name].rich_help_panel = panels[name]
    root.commands = {name: root.commands[name] for name in panels}
    pending = list(root.commands.values())
    while pending:
        below = pending.pop()
        below.params += [option for option in root.params if option.name != "version"]
        pending += getattr(below, "commands", {}).values()
    return root


command = _build()


def main() -> None:
    """Run the command. Invalid input gives one line on standard error and exit status 2."""
    configure_logging()
    try:
        sys.exit(command(standalone_mode=False) or 0)
    except _UsageError as error:
        message, path = error.format_message(), error.ctx.command_path if error.ctx else "rdp"
        # Without a command the message is the whole help.
        line = message if "\n" in message else f"rdp: {UserError(message)} (see {path} --help)"
        print(line, file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        print(f"rdp: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (extra := distribution.extra_of(error.name or "")) is None:
            raise
        name = next(word for word in sys.argv[1:] if not word.startswith("-"))
        print(f"rdp: {distribution.missing_extra(f'rdp {name}', extra)}", file=sys.stderr)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:  # `rdp plan … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Terminated:
        sys.exit(143)
