# What all rules share: the study that is asked for, read and checked before anything is planned.
import os
import shlex
import sys
from pathlib import Path

from rdp import fingerprint, places, study
from rdp.errors import UserError
from rdp.report import contents
from snakemake.exceptions import WorkflowError

STUDY = str(config.get("study", "quick"))
RESULTS = str(config.get("results", places.results()))
LOGS = f"{RESULTS}/logs"

try:
    PLAN = study.load(STUDY)
except UserError as error:
    raise WorkflowError(str(error)) from None

HOME = f"{RESULTS}/{PLAN.name}"
CELLS = {cell.id: cell for cell in PLAN.cells}
# Relative, so that a project that is moved finds its report up to date.
TEMPLATES = [
    os.path.relpath(path) for path in sorted(places.templates().iterdir()) if path.suffix not in {".png", ".rst"}
]
CLAIMS = os.path.relpath(places.claims())
FIGURES = contents.figures(PLAN)  # name: the probe it needs, or None

# `rdp` belongs to the Python that runs Snakemake, activated or not; an environment that a rule was given
# (conda, container) comes first.
# The study is in the environment, not in a rule's params: two studies that share a run must not retrain it.
BIN = Path(sys.executable).parent
SETTINGS = {"RDP_STUDY": STUDY, "RDP_RESULTS": RESULTS}
exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in SETTINGS.items())
shell.prefix(f"export {exports} PATH=$PATH:{shlex.quote(str(BIN))}; ")


wildcard_constraints:
    cell=r"[a-z0-9_]+-[a-z0-9_]+-[a-z0-9_]+-[0-9a-f]{12}",
    dataset=r"[a-z0-9_]+",
    figure=r"[a-z0-9_]+",
    probe=r"[a-z0-9_]+",


def code_of(module):
    """Digest of a module and what it imports: tables and figures are made again when it changes."""
    return fingerprint.module_digest(module)


def gpu_of_study(wildcards):
    """One GPU where the study insists on one; 0 else (`auto` takes a GPU where the job finds it)."""
    return int(PLAN.study.device == "cuda")


def code_of_cell(wildcards):
    """Digest of the code that determines a cell's numbers: a change of it trains the cell again."""
    return fingerprint.code_of(CELLS[wildcards.cell].specs[0])


def data_of_cell(wildcards):
    """The manifest of the dataset that a cell trains on."""
    return f"{RESULTS}/data/{CELLS[wildcards.cell].dataset}/manifest.json"


def sweep_of_cell(wildcards):
    """The choice of a cell's learning rate, where a sweep makes it."""
    tuned = CELLS[wildcards.cell].specs[0].tuning is not None
    return [f"{RESULTS}/store/{wildcards.cell}/tuned.json"] if tuned else []


def receipts(seeds):
    """The receipts of some seeds of a cell, with the cell left open."""
    return [f"{RESULTS}/store/{{cell}}/seed-{seed:04d}.json" for seed in seeds]


RECEIPTS = [path.format(cell=cell) for cell in CELLS for path in receipts(PLAN.study.seed_list())]
