"""The residual branches of any model, found by watching it, and the model without some of them.

This is what `rdp.Schedule` is measured against, so it shares no code and no idea with it: nothing is traced by torch.fx,
no class and no name of a child is known, and no module is changed. One forward pass of an untouched copy runs under a
`TorchFunctionMode`, which sees every addition and the module whose ``forward`` makes it. In the autograd graph of that
pass, an addition is an *identity skip* if the value of one operand, the shortcut, was used to compute the other, the
branch; or if the shortcut is an input of the module that adds, and the branch is computed there from another input. The
parameters that reach the output through the branch only are its own.

To drop a branch is to replace the sum by its shortcut. The same mode does that in another forward pass, so that outputs
and gradients of the model without a branch come from autograd itself.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

# Nodes of the autograd graph whose output holds the values of their input, perhaps in another shape or type.
_ALIASES = {
    *("AliasBackward0", "CloneBackward0", "ToCopyBackward0", "ViewBackward0", "UnsafeViewBackward0"),
    *("ReshapeAliasBackward0", "PermuteBackward0", "TransposeBackward0", "TBackward0", "AsStridedBackward0"),
    *("SqueezeBackward0", "SqueezeBackward1", "SqueezeBackward2", "UnsqueezeBackward0"),
}
Edge = tuple[Node, int]


@dataclass(frozen=True)
class Skip:
    """An addition of a shortcut and a branch, or several whose branches share what none owns alone.

    Attributes:
        path: the module whose ``forward`` adds, the innermost one.
        kind: the name of its class.
        sums: the number of each addition among those that a call of this module makes, from 0, and the operand that is
            the shortcut, 0 or 1.
        call: of the module among its calls in a forward pass, from 0; None for all its calls.
        identity: whether this is an identity skip. Otherwise either operand may be the shortcut, as in a block that
            projects it, and there is a `Skip` for each.
        owned: names of the parameters that reach the output through the branch only.
        inside: those of them that the module around the branch holds. Others belong to an input of the branch that
            comes from elsewhere, and that nothing else reads.
        around: path and class of the modules around the addition, from the outermost one.
    """

    path: str
    kind: str
    sums: tuple[tuple[int, int], ...]
    call: int | None
    identity: bool
    owned: frozenset[str]
    inside: frozenset[str]
    around: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        call = "" if self.call is None else f", call {self.call}"
        numbers = " and ".join(str(number) for number, _ in self.sums)
        return f"{self.path or 'the model'} ({self.kind}, addition {numbers}{call})"

    @property
    def layers(self) -> int:
        """How many modules hold the parameters that the branch owns."""
        return len({name.rpartition(".")[0] for name in self.owned})


class Result(NamedTuple):
    """Outputs of a pass, each detached, and the gradient of each parameter by name; None if it does not reach the loss."""

    outputs: list[torch.Tensor]
    gradients: dict[str, torch.Tensor | None]


def tensors(outputs: Any) -> list[torch.Tensor]:
    """The tensors of floating point numbers in what a model returns, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    return [t for value in outputs for t in tensors(value)] if isinstance(outputs, list | tuple) else []


def loss(outputs: list[torch.Tensor]) -> torch.Tensor:
    """A fixed random direction of all outputs, so that no normalisation at the end makes it constant."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack([(o * torch.randn(o.shape, generator=generator)).mean() for o in outputs]).sum()


def run(model: nn.Module, inputs: Mapping[str, Any]) -> Result:
    """A forward and backward pass of a model as it is; leaves no gradients. ``inputs`` are named as in `call`."""
    model.zero_grad(set_to_none=True)
    outputs = tensors(call(model, inputs))
    loss(outputs).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return Result([o.detach() for o in outputs], gradients)


def call(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """Call a model; the input named ``x`` is positional, all others are keywords."""
    given = dict(inputs)
    return model(given.pop("x"), **given) if "x" in given else model(**given)


class _Frame:
    """A module's call that is running."""

    def __init__(self, path: str, kind: str, call: int, inputs: Iterable[Any]) -> None:
        self.path, self.kind, self.call, self.additions = path, kind, call, 0
        edges = [_edge(value) for value in inputs if isinstance(value, torch.Tensor)]
        self.inputs = frozenset(edge for edge in edges if edge)


