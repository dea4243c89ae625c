"""Leases of GPUs on a machine with several: each job holds its devices by locks on files.

The kernel releases a lock when its holder ends, in whatever way, so a job that crashes leaves no device in use.
Snakemake counts free devices, but does not choose them.
"""

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rdp.errors import UserError

log = logging.getLogger(__name__)

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_POLL_SECONDS = 0.5


def devices() -> list[str]:
    """Names of the GPUs that this process may use: those in ``CUDA_VISIBLE_DEVICES``, or all."""
    if (visible := os.environ.get(_VISIBLE)) is not None:
        return [name for part in visible.split(",") if (name := part.strip()) and name != "-1"]
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


@contextmanager
def lease(count: int) -> Iterator[list[str]]:
    """Hold ``count`` GPUs that no other job on this machine holds, and show CUDA only those.

    Enter it before CUDA is initialised. It waits until enough are free. It does nothing in a Slurm job, whose devices
    Slurm chooses, and on a machine without GPUs.

    Raises:
        UserError: the machine has fewer.
    """
    available = [] if "SLURM_JOB_ID" in os.environ else devices()
    if not count or not available:
        yield []
        return
    if count > len(available):
        raise UserError(f"{count} GPUs requested, but this machine has {len(available)}: {', '.join(available)}")
    with ExitStack() as stack:
        held = _acquire(count, available, stack)
        if not held:
            log.info("all %d GPUs are in use, waiting", len(available))
        while not held:
            time.sleep(_POLL_SECONDS)
            held = _acquire(count, available, stack)
        log.info("using GPU %s", ", ".join(held))
        before = os.environ.get(_VISIBLE)
        os.environ[_VISIBLE] = ",".join(held)
        try:
            yield held
        finally:
            os.environ.pop(_VISIBLE)
            if before is not None:
                os.environ[_VISIBLE] = before


def _acquire(count: int, available: list[str], stack: ExitStack) -> list[str]:
    """Hold ``count`` free devices, or none: two jobs that each hold a part would wait for each other for ever."""
    folder, held = _folder(), []
    with ExitStack() as locks:
        for device in available:
            try:
                locks.enter_context(FileLock(folder / device.replace("/", "-"), blocking=False))
            except Timeout:
                continue
            held.append(device)
            if len(held) == count:
                stack.enter_context(locks.pop_all())
                return held
    return []


def _folder() -> Path:
    """Folder of this user's lock files on this machine, whatever results directory a job writes to."""
    folder = Path(tempfile.gettempdir()) / f"rdp-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder}: belongs to another user; remove it, since locks on GPUs are kept there")
    return folder
