"""``rdp adopt``: accept a change of the training code as harmless, once runs trained again came to the same bits.

Runs that other code made are grouped by that code, this checkout's and the stack. Of each group some are trained again,
from their first step; where all that falls under their records' digests is the same but for the code, an adoption is
written (`rdp.store.adoptions`). Where a sweep chose a learning rate, the sweep must stand, and choose it still.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rdp import data
from rdp.data import prepared
from rdp.jobs import runner, tuning
from rdp.jobs.retrain import again as train_again
from rdp.jobs.retrain import differences
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store, adoptions, fingerprint, origin, scratch, timestamp
from rdp.study import Plan
from rdp.study.states import states
from rdp.study.workload import operations
from rdp.utils import digest, machine
from rdp.utils.humanize import count

_TOLD = 4  # differences of a run


@dataclass
class Group:
    """Runs that one code made on one stack, of which this checkout has another.

    Attributes:
        old, new: digests of the code that made them, and of this checkout's.
        stack: digest of the stack.
        runs: with their records.
        sample: those of them that are trained again.
        wrong: why they are not adopted, a line each; none where they are.
        adoption: the file that says so.
    """

    old: str
    new: str
    stack: str
    runs: list[tuple[RunSpec, RunRecord]] = field(default_factory=list)
    sample: list[tuple[RunSpec, RunRecord]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    adoption: Path | None = None

    @property
    def title(self) -> str:
        """The group's cells in words."""
        spec = self.runs[0][0]
        kind = f"{spec.architecture}/{spec.dataset}/{spec.method}" + (" in sweeps" if spec.sweep else "")
        cells = len({spec.cell for spec, _ in self.runs})
        return kind + (f" and {count(cells - 1, 'more cell')}" if cells > 1 else "")


def adopt(
    plan: Plan, results: Path, *, retrain: int | None = None, cores: int = 1, say: Callable[[str], None] = print
) -> list[Group]:
    """Train some of a study's stale runs again, and write an adoption for each group that came to the same bits.

    Args:
        plan: the study.
        results: where its runs are.
        retrain: how many runs to train again in all; see `choose` for how few at least.
        cores: to train on side by side.
        say: told what is done.

    Returns:
        The groups, those that were adopted and those that were not.

    Raises:
        UserError: a record that is damaged; results that are recorded and not trained here.
        Terminated: SIGTERM came.
    """
    origin.refuse(results)
    groups = _stale(plan, results)
    stack = fingerprint.stack(runner.choose_device(plan.device)) if groups else {}
    data_digest = cache(lambda name: prepared.load(name, results).digest)
    for group in groups:
        obstacles = {spec.run: obstacle(record, stack, data_digest(spec.dataset)) for spec, record in group.runs}
        able = [(spec, record) for spec, record in group.runs if obstacles[spec.run] is None]
        if any(record.status == "completed" for _, record in able):
            group.sample = able
        elif able:
            run = able[0][0].run
            group.wrong.append(f"{run}: it and all like it diverged, and their numbers show too little")
        else:
            run, why = next(iter(obstacles.items()))
            group.wrong.append(f"{run}: cannot be trained again to compare: {why}")
    choose([group for group in groups if group.sample], retrain)
    if not any(group.sample for group in groups):
        return groups
    pairs = [pair for group in groups for pair in group.sample]
    say(f"to train again: {len(pairs)}")
    with scratch.temporary_folder(Store(results), scratch.RETRAINED) as there:
        again = train_again(pairs, results, there, plan.device, cores)
    records = {spec.run: record for (spec, _), record in zip(pairs, again, strict=True)}
    # Sweeps before the runs that they chose rates for.
    sampled = sorted((group for group in groups if group.sample), key=lambda group: bool(group.sample[0][0].tuning))
    for group in sampled:
        _judge(group, records, plan, results, stack)
    return groups


def _stale(plan: Plan, results: Path) -> list[Group]:
    store, found = Store(results), {}
    for spec, state in states(plan, results):
        if state.status != "stale" or (record := store.read_finished(spec.run)) is None:
            continue
        key = record.identity.code, fingerprint.code_of(spec), record.identity.stack
        found.setdefault(key, Group(*key)).runs.append((spec, record))
    return list(found.values())


