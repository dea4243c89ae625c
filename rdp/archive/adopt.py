"""Adopt runs of other code: accept a change of the training code once retrained runs give the same bits.

Stale runs are grouped by the code that made them, this checkout's code and the stack. A sample of each group is
retrained from its first step. If everything under the records' digests agrees except the code, an adoption is written
(`rdp.store.adoptions`). If the runs have a sweep, it must be valid and still choose what they were trained with.
"""

import logging
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rdp import data
from rdp.data import prepared
from rdp.jobs import retrain as retraining
from rdp.jobs import runner, tuning
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store, adoptions, fingerprint, origin, scratch, timestamp
from rdp.study import Plan
from rdp.study.states import states
from rdp.study.workload import operations
from rdp.utils import digest, machine
from rdp.utils.humanize import count

log = logging.getLogger(__name__)
_SHOWN = 4  # differences of a run


@dataclass
class Group:
    """Stale runs that one version of the code made on one stack."""

    old: str  # digest of the code that made them
    new: str  # digest of this checkout's code for them
    stack: str  # digest of the stack
    runs: list[tuple[RunSpec, RunRecord]] = field(default_factory=list)  # the runs with their records
    sample: list[tuple[RunSpec, RunRecord]] = field(default_factory=list)  # the runs to retrain
    obstacles: list[str] = field(default_factory=list)  # the reasons against adoption, one line each
    adoption: Path | None = None  # the file of the adoption, if there is no obstacle

    @property
    def title(self) -> str:
        """The group's cells in words."""
        spec = self.runs[0][0]
        kind = f"{spec.architecture}/{spec.dataset}/{spec.method}" + (" in sweeps" if spec.sweep else "")
        cells = len({spec.cell for spec, _ in self.runs})
        return kind + (f" and {count(cells - 1, 'more cell')}" if cells > 1 else "")


def adopt(plan: Plan, results: Path, *, retrain: int | None = None, cores: int = 1) -> list[Group]:
    """Retrain a sample of a study's stale runs, and write an adoption for each group whose bits agree.

    Args:
        plan: the study.
        results: its results directory.
        retrain: number of runs to retrain in all; see `choose` for the minimum.
        cores: cores to train on in parallel.

    Returns:
        All groups, adopted or not.

    Raises:
        UserError: a damaged record, or recorded results.
        Terminated: SIGTERM came.
    """
    origin.refuse(results)
    groups = _stale(plan, results)
    device = runner.choose_device(plan.device) if groups else ""
    data_digest = cache(lambda name: prepared.load(name, results).digest)
    for group in groups:
        obstacles = {
            spec.run: obstacle(record, fingerprint.stack_of(spec, device), data_digest(spec.dataset))
            for spec, record in group.runs
        }
        trainable = [(spec, record) for spec, record in group.runs if obstacles[spec.run] is None]
        if any(record.status == "completed" for _, record in trainable):
            group.sample = trainable
        elif trainable:
            run = trainable[0][0].run
            group.obstacles.append(f"{run}: it and all runs like it diverged, which leaves too few numbers to compare")
        else:
            run, reason = next(iter(obstacles.items()))
            group.obstacles.append(f"{run}: cannot be retrained for a comparison: {reason}")
    sampled = [group for group in groups if group.sample]
    choose(sampled, retrain)
    if not sampled:
        return groups
    pairs = [pair for group in sampled for pair in group.sample]
    log.info("retraining %s", count(len(pairs), "run"))
    with scratch.temporary_folder(Store(results), scratch.RETRAINED) as folder:
        retrained = retraining.retrain_runs(pairs, results, folder, plan.device, cores)
    records = {spec.run: record for (spec, _), record in zip(pairs, retrained, strict=True)}
    # Sweeps come before the runs that they choose for.
    for group in sorted(sampled, key=lambda group: bool(group.sample[0][0].tuning)):
        _judge(group, records, plan, results, device)
    return groups


def _stale(plan: Plan, results: Path) -> list[Group]:
    store = Store(results)
    groups: dict[tuple[str, str, str], Group] = {}
    for spec, state in states(plan, results):
        if state.status == "stale" and (record := store.read_finished(spec.run)) is not None:
            key = record.identity.code, fingerprint.code_of(spec), record.identity.stack
            groups.setdefault(key, Group(*key)).runs.append((spec, record))
    return list(groups.values())


def obstacle(record: RunRecord, stack: dict[str, str], data_digest: str) -> str | None:
    """Return why a run cannot be retrained here to the same bits, or None. Stack and data are those of this machine."""
    if record.status == "failed":
        return "it failed and has no numbers"
    if record.identity.stack != digest.of(stack):
        theirs = record.telemetry.stack
        other = [f"{n} {theirs.get(n)}, here {stack.get(n)}" for n in theirs | stack if theirs.get(n) != stack.get(n)]
        return f"it was trained on another stack ({'; '.join(other)})"
    if record.identity.data != data_digest:
        return f"it was trained on other data (digest {record.identity.data[:12]}, here {data_digest[:12]})"
    return None


def _sweep_obstacle(spec: RunSpec, record: RunRecord, results: Path, device: str) -> str | None:
    """Return why this checkout's sweep would not choose what a run was trained with, or None."""
    store, swept = Store(results), []
    for candidate in spec.candidates():
        stack = digest.of(fingerprint.stack_of(candidate, device))
        identity = record.identity.model_copy(
            update={"spec": candidate.spec_digest, "code": fingerprint.code_of(candidate), "stack": stack}
        )
        if (candidate_record := store.find(candidate.run, identity)) is None:
            return f"its sweep is not valid for this checkout: {candidate.run} is missing or not adopted"
        swept.append(candidate_record)
    return tuning.disagreement(spec, record, swept) if swept else None


def choose(groups: list[Group], retrain: int | None) -> None:
    """Reduce the sample of each group to the runs to retrain.

    The sample holds at least one run of each `form`, because runs of one code digest can take different branches of
    the code. The rest of ``retrain`` is spread over the groups in turn. Completed runs come before diverged ones, which
    have few numbers; then cheap ones before expensive ones, by counted operations.
    """
    rest = []
    for group in groups:
        ordered = sorted(group.sample, key=_priority)
        first = {form(spec): (spec, record) for spec, record in reversed(ordered)}
        group.sample = sorted(first.values(), key=ordered.index)
        rest.append([pair for pair in ordered if pair not in group.sample])
    left = (retrain or 0) - sum(len(group.sample) for group in groups)
    while left > 0 and any(rest):
        for group, more in zip(groups, rest, strict=True):
            if more and left > 0:
                group.sample.append(more.pop(0))
                left -= 1


def _priority(pair: tuple[RunSpec, RunRecord]) -> tuple[bool, float, str]:
    spec, record = pair
    return record.status != "completed", operations(spec), spec.run


def form(spec: RunSpec) -> str:
    """Digest of what decides which branches of the code a run takes.

    These are the options of its method and recipe, with numbers other than 0 and 1 taken as equal, and the kind of its
    examples.
    """
    options = {"options": spec.options, "recipe": spec.recipe.model_dump(mode="json"), "sweep": spec.sweep}
    options |= {"processes": spec.processes, "kind": data.info(spec.dataset).kind}
    return digest.of(_generalize(options))


def _generalize(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _generalize(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_generalize(part) for part in value]
    return value if isinstance(value, bool | str | None) or value in (0, 1) else "another"


def _judge(group: Group, retrained: dict[str, RunRecord], plan: Plan, results: Path, device: str) -> None:
    """Adopt a group if its whole sample agrees; else add the differences to its obstacles."""
    for spec, record in group.sample:
        if differences := retraining.record_differences(record, retrained[spec.run]):
            more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
            group.obstacles.append(f"{spec.run}: {'; '.join(differences[:_SHOWN])}{more}")
        elif (reason := _sweep_obstacle(spec, record, results, device)) is not None:
            group.obstacles.append(f"{spec.run}: {reason}")
    if group.obstacles:
        return
    runs = [
        {"run": spec.run, "digest": record.digest, "again": retrained[spec.run].digest, "bits": record.bits}
        for spec, record in group.sample
    ]
    made_at = sorted({str(record.telemetry.commit) for _, record in group.runs})
    stack = fingerprint.stack_of(group.sample[0][0], device)  # that of all, or they would not be in the sample
    content = {"old": group.old, "new": group.new, "stack": stack, "runs": runs, "of": len(group.runs)}
    content |= {"study": plan.name, "made_at": made_at, "commit": machine.commit(), "versions": machine.versions()}
    group.adoption = adoptions.write(Store(results).root, content | {"when": timestamp(time.time())})
