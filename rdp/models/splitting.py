"""Splitting the graph of a block's forward pass into its residual branches and the additions that join them."""

import copy
import operator
from collections.abc import Callable, Container, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from rdp.models import graph_sums
from rdp.models.branch_ends import is_drop_module
from rdp.models.graph_sums import child_of
from rdp.models.tracing import Ungateable

# Names of functions and methods: multiplications, and changes of the shape.
_HAND_ON_ZEROS = {"mul", "imul", "mul_", "view", "reshape", "permute", "transpose", "contiguous", "flatten"}
_HAND_ON_ZEROS |= {"unflatten", "roll", "squeeze", "unsqueeze", "getitem", "to", "pad"}


class NoShortcut(Ungateable):
    """A declared end whose output is not added to a shortcut."""

    def __init__(self, block: nn.Module, end: str) -> None:
        hint = f"name the children that end its branches: rdp.register_block({type(block).__name__}, ...)"
        super().__init__(block, f"the output of '{end}' is not added to a shortcut, or has other uses", hint)


class Part(NamedTuple):
    """A branch of a block, by the names of its children.

    Attributes:
        end: the child that ends it.
        modules: the modules that it uses.
        parameters: the parameters of the block that it uses.
        side: items of what its modules return that the block returns too, such as attention weights; by the module's
            name and the item's index. The name is empty for a value that the block computes itself, by its index in
            what the block returns. The branch is then computed even where it is dropped.
    """

    end: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    side: tuple[tuple[str, Any], ...] = ()


class TracedForward(NamedTuple):
    """A block's forward pass with its branches behind the gates of ``block._gates``: ``forward(block, *inputs)``.

    ``sums`` is the number of functions with parameters that it adds to their own input or to a part of the block's,
    declared as branches or not.
    """

    forward: Callable[..., Any]
    parts: list[Part]
    sums: int


class _Branch(NamedTuple):
    """The nodes of a branch in the order of the forward pass, its output, its addition, and its droppath module."""

    end: str
    output: fx.Node
    addition: fx.Node
    nodes: list[fx.Node]
    drop: fx.Node | None = None


def split(
    block: nn.Module, graph: fx.Graph, ends: list[str], known: Sequence[Part] = (), *, returned: bool = False
) -> TracedForward:
    """Put each branch of a graph behind its gate; changes the graph.

    Args:
        block: the block.
        graph: of its forward pass.
        ends: the children that end its branches. If empty, a branch is a function of a value that is added to the
            value, and that has parameters.
        known: branches that were found before, in another call. Their outputs may be added to other values here.
        returned: whether a branch may contain values that the block returns too. Otherwise the layers that compute such
            a value lie in no branch.

    Raises:
        UserError: an end whose output is not added to a shortcut, or a branch that cannot be left out.
    """
    also = _returned(graph) if returned else {}
    sums = len(_outermost(_residual(block, graph, known=known, any_input=True)))
    if ends:
        calls = [node for node in graph.nodes if node.op == "call_module" and node.target in ends]
        branches = _outermost([_declared(block, node, also) for node in calls])
    else:
        branches = _outermost(_residual(block, graph, also, known))
    for branch in branches:
        _check_in_place(block, branch)
    parts = [_put_behind_gate(block, graph, branch, index) for index, branch in enumerate(branches)]
    return TracedForward(_compile(graph), parts, sums)


def _outermost(branches: list[_Branch]) -> list[_Branch]:
    """Those that lie in no other branch."""
    return [b for b in branches if not any(b.addition in other.nodes for other in branches)]


def _returned(graph: fx.Graph) -> dict[fx.Node, int]:
    """The values in a tuple that the graph returns, with the index of each."""
    (result,) = next(node.args for node in graph.nodes if node.op == "output")
    values = enumerate(result) if isinstance(result, tuple) else ()
    return {value: index for index, value in values if isinstance(value, fx.Node)}


def _declared(block: nn.Module, end: fx.Node, also: Container[fx.Node]) -> _Branch:
    """The branch that ends in a node; what follows may scale its output and change its shape before it is added."""
    for addition, *operands in graph_sums.additions(end.graph):
        for output in operands:
            nodes = _nodes(output, also) if len(output.users) == 1 else []
            if end in nodes and all(
                node is end or _hands_on_zeros(block, node) for node in nodes if graph_sums.depends(node, end)
            ):
                drop = end if is_drop_module(block, str(end.target)) else None
                return _Branch(str(end.target), output, addition, nodes, drop)
    raise NoShortcut(block, str(end.target))


def _residual(
    block: nn.Module,
    graph: fx.Graph,
    also: Container[fx.Node] = (),
    known: Sequence[Part] = (),
    *,
    any_input: bool = False,
) -> list[_Branch]:
    """The branches with parameters that are functions of their shortcut, or have the same layers as known ones.

    With ``any_input``, also what is added to an input of the block or to a part of it.
    """
    layers_known = [(list(part.modules), list(part.parameters)) for part in known]
    branches = []
    for addition, *operands in graph_sums.additions(graph):
        for shortcut, output in (operands, operands[::-1]):
            nodes = _nodes(output, also) if len(output.users) == 1 else []
            modules, parameters = owned = _owned(block, nodes)
            layers = [name for name in modules if any(True for _ in child_of(block, name).parameters())]
            is_branch = graph_sums.is_function(block, output, shortcut) or owned in layers_known
            is_branch |= any_input and graph_sums.is_part_of_input(block, shortcut)
            if (layers or parameters) and is_branch:
                branches.append(_Branch([*parameters, *layers][-1], output, addition, nodes))
                break
    return branches


