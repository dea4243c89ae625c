"""Weights in files that timm and anybody else can load, and released weights as a start."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from rdp.errors import UserError
from rdp.models.unwrap import unwrapped
from rdp.utils import files

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Start:
    """What a model took of other weights, by name.

    Attributes:
        taken: parameters and buffers that have the other's values now.
        new: those that it keeps as they were: the other has none of that name and shape.
        left: what the other has beside, for which there is no place.
    """

    taken: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]


def save_weights(model: nn.Module, path: str | PathLike[str]) -> Path:
    """Write a model's state_dict to a safetensors file, whole or not at all.

    What holds the model (DistributedDataParallel, torch.compile, a schedule of this package) leaves no trace in the
    file: its names are those of the bare model, every tensor under each of its names. ``timm.create_model(...,
    checkpoint_path=path)`` and ``timm.models.load_checkpoint(model, path)`` read it with strict names. A model that
    `set_path` changed is built in the same way before it is loaded.

    Args:
        model: any; it is left as it is.
        path: of a new file, or one to replace. It ends in ``.safetensors``, by which timm knows what it is.

    Returns:
        The path.

    Raises:
        UserError: another ending, a state_dict with more than tensors, or a file that cannot be written.

    >>> import rdp, tempfile, timm
    >>> model = timm.create_model("test_resnet", num_classes=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = rdp.save_weights(model, f"{folder}/mine.safetensors")
    ...     again = timm.create_model("test_resnet", num_classes=10, checkpoint_path=str(path))
    >>> bool((again.fc.weight == model.fc.weight).all())
    True
    """
    return write(unwrapped(model).state_dict(), path)


def write(weights: Weights, path: str | PathLike[str], about: Mapping[str, str] | None = None) -> Path:
    """Write tensors by name as a safetensors file, with texts about them in its head."""
    from safetensors.torch import save_file

    target = Path(path)
    check_name(target)
    if odd := [name for name, value in weights.items() if not isinstance(value, torch.Tensor)]:
        raise UserError(f"{odd[0]}: a state_dict of tensors alone is needed, found {type(weights[odd[0]]).__name__}")
    # Copies, since the format has no place for a tensor of two names.
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    with files.atomic_write(target) as part:
        save_file(copies, part, metadata={"format": "pt", **(about or {})})
    return target


def check_name(path: Path) -> None:
    """Raise `UserError` unless a file's name says that it holds safetensors."""
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: a name that ends in .safetensors is needed")


def start_from(model: nn.Module, weights: "nn.Module | Weights | str | PathLike[str]") -> Start:
    """Give a model the released weights that fit it by name and shape, and say which did.

    A schedule needs none of this: it keeps the weights of the model that it is given. `set_path` makes new layers,
    and the released ones go with them as far as they have a place:

    ``plain``  all but the shortcuts' own down-sampling layers, and the gains that `set_path` set anew are the
               released ones again.
    ``pnnh``   stem, head, final norm, and the layers that change a ResNet's resolution. Learners are narrower than
               the branches they replace, so those start from `set_path`'s seed.

    Args:
        model: to be changed in place.
        weights: a model, a state_dict, or a file of either kind that timm writes or releases.

    Returns:
        What was taken, what is new and what was left.

    Raises:
        UserError: a file that cannot be read, or weights of which none fits; the model is left as it was.

    >>> import rdp, timm
    >>> released = timm.create_model("test_resnet")  # with pretrained=True, where there is a network
    >>> plain = rdp.set_path(timm.create_model("test_resnet"), "plain")
    >>> start = rdp.start_from(plain, released)
    >>> start.new, sorted({name.split(".")[2] for name in start.left})
    ((), ['downsample'])
    """
    inner, found = unwrapped(model), _state(weights)
    own = inner.state_dict()
    taken = {name: found[name] for name in own if name in found and found[name].shape == own[name].shape}
    if not any(own[name].dim() for name in taken):  # a count of batches fits any network with a norm of that name
        raise UserError(f"{type(inner).__name__}: no name and shape of the weights fits it; {_clash(own, found)}")
    inner.load_state_dict(taken, strict=False)
    new = tuple(name for name in own if name not in taken)
    return Start(tuple(taken), new, tuple(name for name in found if name not in taken))


def _state(weights: "nn.Module | Weights | str | PathLike[str]") -> Weights:
    if isinstance(weights, nn.Module):
        return unwrapped(weights).state_dict()
    return weights if isinstance(weights, Mapping) else read(weights)


def read(path: str | PathLike[str]) -> Weights:
    """The tensors of a file of weights, by name; nothing in it is executed.

    Raises:
        UserError: no such file, or one that holds no weights.
    """
    from timm.models import load_state_dict

    try:
        found = load_state_dict(str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # whatever safetensors, pickle and zip files have to say of a stranger's bytes
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not readable as weights ({type(error).__name__}: {reason})") from None
    tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise UserError(f"{path}: it holds no tensors")
    return tensors


def _clash(own: Weights, found: Weights) -> str:
    """The first name of either, or of both with its two shapes."""
    for name in own:
        if name in found and own[name].dim():
            return f"{name} is {tuple(own[name].shape)}, there {tuple(found[name].shape)}"
    return f"it has {next(iter(own), 'nothing')}, they have {next(iter(found), 'nothing')}"
