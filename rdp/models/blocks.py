"""Gates in blocks that this project did not write: timm's, torchvision's, a user's own.

A block's ``forward`` is traced with its children as black boxes (torch.fx). Where the trace adds the output of a
droppath module to a shortcut, what leads to that output and to nothing else is a residual branch. The block then
gets a subclass of its own class, whose ``forward`` is the original one while its gates are open, and else the
same operations with each branch behind its gate. Parameters, buffers and their names stay as they are.

The general rule finds branches that end in timm's ``DropPath`` or torchvision's ``StochasticDepth``, switched on
or not (timm leaves an ``Identity`` or None in its place). `register_block` names the ends of other blocks.
"""

import copy
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from rdp.errors import UserError
from rdp.models.gates import Gate

# A droppath module's class, and its attribute that holds the probability.
_DROPS = {"DropPath": "drop_prob", "StochasticDepth": "p"}
_PLACE = "drop_path"  # how timm's blocks call the place of a DropPath, numbered where there are several
_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_WITHOUT_EFFECT = {torch._assert, operator.getitem, getattr}
_registered: dict[str, tuple[str, ...]] = {
    "torchvision.models.resnet.BasicBlock": ("bn2",),
    "torchvision.models.resnet.Bottleneck": ("bn3",),
}


def register_block(block: type[nn.Module], *ends: str) -> None:
    """Say where the residual branches of a class of blocks end.

    Args:
        block: the class; blocks of its subclasses are found too.
        ends: names of the block's children. The output of each is a branch's, and ``forward`` adds it to a
            shortcut: ``register_block(MyBlock, "norm2")`` for one that returns ``relu(x + self.norm2(...))``.

    Raises:
        UserError: no class of modules, or no end.

    >>> import rdp
    >>> from torch import nn
    >>> class Mixed(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)
    ...     def forward(self, x):
    ...         return x + self.linear(self.norm(x))
    >>> rdp.register_block(Mixed, "linear")
    >>> rdp.ResidualDropPath(nn.Sequential(Mixed(), Mixed()), rate=0.5).units
    ['0', '1']
    """
    if not (isinstance(block, type) and issubclass(block, nn.Module)):
        raise UserError(f"register_block: a subclass of nn.Module is needed, found {block!r}")
    if not ends or not all(isinstance(end, str) for end in ends):
        raise UserError(f"register_block({block.__name__}): name the children that end its branches")
    _registered[_qualified(block)] = ends


def _qualified(block: type) -> str:
    return f"{block.__module__}.{block.__qualname__}"


class Branch:
    """One branch of a gated block: its gate and what it computes with.

    Attributes:
        end: the name of the child that ends it.
        parameters: the block's parameters that the branch alone uses.
        modules: the block's children that it calls, with all below them.
    """

    def __init__(self, end: str, modules: list[nn.Module], parameters: list[nn.Parameter]) -> None:
        self.gate = Gate()
        self.end = end
        self.modules = [inner for module in modules for inner in module.modules()]
        self.parameters = [*(p for m in modules for p in m.parameters()), *parameters]


class _Gates:
    """What a gated block holds beside its own attributes; not a module, so that no state_dict sees it."""

    def __init__(self, block: nn.Module, ends: list[str]) -> None:
        self.block, self.ends = block, ends
        self.branches: list[Branch] = []
        self.codes: dict[bool, _Code] = {}
        self.silenced: list[tuple[nn.Module, str, float]] = []

    @property
    def open(self) -> bool:
        return all(branch.gate.is_open for branch in self.branches)


class _Code:
    """A block's forward pass with each branch apart, as functions of the block."""

    def __init__(self, forward: Callable[..., Any], branches: list[Callable[..., torch.Tensor]]) -> None:
        self.forward, self.branches = forward, branches


class _GatedForward:
    """Comes before the block's own class, and chooses between its forward and the gated one."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._gates.open:
            return super().forward(*args, **kwargs)
        return self._gates.codes[self.training].forward(self, *args, **kwargs)


def _join(gates: _Gates, index: int, shortcut: torch.Tensor, *inputs: Any) -> torch.Tensor:
    """What replaces an addition in the gated forward."""
    block = gates.block
    branch = gates.codes[block.training].branches[index]
    return gates.branches[index].gate.add(shortcut, lambda *given: branch(block, *given), *inputs)


def branch_ends(block: nn.Module) -> list[str]:
    """The names of a block's own children (or empty places) that end residual branches; none for most modules."""
    for base in type(block).__mro__:
        if (ends := _registered.get(_qualified(base))) is not None:
            if absent := [end for end in ends if not hasattr(block, end)]:
                raise UserError(f"{type(block).__name__}: registered with rdp.register_block, and has no '{absent[0]}'")
            return list(ends)
    children = dict(block.named_children())
    found = [name for name, child in children.items() if type(child).__name__ in _DROPS]
    found += [name for name, child in children.items() if name.startswith(_PLACE) and type(child) is nn.Identity]
    # timm's ResNets hold None where they have no DropPath.
    found += [name for name, value in vars(block).items() if name.startswith(_PLACE) and value is None]
    return found


