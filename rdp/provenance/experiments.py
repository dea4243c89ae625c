"""What a study's records answer of its experiments: what they show, how sure, with what, and at what cost."""

import math

from rdp.claims.model import KINDS
from rdp.provenance.answer import NA, NO, YES, Answer, some
from rdp.provenance.evidence import NOT_TESTED, Evidence
from rdp.report.formatting import listed, ranges
from rdp.utils.humanize import count

_CLOSED_FORMS, _CLAIM_OF_CLOSED_FORMS = "surviving_neurons", "PNNH-3"


def claims(e: Evidence) -> Answer:
    """Yes where some claim was tested: the report claims its verdict and no more."""
    tested, see = e.tested(), ["claims.json", "report/index.html#claims", "report/paper.pdf"]
    if not tested:
        return Answer(NA, [f"None of {count(len(e.claims['claims']), 'claim')} could be tested: none is made."], see)
    because = [
        f"Of {count(len(e.claims['claims']), 'claim')}, {len(tested)} {_was(len(tested))} tested; the page and the "
        "abstract of the paper that is made from the records give each verdict, and at which scale."
    ]
    for kind in KINDS:
        found = e.verdicts(kind)
        words = [f"{n} {word}" for word, n in found.items() if word != NOT_TESTED]
        on = f"On {kind} data ({', '.join(e.of_kind(kind)) or 'of which the study has none'})"
        because.append(f"{on}: {listed(words) if words else 'nothing was tested, so nothing is claimed'}.")
    late = [claim["name"] for claim in tested if claim["runs_before_it"]]
    because.append(
        f"The text of {listed(late)} is younger than runs that decide it, and the report says so."
        if late
        else "The text of every one of them was seen before the first run that decides it."
    )
    return Answer(YES, [*because, "What a paper claims beside this, the records cannot know."], see)


def limitations(e: Evidence) -> Answer:
    """Yes: the report states them from the records."""
    done = e.done
    because = [
        f"They are stated from the records: {listed([*e.datasets])} alone, with "
        f"{count(len(e.plan.study.seed_list()), 'seed')} a cell."
    ]
    if _known(largest := done["parameters"].max()) and _known(longest := done["steps"].max()):
        because.append(
            f"No network has more than {largest:,.0f} parameters, and no run took more than {longest:,.0f} steps."
        )
    if not e.of_kind(KINDS[0]):
        because.append("All its data were explored while defaults were chosen, so nothing here confirms a claim.")
    if e.plan.skipped:
        because.append(f"{count(len(e.plan.skipped), 'cell')} left out, each with its reason.")
    if e.unfinished:
        because.append(f"{_unfinished(e)}.")
    because.append("What the papers do not say and was chosen is in a table of its own.")
    sections = [f"report/index.html#{name}" for name in ("summary", "missing", "choices")]
    return Answer(YES, because, ["report/paper.pdf", *sections])


def theory(e: Evidence) -> Answer:
    """NA: a study proves nothing. Closed forms that it is held against are told, with what became of them."""
    because = ["The study states no theorem, and the report holds no proof."]
    see = ["report/paper.pdf"]
    found = {claim["name"]: claim for claim in e.tested()}.get(_CLAIM_OF_CLOSED_FORMS)
    if _CLOSED_FORMS in e.plan.study.probes and found:
        words = [
            f"{v['verdict']} on {kind} data" for kind, v in found["verdicts"].items() if v["verdict"] != NOT_TESTED
        ]
        because.append(
            f"Closed forms that follow from a paper's assumptions are held against measured networks: "
            f"{_CLAIM_OF_CLOSED_FORMS} is {listed(words)}."
        )
        see.insert(0, f"report/index.html#claim-{_CLAIM_OF_CLOSED_FORMS}")
    return Answer(NA, because, see)


def reproducibility(e: Evidence) -> Answer:
    """Yes where every run of the study left a record, at a commit that is known and whole."""
    because, wrong = [], []
    absent = e.counts.get("failed", 0) + e.counts.get("missing", 0)
    if absent:
        wrong.append(f"{absent} of {count(len(e.records), 'run')} left no number: {_unfinished(e, diverged=False)}.")
    if len(e.done) and e.done["commit"].isna().any():
        wrong.append(f"The commit of {count(int(e.done['commit'].isna().sum()), 'run')} is not known.")
    dirty = [commit for commit in e.commits if commit.endswith("+")]
    if dirty:
        wrong.append(f"Runs were trained with changes that are in no commit ({', '.join(dirty)}).")
    if len(e.done):
        kinds = {name: e.done[f"{name}_digest"].nunique() for name in ("data", "code", "stack")}
        because.append(
            f"{count(len(e.done), 'run')} left a record that names its specification with seed, and by digests its "
            f"data ({kinds['data']}), code ({kinds['code']}) and machine with versions ({kinds['stack']})"
            + (f"; commit {listed(e.commits)}." if e.commits else ".")
        )
        because.append("Study file, lock and commit are all that it takes to train them again.")
    because += e.recording[-1:]  # whether this checkout has the code that made recorded runs
    doing = f"rdp audit {e.plan.name} --retrain 3"
    if e.recording:
        doing = f"snakemake --cores all audit --config study={e.plan.name} records=recorded retrain=3"
    because.append(f"That training again gives the same numbers is shown by doing it ({doing}), not by these records.")
    see = ["records.parquet", "study", "lock", "report/index.html#missing", "report/index.html#run-with"]
    return Answer(NO if wrong or not len(e.done) else YES, [*wrong, *because], see)


