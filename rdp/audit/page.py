"""The audit as files: ``audit/index.html`` for people, ``audit/audit.json`` for machines."""

from pathlib import Path
from typing import Any

from rdp.audit.findings import Audit
from rdp.report import templating
from rdp.study import Plan
from rdp.utils import files, sealed


def write(plan: Plan, results: Path, audit: Audit) -> Path:
    """Write an audit beside what it is of; returns the page's path."""
    folder = results / plan.name / "audit"
    sealed.write_json(folder / "audit.json", audit.as_json(), plan.name)
    path = folder / "index.html"
    with files.atomic_write(path) as part:
        part.write_text(render(audit), encoding="utf-8")
    return path


def read(study: str, results: Path) -> dict[str, Any]:
    """The audit that `write` left."""
    return sealed.read_json(results / study / "audit" / "audit.json", study, f"run: rdp audit {study}")


def render(audit: Audit) -> str:
    """The page as text."""
    style = templating.text("style.css")
    template = templating.html().get_template("audit.html.j2")
    return template.render(audit=audit, about=audit.about, style=style, policy=templating.policy(style))