def drop_probability(block: nn.Module, end: str) -> float:
    """The probability that the block's own droppath module is set to."""
    child = getattr(block, end)
    return float(getattr(child, _DROPS.get(type(child).__name__, ""), 0.0) or 0.0)


def is_gated(block: nn.Module) -> bool:
    """Whether gates were put into the block."""
    return isinstance(block, _GatedForward)


def gate(block: nn.Module) -> list[Branch]:
    """Put gates into a block, unless it has them, and return its branches in the order of its forward pass.

    A block of which none of the ends is reached (an inverted residual whose shapes differ, so that it has no
    shortcut) has none, and is left alone.

    Raises:
        UserError: an end that is reached, but whose output is not added to a shortcut.
    """
    if is_gated(block):
        return block._gates.branches
    gates = _Gates(block, branch_ends(block))
    codes = {training: _Splitter(block, gates.ends).split(training) for training in (True, False)}
    found = codes[True][1]
    if not found or [end for end, *_ in found] != [end for end, *_ in codes[False][1]]:
        return []
    gates.codes = {training: code for training, (code, _) in codes.items()}
    gates.branches = [Branch(*parts) for parts in found]
    block._gates = gates
    block.__class__ = _gated_class(type(block))
    return gates.branches


@cache
def _gated_class(kind: type[nn.Module]) -> type[nn.Module]:
    """One subclass for all blocks of a class, so that torch.compile sees one code for all of them."""
    return type(f"Gated{kind.__name__}", (_GatedForward, kind), {})


def silence(block: nn.Module) -> None:
    """Switch the block's own droppath modules off, until `ungate`."""
    for end in block._gates.ends:
        if drop_probability(block, end) > 0:
            child = getattr(block, end)
            name = _DROPS[type(child).__name__]
            block._gates.silenced.append((child, name, getattr(child, name)))
            setattr(child, name, 0.0)


def ungate(block: nn.Module) -> None:
    """Make a block what it was before `gate`."""
    gates = block._gates
    for child, name, value in gates.silenced:
        setattr(child, name, value)
    block.__class__ = type(block).__mro__[2]
    del block._gates