class _Additions(TorchFunctionMode):
    """Calls ``at(frames, function, operands, alpha)`` for each addition of two tensors, in place of computing it."""

    def __init__(self, model: nn.Module, at: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self._paths = {module: path for path, module in model.named_modules()}
        self._at, self._frames, self._calls = at, [], defaultdict[str, int](int)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        names = dict(zip(("input", "other"), args, strict=False)) | kwargs
        operands = (names.get("input"), names.get("other"))
        is_sum = getattr(function, "__name__", "") in {"add", "add_"} and self._frames and "out" not in kwargs
        if not (is_sum and all(isinstance(t, torch.Tensor) and t.is_floating_point() for t in operands)):
            return function(*args, **kwargs)
        result = self._at(self._frames, lambda: function(*args, **kwargs), operands, kwargs.get("alpha", 1))
        self._frames[-1].additions += 1
        return result

    @contextmanager
    def watching(self) -> Iterator[None]:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            path = self._paths[module]
            self._frames.append(_Frame(path, type(module).__name__, self._calls[path], (*args, *kwargs.values())))
            self._calls[path] += 1

        def leave(*_: Any) -> None:
            self._frames.pop()

        hooks = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in self._paths]
        hooks += [module.register_forward_hook(leave, always_call=True) for module in self._paths]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()


class _Event(NamedTuple):
    """An addition that happened.

    Where, and on what inputs of the module that adds; the edges of its operands, whether each has the sum's shape, and
    the edge of the sum.
    """

    frames: list[tuple[str, str, int]]
    number: int
    inputs: frozenset[Edge]
    operands: tuple[Edge | None, Edge | None]
    whole: tuple[bool, bool]
    join: Edge


class Reference:
    """A model that is watched, and computed without some of its branches.

    Args:
        model: an untouched copy in training mode, deterministic (no dropout, no droppath). It stays as it is.
        inputs: of its forward pass, see `call`.

    Attributes:
        skips: the identity skips whose branches own parameters, in the order of the forward pass.
        joins: all other additions that a branch may end in: of projected shortcuts, of branches without parameters of
            their own, and of single calls of a module that is called several times.
    """

    def __init__(self, model: nn.Module, inputs: Mapping[str, Any]) -> None:
        self.model = model
        leaves = {k: v.detach().clone().requires_grad_() if _floats(v) else v for k, v in inputs.items()}
        self._inputs = inputs
        events: list[_Event] = []

        def record(frames: list[_Frame], compute: Any, operands: Any, alpha: float) -> torch.Tensor:
            edges = tuple(_edge(t) for t in operands)
            shapes = [t.shape for t in operands]
            total: torch.Tensor = compute()
            if total.requires_grad and all(edges):
                where = [(f.path, f.kind, f.call) for f in frames]
                whole = tuple(shape == total.shape for shape in shapes)
                events.append(_Event(where, frames[-1].additions, frames[-1].inputs, edges, whole, _edge(total)))
            return total

        watch = _Additions(model, record)
        with watch.watching():
            outputs = tensors(call(model, leaves))
        graph = _Graph(outputs, {id(p): name for name, p in model.named_parameters()})
        self.skips, self.joins = _skips(events, graph)

    def run(self, factors: Mapping[Skip, float] | None = None) -> Result:
        """Outputs and gradients with each of these branches times a factor; 0 replaces the sum by its shortcut."""
        with self._replacing(factors or {}):
            return run(self.model, self._inputs)

    @torch.no_grad()
    def outputs(self, factors: Mapping[Skip, float]) -> list[torch.Tensor]:
        """The outputs of `run` alone."""
        with self._replacing(factors):
            return tensors(call(self.model, self._inputs))

    def _replacing(self, factors: Mapping[Skip, float]) -> AbstractContextManager[None]:
        chosen = {(s.path, number, s.call): (kept, f) for s, f in factors.items() for number, kept in s.sums}

        def replace(frames: list[_Frame], compute: Any, operands: Any, alpha: float) -> torch.Tensor:
            frame = frames[-1]
            for of_call in (None, frame.call):
                if (found := chosen.get((frame.path, frame.additions, of_call))) is not None:
                    kept, factor = found
                    if factor == 0:
                        return operands[kept].clone()  # what follows may change the sum in place
                    factors = [factor, factor * alpha]
                    factors[kept] = (1, alpha)[kept]
                    return operands[0] * factors[0] + operands[1] * factors[1]
            return compute()

        return _Additions(self.model, replace).watching()


