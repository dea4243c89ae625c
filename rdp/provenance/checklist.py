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

from rdp import data
from rdp.claims.model import KINDS
from rdp.report import contents, facts, templating
from rdp.report.formatting import ranges
from rdp.study import Plan
from rdp.utils import files
from rdp.utils.distribution import LOCK
from rdp.utils.humanize import count, duration, listed

NAME = "checklist.html"
YES, NO, NA, UNPROVABLE = WORDS = ("Yes", "No", "NA", "not provable from records")
_NOT_TESTED = "not tested"
# First words of a licence entry that gives no terms.
_NO_LICENCE = ("", "unknown", "none stated", "not stated", "unstated")
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


def _link(target: str, links: dict[str, tuple[str, str | None]]) -> dict[str, str | None]:
    """Return the ``label`` of an entry of `Answer.see`, and its ``href``, or None for no link."""
    if target in links:
        return dict(zip(("label", "href"), links[target], strict=True))
    if target.startswith("data/"):
        return {"label": f"{target}/manifest.json", "href": f"{links['data'][1]}/{target[5:]}/manifest.json"}
    file, _, section = target.removeprefix("report/").partition("#")
    label = f"page: {section.replace('-', ' ')}" if section else file
    return {"label": label, "href": target.removeprefix("report/") if "report/" in target else f"../{target}"}


def write(plan: Plan, results: Path) -> Path:
    """Write ``report/checklist.html`` of a study, and return its path; its bytes do not depend on any location.

    Raises:
        UserError: tables or verdicts are missing, damaged or of another study.
    """
    path = results / plan.name / "report" / NAME
    links = {"study": (plan.file.name, "index.html#study-file"), "lock": (LOCK, None), "data": ("", "../../data")}
    text = render(facts.gather(plan, results), links)
    with files.atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def render(shared: dict[str, Any], links: dict[str, tuple[str, str | None]]) -> str:
    """Return the checklist as HTML.

    Args:
        shared: from `rdp.report.facts.gather`.
        links: label and address, relative to the report's folder, of ``study`` (the study file), ``lock`` and ``data``
            (the folder of the datasets' manifests).
    """
    style = templating.text("style.css")
    answered = answers(shared)
    rows = [
        {"name": question["name"], "asks": question["asks"], "word": answer.word, "because": answer.because}
        | {"see": [_link(target, links) for target in answer.see]}
        for question, answer in zip(contents.texts("checklist"), answered.values(), strict=True)
    ]
    tally = Counter(answer.word for answer in answered.values())
    own: dict[str, Any] = {"style": style, "policy": templating.policy(style), "rows": rows}
    own["tally"] = {word: tally[word] for word in WORDS if tally[word]}
    return templating.html(f"{NAME}.j2").render(shared | own)


def answers(shared: dict[str, Any]) -> dict[str, Answer]:
    """Return the answers by the names of the questions, in their order."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    names = _names(shared)
    manifests = [f"data/{name}" for name in shared["datasets"]]

    def fill(text: str) -> str:
        return environment.from_string(text).render(names)

    return {
        question["name"]: Answer(
            fill(question["answer"]),
            [" ".join(part.split()) for part in re.split(r"\n\s*\n", fill(question["because"])) if part.strip()],
            [t for see in question["see"] for t in (manifests if see == "datasets" else [fill(see)]) if t],
        )
        for question in contents.texts("checklist")
    }


def _names(shared: dict[str, Any]) -> dict[str, Any]:
    plan, done, cells, datasets = (shared[name] for name in ("plan", "done", "cells", "datasets"))
    recipes = {cell.specs[0].recipe.model_dump_json(): cell.specs[0].recipe for cell in plan.cells}.values()
    claims = shared["verdicts"]["claims"]
    tested = [c for c in claims if any(v["verdict"] != _NOT_TESTED for v in c["verdicts"].values())]
    theory = {claim["name"]: claim for claim in tested}.get("PNNH-3")
    measured = theory["verdicts"].items() if theory and "surviving_neurons" in plan.study.probes else ()
    timed = done[done["seconds"].notna() & done["device"].notna()]
    runs = [(f"{row['cell']}, seed {row['seeds']}, {row['status']}", row["status"]) for row in shared["unfinished"]]
    sizes = sorted({cell.accuracy.n for cell in cells})
    ways = {name: _open_access(name) for name in datasets}
    return shared | {
        "count": count,
        "duration": duration,
        "listed": listed,
        "first": _first,
        "kinds": KINDS,
        "figures": contents.figures(plan),
        "networks": sorted({cell.architecture for cell in plan.cells}),
        "tested": tested,
        "late": [claim["name"] for claim in tested if claim["runs_before_it"]],
        "closed_forms": [f"{v['verdict']} on {kind} data" for kind, v in measured if v["verdict"] != _NOT_TESTED],
        "open_access": {name: way for name, way in ways.items() if way},
        "manual_access": {name: datasets[name].get or "not documented" for name, way in ways.items() if not way},
        "without_licence": [name for name, info in datasets.items() if not _licence_known(info.licence)],
        "trained": len(done),
        "absent": shared["counts"]["failed"] + shared["counts"]["missing"],
        "unfinished": [run for run, _ in runs],
        "without_number": [run for run, status in runs if status != "diverged"],
        "unknown_commits": int(done["commit"].isna().sum()),
        "uncommitted": [commit for commit in shared["commits"] if commit.endswith("+")],
        "digests": {name: done[f"{name}_digest"].nunique() for name in ("data", "code", "stack")},
        "most": {name: _known(done[name].max()) for name in ("parameters", "steps")},
        "recipes": list(recipes),
        "train_sizes": [f"{size:,}" for size in sorted({recipe.train_size or 0 for recipe in recipes} - {0})],
        "seeds": " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1])))),
        "few_runs": [f"{cell.method} ({cell.setting.title})" for cell in cells if cell.accuracy.n < 2],
        "untimed": len(done) - len(timed),
        "seconds": timed["seconds"],
        "threads": ranges(set(timed["threads"].astype(int))),
        "peak_memory": _known(timed["process_peak_bytes"].max()),
    }


def _open_access(dataset: str) -> str | None:
    """Return how anybody can get a dataset, or None if no command downloads it."""
    source = data.source(dataset)
    if hasattr(source, "BUNDLED"):
        return str(source.BUNDLED)
    return f"downloaded and verified by rdp data fetch {dataset}" if hasattr(source, "fetch") else None


def _licence_known(licence: str) -> bool:
    """Return whether a licence entry names terms; ``none needed`` does."""
    return not any(licence.strip().lower() == word or licence.lower().startswith(f"{word} ") for word in _NO_LICENCE)


def _known(value: float) -> float | None:
    return None if pd.isna(value) else value


def _first(names: list[str], separator: str) -> str:
    others = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return separator.join([*names[:_LISTED], *others])
