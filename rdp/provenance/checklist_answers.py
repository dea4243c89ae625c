"""Compute the answers to the paper checklist that depend on a study's records.

An answer covers what the study's report says and what its records hold, not what a paper adds to them.
"""

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from rdp.claims.model import KINDS
from rdp.provenance.evidence import NOT_TESTED, Evidence
from rdp.report.forms import listed, ranges
from rdp.utils.humanize import count, duration

Word = Literal["Yes", "No", "NA", "not provable from records"]
YES: Word = "Yes"
NO: Word = "No"
NA: Word = "NA"
UNPROVABLE: Word = "not provable from records"
_LISTED = 5  # cells or runs that a sentence lists
_CLOSED_FORMS_PROBE, _CLOSED_FORMS_CLAIM = "surviving_neurons", "PNNH-3"


@dataclass(frozen=True)
class Answer:
    """An answer to one question.

    Attributes:
        word: the answer.
        because: sentences that give the reason, with numbers from the records.
        see: evidence beside that in report/checklist.yaml: file paths below the study's products, sections of the page
            as ``report/index.html#…``, and ``study``, ``lock`` or ``data/NAME``.
    """

    word: Word
    because: list[str]
    see: list[str] = field(default_factory=list)


def claims(evidence: Evidence) -> Answer:
    """Yes if a claim was tested, because the report claims exactly its verdict."""
    tested = evidence.tested()
    total = count(len(evidence.claims["claims"]), "claim")
    if not tested:
        return Answer(NA, [f"None of {total} could be tested, so the report makes no claim."])
    because = [
        f"{len(tested)} of {total} {'was' if len(tested) == 1 else 'were'} tested. The page and the abstract of the "
        "paper made from the records give each verdict with its scale."
    ]
    for kind in KINDS:
        words = [f"{n} {word}" for word, n in evidence.verdicts(kind).items() if word != NOT_TESTED]
        datasets = ", ".join(evidence.of_kind(kind)) or "the study has none"
        because.append(f"On {kind} data ({datasets}): {listed(words) if words else 'nothing was tested'}.")
    late = [claim["name"] for claim in tested if claim["runs_before_it"]]
    because.append(
        f"The text of {listed(late)} is newer than runs that decide it, as the report says."
        if late
        else "The text of each of them is older than the first run that decides it."
    )
    return Answer(YES, [*because, "The records cannot show what a paper claims beyond this."])


def limitations(evidence: Evidence) -> Answer:
    """Yes, because the report states them from the records."""
    plan, done = evidence.plan, evidence.done
    seeds = count(len(plan.study.seed_list()), "seed")
    because = [f"The report states them from the records: {listed([*evidence.datasets])} only, with {seeds} per cell."]
    largest, longest = done["parameters"].max(), done["steps"].max()
    if pd.notna(largest) and pd.notna(longest):
        because.append(
            f"No network has more than {largest:,.0f} parameters, and no run took more than {longest:,.0f} steps."
        )
    if not evidence.of_kind(KINDS[0]):
        because.append("All its data were used to choose defaults, so nothing here confirms a claim.")
    if plan.skipped:
        because.append(f"{count(len(plan.skipped), 'cell')} left out, each with its reason.")
    if evidence.unfinished:
        because.append(f"{_unfinished(evidence)}.")
    because.append("A table lists the choices that the papers do not specify.")
    return Answer(YES, because)


def theory(evidence: Evidence) -> Answer:
    """NA, because a study proves nothing; names the closed forms that were compared with networks."""
    because, see = ["The study states no theorem, and the report holds no proof."], []
    claim = {claim["name"]: claim for claim in evidence.tested()}.get(_CLOSED_FORMS_CLAIM)
    if _CLOSED_FORMS_PROBE in evidence.plan.study.probes and claim:
        verdicts = {kind: verdict["verdict"] for kind, verdict in claim["verdicts"].items()}
        words = [f"{verdict} on {kind} data" for kind, verdict in verdicts.items() if verdict != NOT_TESTED]
        because.append(
            "Closed forms that follow from a paper's assumptions are compared with measured networks: "
            f"{_CLOSED_FORMS_CLAIM} is {listed(words)}."
        )
        see = [f"report/index.html#claim-{_CLOSED_FORMS_CLAIM}"]
    return Answer(NA, because, see)


