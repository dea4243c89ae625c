"""What a research object holds of a study, and what each file is. Nothing here computes: the Snakefile asks too."""

from pathlib import Path

from rdp import data
from rdp.data.sources import image_folders
from rdp.errors import UserError
from rdp.report import contents
from rdp.study import Plan
from rdp.utils import extensions, paths
from rdp.utils.lockfile import LOCK

FORMATS = {  # by the ends of names
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
    "records": "The records, a row a run",
    "history": "Losses and accuracies, a row a run and epoch",
    "sweep": "The runs of sweeps of learning rates, a row each",
}
STUDY = "config/studies"


def products(plan: Plan) -> dict[str, tuple[str, str]]:
    """A study's products by their paths below its results: which kind each is one of, and what it is."""
    found = {f"{name}.parquet": (name, what) for name, what in TABLES.items()}
    found["claims.json"] = ("claims", "The verdicts on the claims, with every number that they rest on")
    for probe in plan.study.probes:
        found[f"probes/{probe}.parquet"] = ("probes", f"What the probe {probe} measured")
    if plan.study.speed_rounds:
        found["speed.parquet"] = ("speed", "Training throughput of the methods, side by side")
    for name in contents.figures(plan):
        title = contents.caption(name)["title"]
        for kind in ("svg", "pdf", "png"):
            found[f"figures/{name}.{kind}"] = ("figures", f"Figure: {title}")
        found[f"figures/{name}.csv"] = ("figures", f"Data behind the figure: {title}")
        found[f"figures/{name}.rst"] = ("figures", f"Caption of the figure: {title}")
    for name, title in contents.TABLES.items():
        found |= {f"tables/{name}.{kind}": ("tables", f"Table: {title}") for kind in ("csv", "tex")}
    found["report/index.html"] = ("page", "The report as a page, which opens offline")
    found["report/paper.pdf"] = ("paper", "The report as a paper")
    found["report/paper.typ"] = ("paper", "The paper's source, set by Typst")
    return found


def sources(plan: Plan) -> dict[str, Path]:
    """What the products were made by and from, by its path in a research object: of the project, and the study's file.

    Raises:
        UserError: there is no workflow beside this package.
    """
    workflow = paths.ROOT / "workflow" / "rules"
    if not workflow.is_dir():
        raise UserError(f"{workflow}: no such folder; the workflow is in a checkout of the project")
    found = {"Snakefile": paths.ROOT / "Snakefile"}
    found |= {f"workflow/rules/{path.name}": path for path in sorted(workflow.glob("*.smk"))}
    found |= {f"{STUDY}/{plan.name}.yaml": plan.file} | claims()
    declared = paths.declarations()
    for name in dict.fromkeys(cell.dataset for cell in plan.cells):
        if data.source(name) is image_folders and name in declared:
            found[f"config/datasets/{name}.yaml"] = declared[name]
    return found | {name: paths.ROOT / name for name in (LOCK, "LICENSE", "CITATION.cff")}


def claims() -> dict[str, Path]:
    """The files of claims, by their paths in a research object."""
    found = {"config/claims.yaml": paths.claims()}
    return found | {f"extensions/claims/{path.name}": path for path in extensions.claims()}


def encoding(path: str) -> str:
    """The media type of a file."""
    return FORMATS[Path(path).suffix]
