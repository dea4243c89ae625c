"""Untrained layers in closed form: moments of pre-activations, and surviving neurons.

The subject of arXiv 2402.08645, of which only second-hand accounts are available (`readings`). Each docstring derives
its formula and names its approximations.

Throughout, the weights W are He's (arXiv 1502.01852): independent of each other and of the layer's input x, of mean 0
and variance 2 / fan-in. The mean mu = E[x] and the second moment q = E[x^2] are over units, examples and draws of the
weights. phi is the rectifier, z its input, and P(z > 0) the share of surviving neurons. The paths are

``plain``     phi(W x).
``residual``  phi(x + W x).
``concat``    [first half of x ; phi(W x)], two halves of equal width: PNNH, its coder at the identity start.
``sum``       x + phi(W x): PNNH likewise, and the residual path of `rdp.models.families.mlp`.

With a norm, norm(W x) replaces W x.
"""

import math
from typing import Literal, NamedTuple, get_args

from scipy.special import ndtr

from rdp.errors import choices

PathName = Literal["plain", "residual", "concat", "sum"]


class Moments(NamedTuple):
    """Mean and second moment, in units of x and of its square."""

    mean: float
    second: float

    @property
    def variance(self) -> float:
        """E[x^2] - E[x]^2."""
        return self.second - self.mean**2


class Layer(NamedTuple):
    """One layer of `by_depth`.

    Attributes:
        layer: its number, from 1.
        mean, variance: of its pre-activations.
        survival: P(z > 0) of a Gaussian with this mean and variance.
        bound: a lower bound of P(z > 0) for any distribution with this mean and variance.
        output_mean, output_second: moments of the layer's output.
    """

    layer: int
    mean: float
    variance: float
    survival: float
    bound: float
    output_mean: float
    output_second: float


class Readings(NamedTuple):
    """The variance of pre-activations and k sigma^2 in both readings of sigma^2.

    Attributes:
        exact: the variance, by `pre_activation`.
        as_variance: k Var x.
        as_second: k E[x^2].
    """

    exact: float
    as_variance: float
    as_second: float


def pre_activation(path: PathName, mean: float, second: float, norm_gain: float | None = None) -> Moments:
    """Moments of z. Exact without a norm, whatever the distributions of x and W and the width.

    (W x)_i is a sum of n = fan-in terms W_ij x_j of mean 0, any two of them uncorrelated. So its mean is 0 and its
    variance n (2 / n) q = 2 q. In ``residual`` x_i is added, which is uncorrelated with it: the mean is mu, the second
    moment q + 2 q, the variance 2 q + (q - mu^2). A ``sum`` learner of two maps has 2 q as well: the
    narrowing map has weights of variance 1 / fan-in and preserves q.

    A batch norm makes W x of mean 0 and variance gain^2 (epsilon neglected). In front of the rectifier that is z. In
    ``residual`` x is added behind the norm, as in a ResNet's basic block: mean mu, variance gain^2 + (q - mu^2).

    Args:
        mean, second: of x.
        norm_gain: of the norm; None for no norm.

    Raises:
        ValueError: an unknown path, or moments that no input has.
    """
    if path not in get_args(PathName):
        raise ValueError(f"unknown path '{path}'; {choices(path, get_args(PathName))}")
    if second < mean**2:
        raise ValueError(f"a second moment of {second:g} is below the square of the mean, {mean:g}")
    linear = 2 * second if norm_gain is None else norm_gain**2
    return Moments(mean, second + linear) if path == "residual" else Moments(0.0, linear)


def readings(path: Literal["plain", "residual"], mean: float, second: float) -> Readings:
    """The variance of pre-activations without a norm, beside 2 sigma^2 (plain) or 3 sigma^2 (residual).

    The paper states these variances, according to second-hand accounts, but not whether sigma^2 is Var x or E[x^2].
    report/choices.yaml refers to this function. Let r = mu^2 / q: 0 for an input of
    mean 0, 1 / pi for one that a rectifier made of a Gaussian of mean 0. The exact variance, over that of a reading, is

    ========  =======================  ===========  ================  ===========
    path      sigma^2 = Var x          r = 1 / pi   sigma^2 = E[x^2]  r = 1 / pi
    ========  =======================  ===========  ================  ===========
    plain     1 / (1 - r)              1.467        1                 1
    residual  (3 - r) / (3 (1 - r))    1.311        1 - r / 3         0.894
    ========  =======================  ===========  ================  ===========

    Both readings are exact at mean 0. Behind a rectifier, plain is exact with E[x^2] and residual with neither.

    Raises:
        ValueError: another path, or moments that no input has.
    """
    multiples = {"plain": 2, "residual": 3}
    if path not in multiples:
        raise ValueError(f"unknown path '{path}'; valid: {', '.join(multiples)}")
    times = multiples[path]
    exact = pre_activation(path, mean, second).variance
    return Readings(exact, times * Moments(mean, second).variance, times * second)


def rectified_gaussian(mean: float, variance: float) -> Moments:
    """Moments of phi(z) for a Gaussian z. Exact.

    Let s^2 be the variance, a = mean / s, and p and P the standard normal density and distribution. E[phi(z)] is the
    integral of (mean + s t) p(t) over t > -a. As t p(t) is the derivative of -p(t), that is mean P(a) + s p(a).
    E[phi(z)^2] is, once more by parts, (mean^2 + s^2) P(a) + mean s p(a). At mean 0: s / sqrt(2 pi) and s^2 / 2.
    """
    if variance == 0:
        return Moments(max(mean, 0.0), max(mean, 0.0) ** 2)
    deviation = math.sqrt(variance)
    share = survival(mean, variance)
    density = deviation * (math.exp(-((mean / deviation) ** 2) / 2) / math.sqrt(2 * math.pi))
    return Moments(mean * share + density, (mean**2 + variance) * share + mean * density)


def survival(mean: float, variance: float) -> float:
    """P(z > 0) of a Gaussian: the standard normal distribution at mean / sd."""
    return float(ndtr(mean / math.sqrt(variance)) if variance else mean > 0)


def cantelli(mean: float, variance: float) -> float:
    """Lower bound of P(z > 0) for any distribution: mean^2 / (mean^2 + variance), or 0 for mean <= 0.

    Cantelli's inequality. Let y = mean - z, of mean 0. For any u >= 0, z <= 0 implies (y + u)^2 >= (mean + u)^2, so
    by Markov P(z <= 0) <= (variance + u^2) / (mean + u)^2. That is least at u = variance / mean, where it is
    variance / (mean^2 + variance). A distribution of two values attains it. For mean <= 0, z may never be above 0.
    """
    return mean**2 / (mean**2 + variance) if mean > 0 else 0.0


def by_depth(path: PathName, depth: int, mean: float, second: float, norm_gain: float | None = None) -> list[Layer]:
    """Every layer of an untrained stack, from the moments of the input of its first layer.

    z is taken as Gaussian. The moments of r = `rectified_gaussian` give those of the layer's output, the input of
    the next layer:

    * ``plain``: r. Without a norm its mean is sqrt(q / pi) and its second moment q, at every depth.
    * ``concat``: means over both halves; the first half has the moments of the first layer's input.
    * ``sum``: mean mu + E[r], second moment q + 2 mu E[r] + E[r^2], x and r being uncorrelated.
    * ``residual``: r.

    There are two approximations:

    * Every example has the average q. This becomes exact as the width grows, for examples of equal norm. Otherwise the
      mean sqrt(q / pi) is too high. The second moments of plain and concat without a norm do not depend on it, nor does
      survival in plain, concat and sum, which is 1/2 for any input by the symmetry of W.
    * z is Gaussian. Given x, W x is Gaussian for Gaussian weights, and nearly so behind a batch norm. In ``residual``
      the units differ in x_i from the second layer on, and z is a Gaussian plus a rectified Gaussian. At infinite width
      each unit follows x <- phi(x + g), g Gaussian of the variance of W x. Compared with that, for Gaussian or
      rectified Gaussian inputs of variance 1 and without a norm: survival is at most 1.8 % too high (1.4 % in the limit
      of depth) and the bound at most 5.3 %; the second moment is 3 % too low after the first rectified input, and 1 %
      more with every further layer. With a norm of gain 0.3 to 1, in 8 layers: survival is at most 0.055 too high and
      the variance too low by up to a third.

    Args:
        depth: number of layers.
        mean, second: of the first layer's input.
        norm_gain: of the norm of every layer; None for no norm.

    Raises:
        ValueError: see `pre_activation`.
    """
    start = now = Moments(mean, second)
    layers = []
    for number in range(1, depth + 1):
        z = pre_activation(path, *now, norm_gain)
        new = rectified_gaussian(z.mean, z.variance)
        if path == "concat":
            new = Moments((start.mean + new.mean) / 2, (start.second + new.second) / 2)
        elif path == "sum":
            new = Moments(now.mean + new.mean, now.second + 2 * now.mean * new.mean + new.second)
        now = new
        shares = survival(z.mean, z.variance), cantelli(z.mean, z.variance)
        layers.append(Layer(number, z.mean, z.variance, *shares, *now))
    return layers