def reproducibility(evidence: Evidence) -> Answer:
    """Yes if every run left a record, trained at a known commit without further changes."""
    because, faults, done = [], [], evidence.done
    absent = evidence.counts.get("failed", 0) + evidence.counts.get("missing", 0)
    if absent:
        runs = count(len(evidence.records), "run")
        faults.append(f"{absent} of {runs} left no number: {_unfinished(evidence, diverged=False)}.")
    if unknown := int(done["commit"].isna().sum()):
        faults.append(f"The commit of {count(unknown, 'run')} is not known.")
    if dirty := [commit for commit in evidence.commits if commit.endswith("+")]:
        faults.append(f"Runs were trained with uncommitted changes ({', '.join(dirty)}).")
    if len(done):
        numbers = {name: done[f"{name}_digest"].nunique() for name in ("data", "code", "stack")}
        because = [
            f"{count(len(done), 'run')} left a record with the specification, the seed, and digests of "
            f"data ({numbers['data']}), code ({numbers['code']}) and stack ({numbers['stack']})"
            + (f"; commit {listed(evidence.commits)}." if evidence.commits else "."),
            "Study file, lock and commit suffice to retrain them.",
        ]
    because += evidence.recording[-1:]  # whether this checkout's code made the recorded runs
    command = f"rdp audit {evidence.plan.name} --retrain 3"
    if evidence.recording:
        command = f"snakemake --cores all audit --config study={evidence.plan.name} records=recorded retrain=3"
    because.append(f"Only retraining shows that it gives the same numbers ({command}).")
    return Answer(NO if faults or done.empty else YES, [*faults, *because])


def access(evidence: Evidence) -> Answer:
    """No if a dataset needs a permission; otherwise the records do not say whether the code is public."""
    because = [f"No command downloads {name}. To get it: {way}." for name, way in evidence.manual_access.items()]
    because += [f"{name}: {way}." for name, way in evidence.open_access.items()]
    commits = listed(evidence.commits) if evidence.commits else "not known"
    because.append(
        f"The records name the commit of the code ({commits}), and one command leads from it to the report. "
        "The licence is Apache-2.0. The records do not say where it is published."
    )
    return Answer(NO if evidence.manual_access else UNPROVABLE, because)


def setting(evidence: Evidence) -> Answer:
    """Yes, because every record holds its specification, and the report shows them."""
    plan = evidence.plan
    recipes = {cell.specs[0].recipe.model_dump_json(): cell.specs[0].recipe for cell in plan.cells}.values()
    values = {
        name: ", ".join(str(value) for value in dict.fromkeys(getattr(recipe, name) for recipe in recipes))
        for name in ("optimizer", "epochs", "batch_size")
    }
    sizes = {name: " / ".join(f"{size:,}" for size in info.sizes.values()) for name, info in evidence.datasets.items()}
    splits = "; ".join(f"{name} {size}" for name, size in sizes.items())
    fewer = sorted({recipe.train_size for recipe in recipes if recipe.train_size is not None})
    splits += f". Runs train on {listed([f'{size:,}' for size in fewer], 'or')} of them" if fewer else ""
    because = [
        f"{count(len(recipes), 'recipe')} for {count(len(plan.cells), 'cell')}: optimizer {values['optimizer']}, "
        f"epochs {values['epochs']}, batch size {values['batch_size']}; the study file and every record hold the rest.",
        f"Training / validation / test examples: {splits}.",
    ]
    if plan.sweep:
        because.append(
            f"Learning rates were chosen on validation examples by {count(len(plan.sweep), 'run')} of sweeps. "
            "They are the same for every method and never read the test split."
        )
    else:
        because.append("The study file gives the learning rates; the records do not say how they were chosen.")
    return Answer(YES, because, ["sweep.parquet"] if plan.sweep else [])


