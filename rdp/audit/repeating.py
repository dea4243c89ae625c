"""The checks that files alone cannot pass: a sample of runs, trained again from the first step, and measured again."""

import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from rdp import data, probes
from rdp.audit.findings import Check
from rdp.audit.runs import Read
from rdp.errors import UserError
from rdp.jobs import retrain, runner
from rdp.spec import RunSpec
from rdp.store import RunRecord, fingerprint, origin
from rdp.store.record import columns
from rdp.study import Cell, Plan
from rdp.tables import measurements
from rdp.utils import compare, digest
from rdp.utils.humanize import count

LEVEL = 0.99  # of the interval that a run on another stack is expected in
_ENOUGH = 5  # seeds of a cell, for its own standard deviation
_COUNTED = tuple(name for name, column, _ in columns() if column.exact)


@dataclass(frozen=True)
class Tolerance:
    """How far a run's accuracy on another stack may lie from the recorded one.

    Rounding differs there from the first step on, and the difference grows: after enough steps a run is, at worst,
    like another seed of its cell. So it may lie as far off as two seeds do in 99 of 100 cases.

    Attributes:
        accuracy: the width to either side, as a share of 1.
        rests_on: what it is taken from, in words.
    """

    accuracy: float
    rests_on: str

    @classmethod
    def of(cls, recorded: float, groups: list[list[float]], examples: int) -> "Tolerance":
        """Student's t times the square root of two times a standard deviation: that over seeds, or, where it is greater
        or they are too few, that of the sampling of the examples that accuracy is a share of.

        Args:
            recorded: the accuracy, as a share of 1.
            groups: accuracies of seeds, by cell; their standard deviations are pooled.
            examples: how many there are.
        """
        sampling = math.sqrt(max(recorded * (1 - recorded), 0.25 / examples) / examples)
        wide = stats.norm.ppf((1 + LEVEL) / 2) * math.sqrt(2) * sampling
        freedom = sum(len(group) - 1 for group in groups)
        if freedom > 0:
            squares = sum(statistics.variance(group) * (len(group) - 1) for group in groups if len(group) > 1)
            spread = stats.t.ppf((1 + LEVEL) / 2, freedom) * math.sqrt(2 * squares / freedom)
            if spread > wide:
                return cls(float(spread), f"the spread over seeds, {freedom} degrees of freedom")
        return cls(float(wide), f"the sampling of {examples:,} examples")


def accuracy(record: RunRecord) -> float:
    """Test accuracy of a completed run, validation accuracy of a sweep's, after the last epoch; 0 of one diverged."""
    if record.status != "completed":
        return 0.0
    value = record.numbers.test_accuracy
    return float((record.numbers.history[-1].validation_accuracy if value is None else value) or 0.0)


def draw(read: Read, wanted: int, sample: str) -> list[str]:
    """The runs to train again: so many of those that completed or diverged, drawn by a text, in the study's order."""
    done = [run for run, (_, record, _) in read.items() if record is not None and record.status != "failed"]
    chosen = set(random.Random(sample).sample(sorted(done), min(wanted, len(done))))
    return [run for run in done if run in chosen]


def check(plan: Plan, results: Path, scratch: Path, chosen: list[str], read: Read, cores: int) -> Iterator[Check]:
    """Train the chosen runs again, and measure their networks again, bit for bit where the stack is the record's."""
    device = runner.choose_device(plan.device)
    stack = fingerprint.stack(device)
    pairs = [(spec, record) for spec, record, _ in map(read.__getitem__, chosen) if record is not None]
    alike = {spec.run: record.identity.stack == digest.of(stack) for spec, record in pairs}
    asks = "Runs trained again from their first step give the weights, the history and the metrics of their records."
    trained = Check("training again", asks, "run")
    again = trained.attempt(lambda: retrain.again(pairs, results, scratch, device, cores))
    for (spec, record), new in zip(pairs, again or [], strict=again is not None):
        trained.looked_at += 1
        if new.status == "failed":
            trained.find(spec.run, f"trained again, it failed: {new.reason}")
        elif alike[spec.run]:
            _check_bits(trained, spec, record, new)
        else:
            _check_within(trained, spec, record, new, read)
    here = ", ".join(f"{name} {value}" for name, value in stack.items())
    if again is not None and any(alike.values()):
        trained.notes.append(f"{count(sum(alike.values()), 'run')} compared bit for bit, on the stack of their records")
    if again is not None and not all(alike.values()):
        trained.notes.append(f"this stack is not the records': {here}; accuracies were held to a tolerance")
    yield trained
    if plan.study.probes:
        yield _measured_again(plan, results, [spec for spec, _ in pairs if alike[spec.run]])


