"""Untrained layers in closed form: moments of pre-activations, surviving neurons, and how alike inputs become.

The subject of arXiv 2402.08645, of which only second-hand accounts were at hand (`readings`). So nothing here is
quoted: each docstring derives its formula and says what is approximated.

Throughout, the weights W are He's (arXiv 1502.01852): independent of each other and of the layer's input x, of mean 0
and variance 2 / fan-in. Of x the mean mu = E[x] and the second moment q = E[x^2] are known, over units, examples and
draws of the weights. phi is the rectifier, z what it reads, and P(z > 0) the share of surviving neurons. The paths are

``plain``     phi(W x).
``residual``  phi(x + W x).
``concat``    [first half of x ; phi(W x)], two halves of equal width: PNNH, its coder at the identity start.
``sum``       x + phi(W x): PNNH likewise, and the residual path of `rdp.models.mlp`.

Where there is a norm, norm(W x) stands for W x.
"""

import math
from typing import Literal, NamedTuple, get_args

from scipy.special import ndtr, owens_t

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
    """What `by_depth` says of one layer.

    Attributes:
        layer: its number, from 1.
        mean, variance: of its pre-activations.
        survival: P(z > 0) of a Gaussian with these.
        bound: what P(z > 0) is at least, whatever the distribution with these.
        output_mean, output_second: moments of the layer's output.
    """

    layer: int
    mean: float
    variance: float
    survival: float
    bound: float
    output_mean: float
    output_second: float


class Alike(NamedTuple):
    """How alike two inputs are after a layer.

    Attributes:
        layer: its number, from 1.
        cosine: x . x' / (|x| |x'|), about 0.
        correlation: Pearson's, over units, so about the mean over units.
    """

    layer: int
    cosine: float
    correlation: float


class Readings(NamedTuple):
    """A variance of pre-activations, and what k sigma^2 says of it in both readings of sigma^2.

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
    moment q + 2 q, the variance 2 q + (q - mu^2). A ``sum`` learner of two maps comes to 2 q as well: the narrowing
    one has weights of variance 1 / fan-in and keeps q.

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

    So much the paper is said to state; whether sigma^2 is Var x or E[x^2] is not. Let r = mu^2 / q: 0 for an input of
    mean 0, 1 / pi for one that a rectifier made of a Gaussian of mean 0. The exact variance, over that of a reading, is

    ========  =======================  ===========  ================  ===========
    path      sigma^2 = Var x          r = 1 / pi   sigma^2 = E[x^2]  r = 1 / pi
    ========  =======================  ===========  ================  ===========
    plain     1 / (1 - r)              1.467        1                 1
    residual  (3 - r) / (3 (1 - r))    1.311        1 - r / 3         0.894
    ========  =======================  ===========  ================  ===========

    Both readings are exact at mean 0. Behind a rectifier plain is so with E[x^2], and residual with neither.

    Raises:
        ValueError: another path, or moments that no input has.
    """
    multiples = {"plain": 2, "residual": 3}
    if path not in multiples:
        raise ValueError(f"the paper's readings are of the paths plain and residual; got '{path}'")
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
    share, density = survival(mean, variance), deviation * _density(mean / deviation)
    return Moments(mean * share + density, (mean**2 + variance) * share + mean * density)


def survival(mean: float, variance: float) -> float:
    """P(z > 0) of a Gaussian: the standard normal distribution at mean / sd."""
    return float(ndtr(mean / math.sqrt(variance)) if variance else mean > 0)


def cantelli(mean: float, variance: float) -> float:
    """What P(z > 0) is at least, whatever the distribution: mean^2 / (mean^2 + variance), or 0 for mean <= 0.

    Cantelli's inequality. Let y = mean - z, of mean 0. For any u >= 0, z <= 0 implies (y + u)^2 >= (mean + u)^2, so
    by Markov P(z <= 0) <= (variance + u^2) / (mean + u)^2. That is least at u = variance / mean, where it is
    variance / (mean^2 + variance). A distribution of two values attains it. For mean <= 0, z may never be above 0.
    """
    return mean**2 / (mean**2 + variance) if mean > 0 else 0.0


