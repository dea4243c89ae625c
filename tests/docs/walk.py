"""Run commands one after another, and stop at the first that fails.

Usage: ``python walk.py commands.json``, a list of pairs of place and command. Commands of ``rdp`` run in this process,
so that torch is imported once. Other commands, and those with pipes or variables, run in a shell.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from rdp.cli import main


def run(command: str) -> int:
    """Run a command and return its exit status."""
    if not command.startswith("rdp ") or set(command) & set("|>&;$"):
        return subprocess.run(["bash", "-c", command]).returncode
    sys.argv = shlex.split(command)
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


if __name__ == "__main__":  # processes that a command starts import this file
    for place, command in json.loads(Path(sys.argv[1]).read_text()):
        print(f"\n=== {place}: {command}", flush=True)
        if status := run(command):
            sys.exit(f"{place}: {command}: exit status {status}")
        sys.stdout.flush()
