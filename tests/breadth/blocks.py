"""Residual blocks as people write them, each with the names of its branches, and without some of them by hand."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

WIDTH = 8


class Block(nn.Module):
    """A block whose branches can be cut out by name.

    ``forward`` must be the code that a user writes; ``cut`` is the same computation without the branches in ``out``,
    written down by hand. ``owners`` are the prefixes of the parameters that each branch owns.
    """

    owners: ClassVar[dict[str, tuple[str, ...]]] = {}

    def cut(self, x: torch.Tensor, out: set[str]) -> torch.Tensor:
        raise NotImplementedError


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


def add(x: torch.Tensor, out: set[str], name: str, branch: Callable[[], torch.Tensor]) -> torch.Tensor:
    return x if name in out else x + branch()


class Simple(Block):
    owners: ClassVar = {"f": ("f.",)}

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(linear(), nn.ReLU(), linear())

    def forward(self, x):
        return x + self.f(x)

    def cut(self, x, out):
        return add(x, out, "f", lambda: self.f(x))


class PostNorm(Simple):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x):
        return self.norm(self.f(x) + x)

    def cut(self, x, out):
        return self.norm(x if out else self.f(x) + x)


class Scaled(Block):
    """A constant, a layer scale and an argument ``alpha`` on the branch."""

    owners: ClassVar = {"f": ("f.", "gain")}

    def __init__(self) -> None:
        super().__init__()
        self.f, self.gain = linear(), nn.Parameter(torch.randn(WIDTH))

    def forward(self, x):
        return torch.add(x, self.gain * self.f(x) * 0.3, alpha=0.5)

    def cut(self, x, out):
        return add(x, out, "f", lambda: 0.5 * (self.gain * self.f(x) * 0.3))


class SharedInPlaceReLU(Block):
    """As in torchvision's ResNets: one in-place ReLU in the branch and after the sum, which is made in place."""

    owners: ClassVar = {"f": ("one.", "norm.", "two.")}

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two, self.relu = linear(), nn.BatchNorm1d(WIDTH), linear(), nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.norm(self.one(x)))
        out = self.two(out)
        out += x
        return self.relu(out)

    def cut(self, x, out):
        return F.relu(add(x, out, "f", lambda: self.two(F.relu(self.norm(self.one(x))))))


class PreActivated(Simple):
    """The input is overwritten before the branch: the shortcut is what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu = linear(), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.stem(x)
        return self.f(self.relu(x)) + x

    def cut(self, x, out):
        x = F.relu(self.stem(x))
        return add(x, out, "f", lambda: self.f(x))


class Projected(Block):
    """The shortcut has weights, so this is no identity skip."""

    owners: ClassVar = {"f": ("f.",), "shortcut": ("shortcut.",)}

    def __init__(self) -> None:
        super().__init__()
        self.f, self.shortcut = linear(), linear()

    def forward(self, x):
        return self.f(x) + self.shortcut(x)

    def cut(self, x, out):
        return sum(getattr(self, name)(x) for name in ("f", "shortcut") if name not in out)


class ViT(Block):
    owners: ClassVar = {"attention": ("norm1.", "attention."), "mlp": ("norm2.", "mlp.")}

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.mlp = nn.Sequential(linear(), nn.GELU(), linear())

    def attend(self, x):
        x = self.norm1(x)[:, None]
        return self.attention(x, x, x, need_weights=False)[0][:, 0]

    def forward(self, x):
        x = x + self.attend(x)
        return x + self.mlp(self.norm2(x))

    def cut(self, x, out):
        x = add(x, out, "attention", lambda: self.attend(x))
        return add(x, out, "mlp", lambda: self.mlp(self.norm2(x)))


class Nested(Block):
    owners: ClassVar = {"outer": ("outer.", "inner.f."), "inner": ("inner.f.",)}

    def __init__(self) -> None:
        super().__init__()
        self.outer, self.inner = linear(), Simple()

    def forward(self, x):
        return x + self.outer(self.inner(x))

    def cut(self, x, out):
        inner = {"f"} if "inner" in out else set()
        return add(x, out, "outer", lambda: self.outer(self.inner.cut(x, inner)))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = linear()

    def forward(self, *, value):
        return value.shape, {"value": self.linear(value)}


class TupleOutput(Block):
    """The branch returns a tuple and a mapping and takes keywords; both operands change their shape."""

    owners: ClassVar = {"f": ("f.",)}

    def __init__(self) -> None:
        super().__init__()
        self.f = Pair()

    def forward(self, x):
        shape, found = self.f(value=x)
        return (x.view(-1, 2, WIDTH // 2) + found["value"].view(-1, 2, WIDTH // 2)).reshape(shape)

    def cut(self, x, out):
        return add(x, out, "f", lambda: self.f.linear(x))


class Parallel(Block):
    owners: ClassVar = {"f": ("f.",), "g": ("g.",)}

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = linear(), linear()

    def forward(self, x):
        return x + self.f(x) + self.g(x)

    def cut(self, x, out):
        return sum((getattr(self, name)(x) for name in ("f", "g") if name not in out), x)


class CalledTwice(Block):
    """One block applied twice: a branch of both calls."""

    owners: ClassVar = {"f": ("inner.f.",)}

    def __init__(self) -> None:
        super().__init__()
        self.inner = Simple()

    def forward(self, x):
        return self.inner(torch.tanh(self.inner(x)))

    def cut(self, x, out):
        inner = {"f"} if out else set()
        return self.inner.cut(torch.tanh(self.inner.cut(x, inner)), inner)


class SharedBranch(Block):
    """Two sums share all that their branches compute: together they own it, and none of them alone."""

    owners: ClassVar = {"f": ("f.",)}

    def __init__(self) -> None:
        super().__init__()
        self.f = linear()

    def forward(self, x):
        value = self.f(x)
        return torch.tanh(x + value) * (x + value * 2)

    def cut(self, x, out):
        value = 0 if out else self.f(x)
        return torch.tanh(x + value) * (x + value * 2)


class Streams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = linear()

    def forward(self, one, two):
        return torch.cat([one[:1], one[1:] + self.proj(two)[1:]])


class TwoStreams(Block):
    """The shortcut is a slice of an input of the module that adds, and the branch comes from its other input."""

    owners: ClassVar = {"f": ("fuse.proj.",)}

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.fuse = linear(), linear(), Streams()

    def forward(self, x):
        one, two = self.one(x), self.two(x)
        return torch.tanh(self.fuse(one, two)) * two

    def cut(self, x, out):
        one, two = self.one(x), self.two(x)
        return torch.tanh(one if out else self.fuse(one, two)) * two


class Plain(Block):
    """Sums that are no residual branches: of a position's embedding, a mean, two halves of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.position, self.f, self.g = nn.Parameter(torch.randn(WIDTH)), linear(), nn.Linear(WIDTH // 2, WIDTH // 2)

    def forward(self, x):
        one, two = (self.f(x) + self.position).chunk(2, -1)
        return torch.cat([one + self.g(two), 1 + two], -1)
