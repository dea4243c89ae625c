"""What `rdp.Schedule` does to a model, measured against `tests.breadth.reference`, and one word for it.

The contract of a schedule: a drop iteration computes the model without the dropped branches and trains the others, a
recover iteration computes the whole model and trains exactly the parameters of the dropped branches, every residual
branch is a unit or named in a warning, and `close` restores the model.
"""

import inspect
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pydantic import PrivateAttr
from torch import nn

import rdp
from rdp.methods import Iteration, Method, Training
from tests.breadth.comparing import difference, differences, snapshot
from tests.breadth.findings import Case, Finding
from tests.breadth.preparing import enliven, without_droppath
from tests.breadth.reference import Reference, Result, call, run, tensors
from tests.breadth.skips import Skip

CHECKED = 6  # units that are dropped alone, spread over depth


class Wrong(Exception):
    """A broken contract, in one line."""


class Planned(Method):
    """A method whose iterations are given one by one."""

    _next: list[Iteration] = PrivateAttr(default_factory=list)

    def iteration(self, step: int, training: Training) -> Iteration:
        return self._next[-1]


def measure(case: Case) -> Finding:
    """Hold a schedule of one model to the contract."""
    found, start = Finding(case.name), time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model, inputs = case.build().train(), case.inputs()
        enliven(model)
        reference = Reference(without_droppath(model), inputs)
        outermost = [s for s in reference.skips if not any(s is not o and _inside(s, o) for o in reference.skips)]
        found.skips = len(outermost)
        try:
            _Measurement(found, model, inputs, reference, outermost).take()
        except Wrong as error:
            found.verdict, found.reason = found.verdict if found.verdict != "correct" else "wrong", str(error)
    found.seconds = time.monotonic() - start
    return found


def _inside(inner: Skip, outer: Skip) -> bool:
    """Whether dropping ``outer`` leaves nothing of ``inner`` to be dropped."""
    return inner.owned < outer.owned or (inner.owned == outer.owned and len(inner.around) > len(outer.around))


def _needed(skip: Skip, owned: list[frozenset[str]], own: frozenset[str]) -> frozenset[str]:
    """What a unit that drops this branch must own: all that lies in it, but for units inside it."""
    return skip.inside - frozenset[str]().union(*(other for other in owned if other != own and other < skip.owned))