def by_depth(path: PathName, depth: int, mean: float, second: float, norm_gain: float | None = None) -> list[Layer]:
    """Every layer of an untrained stack, from the moments of what its first layer reads.

    z is taken as Gaussian. The moments of r = `rectified_gaussian` give those of the layer's output, which the next
    layer reads:

    * ``plain``: r. Without a norm its mean is sqrt(q / pi) and its second moment q, at every depth.
    * ``concat``: means over both halves, of which the first keeps the moments of the first layer's input.
    * ``sum``: mean mu + E[r], second moment q + 2 mu E[r] + E[r^2], x and r being uncorrelated.
    * ``residual``: r.

    Approximated is

    * that q is that of the average everywhere. It becomes so as the width grows, for examples of equal norm. Without
      it a mean sqrt(q / pi) is too high. The second moments of plain and concat without a norm do not need it, nor does
      survival in plain, concat and sum, which is 1/2 of any input by the symmetry of W.
    * that z is Gaussian. Given x, Gaussian weights make W x so, and a batch norm roughly. In ``residual`` the units
      differ in x_i from the second layer on, and z is a Gaussian plus a rectified one. In the limit of infinite width
      each unit follows x <- phi(x + g), g Gaussian of the variance of W x. Against that, for inputs Gaussian or
      rectified Gaussian of variance 1, and without a norm: survival is at most 1.8 % too high (1.4 % in the limit of
      depth) and the bound at most 5.3 %; the second moment is 3 % too low after the first rectified input and falls
      behind by 1 % with every further layer. With a norm of gain 0.3 to 1, in 8 layers: survival is at most 0.055 too
      high and the variance too low by up to a third. See `survival_behind_stem` for an exact value.

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


def survival_behind_stem(layer: int) -> float:
    """P(z > 0) in ``residual`` with norms, at a layer from 1, behind a stem phi(norm(W x)) of the same gain.

    In the limit of infinite width a unit follows x <- phi(x + g) from 0, the stem being the first of n = layer + 1
    steps, with independent Gaussian g of equal variance. Unrolled, x is the largest of 0, g_n, g_n + g_(n-1), and so
    on. None of the n sums of a symmetric, continuous random walk is above 0 with probability C(2n, n) / 4^n, whatever
    the distribution (Sparre Andersen, 1954). Survival is the rest, about 1 - 1 / sqrt(pi n): nearly all in the end.
    """
    steps = layer + 1
    return 1 - math.comb(2 * steps, steps) / float(4**steps)


def rectified_product(mean: float, variance: float, correlation: float) -> float:
    """E[phi(u) phi(v)] of jointly Gaussian u and v of equal moments. Exact.

    Let the variance be 1, the mean a and the correlation c = cos t; p and P are the standard normal density and
    distribution. By Price's theorem the derivative by c is P(u > 0, v > 0) = P(a) - 2 T(a, tan(t / 2)), T being Owen's
    function. That is the derivative of

        (a^2 + c) P(u > 0, v > 0) + 2 a p(a) P(a tan(t / 2)) + sin(t) exp(-a^2 / (1 + c)) / (2 pi),

    which at c = 1 is E[phi(u)^2] by `rectified_gaussian`.

    Raises:
        ValueError: a correlation beyond -1 or 1.
    """
    if variance == 0:
        return max(mean, 0.0) ** 2
    a, angle = mean / math.sqrt(variance), math.acos(correlation)
    tangent = math.tan(angle / 2)
    both = ndtr(a) - 2 * owens_t(a, tangent)
    corner = math.sin(angle) * math.exp(-((a / math.cos(angle / 2)) ** 2) / 2) / (2 * math.pi)
    return float(variance * ((a**2 + correlation) * both + 2 * a * _density(a) * ndtr(a * tangent) + corner))


def rectified_correlation(correlation: float) -> float:
    """E[phi(u) phi(v)] / E[phi(u)^2] of jointly Gaussian u and v of mean 0 and equal variance. Exact.

    `rectified_product` over half the variance: with c = cos t, (sin t + (pi - t) c) / pi, the arc-cosine kernel of
    order 1 (Cho and Saul, 2009). For two inputs, (W x)_i and (W x')_i correlate over draws of W as
    x . x' / (|x| |x'|). So a plain layer takes the cosine of its inputs to this cosine of its outputs, both about 0. It
    is 1 at 1, and above c elsewhere.

    Raises:
        ValueError: a correlation beyond -1 or 1.
    """
    angle = math.acos(correlation)
    return min((math.sin(angle) + (math.pi - angle) * correlation) / math.pi, 1.0)


def alike_by_depth(path: PathName, depth: int, cosine: float, mean: float = 0.0, second: float = 1.0) -> list[Alike]:
    """How alike two inputs of equal moments are after each layer of an untrained stack without norms.

    With c the cosine and k(c) = `rectified_correlation`, the mean over units of x x' is q c. Through a layer,

    * ``plain``: c <- k(c). It goes to 1 as 1 - 9 pi^2 / (2 layer^2), for 1 - k(c) = e - sqrt(8) e^1.5 / (3 pi) + ... at
      e = 1 - c. The start does not enter: which inputs were more alike than others is forgotten.
    * ``concat``: c <- (c_0 + k(c)) / 2, the second moments of both halves being equal, and their cosines taken as
      equal at the start. It rises to the solution of 2 c - k(c) = c_0, below 1 for any c_0 below 1.
    * ``sum``: q c <- q c + 2 mu E[r] + q k(c), with q and r as in `by_depth`. It goes to 1.
    * ``residual``: W multiplies x and x' alike, so E[z z'] = 3 q c and phi alone changes the cosine. The pair (z, z')
      is taken as Gaussian, of correlation (3 q c - mu^2) / (3 q - mu^2), for `rectified_product`. It goes to 1; the
      first layer is, at mean 0, that of plain.

    In sum and residual 1 - c falls by a factor that goes to a constant below 1, the faster growth of the mean being
    common to all inputs. That is sooner than in plain, yet ratios of 1 - c between pairs of inputs last.

    Pearson's correlation is (q c - mu^2) / (q - mu^2), as `rdp.probes.dissipating_inputs` measures it. Approximated as
    in `by_depth`; in residual the cosine is at most 0.045 too high, and the correlation 0.065.

    Args:
        depth: number of layers.
        cosine: of what the first layer reads.
        mean, second: moments of it.

    Raises:
        ValueError: see `pre_activation`, or a cosine that no inputs of these moments have.
    """
    start, now = cosine, Moments(mean, second)
    if second <= 0 or abs(cosine * second - mean**2) > now.variance * (1 + 1e-9):
        raise ValueError(f"no inputs of mean {mean:g} and second moment {second:g} have a cosine of {cosine:g}")
    found = []
    for layer in by_depth(path, depth, mean, second):
        after = Moments(layer.output_mean, layer.output_second)
        if path == "residual":
            correlation = (3 * now.second * cosine - layer.mean**2) / layer.variance
            cosine = rectified_product(layer.mean, layer.variance, _within_1(correlation)) / after.second
        else:
            new = rectified_correlation(cosine)
            if path == "concat":
                new = (start + new) / 2
            elif path == "sum":
                common = 2 * now.mean * (after.mean - now.mean)
                new = (now.second * (cosine + new) + common) / after.second
            cosine = new
        cosine, now = _within_1(cosine), after
        found.append(Alike(layer.layer, cosine, (now.second * cosine - now.mean**2) / now.variance))
    return found


def _within_1(value: float) -> float:
    """The value without the rounding error that takes a cosine beyond -1 or 1."""
    return min(max(value, -1.0), 1.0)


def _density(x: float) -> float:
    """Of the standard normal distribution."""
    return math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
