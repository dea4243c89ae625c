"""Answer the NeurIPS paper checklist of a study from its records, with links to the evidence.

Questions and answers are in report/checklist.yaml. An answer covers what the study's report says and what its records
hold, not what a paper adds to them.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from rdp.claims.model import KINDS
from rdp.provenance import evidence as evidence_module
from rdp.provenance.evidence import NOT_TESTED, Evidence
from rdp.report import templating
from rdp.report.formatting import listed, ranges
from rdp.study import Plan
from rdp.utils import distribution, files, paths
from rdp.utils.distribution import LOCK
from rdp.utils.humanize import count, duration

NAME = "checklist.html"
YES, NO, NA, UNPROVABLE = WORDS = ("Yes", "No", "NA", "not provable from records")
_LISTED = 5  # cells or runs that a sentence lists


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        word: one of `WORDS`.
        because: the reason, by paragraph.
        see: the evidence: file paths below the study's products, sections of the page as ``report/index.html#…``, and
            ``study``, ``lock`` or ``data/NAME``.
    """

    word: str
    because: list[str]
    see: list[str]


@dataclass(frozen=True)
class Links:
    """Targets of links to evidence that is not among a study's products, relative to the folder of its report.

    Attributes:
        study: the study file, or the section of the page that shows it.
        lock: the lock, or None for no link.
        data: the folder of the datasets' manifests.
        name: name of the study file.
    """

    study: str
    lock: str | None
    data: str
    name: str

    def link(self, target: str) -> dict[str, str | None]:
        """Return the ``label`` of an entry of `Answer.see`, and its ``href``, or None for no link."""
        if target == "study":
            return {"label": self.name, "href": self.study}
        if target == "lock":
            return {"label": LOCK, "href": self.lock}
        if target.startswith("data/"):
            file = f"{target.removeprefix('data/')}/manifest.json"
            return {"label": f"data/{file}", "href": f"{self.data}/{file}"}
        file, _, section = target.removeprefix("report/").partition("#")
        label = f"page: {section.replace('-', ' ')}" if section else file
        return {"label": label, "href": target.removeprefix("report/") if "report/" in target else f"../{target}"}


def write(plan: Plan, results: Path) -> Path:
    """Write ``report/checklist.html`` of a study, and return its path; its bytes do not depend on any location.

    Raises:
        UserError: tables or verdicts are missing, damaged or of another study.
    """
    path = results / plan.name / "report" / NAME
    links = Links("index.html#study-file", None, "../../data", plan.file.name)
    text = render(evidence_module.gather(plan, results), links)
    with files.atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def render(evidence: Evidence, links: Links) -> str:
    """Return the checklist as HTML."""
    style = templating.text("style.css")
    template = templating.html().get_template(f"{NAME}.j2")
    answered = answers(evidence)
    rows = [
        {"name": question["name"], "asks": question["asks"], "word": answer.word, "because": answer.because}
        | {"see": [links.link(target) for target in answer.see]}
        for question, answer in zip(questions(), answered.values(), strict=True)
    ]
    tally = Counter(answer.word for answer in answered.values())
    return template.render(
        plan=evidence.plan,
        version=distribution.version(),
        style=style,
        policy=templating.policy(style),
        recording=evidence.recording,
        tally={word: tally[word] for word in WORDS if tally[word]},
        rows=rows,
    )


def questions() -> list[dict[str, Any]]:
    """Return the entries of report/checklist.yaml."""
    content: list[dict[str, Any]] = yaml.safe_load((paths.templates() / "checklist.yaml").read_text(encoding="utf-8"))
    return content


def answers(evidence: Evidence) -> dict[str, Answer]:
    """Return the answers by the names of the questions, in their order."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    names = _names(evidence)
    manifests = [f"data/{name}" for name in evidence.datasets]

    def fill(text: str) -> str:
        return environment.from_string(text).render(names)

    return {
        question["name"]: Answer(
            fill(question["answer"]),
            [" ".join(part.split()) for part in re.split(r"\n\s*\n", fill(question["because"])) if part.strip()],
            [t for see in question["see"] for t in (manifests if see == "datasets" else [fill(see)]) if t],
        )
        for question in questions()
    }


def _names(evidence: Evidence) -> dict[str, Any]:
    """Return the names that report/checklist.yaml may use."""
    plan, done = evidence.plan, evidence.done
    recipes = {cell.specs[0].recipe.model_dump_json(): cell.specs[0].recipe for cell in plan.cells}.values()
    tested = evidence.tested()
    theory = {claim["name"]: claim for claim in tested}.get("PNNH-3")
    measured = theory["verdicts"].items() if theory and "surviving_neurons" in plan.study.probes else ()
    timed = done[done["seconds"].notna() & done["device"].notna()]
    runs = [(f"{row['cell']}, seed {row['seeds']}, {row['status']}", row["status"]) for row in evidence.unfinished]
    sizes = sorted({cell.accuracy.n for cell in evidence.cells})
    return {
        "evidence": evidence,
        "plan": plan,
        "count": count,
        "duration": duration,
        "listed": listed,
        "first": _first,
        "kinds": KINDS,
        "networks": sorted({cell.architecture for cell in plan.cells}),
        "tested": tested,
        "verdicts": {
            kind: [f"{n} {word}" for word, n in evidence.verdicts(kind).items() if word != NOT_TESTED] for kind in KINDS
        },
        "late": [claim["name"] for claim in tested if claim["runs_before_it"]],
        "closed_forms": [f"{v['verdict']} on {kind} data" for kind, v in measured if v["verdict"] != NOT_TESTED],
        "trained": len(done),
        "absent": evidence.counts.get("failed", 0) + evidence.counts.get("missing", 0),
        "diverged": evidence.counts.get("diverged", 0),
        "unfinished": [run for run, _ in runs],
        "without_number": [run for run, status in runs if status != "diverged"],
        "unknown_commits": int(done["commit"].isna().sum()),
        "uncommitted": [commit for commit in evidence.commits if commit.endswith("+")],
        "digests": {name: done[f"{name}_digest"].nunique() for name in ("data", "code", "stack")},
        "most_parameters": _thousands(done["parameters"].max()),
        "most_steps": _thousands(done["steps"].max()),
        "recipes": list(recipes),
        "splits": [
            f"{name} {' / '.join(f'{size:,}' for size in info.sizes.values())}"
            for name, info in evidence.datasets.items()
        ],
        "train_sizes": [f"{size:,}" for size in sorted({recipe.train_size or 0 for recipe in recipes} - {0})],
        "seeds": " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1])))),
        "few_runs": [f"{cell.method} ({cell.setting.title})" for cell in evidence.cells if cell.accuracy.n < 2],
        "untimed": len(done) - len(timed),
        "time": _time(timed),
        "peak_memory": None if pd.isna(peak := timed["process_peak_bytes"].max()) else peak,
    }


def _time(timed: pd.DataFrame) -> dict[str, Any] | None:
    if timed.empty:
        return None
    seconds = timed["seconds"]
    return {
        "runs": len(timed),
        "total": seconds.sum(),
        "median": seconds.median(),
        "longest": seconds.max(),
        "threads": ranges(set(timed["threads"].astype(int))),
    }


def _thousands(value: float) -> str | None:
    return None if pd.isna(value) else f"{value:,.0f}"


def _first(names: list[str], separator: str) -> str:
    """Join the first few names, and the number of the others."""
    others = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return separator.join([*names[:_LISTED], *others])
