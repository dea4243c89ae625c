"""What `rdp.Schedule` does to a model, measured against `tests.breadth.reference`, and one word for it.

The contract of a schedule: a drop iteration computes the model without the dropped branches and trains the others, a
recover iteration computes the whole model and trains exactly the parameters of the dropped branches, every residual
branch is a unit or named in a warning, and `close` restores the model.
"""

import copy
import inspect
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import PrivateAttr
from torch import nn

import rdp
from rdp.methods import Iteration, Method, Training
from tests.breadth.reference import Reference, Result, Skip, call, run, tensors

CHECKED = 6  # units that are dropped alone, spread over depth
# Relative, of tensors in single precision. A wrong branch is off by far more: every branch counts, see `enliven`.
OUTPUT, GRADIENT = 1e-4, 2e-3


@dataclass(frozen=True)
class Case:
    """A model of other people.

    Attributes:
        name: of the model.
        build: makes it, with random weights.
        inputs: makes the inputs of its forward pass; the one named ``x`` is positional.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Any]]


@dataclass
class Finding:
    """What was found on one model.

    Attributes:
        name: of the model.
        verdict: ``correct``, ``wrong`` (silently), ``in part, said``, ``in part, unsaid``, ``crash`` or ``refused``.
        reason: what is wrong, or the sentence of the refusal.
        skips: number of residual branches with an identity skip and parameters of their own, nested ones aside.
        covered: how many of these a unit drops.
        units: number of units.
        seconds: that the measurement took.
    """

    name: str
    verdict: str = "correct"
    reason: str = ""
    skips: int = 0
    covered: int = 0
    units: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def residual_refusal(self) -> bool:
        """Whether a model with residual branches was refused."""
        return self.verdict == "refused" and self.skips > 0

    @property
    def row(self) -> str:
        numbers = f"{self.units:3} units {self.covered:3}/{self.skips:<3} skips {self.seconds:5.1f} s"
        return f"{self.name:44} {self.verdict:15} {numbers}  {'; '.join([self.reason, *self.notes]).strip('; ')}"


class Wrong(Exception):
    """A broken contract, in one line."""


class Planned(Method):
    """A method whose iterations are given one by one."""

    _next: list[Iteration] = PrivateAttr(default_factory=list)

    def iteration(self, step: int, training: Training) -> Iteration:
        return self._next[-1]


def enliven(model: nn.Module, seed: int = 0) -> None:
    """Make every branch count and nothing random: constant weights get noise, and dropout is off."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel() and (parameter == parameter.flatten()[0]).all():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        if isinstance(getattr(module, "drop_rate", None), float):  # of F.dropout, in models of timm
            module.drop_rate = 0.0


def without_droppath(model: nn.Module) -> nn.Module:
    """A copy whose droppath modules, of any library, are switched off."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if any(word in type(module).__name__.lower() for word in ("droppath", "drop_path", "stochasticdepth")):
            for rate in {"drop_prob", "p"} & vars(module).keys():
                setattr(module, rate, 0.0)
    return copied


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
        if difference(self.full, self.reference.run()):
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
        for seed in (3, 4):
            torch.manual_seed(seed)
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
            wrong = difference(result, self.reference.run({skip: 0.0}))
            if not wrong:
                return skip
        for other in self._candidates(name, own):
            expected = self.reference.outputs({other: 0.0})
            if not difference(Result(result.outputs, {}), Result(expected, {})):
                missing, more = sorted(other.owned - own), sorted(own - other.owned)
                raise Wrong(
                    f"unit {name} drops {other.name}, but owns {len(own)} parameters where that branch has "
                    f"{len(other.owned)}: without {missing[:3]}, with {more[:3]}"
                )
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
        self.reference.model.load_state_dict(self.model.state_dict())
        for model in (self.model, self.reference.model):
            model.eval()
        with torch.no_grad():
            results = [Result(tensors(call(m, self.inputs)), {}) for m in (self.model, self.reference.model)]
        if wrong := difference(*results):
            raise Wrong(f"evaluated after close(): {wrong}")
        self.reference.model.train()
        if wrong := difference(run(again, self.inputs), self.reference.run()):
            raise Wrong(f"after close(): {wrong}")

    def _cover(self, said: str) -> None:
        """Every residual branch is dropped by a unit, or named in a warning.

        A single layer inside a branch (GRN, a convolution that encodes positions) may have a shortcut of its own.
        """
        units = [s for s in self.skips if s is not None]
        nested = [s for s in self.reference.skips if s not in self.outermost and s.layers > 1 and s not in units]
        left = [s for s in self.outermost if not any(s == unit or _inside(s, unit) for unit in units)]
        self.found.covered = self.found.skips - len(left)
        unsaid = [s for s in (*left, *nested) if not _names(said, s)]
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


def difference(result: Result, expected: Result) -> str:
    """What differs between two results, in words; empty if nothing does."""
    if len(result.outputs) != len(expected.outputs):
        return f"{len(result.outputs)} outputs in place of {len(expected.outputs)}"
    for one, other in zip(result.outputs, expected.outputs, strict=True):
        if one.shape != other.shape:
            return f"an output of shape {tuple(one.shape)} in place of {tuple(other.shape)}"
        if not (off := float((one - other).norm() / (other.norm() + 1e-12))) < OUTPUT:
            return f"outputs off by {off:.2g}"
    norms = [float(g.norm()) for g in expected.gradients.values() if g is not None]
    floor = 1e-3 * max(norms, default=0.0)
    lost, extra, off = [], [], []
    for name in result.gradients.keys() & expected.gradients.keys():
        one, other = result.gradients[name], expected.gradients[name]
        if (one is None) != (other is None):
            (lost if one is None else extra).append(name)
        elif one is not None and not float((one - other).norm()) <= GRADIENT * (float(other.norm()) + floor):
            off.append(f"{name} by {float((one - other).norm() / (other.norm() + 1e-12)):.2g}")
    said = [("no gradient of", lost), ("a gradient of", extra), ("gradients off:", off)]
    return "; ".join(f"{what} {len(names)}: {', '.join(sorted(names)[:3])}" for what, names in said if names)


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything of a model's modules that a schedule could change: classes, attributes, hooks; tensors by identity."""
    found: dict[str, Any] = {"order of state_dict": list(model.state_dict())}
    for path, module in model.named_modules():
        found[f"class of {path}"] = type(module)
        for key, value in vars(module).items():
            if isinstance(value, Mapping) and key.startswith("_"):
                # A model may cache a buffer of its own.
                found[f"{path}.{key}"] = sorted(value) if key == "_buffers" else {k: id(v) for k, v in value.items()}
            else:
                plain = isinstance(value, bool | int | float | str | tuple | type(None))
                found[f"{path}.{key}"] = value if plain else type(value)
    for name, parameter in model.named_parameters():
        found[f"{name}.requires_grad"] = parameter.requires_grad
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Which entries of two snapshots differ; empty if none do."""
    keys = [key for key in before.keys() | after.keys() if before.get(key, "") != after.get(key, "")]
    return ", ".join(sorted(keys)[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
