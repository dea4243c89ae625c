"""Checkpoints, from which a run resumes to bitwise the same numbers.

A checkpoint is one safetensors file: the tensors of network and optimizer, and all other state as JSON in the header,
under one checksum. The file name holds the step. The last two are stored: if the newest is damaged, training resumes
from the one before.
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
_STORED = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run before optimizer step ``step``."""

    step: int  # steps done
    identity: dict[str, Any]  # the run's identity; only a run of this identity resumes from it
    tensors: dict[str, torch.Tensor]  # by name, on the CPU when read
    state: dict[str, Any]  # all other state, as JSON


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then remove all but it and the one before it.

    Raises:
        UserError: it cannot be written; the earlier ones stay.
    """
    path = folder / f"checkpoint-{checkpoint.step:09d}.safetensors"
    tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
    content = {"step": checkpoint.step, "identity": checkpoint.identity, "state": checkpoint.state}
    content["tensors"] = _digest(tensors)
    header = {"content": json.dumps(content), "digest": digest.of(content)}
    with files.atomic_write(path) as part:
        save_file(tensors, part, metadata=header)
    for older in sorted(folder.glob(_PATTERN))[:-_STORED]:
        with suppress(OSError):  # one too many is harmless
            older.unlink()


def latest(folders: list[Path], identity: dict[str, Any]) -> tuple[Checkpoint | None, list[str]]:
    """The intact checkpoint of this identity with the most steps, and a message for each damaged one skipped."""
    messages = []
    paths = [path for folder in folders for path in folder.glob(_PATTERN)]
    for path in sorted(paths, key=lambda path: path.name, reverse=True):
        try:
            checkpoint = _read(path)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            messages.append(f"{path}: damaged checkpoint, using the one before ({error})")
            continue
        if checkpoint.identity == identity:
            return checkpoint, messages
    return None, messages


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
