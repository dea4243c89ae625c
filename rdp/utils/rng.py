"""Every random draw is a pure function of (seed, stream, step).

A stream is what a draw is for: ``weights/<parameter>``, ``order``, ``augment``, ``mask``. Nothing carries
generator state from one step to the next, so a run that is stopped and resumed, or that reads only step
1,000, draws what an undisturbed run draws; and two methods with the same seed see the same initial weights,
the same order of data and the same augmentations, which is what makes their comparison paired.
"""

import hashlib

import numpy as np


def generator(seed: int, stream: str, step: int = 0) -> np.random.Generator:
    """A generator for one draw.

    Philox is counter-based: its key is a hash of seed and stream, and the step is the high word of its
    counter, which leaves 2**192 blocks to each step before two steps could meet.
    """
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    key = int.from_bytes(digest[:16], "little")
    return np.random.Generator(np.random.Philox(key=key, counter=step << 192))
