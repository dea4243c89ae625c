"""What differs between two results, and between a model before and after."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from tests.breadth.reference import Result

# Relative, of tensors in single precision. A wrong branch is off by far more: every branch counts, see `enliven`.
OUTPUT, GRADIENT = 1e-4, 2e-3


def difference(result: Result, expected: Result) -> str:
    """What differs between two results, in words; empty if nothing does."""
    if len(result.outputs) != len(expected.outputs):
        return f"{len(result.outputs)} outputs in place of {len(expected.outputs)}"
    for one, other in zip(result.outputs, expected.outputs, strict=True):
        if one.shape != other.shape:
            return f"an output of shape {tuple(one.shape)} in place of {tuple(other.shape)}"
        if not (off := float((one - other).norm() / (other.norm() + 1e-12))) < OUTPUT:
            return f"outputs off by {off:.2g}"
    norms = [float(g.norm()) for g in expected.gradients.values() if g is not None]
    floor = 1e-3 * max(norms, default=0.0)
    lost, extra, off = [], [], []
    for name in result.gradients.keys() & expected.gradients.keys():
        one, other = result.gradients[name], expected.gradients[name]
        if (one is None) != (other is None):
            (lost if one is None else extra).append(name)
        elif one is not None and not float((one - other).norm()) <= GRADIENT * (float(other.norm()) + floor):
            off.append(f"{name} by {float((one - other).norm() / (other.norm() + 1e-12)):.2g}")
    said = [("no gradient of", lost), ("a gradient of", extra), ("gradients off:", off)]
    return "; ".join(f"{what} {len(names)}: {', '.join(sorted(names)[:3])}" for what, names in said if names)


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything of a model's modules that a schedule could change: classes, attributes, hooks; tensors by identity."""
    found: dict[str, Any] = {"order of state_dict": list(model.state_dict())}
    for path, module in model.named_modules():
        found[f"class of {path}"] = type(module)
        for key, value in vars(module).items():
            if isinstance(value, Mapping) and key.startswith("_"):
                # A model may cache a buffer of its own.
                found[f"{path}.{key}"] = sorted(value) if key == "_buffers" else {k: id(v) for k, v in value.items()}
            else:
                plain = isinstance(value, bool | int | float | str | tuple | type(None))
                found[f"{path}.{key}"] = value if plain else type(value)
    for name, parameter in model.named_parameters():
        found[f"{name}.requires_grad"] = parameter.requires_grad
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Which entries of two snapshots differ; empty if none do."""
    keys = [key for key in before.keys() | after.keys() if before.get(key, "") != after.get(key, "")]
    return ", ".join(sorted(keys)[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
