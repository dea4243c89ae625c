"""Every random draw is a pure function of (seed, stream, step).

A stream names the purpose of a draw: ``weights/<parameter>``, ``order``, ``augment``, ``mask``. No generator state
is carried from one step to the next. So a resumed run draws the same as an uninterrupted one. Two methods with the
same seed have the same initial weights, data order and augmentations, so that they can be compared in pairs.
"""

import hashlib

import numpy as np


def generator(seed: int, stream: str, step: int = 0) -> np.random.Generator:
    """A generator for one draw.

    Philox is counter-based: its key is a hash of seed and stream, and the step is the high word of its
    counter, so that each step has 2**192 blocks of its own.
    """
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    key = int.from_bytes(digest[:16], "little")
    return np.random.Generator(np.random.Philox(key=key, counter=step << 192))
