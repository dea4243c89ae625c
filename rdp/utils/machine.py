"""The machine, package versions and commit that numbers come from."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from typing import Any

from rdp.utils import distribution, paths


@cache
def versions() -> dict[str, str]:
    """Versions of Python, this package and the packages that compute."""
    names = (distribution.NAME, "torch", "timm", "numpy", "safetensors", "pydantic")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


@cache
def commit() -> str | None:
    """The commit of this checkout, with ``+`` if files differ from it; None outside a checkout."""
    describe = ["describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    if not (paths.ROOT / ".git").exists():  # installed, perhaps within another checkout
        return None
    try:
        git = ["git", "-C", str(paths.ROOT), *describe]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def system() -> str:
    """Operating system and processor architecture."""
    return f"{platform.system()} {platform.machine()}"


def size() -> dict[str, Any]:
    """The cores that this process may use, and the machine's memory in bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": len(os.sched_getaffinity(0)), "memory_bytes": memory}
