"""The ``rdp`` command: every step of the workflow, for a person or a rule."""

import os
import sys


def main() -> None:
    """Run the command, in a fork of the job server if there is one for it."""
    if server := os.environ.get("RDP_JOB_SERVER"):
        from rdp.cli import job_server

        if (status := job_server.submit(server)) is not None:
            sys.exit(status)
    from rdp.cli.app import main as run  # takes a second

    run()
