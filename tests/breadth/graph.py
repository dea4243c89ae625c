"""The autograd graph of a forward pass: what was computed from what, and by which parameters only."""

import heapq
from collections import defaultdict

import torch
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

# Nodes of the autograd graph whose output holds the values of their input, perhaps in another shape or type.
_ALIASES = {
    *("AliasBackward0", "CloneBackward0", "ToCopyBackward0", "ViewBackward0", "UnsafeViewBackward0"),
    *("ReshapeAliasBackward0", "PermuteBackward0", "TransposeBackward0", "TBackward0", "AsStridedBackward0"),
    *("SqueezeBackward0", "SqueezeBackward1", "SqueezeBackward2", "UnsqueezeBackward0"),
}
Edge = tuple[Node, int]


def edge_of(tensor: torch.Tensor) -> Edge | None:
    """Where the values of a tensor come from in the autograd graph, before any change of shape or type; or nowhere."""
    if not (tensor.requires_grad and torch.is_grad_enabled()):
        return None
    found: GradientEdge = get_gradient_edge(tensor)
    return origin((found.node, found.output_nr))


def origin(edge: Edge) -> Edge:
    """The edge of the same values before any change of shape or type."""
    while edge[0].name() in _ALIASES:
        edge = edge[0].next_functions[0]
    return edge


class Graph:
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
