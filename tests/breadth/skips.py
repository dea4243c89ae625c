"""The residual branches of a model, from the additions of one forward pass and its autograd graph."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch.autograd.graph import Node

from tests.breadth.graph import Edge, Graph, origin


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
        of_input: whether the shortcut is an input of the module that adds, perhaps with branches added to it.
        around: path and class of the modules around the addition, from the outermost one.
    """

    path: str
    kind: str
    sums: tuple[tuple[int, int], ...]
    call: int | None
    identity: bool
    owned: frozenset[str]
    inside: frozenset[str]
    of_input: bool
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


class Event(NamedTuple):
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


def find_skips(events: list[Event], graph: Graph) -> tuple[list[Skip], list[Skip]]:
    """The identity skips whose branches own parameters, and all other additions that a branch may end in."""
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
        new = [_skip(of, operand, operand == kept, events, graph) for operand in (whole if kept is None else [kept])]
        if kept is not None and new[0].identity is False and len(whole) == 2:
            new.append(_skip(of, 1 - kept, False, events, graph))
        for skip in new:
            (skips if skip.identity and skip.owned else joins).append(skip)
            if len(numbers) > 1:
                joins += [_skip([e], skip.sums[0][1], skip.identity, events, graph, e.frames[-1][2]) for e in of]
    return skips + _together(joins, events, graph), joins


def _together(joins: list[Skip], events: list[Event], graph: Graph) -> list[Skip]:
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


def _shortcut(number: int, events: list[Event], graph: Graph) -> int | None:
    """The operand of an addition that may be an identity shortcut; None if there is none."""
    event = events[number]
    for by_input in (False, True):
        for operand in (0, 1):
            shortcut, branch = event.operands[operand], event.operands[1 - operand]
            sought = _others(event, operand) if by_input else _carried(shortcut, event.frames, events[:number])
            if sought and event.whole[operand] and graph.uses(branch, sought):
                return operand
    return None


def _others(event: Event, kept: int) -> set[Edge]:
    """The other inputs of the module that adds, if the shortcut is one of its inputs or a slice of one."""
    node, number = event.operands[kept]
    while node.name() == "SliceBackward0":
        node, number = origin(node.next_functions[0])
    return set(event.inputs - {(node, number)}) if (node, number) in event.inputs else set()


def _carried(edge: Edge, frames: list[tuple[str, str, int]], before: list[Event]) -> set[Edge]:
    """A value, and its terms if the same call added it: x is a shortcut twice in ``x + f(x) + g(x)``."""
    found, waiting = {edge}, [edge]
    while waiting:
        value = waiting.pop()
        for event in before:
            if event.join == value and event.frames == frames:
                new = [e for e, whole in zip(event.operands, event.whole, strict=True) if whole and e not in found]
                found.update(new)
                waiting += new
    return found


def _skip(
    events: list[Event], kept: int, identity: bool, every: list[Event], graph: Graph, call: int | None = None
) -> Skip:
    around = tuple((p, k) for p, k, _ in events[0].frames)
    path, kind = around[-1]
    sources = {event.operands[kept] for event in events}
    from_others = identity and all(
        _others(event, kept) and not graph.uses(event.operands[1 - kept], sources) for event in events
    )
    if from_others:
        sources = set().union(*(_others(event, kept) for event in events))
    owned, used = graph.owned({cut for event in events for cut in _cuts(event, kept)}, sources)
    # The innermost module that holds what the branch computes from the shortcut.
    holders = [p for p, _ in around if all(name.startswith(f"{p}." if p else "") for name in used)]
    inside = frozenset(name for name in owned if name.startswith(f"{holders[-1]}." if holders[-1] else ""))
    if from_others and inside != owned:
        identity = False  # what another module computed is no branch of this one
    of_input = from_others or all(
        not _carried(event.operands[kept], event.frames, every).isdisjoint(event.inputs) for event in events
    )
    return Skip(path, kind, ((events[0].number, kept),), call, identity, owned, inside, of_input, around)


def _cuts(event: Event, kept: int) -> set[tuple[Node, int]]:
    """The inputs of the sum's node through which the branch comes."""
    branch, node = event.operands[1 - kept], event.join[0]
    found = [i for i, e in enumerate(node.next_functions) if e[0] is not None and origin(e) == branch]
    if not found:
        raise AssertionError(f"{event.frames[-1]}: the sum's node {node.name()} does not show its operands")
    return {(node, i) for i in found}