def setting(e: Evidence) -> Answer:
    """Yes: every record holds its specification, and the report shows them."""
    specs = [cell.specs[0] for cell in e.plan.cells]
    recipes = {spec.recipe.model_dump_json(): spec.recipe for spec in specs}.values()
    told = {
        name: ", ".join(str(value) for value in dict.fromkeys(getattr(recipe, name) for recipe in recipes))
        for name in ("optimizer", "epochs", "batch_size")
    }
    splits = "; ".join(f"{n} {' / '.join(f'{size:,}' for size in i.sizes.values())}" for n, i in e.datasets.items())
    fewer = sorted({recipe.train_size for recipe in recipes if recipe.train_size is not None})
    splits += f". Trained on are {listed([f'{size:,}' for size in fewer], 'or')} of them" if fewer else ""
    because = [
        f"{count(len(recipes), 'recipe')} for {count(len(e.plan.cells), 'cell')}: optimizer {told['optimizer']}, "
        f"epochs {told['epochs']}, batches of {told['batch_size']}; all else is in the study file and in every record.",
        f"Examples to train on / validate / test: {splits}.",
    ]
    if e.plan.sweep:
        because.append(
            f"Learning rates were chosen on validation examples, by {count(len(e.plan.sweep), 'run')} of sweeps that "
            "are the same for every method and never read the test split."
        )
    else:
        because.append("Learning rates are given in the study file; how they were found is not in the records.")
    swept = ["sweep.parquet"] if e.plan.sweep else []
    return Answer(YES, because, ["report/index.html#run-with", "study", "records.parquet", *swept])


def significance(e: Evidence) -> Answer:
    """Yes where every mean has an interval over seeds: two runs or more."""
    sizes = [cell.accuracy.n for cell in e.cells]
    few = [f"{cell.method} ({cell.setting.title})" for cell in e.cells if cell.accuracy.n < 2]
    see = ["tables/accuracy.csv", "report/index.html#accuracy", "claims.json", "report/index.html#claims"]
    see += ["figures/differences.svg"] if "differences" in e.figures else []
    if few:
        which = "No cell" if len(few) == len(sizes) else f"{len(few)} of {count(len(sizes), 'cell')}"
        verb = "has" if len(few) in (1, len(sizes)) else "have"
        negated = "" if len(few) == len(sizes) else " no"
        because = [
            f"{which} {verb}{negated} two runs with an accuracy, without which there is no interval: {some(few)}."
        ]
        return Answer(NO, because, see)
    span = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    because = [
        f"Every mean test accuracy has a {100 * (1 - e.claims['level']):g} % t interval over {span} seeds; differences "
        "are paired by seed. These cover the spread over seeds: weights, order of data and masks.",
        f"Claims are decided at level {e.claims['level']:g} after Holm's correction, with the test set's own sampling "
        "error from the predictions; on par means two one-sided tests.",
    ]
    diverged = e.counts.get("diverged", 0)
    if diverged:
        because.append(f"{count(diverged, 'run')} diverged and {'counts' if diverged == 1 else 'count'} at chance.")
    return Answer(YES, because, see)


def compute(e: Evidence) -> Answer:
    """Yes where each run with a record tells device and time."""
    done, see = (
        e.done,
        ["records.parquet", *(f"report/index.html#{name}" for name in ("cost", "compute-cost", "run-with"))],
    )
    timed = done[done["seconds"].notna() & done["device"].notna()]
    if timed.empty:
        return Answer(NO, ["No run has told its device and its time."], see)
    wrong = []
    if len(timed) < len(done):
        wrong.append(f"{count(len(done) - len(timed), 'run')} with a record told no device or no time.")
    cores = ranges(set(timed["threads"].astype(int)))
    processes = e.plan.study.processes
    with_ = f"{cores} thread{'' if cores == '1' else 's'}" + (f" in {processes} processes" if processes > 1 else "")
    because = [
        f"{count(len(timed), 'run')} took {hours(timed['seconds'].sum())} together, {timed['seconds'].median():.1f} s "
        f"in the median and {timed['seconds'].max():.1f} s at most, each with {with_}.",
        *[f"{count(row['runs'], 'run')} on {row['device']}." for row in e.machines],
    ]
    if _known(most := timed["process_peak_bytes"].max()):
        because.append(f"The process that trains took {most / 1e9:.1f} GB of memory at most.")
    if e.plan.sweep:
        took = "an unknown time" if e.swept is None else hours(e.swept)
        because.append(f"Beside them, {count(len(e.plan.sweep), 'run')} of sweeps took {took}.")
    because.append("Of probes, of figures, and of what was tried and left no record, the time is not known.")
    return Answer(NO if wrong else YES, [*wrong, *because], see)


def hours(seconds: float) -> str:
    """``2.5 hours``, ``14 minutes`` or ``40 s``."""
    if seconds >= 5400:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} s"


def _unfinished(e: Evidence, *, diverged: bool = True) -> str:
    rows = [row for row in e.unfinished if diverged or row["status"] != "diverged"]
    return some([f"{row['cell']}, seed {row['seeds']}, {row['status']}" for row in rows], "; ")


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