def _floats(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _edge(tensor: torch.Tensor) -> Edge | None:
    """Where the values of a tensor come from in the autograd graph, before any change of shape or type."""
    if not tensor.requires_grad:
        return None
    edge: GradientEdge = get_gradient_edge(tensor)
    return _origin((edge.node, edge.output_nr))


def _origin(edge: Edge) -> Edge:
    while edge[0].name() in _ALIASES:
        edge = edge[0].next_functions[0]
    return edge


class _Graph:
    """The autograd graph of a pass, with the users of each node. It keeps all nodes alive, so each is one object."""

    def __init__(self, outputs: list[torch.Tensor], names: dict[int, str]) -> None:
        self._names = names
        self._users = defaultdict[Node, list[tuple[Node | None, int]]](list)
        waiting: list[Node] = []
        for output in outputs:
            if output.requires_grad:
                node = get_gradient_edge(output).node
                waiting.append(node)
                self._users[node].append((None, 0))
        seen: set[Node] = set()
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            for index, (below, _) in enumerate(node.next_functions):
                if below is not None:
                    self._users[below].append((node, index))
                    waiting.append(below)
        self._nodes = seen

    def holds(self, node: Node) -> bool:
        """Whether the node leads to an output."""
        return node in self._nodes

    def uses(self, edge: Edge, sought: set[Edge]) -> bool:
        """Whether the value at an edge was computed from one of the values sought, and is none of them."""
        oldest = min(_age(node) for node, _ in sought)
        waiting, seen = [edge], set()
        while waiting:
            node, _ = waiting.pop()
            for below in node.next_functions:
                if below[0] is None or below in seen or _age(below[0]) < oldest:
                    continue
                if below in sought:
                    return True
                seen.add(below)
                waiting.append(below)
        return False

    def owned(self, cuts: set[tuple[Node, int]], sources: set[Edge]) -> tuple[frozenset[str], frozenset[str]]:
        """The parameters that reach an output through these inputs of nodes only.

        And those of them that are used together with what was computed from the sources.
        """
        only: dict[Node, None] = {}
        waiting: list[tuple[int, int, Node]] = []
        pushed: set[Node] = set()

        def push(node: Node | None) -> None:
            if node is not None and node not in pushed:
                pushed.add(node)
                heapq.heappush(waiting, (-_age(node), id(node), node))

        for node, index in cuts:
            push(node.next_functions[index][0])
        while waiting:  # users come before what they use
            *_, node = heapq.heappop(waiting)
            if all(user in only or (user, index) in cuts for user, index in self._users[node]):
                only[node] = None
                for below, _ in node.next_functions:
                    push(below)
        names = {n: self._names[id(v)] for n in only if id(v := getattr(n, "variable", None)) in self._names}
        computed: set[Node] = set()
        for node in reversed(only):
            if any(below in sources or below[0] in computed for below in node.next_functions):
                computed.add(node)
        used = {names[below] for node in computed for below, _ in node.next_functions if below in names}
        return frozenset(names.values()), frozenset(used)


def _age(node: Node) -> int:
    """Nodes are numbered as they are made; the leaves, which have no number, come first."""
    return -1 if hasattr(node, "variable") else node._sequence_nr()


def _skips(events: list[_Event], graph: _Graph) -> tuple[list[Skip], list[Skip]]:
    events = [event for event in events if graph.holds(event.join[0])]
    shortcuts = [_shortcut(number, events, graph) for number in range(len(events))]
    sites = defaultdict[tuple[str, int], list[int]](list)
    for number, event in enumerate(events):
        sites[event.frames[-1][0], event.number].append(number)
    skips: list[Skip] = []
    joins: list[Skip] = []
    for numbers in sites.values():
        of = [events[n] for n in numbers]
        found = {shortcuts[n] for n in numbers}
        kept = found.pop() if len(found) == 1 else None
        whole = [i for i in (0, 1) if all(event.whole[i] for event in of)]
        new = [_skip(of, operand, operand == kept, graph) for operand in (whole if kept is None else [kept])]
        if kept is not None and new[0].identity is False and len(whole) == 2:
            new.append(_skip(of, 1 - kept, False, graph))
        for skip in new:
            (skips if skip.identity and skip.owned else joins).append(skip)
            if len(numbers) > 1:
                joins += [_skip([event], skip.sums[0][1], skip.identity, graph, event.frames[-1][2]) for event in of]
    return skips + _together(joins, events, graph), joins


def _together(joins: list[Skip], events: list[_Event], graph: _Graph) -> list[Skip]:
    """The identity skips of a module whose branches own parameters together, and none of them alone."""
    alone = defaultdict[str, list[Skip]](list)
    for skip in joins:
        if skip.identity and skip.call is None:
            alone[skip.path].append(skip)
    found = []
    for skips in alone.values():
        sums = tuple(sum_ for skip in skips for sum_ in skip.sums)
        cuts: set[tuple[Node, int]] = set()
        for number, kept in sums:
            for event in events:
                if event.frames[-1][0] == skips[0].path and event.number == number:
                    cuts |= _cuts(event, kept)
        if len(sums) > 1 and (owned := graph.owned(cuts, set())[0]):
            found.append(replace(skips[0], sums=sums, owned=owned, inside=owned))
    return found


def _shortcut(number: int, events: list[_Event], graph: _Graph) -> int | None:
    """The operand of an addition that may be an identity shortcut; None if there is none."""
    event = events[number]
    for by_input in (False, True):
        for operand in (0, 1):
            shortcut, branch = event.operands[operand], event.operands[1 - operand]
            sought = _others(event, operand) if by_input else _carried(shortcut, event.frames, events[:number])
            if sought and event.whole[operand] and graph.uses(branch, sought):
                return operand
    return None


def _others(event: _Event, kept: int) -> set[Edge]:
    """The other inputs of the module that adds, if the shortcut is one of its inputs or a slice of one."""
    node, number = event.operands[kept]
    while node.name() == "SliceBackward0":
        node, number = _origin(node.next_functions[0])
    return set(event.inputs - {(node, number)}) if (node, number) in event.inputs else set()


def _carried(edge: Edge, frames: list[tuple[str, str, int]], before: list[_Event]) -> set[Edge]:
    """A value, and the terms of the sum that it is if the same call added it: in ``x + f(x) + g(x)`` x is a shortcut."""
    found, waiting = {edge}, [edge]
    while waiting:
        value = waiting.pop()
        for event in before:
            if event.join == value and event.frames == frames:
                new = [e for e, whole in zip(event.operands, event.whole, strict=True) if whole and e not in found]
                found.update(new)
                waiting += new
    return found


def _skip(events: list[_Event], kept: int, identity: bool, graph: _Graph, call: int | None = None) -> Skip:
    around = tuple((p, k) for p, k, _ in events[0].frames)
    path, kind = around[-1]
    sources = {event.operands[kept] for event in events}
    of_input = identity and all(_others(event, kept) and not graph.uses(event.operands[1 - kept], sources) for event in events)
    if of_input:
        sources = set().union(*(_others(event, kept) for event in events))
    owned, used = graph.owned({cut for event in events for cut in _cuts(event, kept)}, sources)
    # The innermost module that holds what the branch computes from the shortcut.
    holders = [p for p, _ in around if all(name.startswith(f"{p}." if p else "") for name in used)]
    inside = frozenset(name for name in owned if name.startswith(f"{holders[-1]}." if holders[-1] else ""))
    if of_input and inside != owned:
        identity = False  # what another module computed is no branch of this one
    return Skip(path, kind, ((events[0].number, kept),), call, identity, owned, inside, around)


def _cuts(event: _Event, kept: int) -> set[tuple[Node, int]]:
    """The inputs of the sum's node through which the branch comes."""
    branch, node = event.operands[1 - kept], event.join[0]
    found = [i for i, e in enumerate(node.next_functions) if e[0] is not None and _origin(e) == branch]
    if not found:
        raise AssertionError(f"{event.frames[-1]}: the sum's node {node.name()} does not show its operands")
    return {(node, i) for i in found}
