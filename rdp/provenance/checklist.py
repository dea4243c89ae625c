"""The NeurIPS paper checklist of a study, as far as its records can answer it, with links to the evidence."""

import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from rdp import files, places
from rdp.data import prepared
from rdp.provenance import answers, evidence
from rdp.provenance.answers import Answer
from rdp.provenance.evidence import Evidence
from rdp.report import html
from rdp.study import Plan

NAME = "checklist.html"


@dataclass(frozen=True)
class Elsewhere:
    """Where what does not lie among a study's products is found, from the folder of its report.

    Attributes:
        study, lock: the files.
        data: the manifest of each dataset, by its name.
    """

    study: str
    lock: str
    data: dict[str, str]

    def href(self, target: str) -> str:
        """The address of some evidence, as `Answer.see` names it."""
        if target in ("study", "lock"):
            return quote(getattr(self, target))
        if target.startswith("data/"):
            return quote(self.data[target.removeprefix("data/")])
        page = target.removeprefix("report/")
        return page if page != target else f"../{target}"

    def label(self, target: str) -> str:
        """What a link to some evidence is called."""
        if target in ("study", "lock"):
            return Path(getattr(self, target)).name
        file, _, section = target.removeprefix("report/").partition("#")
        if target.startswith("data/"):
            return f"{target}/manifest.json"
        return f"page: {section.replace('-', ' ')}" if section else file


def write(plan: Plan, results: Path, of: Path | None = None) -> Path:
    """Write ``report/checklist.html`` of a study from its tables and verdicts.

    Args:
        plan: the study.
        results: its results.
        of: the results directory that links are made for, where it is another one.

    Raises:
        UserError: tables or verdicts that are absent, damaged or of another study.
    """
    home, path = of or results, results / plan.name / "report" / NAME

    def near(file: Path) -> str:
        return Path(os.path.relpath(file, home / plan.name / "report")).as_posix()

    datasets = dict.fromkeys(cell.dataset for cell in plan.cells)
    manifests = {name: near(prepared.folder(name, home) / "manifest.json") for name in datasets}
    elsewhere = Elsewhere(near(plan.file), near(evidence.lock()), manifests)
    text = render(evidence.gather(plan, results), elsewhere)
    with files.whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def render(found: Evidence, elsewhere: Elsewhere) -> str:
    """The checklist as an HTML page."""
    given = answers.answers(found)
    style = html.text("style.css")
    return (
        html.environment()
        .get_template(f"{NAME}.j2")
        .render(
            plan=found.plan,
            version=version("rdp"),
            style=style,
            policy=html.policy(style),
            recording=found.recording,
            tally=answers.tally(given),
            rows=[question | _row(answer, elsewhere) for question, answer in zip(questions(), given, strict=True)],
        )
    )


def questions() -> list[dict[str, str]]:
    """The questions, each with its ``name`` and what it ``asks``, from report/checklist.yaml."""
    found: list[dict[str, str]] = yaml.safe_load((places.templates() / "checklist.yaml").read_text(encoding="utf-8"))
    return found


def _row(answer: Answer, elsewhere: Elsewhere) -> dict[str, Any]:
    see = [{"label": elsewhere.label(target), "href": elsewhere.href(target)} for target in answer.see]
    return {"word": answer.word, "because": answer.because, "see": see}
