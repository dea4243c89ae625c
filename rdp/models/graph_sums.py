"""Additions in the graph of a block's forward pass (torch.fx) that join a residual branch to a shortcut."""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
# Methods that return their tensor's values.
_COPIES = {"contiguous", "clone", "to", "type_as", "float"}
# What they return is no tensor, so it does not depend on the values of one.
_SIZES = {"size", "dim", "numel"}


def additions(graph: fx.Graph) -> Iterator[tuple[fx.Node, fx.Node, fx.Node]]:
    """Each sum of two nodes: the addition and its operands, in the order of the forward pass."""
    for node in graph.nodes:
        if is_addition(node):
            yield node, node.args[0], node.args[1]


def is_addition(node: fx.Node) -> bool:
    """Whether a node adds the values of two others, without a factor."""
    two = len(node.args) == 2 and all(isinstance(arg, fx.Node) for arg in node.args)
    return node.target in _ADDITIONS and two and not node.kwargs


def is_function(block: nn.Module, output: fx.Node, shortcut: fx.Node) -> bool:
    """Whether an operand of an addition is a function of the other operand.

    If the other operand is a sum itself, one of its terms suffices: in ``x + attention(x) + mlp(x)``, ``mlp(x)`` is
    a function of ``x``.
    """
    source = _source(block, shortcut)
    if source is not output and depends(output, source):
        return True
    return is_addition(source) and any(is_function(block, output, term) for term in source.all_input_nodes)


def adds_input(block: nn.Module, graph: fx.Graph) -> bool:
    """Whether the graph adds an input to something that does not depend on this input.

    Such a module joins a branch of the block that calls it: ``output(hidden, shortcut)`` in transformers' layers.
    """
    for _, first, second in additions(graph):
        for shortcut, output in ((first, second), (second, first)):
            source = _source(block, shortcut)
            if source.op == "placeholder" and not depends(output, source):
                return True
    return False


def is_part_of_input(block: nn.Module, shortcut: fx.Node) -> bool:
    """Whether a shortcut is an input of the block, or a slice of one."""
    source = _source(block, shortcut)
    while source.target is operator.getitem:
        source = _source(block, source.all_input_nodes[0])
    return source.op == "placeholder"


def depends(node: fx.Node, source: fx.Node) -> bool:
    """Whether the values of a node depend on those of another."""
    seen: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current is source:
            return True
        if current not in seen and not _is_size(current):
            seen.add(current)
            waiting += current.all_input_nodes
    return False


def child_of(block: nn.Module, name: str) -> nn.Module:
    """A child by its name; an identity where it is None, as a droppath module of timm's ResNets may be."""
    child: nn.Module | None = operator.attrgetter(name)(block)
    return nn.Identity() if child is None else child


def _source(block: nn.Module, node: fx.Node) -> fx.Node:
    """The node whose values a node hands on unchanged."""
    while _is_identity(block, node):
        node = node.all_input_nodes[0]
    return node


def _is_identity(block: nn.Module, node: fx.Node) -> bool:
    if len(node.all_input_nodes) != 1:
        return False
    if node.op == "call_module":
        child = child_of(block, str(node.target))
        is_empty = isinstance(child, nn.Sequential) and len(child) == 0
        return is_empty or isinstance(child, nn.Identity) or type(child).__name__ == "IdentityLayer"
    return node.op == "call_method" and node.target in _COPIES


def _is_size(node: fx.Node) -> bool:
    target: Any = node.target
    is_shape = target is getattr and node.args[1] in {"shape", "ndim", "dtype", "device"}
    return is_shape or (node.op == "call_method" and target in _SIZES)
