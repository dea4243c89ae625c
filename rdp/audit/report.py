"""Write and read an audit: ``audit/index.html`` and ``audit/audit.json``."""

from pathlib import Path
from typing import Any

from rdp.audit.findings import Audit
from rdp.report import templating
from rdp.study import Plan
from rdp.utils import files, sealed


def write(plan: Plan, results: Path, audit: Audit) -> Path:
    """Write both files among a study's products, and return the path of the page."""
    folder = results / plan.name / "audit"
    sealed.write_json(folder / "audit.json", audit.as_json(), plan.name)
    path = folder / "index.html"
    with files.atomic_write(path) as part:
        part.write_text(render(audit), encoding="utf-8")
    return path


def read(study: str, results: Path) -> dict[str, Any]:
    """Return the content of ``audit.json``, verified.

    Raises:
        UserError: the file is missing or damaged.
    """
    return sealed.read_json(results / study / "audit" / "audit.json", study, f"run: rdp audit {study}")


def render(audit: Audit) -> str:
    """Return the page as HTML."""
    style = templating.text("style.css")
    return templating.html("audit.html.j2").render(
        audit=audit, about=audit.about, style=style, policy=templating.policy(style)
    )
