"""Run commands one after another, as somebody would type them, and stop at the first that fails.

``python walk.py commands.json``: a list of places and commands. Those of ``rdp`` run in this process, so that torch
is imported once; what needs a shell gets one.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from rdp.cli import main


def run(command: str) -> int:
    """The command's exit status."""
    if not command.startswith("rdp ") or set(command) & set("|>&;$"):
        return subprocess.run(["bash", "-c", command]).returncode
    sys.argv = shlex.split(command)
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


if __name__ == "__main__":  # processes that a command starts read this file too
    for place, command in json.loads(Path(sys.argv[1]).read_text()):
        print(f"\n=== {place}: {command}", flush=True)
        if status := run(command):
            sys.exit(f"{place}: {command}: ended with {status}")
        sys.stdout.flush()
