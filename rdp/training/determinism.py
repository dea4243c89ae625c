"""Torch settings under which the same run gives bitwise the same numbers."""

import os

import torch


def make_deterministic(threads: int) -> None:
    """Configure this process so that the same run gives bitwise the same numbers."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # use_deterministic_algorithms() would import torch's compiler, which takes seconds.
    torch.set_deterministic_debug_mode("error")
    # Filling uninitialised memory costs time and only guards against reading it, which no operation here does.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # a property of the module
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # a float32 recipe computes in float32
    torch.set_num_threads(threads)
    # Vanishing gradients of deep plain nets are denormal numbers, which are slow.
    torch.set_flush_denormal(True)