def significance(evidence: Evidence) -> Answer:
    """Yes if every mean has an interval over seeds, that is two runs or more."""
    sizes = [cell.accuracy.n for cell in evidence.cells]
    few = [f"{cell.method} ({cell.setting.title})" for cell in evidence.cells if cell.accuracy.n < 2]
    see = ["figures/differences.svg"] if "differences" in evidence.figures else []
    if few:
        cells = f"{len(few)} of {count(len(sizes), 'cell')} {'has' if len(few) == 1 else 'have'}"
        return Answer(NO, [f"{cells} fewer than two runs with an accuracy, so no interval: {_first(few)}."], see)
    span = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    level = evidence.claims["level"]
    because = [
        f"Every mean test accuracy has a {100 * (1 - level):g} % t interval over {span} seeds; differences are paired "
        "by seed. These cover the spread over seeds: weights, order of data and masks.",
        f"Claims are decided at level {level:g} after Holm's correction, with the test set's own sampling error from "
        "the predictions; on par means two one-sided tests.",
    ]
    if diverged := evidence.counts.get("diverged", 0):
        because.append(f"{count(diverged, 'run')} diverged and {'counts' if diverged == 1 else 'count'} at chance.")
    return Answer(YES, because, see)


def compute(evidence: Evidence) -> Answer:
    """Yes if each run with a record gives its device and time."""
    plan, done = evidence.plan, evidence.done
    timed = done[done["seconds"].notna() & done["device"].notna()]
    if timed.empty:
        return Answer(NO, ["No record gives its device and time."])
    untimed = len(done) - len(timed)
    faults = [f"{count(untimed, 'run')} with a record, but without its device or time."] if untimed else []
    threads = ranges(set(timed["threads"].astype(int)))
    threads += " thread" if threads == "1" else " threads"
    threads += f" in {plan.study.processes} processes" if plan.study.processes > 1 else ""
    seconds = timed["seconds"]
    because = [
        f"{count(len(timed), 'run')} took {duration(seconds.sum())} together, {seconds.median():.1f} s in the median "
        f"and {seconds.max():.1f} s at most, each with {threads}.",
        *[f"{count(row['runs'], 'run')} on {row['device']}." for row in evidence.machines],
    ]
    if pd.notna(peak := timed["process_peak_bytes"].max()):
        because.append(f"The training process used {peak / 1e9:.1f} GB of memory at most.")
    if plan.sweep:
        time = "an unknown time" if evidence.sweep_seconds is None else duration(evidence.sweep_seconds)
        because.append(f"In addition, {count(len(plan.sweep), 'run')} of sweeps took {time}.")
    because.append("The time of probes, figures, and runs without a record is not known.")
    return Answer(NO if faults else YES, [*faults, *because])


def licences(evidence: Evidence) -> Answer:
    """Yes if the terms of every dataset are known."""
    unknown = evidence.without_licence()
    because = [f"The terms of {listed(unknown)} are not known."] if unknown else []
    because += [
        f"{name}: {info.licence or 'no licence given'}; {info.origin}." for name, info in evidence.datasets.items()
    ]
    because.append("The lock names packages with versions and checksums; the records do not hold their licences.")
    return Answer(NO if unknown else YES, because)


def assets(evidence: Evidence) -> Answer:
    """Yes if there are records, which document themselves."""
    if evidence.done.empty:
        return Answer(NA, ["Nothing is trained yet."])
    because = [
        f"New assets are {count(len(evidence.done), 'record')} and their products. Each record names its "
        "specification, data, code and stack; the page explains how products are made. The licence is Apache-2.0.",
        "`rdp crate` packs them with their description, but without the trained networks.",
    ]
    return Answer(YES, because)


ANSWERS = {  # by the names in report/checklist.yaml
    "Claims": claims,
    "Limitations": limitations,
    "Theory, assumptions and proofs": theory,
    "Reproducibility of the experiments": reproducibility,
    "Open access to data and code": access,
    "Experimental setting": setting,
    "Statistical significance": significance,
    "Compute resources": compute,
    "Licences of what is used": licences,
    "New assets": assets,
}


def _unfinished(evidence: Evidence, *, diverged: bool = True) -> str:
    rows = [row for row in evidence.unfinished if diverged or row["status"] != "diverged"]
    return _first([f"{row['cell']}, seed {row['seeds']}, {row['status']}" for row in rows], "; ")


def _first(names: list[str], separator: str = ", ") -> str:
    """Join the first few names, and the number of the others."""
    others = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return separator.join([*names[:_LISTED], *others])
