"""The scripts of docs/ddp.md and docs/fsdp.md, started as those pages say."""

import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = "torchrun --standalone --nproc-per-node 2"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp.py", "fsdp.py"])
def test_two_processes_alternate_drop_and_recover_iterations(name, root):
    program, *options = LAUNCH.split()
    command = [Path(sys.executable).with_name(program), *options, root / "docs/examples" / name]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "0 drop\n1 recover\n2 drop\n3 recover\n"