def _hands_on_zeros(block: nn.Module, node: fx.Node) -> bool:
    """Whether a node maps zeros to zeros, so that its input can be dropped by dropping its output."""
    if node.op == "call_module":
        return "Scale" in (kind := type(child_of(block, str(node.target))).__name__) or kind == "Identity"
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name in _HAND_ON_ZEROS


def _nodes(output: fx.Node, also: Container[fx.Node]) -> list[fx.Node]:
    """The nodes that lead to an output only, in the order of the forward pass.

    The block may return those in ``also`` too. A module in the branch may return more items, if the block only hands
    them on.
    """
    nodes = {output}
    for node in reversed(output.graph.nodes):
        users = set(node.users) - nodes
        if node.op == "placeholder" or len(users) == len(node.users):
            continue
        if all(user.op == "output" if node in also else _is_side_item(user) for user in users):
            nodes.add(node)
    return [node for node in output.graph.nodes if node in nodes]


def _is_side_item(node: fx.Node) -> bool:
    """Whether a node is an item of what a module returns, of which the block returns it and makes no other use."""
    source = node.args[0] if node.target is operator.getitem else None
    if not isinstance(source, fx.Node) or source.op != "call_module":
        return False
    waiting = list(node.users)
    while waiting:
        user = waiting.pop()
        if user.op != "output" and user.target not in {operator.getitem, operator.add}:
            return False
        waiting += user.users
    return True


def _owned(block: nn.Module, nodes: list[fx.Node]) -> tuple[list[str], list[str]]:
    """The names of the modules and parameters that these nodes use, and no other node does."""
    inside = set(nodes)
    uses = [node for node in nodes[0].graph.nodes if node.op in {"call_module", "get_attr"}] if nodes else []
    outside = {node.target for node in uses if node not in inside}
    own = dict.fromkeys((node.op, str(node.target)) for node in uses if node.target not in outside)
    modules = [name for kind, name in own if kind == "call_module"]
    attributes = [name for kind, name in own if kind == "get_attr"]
    return modules, [name for name in attributes if isinstance(operator.attrgetter(name)(block), nn.Parameter)]


def _check_in_place(block: nn.Module, branch: _Branch) -> None:
    """Raise `UserError` if a branch changes a value that others read, which it would not do when it is dropped."""
    inside = set(branch.nodes)
    for node in branch.nodes:
        if _is_in_place(block, node) and any(source not in inside for source in node.all_input_nodes[:1]):
            raise Ungateable(block, f"its branch changes its input in place ({node.target})")


def _is_in_place(block: nn.Module, node: fx.Node) -> bool:
    if node.op != "call_module":
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        return bool(node.kwargs.get("inplace")) or (str(name).endswith("_") and not str(name).endswith("__"))
    module = child_of(block, str(node.target))
    while isinstance(module, nn.Sequential) and len(module):
        module = module[0]
    return bool(getattr(module, "inplace", False))


def _put_behind_gate(block: nn.Module, graph: fx.Graph, branch: _Branch, index: int) -> Part:
    output, drop = branch.output, branch.drop
    nodes = [node for node in branch.nodes if node is not drop]
    modules, parameters = _owned(block, nodes)
    if drop is not None:  # the gate replaces it
        drop_input = drop.all_input_nodes[0]
        output = drop_input if output is drop else output
        drop.replace_all_uses_with(drop_input)
        graph.erase_node(drop)
    side = _side(graph, branch, nodes)
    nodes = [] if side else nodes  # all of it is computed, and only its output is dropped
    inputs = list(dict.fromkeys(i for node in nodes for i in node.all_input_nodes if i not in nodes)) or [output]
    shortcut = next(arg for arg in branch.addition.args if arg is not output)
    function = _compile(_subgraph(nodes, inputs, output))
    with graph.inserting_before(branch.addition):
        gates = graph.get_attr("_gates")
        joined = graph.call_function(_joining(function), (gates, index, shortcut, *inputs))
    branch.addition.replace_all_uses_with(joined)
    for node in (branch.addition, *reversed(nodes)):
        graph.erase_node(node)
    return Part(branch.end, tuple(modules), tuple(parameters), side)


def _side(graph: fx.Graph, branch: _Branch, nodes: list[fx.Node]) -> tuple[tuple[str, Any], ...]:
    """`Part.side` of a branch; lets the gates watch whether the model uses these values."""
    side: list[tuple[str, Any]] = []
    for node in nodes:
        for user in [user for user in node.users if user is not branch.addition and user not in nodes]:
            if user.op == "output":
                side.append(("", _returned(graph)[node]))
                _watch_uses(graph, node, [user])
            else:
                side.append((str(node.target), user.args[1]))
                _watch_uses(graph, user, list(user.users))
    return tuple(side)


@cache
def _joining(branch: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The function that the graph calls in place of the addition of a branch; one for equal branches of all blocks."""

    def join(gates: Any, index: int, shortcut: torch.Tensor, *inputs: Any) -> torch.Tensor:
        joined: torch.Tensor = gates.join(index, shortcut, branch, inputs)
        return joined

    return join


def _watch_uses(graph: fx.Graph, value: fx.Node, users: list[fx.Node]) -> None:
    with graph.inserting_after(value):
        gates = graph.get_attr("_gates")
    with graph.inserting_after(gates):
        watched = graph.call_function(_watch, (gates, value))
    for user in users:
        user.replace_input_with(value, watched)


def _watch(gates: Any, item: Any) -> Any:
    return gates.watch(item)


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
