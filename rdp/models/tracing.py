"""Splitting the forward pass of a block into its residual branches and the additions that join them (torch.fx)."""

import copy
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from rdp.errors import UserError
from rdp.models.branch_ends import is_drop_module

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_MULTIPLICATIONS = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
_NO_EFFECT = {torch._assert, operator.getitem, getattr}


class TracedForward(NamedTuple):
    """A block's forward pass with its branches separated, as functions whose first argument is the block.

    ``forward`` calls ``join`` in place of each addition. There is one function of ``branches`` for each branch, and in
    ``parts`` the name of its end, its modules and its other parameters.
    """

    forward: Callable[..., Any]
    branches: list[Callable[..., torch.Tensor]]
    parts: list[tuple[str, list[nn.Module], list[nn.Parameter]]]


def refuse(block: nn.Module, reason: str) -> UserError:
    """The error for a block that cannot get gates."""
    return UserError(f"{type(block).__name__}: no gates can be put into this block: {reason}")


class BranchTracer:
    """Splits one block into branches, which end in the children ``ends``.

    ``join(block._gates, index, shortcut, *inputs)`` is called in place of the addition of branch ``index``.
    """

    def __init__(self, block: nn.Module, ends: list[str], join: Callable[..., torch.Tensor]) -> None:
        self.block, self.ends, self.join = block, ends, join

    def trace(self, training: bool) -> TracedForward:
        """Split the forward pass in training or evaluation mode."""
        graph = self._graph(training)
        parts, functions = [], []
        for end in [node for node in graph.nodes if node.op == "call_module" and node.target in self.ends]:
            name = str(end.target)
            output, addition, shortcut = self._addition(end)
            nodes = self._branch_nodes(output)
            if is_drop_module(self.block, name):  # replaced by the gate
                drop_input = end.all_input_nodes[0]
                output = drop_input if output is end else output
                end.replace_all_uses_with(drop_input)
                nodes.remove(end)
                graph.erase_node(end)
            inputs = list(dict.fromkeys(i for node in nodes for i in node.all_input_nodes if i not in nodes))
            parts.append((name, *self._owned(nodes)))
            functions.append(_compile(_subgraph(nodes, inputs, output)))
            with graph.inserting_before(addition):
                gates = graph.get_attr("_gates")
                joined = graph.call_function(self.join, (gates, len(parts) - 1, shortcut, *inputs))
            addition.replace_all_uses_with(joined)
            for node in (addition, *reversed(nodes)):
                graph.erase_node(node)
        return TracedForward(_compile(graph), functions, parts)

    def _graph(self, training: bool) -> fx.Graph:
        """The graph of the forward pass, with a node for every end."""
        block, attributes = self.block, vars(self.block).copy()
        modules, was_training = dict(block._modules), block.training
        try:
            block.training = training
            for end in self.ends:
                if getattr(block, end, 0) is None:
                    setattr(block, end, nn.Identity())
            graph = _Tracer().trace(block)
            constants = [name for name in vars(block) if name not in attributes and name not in block._modules]
        except Exception as error:  # a forward of other code may raise anything when it is traced
            reason = " ".join(str(error).split())[:200]
            raise refuse(block, f"its forward cannot be traced ({type(error).__name__}: {reason})") from None
        finally:
            block.__dict__.clear()
            block.__dict__.update(attributes)
            block._modules.clear()
            block._modules.update(modules)
            block.training = was_training
        if constants:
            raise refuse(block, "its forward makes tensors of its own")
        for node in reversed(graph.nodes):
            # Without effect on the output, but its inputs would not belong to one branch only.
            if not node.users and (node.op == "get_attr" or node.target in _NO_EFFECT):
                graph.erase_node(node)
        return graph

    def _addition(self, end: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node]:
        """The branch's output (the end's, perhaps scaled), the node that adds it to a shortcut, and the shortcut."""
        output = end
        while len(output.users) == 1 and self._only_scales(user := next(iter(output.users))):
            output = user
        users = list(output.users)
        is_sum = len(users) == 1 and len(users[0].args) == 2 and users[0].target in _ADDITIONS
        others = [arg for arg in users[0].args if arg is not output] if is_sum else []
        if len(others) != 1 or not isinstance(others[0], fx.Node):
            raise refuse(
                self.block,
                f"the output of '{end.target}' is not added to a shortcut, or has other uses; name the children that "
                f"end its branches: rdp.register_block({type(self.block).__name__}, ...)",
            )
        # Without the branch, the following nodes read the shortcut itself.
        if any(user.op == "call_method" and str(user.target).endswith("_") for user in users[0].users):
            raise refuse(self.block, "its forward changes the sum in place")
        return output, users[0], others[0]

    def _only_scales(self, node: fx.Node) -> bool:
        """Whether a node only multiplies, so that dropping its input drops its output."""
        if node.op == "call_module":
            return "Scale" in (kind := type(self._child(node)).__name__) or kind == "Identity"
        return node.target in _MULTIPLICATIONS

    def _child(self, node: fx.Node) -> nn.Module:
        return self.block.get_submodule(str(node.target))

    def _branch_nodes(self, output: fx.Node) -> list[fx.Node]:
        """The nodes that lead to a branch's output only, in the order of the forward pass."""
        nodes = {output}
        for node in reversed(output.graph.nodes):
            if node.op != "placeholder" and node.users and all(user in nodes for user in node.users):
                nodes.add(node)
        if len(nodes) == 1:
            raise refuse(self.block, f"no operation leads to '{output.name}' only")
        if any(node.target is self.join for node in nodes):
            raise refuse(self.block, "one of its branches lies inside another")
        return [node for node in output.graph.nodes if node in nodes]

    def _owned(self, nodes: list[fx.Node]) -> tuple[list[nn.Module], list[nn.Parameter]]:
        modules = [self._child(node) for node in nodes if node.op == "call_module"]
        attributes = [operator.attrgetter(str(n.target))(self.block) for n in nodes if n.op == "get_attr"]
        return modules, [value for value in attributes if isinstance(value, nn.Parameter)]


class _Tracer(fx.Tracer):
    """Traces one block, with its children as black boxes."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return True


def _subgraph(nodes: list[fx.Node], inputs: list[fx.Node], output: fx.Node) -> fx.Graph:
    """A new graph of some nodes of a graph, with ``inputs`` as placeholders."""
    subgraph = fx.Graph()
    copies = {node: subgraph.placeholder(node.name) for node in inputs}
    for node in nodes:
        copies[node] = subgraph.node_copy(node, copies.__getitem__)
    subgraph.output(copies[output])
    return subgraph


_compiled: dict[tuple[Any, ...], Callable[..., Any]] = {}


def _compile(graph: fx.Graph) -> Callable[..., Any]:
    """A graph as a function of its block and its inputs; equal graphs give the same function."""
    graph.lint()
    code = graph.python_code("self")
    key = (code.src, *sorted((name, id(value)) for name, value in code.globals.items()))
    if key not in _compiled:
        names = copy.copy(code.globals)
        exec(compile(code.src, "<gated forward>", "exec"), names)
        _compiled[key] = names["forward"]
    return _compiled[key]