def obstacle(record: RunRecord, stack: dict[str, str], data_digest: str) -> str | None:
    """Why a run cannot be trained here to the bits of its record; None where it can.

    Args:
        record: of the run.
        stack: what would train it, see `rdp.store.fingerprint.stack`.
        data_digest: of what it would be trained on.
    """
    if record.status == "failed":
        return "it failed, and left no numbers"
    if record.identity.stack != digest.of(stack):
        theirs = record.telemetry.stack
        other = [f"{n} {theirs.get(n)}, here {stack.get(n)}" for n in theirs | stack if theirs.get(n) != stack.get(n)]
        return f"it was trained on another stack ({'; '.join(other)})"
    if record.identity.data != data_digest:
        return f"it was trained on other data (digest {record.identity.data[:12]}, here {data_digest[:12]})"
    return None


def _chosen_otherwise(spec: RunSpec, record: RunRecord, results: Path) -> str | None:
    """Why this checkout's code would not choose a run's learning rate, with which it was trained again; None where it
    would, or where no sweep chooses it."""
    store, found = Store(results), []
    for candidate in spec.candidates():
        who = record.identity.model_copy(update={"spec": candidate.spec_digest, "code": fingerprint.code_of(candidate)})
        if (swept := store.find(candidate.run, who)) is None:
            return f"its learning rate follows from {candidate.run}, which may not stand for this checkout's"
        found.append(swept)
    chosen = tuning.choose(spec, found).learning_rate if found else None
    if chosen != record.numbers.learning_rate and found:
        return f"trained at learning rate {record.numbers.learning_rate}, and its sweep now gives {chosen}"
    return None


def choose(groups: list[Group], retrain: int | None) -> None:
    """Choose what is trained again: runs that completed before others, since those that diverged have few numbers, then
    the cheapest by counted operations, and of equals by name.

    One run at least of each form in a group: code that branches on options of the method or of the recipe is one code
    with one digest, and a run goes through one branch. What more there is to train goes to the groups in turn.
    """
    rest = []
    for group in groups:
        ordered = sorted(group.sample, key=_order)
        first = {form(spec): (spec, record) for spec, record in reversed(ordered)}
        group.sample = sorted(first.values(), key=ordered.index)
        rest.append([found for found in ordered if found not in group.sample])
    left = (retrain or 0) - sum(len(group.sample) for group in groups)
    while left > 0 and any(rest):
        for group, more in zip(groups, rest, strict=True):
            if more and left > 0:
                group.sample.append(more.pop(0))
                left -= 1


def _order(found: tuple[RunSpec, RunRecord]) -> tuple[bool, float, str]:
    spec, record = found
    return record.status != "completed", operations(spec), spec.run


def form(spec: RunSpec) -> str:
    """What steers which code a run goes through: the options of its method and recipe, of numbers whether they are 0,
    1 or another, and whether its examples are images."""
    steers = {"options": spec.options, "recipe": spec.recipe.model_dump(mode="json"), "sweep": spec.sweep}
    steers |= {"processes": spec.processes, "kind": data.info(spec.dataset).kind}
    return digest.of(_steers(steers))


def _steers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _steers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_steers(part) for part in value]
    return value if isinstance(value, bool | str | None) or value in (0, 1) else "another"


def _judge(group: Group, again: dict[str, RunRecord], plan: Plan, results: Path, stack: dict[str, str]) -> None:
    """Adopt a group where all that was trained again is the same; else say what differs."""
    for spec, record in group.sample:
        now = again[spec.run]
        if found := differences(record, now):
            more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
            group.wrong.append(f"{spec.run}: recorded and now: {'; '.join(found[:_TOLD])}{more}")
        elif (why := _chosen_otherwise(spec, record, results)) is not None:
            group.wrong.append(f"{spec.run}: {why}")
    if group.wrong:
        return
    runs = [
        {"run": spec.run, "digest": record.digest, "again": again[spec.run].digest, "bits": record.bits}
        for spec, record in group.sample
    ]
    made_at = sorted({str(record.telemetry.commit) for _, record in group.runs})
    content = {"old": group.old, "new": group.new, "stack": stack, "runs": runs, "of": len(group.runs)}
    content |= {"study": plan.name, "made_at": made_at, "commit": machine.commit(), "versions": machine.versions()}
    group.adoption = adoptions.write(Store(results).root, content | {"when": timestamp(time.time())})
