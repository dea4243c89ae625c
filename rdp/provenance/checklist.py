"""The NeurIPS paper checklist of a study, as far as its records can answer it, with links to the evidence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rdp.provenance import answers, evidence
from rdp.provenance.answer import Answer
from rdp.provenance.evidence import Evidence
from rdp.report import templating
from rdp.study import Plan
from rdp.utils import distribution, files, paths
from rdp.utils.lockfile import LOCK

NAME = "checklist.html"


@dataclass(frozen=True)
class Elsewhere:
    """Where what does not lie among a study's products is found, from the folder of its report.

    Attributes:
        study: the study's file, or where the page shows it.
        lock: the lock, or None where nothing near is it.
        data: the folder of the datasets' manifests.
        name: of the study's file.
    """

    study: str
    lock: str | None
    data: str
    name: str

    def link(self, target: str) -> dict[str, str | None]:
        """Some evidence, as `Answer.see` names it: its ``label``, and its ``href`` where it can be followed."""
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
    """Write ``report/checklist.html`` of a study from its tables and verdicts.

    Its bytes do not depend on where the results lie, nor the project.

    Raises:
        UserError: tables or verdicts that are absent, damaged or of another study.
    """
    path = results / plan.name / "report" / NAME
    near = Elsewhere("index.html#study-file", None, "../../data", plan.file.name)
    text = render(evidence.gather(plan, results), near)
    with files.atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def render(found: Evidence, elsewhere: Elsewhere) -> str:
    """The checklist as an HTML page."""
    given = answers.answers(found)
    style = templating.text("style.css")
    template = templating.html().get_template(f"{NAME}.j2")
    return template.render(
        plan=found.plan,
        version=distribution.version(),
        style=style,
        policy=templating.policy(style),
        recording=found.recording,
        tally=answers.tally(given),
        rows=[question | _row(answer, elsewhere) for question, answer in zip(questions(), given, strict=True)],
    )


def questions() -> list[dict[str, str]]:
    """The questions, each with its ``name`` and what it ``asks``, from report/checklist.yaml."""
    found: list[dict[str, str]] = yaml.safe_load((paths.templates() / "checklist.yaml").read_text(encoding="utf-8"))
    return found


def _row(answer: Answer, elsewhere: Elsewhere) -> dict[str, Any]:
    return {"word": answer.word, "because": answer.because, "see": [elsewhere.link(target) for target in answer.see]}