class _Tracer(fx.Tracer):
    """Traces one block, its children as black boxes."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return True


class _Splitter:
    """Takes a block's forward pass apart into its branches and what joins them."""

    def __init__(self, block: nn.Module, ends: list[str]) -> None:
        self.block, self.ends = block, ends
        self.name = type(block).__name__

    def split(self, training: bool) -> tuple[_Code, list[tuple[str, list[nn.Module], list[nn.Parameter]]]]:
        """The code in one mode, and of each branch its end, its modules and its parameters."""
        graph = self._trace(training)
        found, functions = [], []
        for end in [node for node in graph.nodes if node.op == "call_module" and node.target in self.ends]:
            output, join, shortcut = self._addition(end)
            nodes = self._branch(output)
            if self._is_drop(end):  # part of the method, which the gate takes over, and not of the branch
                output = end.args[0] if output is end else output
                end.replace_all_uses_with(end.args[0])
                nodes.remove(end)
                graph.erase_node(end)
            inputs = list(dict.fromkeys(i for node in nodes for i in node.all_input_nodes if i not in nodes))
            found.append((end.target, *self._owned(nodes)))
            functions.append(_compile(_extract(nodes, inputs, output)))
            with graph.inserting_before(join):
                gates = graph.get_attr("_gates")
                joined = graph.call_function(_join, (gates, len(found) - 1, shortcut, *inputs))
            join.replace_all_uses_with(joined)
            for node in (join, *reversed(nodes)):
                graph.erase_node(node)
        return _Code(_compile(graph), functions), found

    def _trace(self, training: bool) -> fx.Graph:
        """The block's forward pass, as a graph that leads through every end."""
        block, before = self.block, vars(self.block).copy()
        modules, was_training = dict(block._modules), block.training
        try:
            block.training = training
            for end in self.ends:
                if getattr(block, end, 0) is None:
                    setattr(block, end, nn.Identity())
            graph = _Tracer().trace(block)
            constants = [name for name in vars(block) if name not in before and name not in block._modules]
        except Exception as error:  # whatever a stranger's forward does when it is traced
            reason = " ".join(str(error).split())[:200]
            raise self._refuse(f"its forward cannot be traced ({type(error).__name__}: {reason})") from None
        finally:
            block.__dict__.clear()
            block.__dict__.update(before)
            block._modules.clear()
            block._modules.update(modules)
            block.training = was_training
        if constants:
            raise self._refuse("its forward makes tensors of its own")
        for node in reversed(graph.nodes):
            # Of no effect on the output, yet each would make what it reads belong to no branch alone.
            if not node.users and (node.op == "get_attr" or node.target in _WITHOUT_EFFECT):
                graph.erase_node(node)
        return graph

    def _is_drop(self, end: fx.Node) -> bool:
        return end.target.startswith(_PLACE) or type(getattr(self.block, end.target)).__name__ in _DROPS

    def _addition(self, end: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node]:
        """The branch's output (the end's, or that scaled), the node that adds it to a shortcut, and the shortcut."""
        output = end
        while len(output.users) == 1 and self._scales(user := next(iter(output.users))):
            output = user
        users = list(output.users)
        is_sum = len(users) == 1 and len(users[0].args) == 2 and users[0].target in _ADDITIONS
        others = [arg for arg in users[0].args if arg is not output] if is_sum else []
        if len(others) != 1 or not isinstance(others[0], fx.Node):
            raise self._refuse(
                f"the output of '{end.target}' is not added to a shortcut, and to nothing else; name the children "
                f"that end its branches: rdp.register_block({self.name}, ...)"
            )
        # Where the branch is dropped, what follows reads the shortcut itself.
        if any(user.op == "call_method" and str(user.target).endswith("_") for user in users[0].users):
            raise self._refuse("its forward changes the sum in place")
        return output, users[0], others[0]

    def _scales(self, node: fx.Node) -> bool:
        """Whether a node does no more than multiply: what is dropped before it is dropped behind it as well."""
        if node.op == "call_module":
            return "Scale" in (kind := type(self.block.get_submodule(node.target)).__name__) or kind == "Identity"
        return node.target in {operator.mul, operator.imul, torch.mul, "mul", "mul_"}

    def _branch(self, output: fx.Node) -> list[fx.Node]:
        """The nodes that lead to a branch's output and to nothing else, in the order of the forward pass."""
        nodes = {output}
        for node in reversed(output.graph.nodes):
            if node.op != "placeholder" and node.users and all(user in nodes for user in node.users):
                nodes.add(node)
        if len(nodes) == 1:
            raise self._refuse(f"nothing leads to '{output.name}' alone")
        if any(node.target is _join for node in nodes):
            raise self._refuse("one of its branches lies within another")
        return [node for node in output.graph.nodes if node in nodes]

    def _owned(self, nodes: list[fx.Node]) -> tuple[list[nn.Module], list[nn.Parameter]]:
        modules = [self.block.get_submodule(n.target) for n in nodes if n.op == "call_module"]
        attributes = [operator.attrgetter(n.target)(self.block) for n in nodes if n.op == "get_attr"]
        if any(is_gated(inner) or branch_ends(inner) for m in modules for inner in m.modules()):
            raise self._refuse("a branch of it holds blocks with branches of their own")
        return modules, [value for value in attributes if isinstance(value, nn.Parameter)]

    def _refuse(self, reason: str) -> UserError:
        return UserError(f"{self.name}: no gates can be put into this block: {reason}")


def _extract(nodes: list[fx.Node], inputs: list[fx.Node], output: fx.Node) -> fx.Graph:
    """Some nodes of a graph as a graph of their own."""
    part = fx.Graph()
    there = {node: part.placeholder(node.name) for node in inputs}
    for node in nodes:
        there[node] = part.node_copy(node, there.__getitem__)
    part.output(there[output])
    return part


_compiled: dict[tuple[Any, ...], Callable[..., Any]] = {}


def _compile(graph: fx.Graph) -> Callable[..., Any]:
    """A graph as a function of its block and its inputs; one function for graphs that are alike."""
    graph.lint()
    code = graph.python_code("self")
    key = (code.src, *sorted((name, id(value)) for name, value in code.globals.items()))
    if key not in _compiled:
        names = copy.copy(code.globals)
        exec(compile(code.src, "<gated forward>", "exec"), names)
        _compiled[key] = names["forward"]
    return _compiled[key]
