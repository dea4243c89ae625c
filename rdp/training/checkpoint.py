"""Checkpoints from which a run goes on to the same bits.

A checkpoint is one safetensors file: the tensors of network and optimizer, and everything else as JSON in its
header, under one checksum. The step is in its name. The last two are kept, each whole: should the newest turn out
to be damaged when it is read, training goes back to the one before.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rdp.utils import digest, files

_PATTERN = "checkpoint-*.safetensors"
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run before optimizer step ``step``.

    Attributes:
        step: steps done.
        identity: the run's identity; a checkpoint of any other is not used.
        tensors: by name, on the CPU.
        state: everything else, as JSON.
    """

    step: int
    identity: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then remove all but it and the one before it.

    Raises:
        UserError: it cannot be written; those before it stay as they are.
    """
    path = folder / f"checkpoint-{checkpoint.step:09d}.safetensors"
    tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
    content = {"step": checkpoint.step, "identity": checkpoint.identity, "state": checkpoint.state}
    content["tensors"] = _digest(tensors)
    header = {"content": json.dumps(content), "digest": digest.of(content)}
    with files.whole(path) as part:
        save_file(tensors, part, metadata=header)
    for older in sorted(folder.glob(_PATTERN))[:-_KEPT]:
        with suppress(OSError):  # one too many does no harm
            older.unlink()


def latest(folders: list[Path], identity: dict[str, Any]) -> tuple[Checkpoint | None, list[str]]:
    """The furthest whole checkpoint of this identity, and a line about each damaged one passed over."""
    damaged = []
    for path in sorted((p for f in folders for p in f.glob(_PATTERN)), key=lambda p: p.name, reverse=True):
        try:
            checkpoint = _read(path)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            damaged.append(f"{path}: damaged checkpoint, going back to the one before ({error})")
            continue
        if checkpoint.identity == identity:
            return checkpoint, damaged
    return None, damaged


def _read(path: Path) -> Checkpoint:
    with safe_open(path, "pt") as file:
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    content = json.loads(header["content"])
    if digest.of(content) != header["digest"] or _digest(tensors) != content["tensors"]:
        raise ValueError("checksum does not match")
    return Checkpoint(content["step"], content["identity"], tensors, content["state"])


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    return digest.of_arrays({name: tensor.cpu().numpy() for name, tensor in tensors.items()})