class _Measurement:
    def __init__(
        self, found: Finding, model: nn.Module, inputs: dict[str, Any], reference: Reference, outermost: list[Skip]
    ) -> None:
        self.found, self.model, self.inputs, self.reference = found, model, inputs, reference
        self.outermost, self.method, self.step = outermost, Planned(), 0
        self.names = [name for name, _ in model.named_parameters()]

    def take(self) -> None:
        before, state = snapshot(self.model), list(self.model.state_dict())
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with self._crashes("when the schedule is made"):
                self.schedule = self._make()
        if self.schedule is None:
            if changes := differences(before, snapshot(self.model)):
                raise Wrong(f"refused, but changed the model: {changes}")
            return
        torch.manual_seed(1)
        self.full = self.reference.run()
        torch.manual_seed(2)
        if difference(Result(self.full.outputs, {}), Result(self.reference.outputs({}), {})):
            raise AssertionError(f"{self.found.name}: the reference is random; switch its dropout off")
        self.found.units = len(self.schedule.units)
        try:
            if list(self.model.state_dict()) != state:
                raise Wrong("the schedule changes the names in state_dict")
            self._compare_iterations()
        finally:
            with self._crashes("in close()"):
                self.schedule.__exit__()
        self._compare_closed(before)
        self._cover(" ".join(str(w.message) for w in said))

    def _make(self) -> Any:
        options = {}
        for name in ("example", "example_inputs", "inputs"):
            if name in inspect.signature(rdp.Schedule).parameters:
                options[name] = self.inputs
        try:
            return rdp.Schedule(self.model, self.method, take_over=True, **options)
        except rdp.UserError as error:
            self.found.verdict, self.found.reason = "refused", str(error)
            return None

    @contextmanager
    def _crashes(self, when: str) -> Iterator[None]:
        try:
            yield
        except rdp.UserError as error:
            raise Wrong(f"{when}: {error}") from error
        except (Wrong, KeyboardInterrupt):
            raise
        except Exception as error:
            self.found.verdict = "crash"
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split())[:160]
            raise Wrong(f"{when}: {type(error).__name__}: {text} ({last.name}:{last.lineno})") from error

    def iterate(self, iteration: Iteration) -> Result:
        """One iteration of the schedule."""
        self.method._next.append(iteration)
        self.step += 1
        with self._crashes(f"in a {iteration.kind} iteration"), self.schedule.iteration(self.step):
            return run(self.model, self.inputs)

    def _trained(self, units: np.ndarray) -> frozenset[str]:
        """The parameters that a recover iteration of these units trains."""
        self.method._next.append(Iteration("recover", trained=units, rest_trained=False))
        self.step += 1
        with self._crashes("in a recover iteration"), self.schedule.iteration(self.step):
            return frozenset(name for name, p in self.model.named_parameters() if p.requires_grad)

    def _compare_iterations(self) -> None:
        count = self.found.units
        alone = np.eye(count, dtype=bool)
        owned = [self._trained(unit) for unit in alone]
        torch.manual_seed(3)
        if wrong := difference(self.iterate(Iteration("full")), self.full):
            raise Wrong(f"full iteration: {wrong}")
        self.skips = [self._match(own, owned) for own in owned]
        checked = sorted(set(np.linspace(0, count - 1, min(count, CHECKED)).round().astype(int).tolist()))
        unmatched = [i for i, s in enumerate(self.skips) if s is None]
        checked = sorted({*checked, *unmatched[:2], *(u for u in unmatched if owned[u])})
        for unit in checked:
            self.skips[unit] = self._drop_alone(unit, owned)
        if empty := [name for name, own in zip(self.schedule.units, owned, strict=True) if not own]:
            raise Wrong(f"{len(empty)} units own no parameter: {', '.join(empty[:4])}")
        generator = np.random.default_rng(0)
        needed = [_needed(s, owned, own) for s, own in zip(self.skips, owned, strict=True)]
        for factor in (1.0, 2.0):
            dropped = generator.random(count) < 0.5
            dropped[generator.integers(count)] = True
            self._drop(dropped, factor)
        self._recover(dropped, needed)

    def _match(self, own: frozenset[str], owned: list[frozenset[str]]) -> Skip | None:
        """The skip whose branch owns what a unit owns."""
        every = (*self.reference.skips, *self.reference.joins)
        return next((s for s in every if own and _needed(s, owned, own) <= own <= s.owned), None)

    def _drop_alone(self, unit: int, owned: list[frozenset[str]]) -> Skip:
        """The skip that a unit drops, by the numbers; refuses other owners than its branch's."""
        name, own, skip = self.schedule.units[unit], owned[unit], self.skips[unit]
        dropped = np.arange(self.found.units) == unit
        result = self.iterate(Iteration("drop", active=~dropped, trained=~dropped))
        wrong = ""
        if skip is not None:
            wrong = difference(result, expected := self.reference.run({skip: 0.0}))
            if not wrong:
                if all(map(torch.equal, expected.outputs, self.full.outputs)):
                    raise AssertionError(f"{self.found.name}: {skip.name} makes no difference; see `enliven`")
                return skip
        for other in self._candidates(name, own):
            expected = self.reference.outputs({other: 0.0})
            if other.owned and not difference(Result(result.outputs, {}), Result(expected, {})):
                missing, more = sorted(other.owned - own), sorted(own - other.owned)
                raise Wrong(
                    f"unit {name} drops {other.name}, but owns {len(own)} parameters where that branch has "
                    f"{len(other.owned)}: without {missing[:3]}, with {more[:3]}"
                )
        if not own:
            raise Wrong(f"unit {name} owns no parameter")
        if skip is None:
            raise Wrong(f"unit {name}: it drops no branch that an addition joins; it owns {sorted(own)[:3]}")
        raise Wrong(f"unit {name}, which owns what {skip.name} owns, dropped: {wrong}")

    def _candidates(self, unit: str, own: frozenset[str]) -> list[Skip]:
        every = sorted((*self.reference.skips, *self.reference.joins), key=lambda s: not s.identity)
        near = [s for s in every if s.path and (unit == s.path or unit.startswith(f"{s.path}."))]
        sharing = sorted((s for s in every if s.owned & own), key=lambda s: len(s.owned ^ own))
        return list(dict.fromkeys([*near, *sharing]))[:16]

    def _drop(self, dropped: np.ndarray, factor: float) -> None:
        scale = None if factor == 1 else np.full(len(dropped), factor, np.float32)
        result = self.iterate(Iteration("drop", active=~dropped, scale=scale, trained=~dropped))
        factors = {s: 0.0 if out else factor for s, out in zip(self.skips, dropped, strict=True) if s is not None}
        if wrong := difference(result, self.reference.run(factors)):
            raise Wrong(f"{int(dropped.sum())} units dropped, the others times {factor:g}: {wrong}")

    def _recover(self, dropped: np.ndarray, needed: list[frozenset[str]]) -> None:
        out = np.flatnonzero(dropped)
        must = frozenset[str]().union(*(needed[i] for i in out))
        may = frozenset[str]().union(*(self.skips[i].owned for i in out))
        result = self.iterate(Iteration("recover", trained=dropped, rest_trained=False))
        trained = {n for n in may if n in must or result.gradients[n] is not None}
        expected = {n: g if n in trained else None for n, g in self.full.gradients.items()}
        if wrong := difference(result, Result(self.full.outputs, expected)):
            raise Wrong(f"recover iteration: {wrong}")

    def _compare_closed(self, before: dict[str, Any]) -> None:
        if changes := differences(before, snapshot(self.model)):
            raise Wrong(f"after close(): {changes}")
        again = without_droppath(self.model)
        if wrong := difference(run(again, self.inputs), self.full):
            raise Wrong(f"after close(): {wrong}")
        self.reference.model.load_state_dict(self.model.state_dict())
        results = []
        for model in (self.model, self.reference.model):
            with torch.no_grad():
                results.append(Result(tensors(call(model.eval(), self.inputs)), {}))
        if wrong := difference(*results):
            raise Wrong(f"evaluated after close(): {wrong}")

    def _cover(self, said: str) -> None:
        """Every residual branch is dropped by a unit, alone or as a part of it, or named in a warning."""
        units = [s for s in self.skips if s is not None]
        nested = [s for s in self.reference.skips if s not in self.outermost and s not in units]
        left = [s for s in self.outermost if not any(s == unit or _inside(s, unit) for unit in units)]
        self.found.covered = self.found.skips - len(left)
        unsaid = [s for s in left if not _names(said, s)]
        for what, skips in (("no unit: ", unsaid or left), ("inside units: ", nested)):
            if skips:
                kinds = Counter(f"{s.kind} {s.sums[0][0]}" for s in skips)
                self.found.notes.append(what + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
        if unsaid:
            self.found.verdict = "in part, unsaid"
        elif left:
            self.found.verdict = "in part, said"


def _names(said: str, skip: Skip) -> bool:
    """Whether a warning names the module that adds, or one around it, by its path or class."""
    return any((path and path in said) or kind in said for path, kind in skip.around[1:] or skip.around)
