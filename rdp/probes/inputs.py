"""The inputs of a probe that compares examples with noise."""

import torch

from rdp.utils import rng


def data_and_noise(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The examples, ``data``, and as many examples of ``noise``, both of shape (n, …)."""
    return {"data": x, "noise": noise_like(x)}


def noise_like(x: torch.Tensor) -> torch.Tensor:
    """Independent Gaussian noise for each pixel, with its mean and variance over the examples ``x``.

    It is a function of ``x`` only, so every network gets the same noise.
    """
    noise = torch.from_numpy(rng.generator(0, "probe/noise").standard_normal(x.shape)).to(x.device)
    examples = x.double()  # in float32 a constant pixel could have a variance above 0
    return (examples.mean(0) + examples.std(0, correction=0) * noise).to(x.dtype)