def _check_bits(check: Check, spec: RunSpec, record: RunRecord, new: RunRecord) -> None:
    wrong = retrain.differences(record, new)
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        check.find(spec.run, f"recorded and trained again, it differs: {'; '.join(wrong[:3])}{more}")
    else:
        check.notes.append(f"{spec.run}: the same to the last bit, accuracy {accuracy(record):.4f}")


def _check_within(check: Check, spec: RunSpec, record: RunRecord, new: RunRecord, read: Read) -> None:
    """Hold a run that was trained again on another stack to a tolerance, and what is counted to equality."""
    for name in _COUNTED:
        recorded, again = getattr(record.numbers, name), getattr(new.numbers, name)
        if recorded != again:
            check.find(spec.run, f"{name}: {recorded}; trained again, {again}")
    if record.status != new.status:
        check.find(spec.run, f"{record.status}; trained again, on another stack, {new.status}")
        return
    examples = data.info(spec.dataset).sizes["validation" if spec.sweep else "test"]
    tolerance = Tolerance.of(accuracy(record), _seeds(spec, read), examples)
    first, second = accuracy(record), accuracy(new)
    told = f"accuracy {first:.4f}; trained again, on another stack, {second:.4f}"
    told += f" (tolerance {tolerance.accuracy:.4f}, by {tolerance.rests_on})"
    if abs(first - second) > tolerance.accuracy:
        check.find(spec.run, told)
    else:
        check.notes.append(f"{spec.run}: {told}")


def _seeds(spec: RunSpec, read: Read) -> list[list[float]]:
    """The accuracies of a run's cell, or, where it has few seeds, of all cells on its dataset, cell by cell."""
    found: dict[str, list[float]] = {}
    for other, record, _ in read.values():
        if (other.dataset, other.sweep) == (spec.dataset, spec.sweep) and record and record.status == "completed":
            found.setdefault(other.cell, []).append(accuracy(record))
    own = found.get(spec.cell, [])
    return [own] if len(own) >= _ENOUGH else list(found.values())


def _measured_again(plan: Plan, results: Path, chosen: list[RunSpec]) -> Check:
    """Measure the probes of the chosen runs' networks again, as far as they are measured and their weights are here."""
    check = Check("measuring again", "Probes of the sampled runs' networks give the rows of their tables.", "network")
    if origin.is_recorded(results):
        check.notes.append("recorded results hold no weights: nothing can be measured on them again")
        return check
    runs = {spec.run for spec in chosen}
    for cell in plan.cells:
        mine = [spec.run for spec in cell.specs if spec.run in runs]
        for name in plan.study.probes if mine else ():
            _measure_cell(check, plan, results, name, cell, mine)
    return check


def _measure_cell(check: Check, plan: Plan, results: Path, name: str, cell: Cell, runs: list[str]) -> None:
    where = results / plan.name / "probes" / f"{name}.parquet"
    try:
        table = measurements.read(plan.name, name, results)
        rows = measurements.measure_again(plan, cell, name, results, frozenset(runs))
    except UserError as error:
        check.find_line(error)
        return
    if not set(measurements.columns(name)) <= set(table):  # which the check of measurements finds
        return
    for run in runs:
        told = table[table["run"] == run].to_dict("records")
        found = [row for row in rows if row["run"] == run]
        check.looked_at += bool(found)
        if len(told) != len(found):
            check.find(where, f"{run}: {len(told)} rows; measured again, {len(found)}")
            continue
        wrong = [
            (place, column)
            for place, (one, other) in enumerate(zip(told, found, strict=True), start=1)
            for column in probes.probe(name).COLUMNS
            if not compare.same(one[column], other[column])
        ]
        if wrong:
            place, column = wrong[0]
            check.find(
                where,
                f"{run}, its row {place}, {column}: {told[place - 1][column]}; measured again, "
                f"{found[place - 1][column]} ({count(len(wrong), 'value')} in all)",
            )
