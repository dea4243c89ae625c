"""Removing wrappers around a model."""

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, DataParallel and torch.compile; itself if there is no wrapper."""
    while True:
        is_parallel = isinstance(model, DataParallel | DistributedDataParallel)
        inner = getattr(model, "module" if is_parallel else "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner
