"""Check what files cannot prove: retrain a sample of runs, and measure their networks again."""

import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from scipy import stats

from rdp import data
from rdp.audit.findings import Check
from rdp.audit.runs import StoredRuns
from rdp.errors import UserError
from rdp.jobs import runner
from rdp.jobs.retrain import record_differences, retrain_runs
from rdp.spec import RunSpec
from rdp.store import RunRecord, fingerprint, origin
from rdp.store.record import columns as record_columns
from rdp.study import Cell, Plan
from rdp.tables import measurements
from rdp.utils import digest
from rdp.utils.compare import describe, differences, equal, table_differences
from rdp.utils.humanize import count

LEVEL = 0.99  # of the interval for the accuracy of a run on another stack
_ENOUGH_SEEDS = 5  # for the standard deviation of a single cell
_COUNTED = [name for name, column, _ in record_columns() if column.exact]  # equal on every stack


@dataclass(frozen=True)
class Tolerance:
    """How far a run's accuracy on another stack may be from the recorded one.

    Rounding differs there from the first step on, and the difference grows until the run is like another seed of its
    cell. So the tolerance covers the difference between two seeds in 99 of 100 cases.

    Attributes:
        accuracy: half width of the interval, as a share of 1.
        basis: the source of the standard deviation, in words.
    """

    accuracy: float
    basis: str

    @classmethod
    def of(cls, recorded: float, groups: list[list[float]], examples: int) -> "Tolerance":
        """Return t times the square root of 2 times the larger of two standard deviations.

        One is over seeds, the other that of a share of ``examples``.

        Args:
            recorded: the recorded accuracy, as a share of 1.
            groups: accuracies of seeds by cell; their variances are pooled.
            examples: the number of examples behind the accuracy.
        """
        sampling = math.sqrt(max(recorded * (1 - recorded), 0.25 / examples) / examples)
        width = stats.norm.ppf((1 + LEVEL) / 2) * math.sqrt(2) * sampling
        freedom = sum(len(group) - 1 for group in groups)
        if freedom > 0:
            squares = sum(statistics.variance(group) * (len(group) - 1) for group in groups if len(group) > 1)
            spread = stats.t.ppf((1 + LEVEL) / 2, freedom) * math.sqrt(2 * squares / freedom)
            if spread > width:
                return cls(float(spread), f"spread over seeds, {freedom} degrees of freedom")
        return cls(float(width), f"sampling of {examples:,} examples")


def accuracy(record: RunRecord) -> float:
    """Return the last test accuracy of a run, or the validation accuracy of a sweep's run; 0 if it diverged."""
    if record.status != "completed":
        return 0.0
    if record.numbers.test_accuracy is not None:
        return record.numbers.test_accuracy
    return record.numbers.history[-1].validation_accuracy or 0.0


def draw(runs: StoredRuns, size: int, sample: str) -> list[str]:
    """Draw runs that completed or diverged, with a text as the random seed; returned in the study's order."""
    trained = [run for run, (_, record, _) in runs.items() if record is not None and record.status != "failed"]
    drawn = set(random.Random(sample).sample(sorted(trained), min(size, len(trained))))
    return [run for run in trained if run in drawn]


