"""The width at which a PNNH network has a share of the residual network's parameters, from closed forms.

The counts are of weights: norms and biases are left out, on both sides.
"""

from collections.abc import Callable

from rdp.methods.options import PnnhOptions

# Channels between the layers of a learner of two, as multiples of those that it writes: this project's choice. 4 before
# a k x k layer is that of DenseNet's bottlenecks (arXiv 1608.06993, section 3).
INNER = {"two": 2, "bottleneck": 4}


def learner_weights(width: int, kernel: int, layers: int, options: PnnhOptions) -> int:
    """Weights of a learner of ``layers`` layers, 1 or 2, with ``kernel`` weights for each pair of channels."""
    split = options.split(width)
    if split.written == width:  # a sum: narrowed, unless the share is 1
        inner = round(width * split.share)
        return kernel * width * width if split.share == 1 else (kernel + 1) * width * inner
    if layers == 1:
        return kernel * width * split.written
    inner = INNER[options.learner] * split.written
    return (kernel if options.learner == "two" else 1) * width * inner + kernel * inner * split.written


def coder_weights(width: int, kernel: int, uses: int, options: PnnhOptions) -> int:
    """Trained weights of the coders of ``uses`` consecutive layers."""
    rows = options.split(width).coded
    if not options.trained or not rows:
        return 0
    size = {"stage": uses, "pair": 2, "none": 1}[options.sharing]
    each = width if options.constraint == "orthogonal" else rows
    return -(-uses // size) * each * width * (kernel if options.variant == "strict" else 1)


def stack_weights(width: int, depth: int, kernel: int, options: PnnhOptions) -> int:
    """Weights of `rdp.models.paths.pnnh_stack`: learners and coders."""
    layers = learner_layers(depth, options)
    learners = sum(learner_weights(width, kernel, count, options) for count in layers)
    return learners + coder_weights(width, kernel, len(layers), options)


def learner_layers(depth: int, options: PnnhOptions) -> list[int]:
    """The number of layers in each learner of a stack of ``depth`` layers, in order.

    Learners of two layers leave one over in a stack of odd depth; it comes first.
    """
    if options.learner == "one":
        return [1] * depth
    return [1] * (depth % 2) + [2] * (depth // 2)


def width_of_share(width: int, residual: int, count: Callable[[int], int], options: PnnhOptions) -> int:
    """The width of a stage whose residual form is ``width`` wide and has ``residual`` weights.

    ``count`` gives the weights of the PNNH form at a width. Its result is nearest to the share
    `PnnhOptions.parameters` of ``residual``. The width is at least 2, and even in ``two_sided``, whose learners write
    half of it. Without such a share it is ``width``.
    """
    if options.parameters is None:
        return width
    step = 2 if options.variant == "two_sided" else 1
    target, found = options.parameters * residual, 2
    while count(found + step) <= target:
        found += step
    return min(found, found + step, key=lambda candidate: abs(count(candidate) - target))
