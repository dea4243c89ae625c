"""torch.compile in training runs: of the whole network, or block by block where iterations drop or freeze units.

Code is compiled for static shapes and without timing alternatives, so that it does not depend on what the process ran
before. A resumed run therefore computes with the same code as an uninterrupted one. Networks are trained compiled, and
evaluated and measured uncompiled.
"""

import os
import shlex
import shutil
import subprocess
import warnings
from contextlib import AbstractContextManager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from rdp.errors import UserError
from rdp.models.compiled import compile_blocks
from rdp.models.units import Units

# Forms of a block: its shape, what is dropped and frozen in it, and whether gradients pass through it. The 54 blocks of
# a ResNet-110 have 30. More than this many is an error, because torch would run the rest uncompiled.
_FORMS = 1000
_UNUSED = frozenset({"TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS"})  # they change no number


def compile_network(network: nn.Module, units: Units, *, by_block: bool) -> None:
    """Compile a network in place at its first call, or each of its blocks with units.

    Names of parameters and modules do not change. All networks of a shape in this process share their code.

    Raises:
        UserError: there is no compiler for the network's device. A network that torch cannot compile without graph
            breaks raises torch's error at its first call.
    """
    compiler(next(network.parameters()).device.type)
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = _FORMS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    torch._inductor.config.compile_threads = torch.get_num_threads()  # a run occupies no other cores
    # torch looks at the gradient of whatever it traces.
    warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
    units.tensor_scales = True
    # A graph break would be an error: what torch cannot compile, it may run uncompiled from then on.
    options: dict[str, Any] = {"dynamic": False, "fullgraph": True, "options": {"deterministic": True}}
    if by_block:
        compile_blocks(units, **options)
    else:
        network.compile(**options)


def uncompiled() -> AbstractContextManager[Any]:
    """Context in which compiled networks run uncompiled."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@cache
def compiler(device: str) -> dict[str, str]:
    """What compiles for ``cpu`` or ``cuda`` in addition to torch, with its version and flags: part of the stack.

    Raises:
        UserError: it is missing.
    """
    found = {"inductor": " ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if _is_flag(name))}
    if device == "cuda":
        try:
            found["triton"] = version("triton")
        except PackageNotFoundError:
            raise UserError("recipe: compile: true needs Triton on a GPU, and it is not installed") from None
        if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
            raise UserError("recipe: compile: true needs a C compiler on a GPU, and there is no gcc or clang")
        return found
    command = os.environ.get("CXX", "g++")
    try:
        done = subprocess.run([*shlex.split(command), "--version"], capture_output=True, text=True, check=True)
        return found | {"compiler": done.stdout.splitlines()[0]}
    except (OSError, ValueError, IndexError, subprocess.CalledProcessError):
        raise UserError(
            f"recipe: compile: true needs a C++ compiler, and '{command}' cannot be run; install g++, or name another "
            "compiler in CXX"
        ) from None


def _is_flag(name: str) -> bool:
    """Whether an environment variable can change compiled code."""
    return name.startswith("TORCHINDUCTOR_") and name not in _UNUSED
