"""Saving weights in files that timm and others can load, and starting from released weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from rdp.errors import UserError
from rdp.utils import files

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class LoadResult:
    """Which weights `start_from` loaded, by name.

    Attributes:
        loaded: parameters and buffers of the model that have new values.
        missing: those that keep their values, because the weights have none of that name and shape.
        unexpected: weights that the model has no place for.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, DataParallel and torch.compile; itself if there is no wrapper."""
    while True:
        is_parallel = isinstance(model, DataParallel | DistributedDataParallel)
        inner = getattr(model, "module" if is_parallel else "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def save_weights(model: nn.Module, path: str | PathLike[str]) -> Path:
    """Write a model's state_dict to a safetensors file, atomically.

    The names in the file are those of the bare model, without wrappers such as DistributedDataParallel, torch.compile
    or a schedule of this package. ``timm.create_model(..., checkpoint_path=path)`` and
    ``timm.models.load_checkpoint(model, path)`` load it with strict names. To load a model that `set_path` converted,
    convert the new model in the same way first.

    Args:
        model: any model; it stays unchanged.
        path: of the file, ending in ``.safetensors``. An existing file is replaced.

    Returns:
        The path.

    Raises:
        UserError: another ending, a state_dict with values that are not tensors, or a file that cannot be written.

    >>> import rdp, tempfile, timm
    >>> model = timm.create_model("test_resnet", num_classes=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = rdp.save_weights(model, f"{folder}/mine.safetensors")
    ...     again = timm.create_model("test_resnet", num_classes=10, checkpoint_path=str(path))
    >>> bool((again.fc.weight == model.fc.weight).all())
    True
    """
    return write_weights(unwrap(model).state_dict(), path)


def write_weights(weights: Weights, path: str | PathLike[str], metadata: Mapping[str, str] | None = None) -> Path:
    """Write tensors by name to a safetensors file, with metadata in its header."""
    from safetensors.torch import save_file

    target = Path(path)
    check_name(target)
    if others := [name for name, value in weights.items() if not isinstance(value, torch.Tensor)]:
        kind = type(weights[others[0]]).__name__
        raise UserError(f"{others[0]}: expected a state_dict of tensors, got a value of type {kind}")
    # Copies, because the format cannot store one tensor under two names.
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    with files.atomic_write(target) as part:
        save_file(copies, part, metadata={"format": "pt", **(metadata or {})})
    return target


def check_name(path: Path) -> None:
    """Raise `UserError` unless a file's name ends in ``.safetensors``."""
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: the name must end in .safetensors")


def start_from(model: nn.Module, weights: "nn.Module | Weights | str | PathLike[str]") -> LoadResult:
    """Load the weights that fit a model by name and shape, and report which.

    Use it after `set_path`, which replaces layers. (A schedule replaces none, and keeps the model's weights.)

    ``plain``: everything fits but the shortcuts' down-sampling layers. Gains that `set_path` set are overwritten.
    ``pnnh``: stem, head, final norm, and the layers that change a ResNet's resolution fit. Learners are narrower than
        the branches they replace, so they keep the weights of `set_path`'s seed.

    Args:
        model: changed in place.
        weights: a model, a state_dict, or a file of either kind that timm writes or releases.

    Raises:
        UserError: a file that cannot be read, or no weight that fits; the model stays unchanged.

    >>> import rdp, timm
    >>> released = timm.create_model("test_resnet")  # with pretrained=True, if there is a network connection
    >>> plain = rdp.set_path(timm.create_model("test_resnet"), "plain")
    >>> result = rdp.start_from(plain, released)
    >>> result.missing, sorted({name.split(".")[2] for name in result.unexpected})
    ((), ['downsample'])
    """
    if isinstance(weights, nn.Module):
        weights = unwrap(weights).state_dict()
    source = weights if isinstance(weights, Mapping) else read_weights(weights)
    inner = unwrap(model)
    own = inner.state_dict()
    loaded = {name: source[name] for name in own if name in source and source[name].shape == own[name].shape}
    if not any(own[name].dim() for name in loaded):  # a norm's counter of batches fits any network
        raise UserError(f"{type(inner).__name__}: no weight fits by name and shape; {_example(own, source)}")
    inner.load_state_dict(loaded, strict=False)
    missing = tuple(name for name in own if name not in loaded)
    return LoadResult(tuple(loaded), missing, tuple(name for name in source if name not in loaded))


def read_weights(path: str | PathLike[str]) -> Weights:
    """The tensors of a weights file, by name; reading executes no code of the file.

    Raises `UserError` if there is no such file, or no tensors in it.
    """
    from timm.models import load_state_dict

    try:
        state = load_state_dict(str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # readers of safetensors, pickle and zip raise many kinds on damaged files
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not readable as weights ({type(error).__name__}: {reason})") from None
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise UserError(f"{path}: it holds no tensors")
    return tensors


def _example(own: Weights, source: Weights) -> str:
    """The first name that both have, with its two shapes, or the first name of each."""
    for name in own:
        if name in source and own[name].dim():
            return f"{name} has shape {tuple(own[name].shape)}, and {tuple(source[name].shape)} in the weights"
    return f"the model has {next(iter(own), 'nothing')}, the weights have {next(iter(source), 'nothing')}"
