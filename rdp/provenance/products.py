"""List the files of a research object with their descriptions, without computing anything: the Snakefile needs it."""

from pathlib import Path

from rdp import data
from rdp.data.sources import image_folders
from rdp.errors import UserError
from rdp.report import contents
from rdp.study import Plan
from rdp.utils import extensions, paths
from rdp.utils.distribution import LOCK

FORMATS = {  # media types by suffix
    "": "text/plain",
    ".cff": "application/yaml",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".lock": "text/plain",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".rst": "text/x-rst",
    ".smk": "text/plain",
    ".svg": "image/svg+xml",
    ".tar": "application/x-tar",
    ".tex": "application/x-tex",
    ".typ": "text/plain",
    ".yaml": "application/yaml",
}
TABLES = {
    "records": "The records, one row per run",
    "history": "Losses and accuracies, one row per run and epoch",
    "sweep": "The runs of sweeps, one row each",
}
STUDY = "config/studies"


def products(plan: Plan) -> dict[str, tuple[str, str]]:
    """Return kind and description of a study's products, by path below the study's folder."""
    files = {f"{name}.parquet": (name, what) for name, what in TABLES.items()}
    files["claims.json"] = ("claims", "The verdicts on the claims, with all their numbers")
    for probe in plan.study.probes:
        files[f"probes/{probe}.parquet"] = ("probes", f"Measurements of the probe {probe}")
    if plan.study.speed_rounds:
        files["speed.parquet"] = ("speed", "Training throughput of the methods, side by side")
    for name in contents.figures(plan):
        title = contents.caption(name)["title"]
        for kind in ("svg", "pdf", "png"):
            files[f"figures/{name}.{kind}"] = ("figures", f"Figure: {title}")
        files[f"figures/{name}.csv"] = ("figures", f"Data behind the figure: {title}")
        files[f"figures/{name}.rst"] = ("figures", f"Caption of the figure: {title}")
    for name, title in contents.TABLES.items():
        files |= {f"tables/{name}.{kind}": ("tables", f"Table: {title}") for kind in ("csv", "tex")}
    files["report/index.html"] = ("page", "The report as a page, which opens offline")
    files["report/paper.pdf"] = ("paper", "The report as a paper")
    files["report/paper.typ"] = ("paper", "The paper's source, set by Typst")
    return files


def sources(plan: Plan) -> dict[str, Path]:
    """Return the files of the project that the products are made by and from, by path in a research object.

    Raises:
        UserError: there is no workflow next to this package.
    """
    workflow = paths.ROOT / "workflow" / "rules"
    if not workflow.is_dir():
        raise UserError(f"{workflow}: no such folder; the workflow is in a checkout of the project")
    files = {"Snakefile": paths.ROOT / "Snakefile"}
    files |= {f"workflow/rules/{path.name}": path for path in sorted(workflow.glob("*.smk"))}
    files |= {f"{STUDY}/{plan.name}.yaml": plan.file} | claims()
    declared = paths.declarations()
    for name in dict.fromkeys(cell.dataset for cell in plan.cells):
        if data.source(name) is image_folders and name in declared:
            files[f"config/datasets/{name}.yaml"] = declared[name]
    return files | {name: paths.ROOT / name for name in (LOCK, "LICENSE", "CITATION.cff")}


def claims() -> dict[str, Path]:
    """Return the files of claims, by path in a research object."""
    files = {"config/claims.yaml": paths.claims()}
    return files | {f"extensions/claims/{path.name}": path for path in extensions.claims()}


def encoding(path: str) -> str:
    """Return the media type of a file."""
    return FORMATS[Path(path).suffix]
