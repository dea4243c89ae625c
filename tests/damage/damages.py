"""Damage as disks and careless copies do it: a byte flipped, the end cut off, a stretch twice, two bytes swapped.

Drawn evenly over a file, and not by Hypothesis: of its examples half lie on the first byte, and few beyond the first
tenth, so that what only the rest of a file would show was not shown.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("flip", "truncate", "duplicate", "swap")
_LONGEST = 64  # bytes of a stretch that is copied


@dataclass(frozen=True)
class Damage:
    """One damage, to whatever file it is done to.

    Attributes:
        kind: one of `KINDS`.
        place, other: where, as a share of the file.
        amount: of a flip the bits, of a duplicate the length of the stretch.
    """

    kind: str
    place: float
    other: float
    amount: int

    def to(self, whole: bytes) -> bytes:
        """What is left of a file's bytes."""
        at, other = (int(share * len(whole)) for share in (self.place, self.other))
        if self.kind == "truncate":
            return whole[:at]
        if self.kind == "duplicate":
            stretch = whole[at : at + 1 + self.amount % _LONGEST]
            return whole[:other] + stretch + whole[other:]
        damaged = bytearray(whole)
        if self.kind == "flip":
            damaged[at] ^= self.amount
        else:
            damaged[at], damaged[other] = damaged[other], damaged[at]
        return bytes(damaged)


def damages(whole: bytes, count: int, name: str) -> Iterator[tuple[Damage, bytes]]:
    """So many damages to a file, each with what it leaves; the same ones in every run of the tests."""
    draw = random.Random(name)
    while count:
        damage = Damage(KINDS[count % len(KINDS)], draw.random(), draw.random(), draw.randrange(1, 256))
        damaged = damage.to(whole)
        if damaged != whole:  # two bytes that were swapped may be equal
            count -= 1
            yield damage, damaged
