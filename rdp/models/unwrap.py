"""A model without what training wraps it in."""

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, DataParallel and torch.compile; itself where there is none."""
    while True:
        wraps = isinstance(model, DataParallel | DistributedDataParallel)
        inner = getattr(model, "module" if wraps else "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner
