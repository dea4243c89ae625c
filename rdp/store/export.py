"""The trained weights of a run as a file that stands alone: what it is says its head, and how to load it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdp import data, models
from rdp.data import prepared
from rdp.data.dataset import Prepared
from rdp.errors import UserError
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store
from rdp.utils import files

if TYPE_CHECKING:
    from os import PathLike

    from torch import nn

_KEY, _FORMAT = "rdp", 2  # in the head of the file


@dataclass(frozen=True)
class Exported:
    """A file of weights, and the lines of Python that load it."""

    path: Path
    lines: tuple[str, ...]


def export(spec: RunSpec, results: Path, path: Path) -> Exported:
    """Write the weights of a finished run to a safetensors file.

    They are those that the run's test accuracy is of: an average where the recipe has one. The head of the file holds,
    as JSON under the key ``rdp``, what the network is, what it was trained on, the digest of its record, and the mean
    and deviation that an example is normalised by (of images in [0, 1], by channel).

    Raises:
        UserError: a run that is not done, diverged or failed, weights that are damaged, or a file that cannot be
            written.
    """
    import torch

    from rdp.models import weights

    weights.check_name(path)
    store = Store(results)
    record = store.read_finished(spec.run)
    if record is None:
        raise UserError(f"{spec.run}: not trained yet; run: rdp train STUDY {spec.run}")
    if record.status != "completed":
        raise UserError(f"{spec.run}: {record.status}, so that there are no trained weights")
    arrays = store.arrays(spec.run, record, "weights")
    about = _about(spec, record, prepared.load(spec.dataset, results))
    lines = _lines(spec, path, about["input_shape"], about["classes"])
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Exported(weights.write(state, path, {_KEY: json.dumps(about)}), lines)


def load_model(path: "str | PathLike[str]") -> "nn.Module":
    """The network of a file that ``rdp weights`` wrote, with its weights.

    Args:
        path: of the file.

    Returns:
        The network on the CPU, in evaluation mode: from (n, *shape of an example), normalised, to logits, (n,
        classes). Of images, its ``pretrained_cfg`` is what ``timm.data.resolve_model_data_config`` reads.

    Raises:
        UserError: no such file, or not one of these.
    """
    from safetensors import SafetensorError, safe_open

    from rdp.models import weights
    from rdp.models.create import create_model

    state = weights.read(path)
    try:
        with safe_open(str(path), "pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
    except (SafetensorError, KeyError, ValueError):
        raise UserError(f"{path}: not written by rdp weights; load it into a model of yours") from None
    files.check_format(Path(path), about, "weights file", _FORMAT, "Export the weights again: rdp weights.")
    network = create_model(
        about["architecture"],
        path=about["path"],
        input_shape=tuple(about["input_shape"]),
        classes=about["classes"],
        **about["path_options"],
    )
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise UserError(f"{path}: its weights do not fit {about['architecture']}: {error}") from None
    if len(about["input_shape"]) == 3:
        network.pretrained_cfg = {  # type: ignore[assignment] # not a tensor, and modules take any attribute
            "input_size": tuple(about["input_shape"]),
            "num_classes": about["classes"],
            "mean": tuple(about["mean"]),
            "std": tuple(about["std"]),
        }
    return network.eval()


def _about(spec: RunSpec, record: RunRecord, dataset: Prepared) -> dict[str, Any]:
    info, method = data.info(spec.dataset), spec.instance
    unit = 255 if info.kind == "image" else 1
    return {
        "format": _FORMAT,
        "run": spec.run,
        "record": record.digest,
        "architecture": spec.architecture,
        "path": method.path,
        "path_options": method.path_options(),
        "method": spec.method,
        "dataset": spec.dataset,
        "input_shape": list(info.shape),
        "classes": info.classes,
        "mean": [float(value) / unit for value in dataset.mean],
        "std": [float(value or 1) / unit for value in dataset.std],  # a feature that never changes is only shifted
        "test_accuracy": record.numbers.test_accuracy,
    }


def _lines(spec: RunSpec, path: Path, shape: tuple[int, ...], classes: int) -> tuple[str, ...]:
    """Python that makes the network and loads the file: by timm alone where it has the network."""
    found, file = in_timm(spec.architecture, tuple(shape), classes), str(path)
    method = spec.instance
    if found is None:
        return ("import rdp", f"model = rdp.load_model({file!r})")
    name, arguments = found
    if method.path == "residual":
        return ("import timm", f"model = timm.create_model({_call(name, arguments)}, checkpoint_path={file!r})")
    options = _call(method.path, method.path_options())
    return (
        "import rdp, timm",
        f"model = timm.create_model({_call(name, arguments)})",
        f"model = rdp.set_path(model, {options})",
        f"timm.models.load_checkpoint(model, {file!r})",
    )


def _call(first: str, arguments: dict[str, Any]) -> str:
    return ", ".join([repr(first), *(f"{name}={value!r}" for name, value in arguments.items())])


def in_timm(architecture: str, shape: tuple[int, ...], classes: int) -> tuple[str, dict[str, Any]] | None:
    """What ``timm.create_model`` makes an architecture's residual form of: a name and arguments; None for no such.

    Args:
        architecture: its name here.
        shape: of an image: (channels, height, width) in pixels.
        classes: number of logits.
    """
    found = models.architecture(architecture)
    of = found.arguments
    same = {"in_chans": shape[0], "num_classes": classes}
    if found.family == "timm_resnet":
        name = {"BasicBlock": "resnet18", "Bottleneck": "resnet50"}[of["block"]]
        return name, {"layers": of["layers"], "channels": of["widths"]} | same
    if found.family == "vit":
        size = {"img_size": shape[1:], "patch_size": of["patch"], "mlp_ratio": of["mlp_ratio"]}
        size |= {"embed_dim": of["width"], "depth": of["depth"], "num_heads": of["heads"]}
        return "vit_tiny_patch16_224", size | {"class_token": False, "global_pool": "avg"} | same
    return None