def check(plan: Plan, results: Path, scratch: Path, drawn: list[str], runs: StoredRuns, cores: int) -> Iterator[Check]:
    """Yield the check of retrained runs, and if the study has probes, the check of their networks' measurements.

    Runs are compared bit for bit on the stack of their records, and within a `Tolerance` elsewhere.
    """
    device = runner.choose_device(plan.device)
    pairs = [(spec, record) for spec, record, _ in map(runs.__getitem__, drawn) if record is not None]
    stacks = {spec.run: fingerprint.stack_of(spec, device) for spec, _ in pairs}
    same_stack = {spec.run: record.identity.stack == digest.of(stacks[spec.run]) for spec, record in pairs}
    check = Check("retraining", "Retrained runs give the weights, history and metrics of their records.", "run")
    retrained = check.attempt("retraining", retrain_runs, pairs, results, scratch, device, cores)
    for (spec, record), new in zip(pairs, retrained or [], strict=retrained is not None):
        check.checked += 1
        if new.status == "failed":
            check.find(spec.run, f"failed when retrained: {new.reason}")
        elif same_stack[spec.run]:
            lines = record_differences(record, new)
            check.find(spec.run, *lines)
            if not lines:
                check.notes.append(f"{spec.run}: bitwise equal, accuracy {accuracy(record):.4f}")
        else:
            _check_tolerance(check, spec, record, new, runs)
    if retrained is not None and any(same_stack.values()):
        check.notes.append(
            f"{count(sum(same_stack.values()), 'run')} compared bit for bit, on the stack of the records"
        )
    if retrained is not None and not all(same_stack.values()):
        stack = next(stacks[run] for run, same in same_stack.items() if not same)
        present = ", ".join(f"{name} {value}" for name, value in stack.items())
        check.notes.append(f"this is not the stack of the records: {present}; accuracies compared within a tolerance")
    yield check
    if plan.study.probes:
        yield _check_measurements(plan, results, {run for run in same_stack if same_stack[run]})


def _check_tolerance(check: Check, spec: RunSpec, record: RunRecord, new: RunRecord, runs: StoredRuns) -> None:
    """Compare a run that was retrained on another stack: counts exactly, accuracy within a tolerance."""
    counts = [{name: getattr(r.numbers, name) for name in _COUNTED} for r in (record, new)]
    check.find(spec.run, *describe(differences(*counts), "retraining gives"))
    if record.status != new.status:
        check.find(spec.run, f"status: {record.status}; retraining on another stack gives {new.status}")
        return
    examples = data.info(spec.dataset).sizes["validation" if spec.sweep else "test"]
    first, second = accuracy(record), accuracy(new)
    tolerance = Tolerance.of(first, _seeds(spec, runs), examples)
    line = f"accuracy: {first:.4f}; retraining on another stack gives {second:.4f}"
    line += f" (tolerance {tolerance.accuracy:.4f}, {tolerance.basis})"
    if equal(first, second, tolerance.accuracy):
        check.notes.append(f"{spec.run}: {line}")
    else:
        check.find(spec.run, line)


def _seeds(spec: RunSpec, runs: StoredRuns) -> list[list[float]]:
    """Return the accuracies of a run's cell, or, if it has few seeds, of each cell on its dataset."""
    cells: dict[str, list[float]] = {}
    for other, record, _ in runs.values():
        if (other.dataset, other.sweep) == (spec.dataset, spec.sweep) and record and record.status == "completed":
            cells.setdefault(other.cell, []).append(accuracy(record))
    own = cells.get(spec.cell, [])
    return [own] if len(own) >= _ENOUGH_SEEDS else list(cells.values())


def _check_measurements(plan: Plan, results: Path, runs: set[str]) -> Check:
    check = Check("remeasuring", "Probes of the drawn runs' networks give the rows of their tables.", "network")
    if origin.is_recorded(results):
        check.notes.append("recorded results hold no weights, so probes cannot be repeated")
        return check
    for cell in plan.cells:
        drawn = frozenset(spec.run for spec in cell.specs if spec.run in runs)
        for name in cell.probes if drawn else ():
            _check_probe(check, plan, results, name, cell, drawn)
    return check


def _check_probe(check: Check, plan: Plan, results: Path, name: str, cell: Cell, runs: frozenset[str]) -> None:
    path = results / plan.name / "probes" / f"{name}.parquet"
    columns = measurements.columns(name)
    try:
        stored = measurements.read(plan.name, name, results)
        rows = measurements.measure_cell(cell, study=plan.study, name=name, results=results, runs=runs)
        measured = pd.DataFrame(rows, columns=columns)
    except UserError as error:
        check.find_lines([error])
        return
    if not set(columns) <= set(stored):  # reported by the check of measurements
        return
    check.checked += measured["run"].nunique()
    drawn = stored.loc[stored["run"].isin(runs), columns]
    tables = (table.sort_values("run", kind="stable") for table in (drawn, measured))
    check.find(path, *describe(table_differences(*tables), "measuring again gives"))
