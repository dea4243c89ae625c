"""Sources: what a network is fed with where the examples are compared with noise."""

import torch

from rdp.utils import rng


def sources(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The examples themselves, ``data``, and as many of ``noise``, shape (n, …) each."""
    return {"data": x, "noise": noise_like(x)}


def noise_like(x: torch.Tensor) -> torch.Tensor:
    """Gaussian noise, each pixel with its own mean and variance over the examples ``x``, independent of the others.

    A pure function of ``x``: the same for every network.
    """
    draw = torch.from_numpy(rng.generator(0, "probe/noise").standard_normal(x.shape)).to(x.device)
    examples = x.double()  # in which the variance of a pixel that never changes is 0, and not a rounding error
    return (examples.mean(0) + examples.std(0, correction=0) * draw).to(x.dtype)
