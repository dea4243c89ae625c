"""Answer the NeurIPS paper checklist of a study from its records, with links to the evidence."""

from collections import Counter
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from rdp.provenance import evidence as evidence_module
from rdp.provenance.checklist_answers import ANSWERS, Answer
from rdp.provenance.evidence import Evidence
from rdp.report import templating
from rdp.report.forms import listed
from rdp.study import Plan
from rdp.utils import files, paths
from rdp.utils.lockfile import LOCK

NAME = "checklist.html"


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
    with files.whole(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def render(evidence: Evidence, links: Links) -> str:
    """Return the checklist as HTML."""
    style = templating.text("style.css")
    template = templating.html().get_template(f"{NAME}.j2")
    answered = answers(evidence)
    rows: list[dict[str, Any]] = [
        {"name": question["name"], "asks": question["asks"], "word": answer.word, "because": answer.because}
        | {"see": [links.link(target) for target in answer.see]}
        for question, answer in zip(questions(), answered.values(), strict=True)
    ]
    return template.render(
        plan=evidence.plan,
        version=version("rdp"),
        style=style,
        policy=templating.policy(style),
        recording=evidence.recording,
        tally=Counter(answer.word for answer in answered.values()),
        rows=rows,
    )


def questions() -> list[dict[str, Any]]:
    """Return the questions in report/checklist.yaml, with ``name``, ``asks``, and the answer where it is constant."""
    content: list[dict[str, Any]] = yaml.safe_load((paths.templates() / "checklist.yaml").read_text(encoding="utf-8"))
    return content


def answers(evidence: Evidence) -> dict[str, Answer]:
    """Return the answers by the names of the questions, in their order."""
    networks = sorted({cell.architecture for cell in evidence.plan.cells})
    names = {"networks": listed(networks), "datasets": listed([*evidence.datasets])}
    manifests = [f"data/{name}" for name in evidence.datasets]
    answered = {}
    for question in questions():
        if "answer" in question:
            answer = Answer(question["answer"], [sentence.format(**names) for sentence in question["because"]])
        else:
            answer = ANSWERS[question["name"]](evidence)
        see = [target for entry in question["see"] for target in (manifests if entry == "datasets" else [entry])]
        answered[question["name"]] = replace(answer, see=see + answer.see)
    return answered
