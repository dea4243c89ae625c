"""One GPU for one job, on a machine with several: a device is held by a lock on a file.

The kernel lets go of a lock when its holder ends, in whatever way, so a job that crashes leaves no device taken.
Snakemake counts how many are free, but does not say which.
"""

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rdp.errors import UserError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_SECONDS = 0.5  # between two looks for a free device


def devices() -> list[str]:
    """The GPUs that this process may use, as CUDA names them: those that are visible to it, or all."""
    if (visible := os.environ.get(_VISIBLE)) is not None:
        return [name for part in visible.split(",") if (name := part.strip()) and name != "-1"]
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return found.split()


@contextmanager
def lease(count: int, say: Callable[[str], None]) -> Iterator[list[str]]:
    """Hold ``count`` GPUs that no other job on this machine holds, and let CUDA see those alone.

    To be entered before torch is imported. Waits until enough are free. A job of Slurm has its devices from Slurm,
    and a machine without any has none to hold: nothing is done there.

    Args:
        count: how many, 0 for none.
        say: told in a line that it waits, or what it holds.

    Raises:
        UserError: more are asked for than the machine has.
    """
    there = [] if "SLURM_JOB_ID" in os.environ else devices()
    if not count or not there:
        yield []
        return
    if count > len(there):
        raise UserError(f"{count} GPUs are asked for, and this machine has {len(there)}: {', '.join(there)}")
    with ExitStack() as stack:
        held, told = _try(count, there, stack), False
        while len(held) < count:
            if not told:
                say(f"all {len(there)} GPUs are taken, waiting")
                told = True
            time.sleep(_SECONDS)
            held = _try(count, there, stack)
        say(f"on GPU {', '.join(held)}")
        before = os.environ.get(_VISIBLE)
        os.environ[_VISIBLE] = ",".join(held)
        try:
            yield held
        finally:
            os.environ.pop(_VISIBLE)
            if before is not None:
                os.environ[_VISIBLE] = before


def _try(count: int, there: list[str], stack: ExitStack) -> list[str]:
    """Take free devices until there are enough; hold all of them, or none: two that wait for each other's never end."""
    folder, taken = _folder(), {}
    for device in there:
        if len(taken) < count and (file := _lock(folder / device.replace("/", "-"))) is not None:
            taken[device] = file
    if len(taken) < count:
        for file in taken.values():
            file.close()
        return []
    for file in taken.values():
        stack.enter_context(file)
    return list(taken)


def _lock(path: Path) -> IO[str] | None:
    file = path.open("a")  # never removed: a lock on a file without a name would keep nobody out
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _folder() -> Path:
    """Where this user's locks lie: on this machine, whatever results directory a job writes to."""
    folder = Path(tempfile.gettempdir()) / f"rdp-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder}: belongs to another user; GPUs are leased there")
    return folder
