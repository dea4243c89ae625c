"""Export the trained weights of a run to a self-describing file, and load such a file."""

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

_KEY, _FORMAT = "rdp", 2  # of the metadata in the file's header


@dataclass(frozen=True)
class Exported:
    """A file of weights, and the lines of Python code that load it."""

    path: Path
    lines: tuple[str, ...]


def export(spec: RunSpec, results: Path, path: Path) -> Exported:
    """Write the weights of a completed run to a safetensors file.

    They are the evaluated weights, averaged if the recipe says so. The header of the file describes them, as JSON under
    the key ``rdp``: the network, the dataset, the digest of the record, and the mean and standard deviation that
    normalise an example (for images, per channel of values in [0, 1]).

    Raises:
        UserError: the run is not completed, its weights are damaged, or the file cannot be written.
    """
    import torch

    from rdp.models import weights

    weights.check_name(path)
    store = Store(results)
    record = store.read_finished(spec.run)
    if record is None:
        raise UserError(f"{spec.run}: not trained yet; run: rdp train STUDY {spec.run}")
    if record.status != "completed":
        raise UserError(f"{spec.run}: {record.status}, so it has no trained weights")
    arrays = store.arrays(spec.run, record, "weights")
    metadata = _metadata(spec, record, prepared.load(spec.dataset, results))
    lines = _loading_code(spec, path, metadata["input_shape"], metadata["classes"])
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Exported(weights.write_weights(state, path, {_KEY: json.dumps(metadata)}), lines)


def load_model(path: "str | PathLike[str]") -> "nn.Module":
    """Load a network with its weights from a file written by ``rdp weights``.

    Args:
        path: the file.

    Returns:
        The network on the CPU, in evaluation mode. It maps normalised inputs, (n, *shape of an example), to logits,
        (n, classes). For images it has the ``pretrained_cfg`` that ``timm.data.resolve_model_data_config`` reads.

    Raises:
        UserError: the file is absent, damaged or not written by ``rdp weights``.
    """
    from safetensors import SafetensorError, safe_open

    from rdp.models import create_model, weights

    state = weights.read_weights(path)
    try:
        with safe_open(str(path), "pt") as file:
            metadata = json.loads((file.metadata() or {})[_KEY])
    except (SafetensorError, KeyError, ValueError):
        raise UserError(f"{path}: not written by rdp weights; load it into a model of your own") from None
    files.check_format(Path(path), metadata, "weights file", _FORMAT, "Export the weights again: rdp weights.")
    network = create_model(
        metadata["architecture"],
        path=metadata["path"],
        input_shape=tuple(metadata["input_shape"]),
        classes=metadata["classes"],
        **metadata["path_options"],
    )
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise UserError(f"{path}: its weights do not fit {metadata['architecture']}: {error}") from None
    if len(metadata["input_shape"]) == 3:
        network.pretrained_cfg = {  # type: ignore[assignment] # modules take any attribute
            "input_size": tuple(metadata["input_shape"]),
            "num_classes": metadata["classes"],
            "mean": tuple(metadata["mean"]),
            "std": tuple(metadata["std"]),
        }
    return network.eval()


def _metadata(spec: RunSpec, record: RunRecord, dataset: Prepared) -> dict[str, Any]:
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
        "std": [float(value or 1) / unit for value in dataset.std],  # a constant feature is only shifted
        "test_accuracy": record.numbers.test_accuracy,
    }


def _loading_code(spec: RunSpec, path: Path, shape: tuple[int, ...], classes: int) -> tuple[str, ...]:
    """Python code that creates the network and loads the file, with timm if it has the network."""
    timm_model, file = in_timm(spec.architecture, tuple(shape), classes), str(path)
    method = spec.instance
    if timm_model is None:
        return ("import rdp", f"model = rdp.load_model({file!r})")
    name, arguments = timm_model
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
    """Name and arguments for ``timm.create_model`` that give an architecture's residual form; None if timm has none.

    Args:
        architecture: its name in this package.
        shape: of an image: (channels, height, width) in pixels.
        classes: number of logits.
    """
    family, arguments = models.architecture(architecture).family, models.architecture(architecture).arguments
    task = {"in_chans": shape[0], "num_classes": classes}
    if family == "timm_resnet":
        name = {"BasicBlock": "resnet18", "Bottleneck": "resnet50"}[arguments["block"]]
        return name, {"layers": arguments["layers"], "channels": arguments["widths"]} | task
    if family == "vit":
        size = {"img_size": shape[1:], "patch_size": arguments["patch"], "mlp_ratio": arguments["mlp_ratio"]}
        size |= {"embed_dim": arguments["width"], "depth": arguments["depth"], "num_heads": arguments["heads"]}
        return "vit_tiny_patch16_224", size | {"class_token": False, "global_pool": "avg"} | task
    return None
