# What all rules share: the study that is asked for, read and checked before anything is planned.
import os
import shlex
import sys
from pathlib import Path

from rdp import bench, spec, study
from rdp.archive import recorded
from rdp.errors import Terminated, UserError, choices
from rdp.store.fingerprint import module_digest
from rdp.provenance import products
from rdp.store.origin import FILE as ORIGIN
from rdp.claims import metrics
from rdp.report import contents, plots
from rdp.jobs import locks
from rdp.store import fingerprint
from rdp.study import resources as study_resources
from rdp.utils import extensions, files, paths
from snakemake.exceptions import WorkflowError

KEYS = ("study", "results", "device", "records", "retrain")
for key in config:
    if key not in KEYS:
        raise WorkflowError(f"--config {key}: unknown; {choices(key, KEYS)}")
STUDY = str(config.get("study", "quick"))
RECORDS = str(config.get("records", "trained"))
if RECORDS not in ("trained", "recorded"):
    raise WorkflowError(f"--config records={RECORDS}: {choices(RECORDS, ('trained', 'recorded'))}")
RETRAIN = config.get("retrain", 0)
if isinstance(RETRAIN, bool) or not isinstance(RETRAIN, int) or RETRAIN < 0:
    raise WorkflowError(f"--config retrain={RETRAIN}: a number of runs is needed")
if "device" in config:
    os.environ.update(RDP_DEVICE=str(config["device"]))

try:
    ARCHIVE = recorded.find(STUDY) if RECORDS == "recorded" else None
    RESULTS = str(paths.results(str(config.get("results") or "")))
    if RESULTS == "." or RESULTS.startswith("-"):
        # Paths below would begin with a dot, which Snakemake strips or not, or like an option of `rdp`.
        RESULTS = os.path.abspath(RESULTS)
    if ARCHIVE:
        # Apart from what was trained here, and from other archives, which may hold the same runs of another machine.
        RESULTS = f"{RESULTS}/rebuilt/{ARCHIVE.manifest.study}"
        PLAN = recorded.plan(ARCHIVE, Path(RESULTS), STUDY)
        STUDY = str(PLAN.file)
    else:
        PLAN = study.load(STUDY)
    DEVICE = PLAN.device
    for path in (RESULTS, str(PLAN.file)):
        if set(path) & set("{}"):
            raise UserError(f"{path}: Snakemake takes braces for wildcards; a path without them is needed")
except UserError as error:
    raise WorkflowError(str(error)) from None

LOGS = f"{RESULTS}/logs"
HOME = f"{RESULTS}/{PLAN.name}"
MANIFEST = f"{RESULTS}/data/{{dataset}}/manifest.json"
RESOURCES = study_resources.ResourceEstimator(Path(RESULTS), DEVICE)
CELLS = {cell.id: cell for cell in PLAN.cells}
# Relative, so that a project that is moved finds its report up to date.
TEMPLATES = [
    os.path.relpath(path) for path in sorted(paths.templates().iterdir()) if path.suffix not in {".png", ".rst"}
]
BENCHMARKS = [os.path.relpath(path) for path in bench.measured(Path(RESULTS))]
CLAIMS = [os.path.relpath(path) for path in (paths.claims(), *extensions.claims())]
SHEETS = contents.figures_by_source(PLAN)  # figures, by the table that they are drawn from

# `rdp` belongs to the Python that runs Snakemake, activated or not; an environment that a rule was given
# (conda, container) comes first.
# The study is in the environment, not in a rule's params: two studies that share a run must not retrain it.
BIN = Path(sys.executable).parent
SETTINGS = {"RDP_STUDY": f"./{STUDY}" if STUDY[:1] == "-" else STUDY, "RDP_RESULTS": RESULTS, "RDP_DEVICE": DEVICE}
exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in SETTINGS.items())
exports += f" PATH=$PATH:{shlex.quote(str(BIN))}"
shell.prefix(f"export {exports.replace('{', '{{').replace('}', '}}')}; ")  # it is a format string


wildcard_constraints:
    cell=r"[a-z0-9_]+-[a-z0-9_]+-[a-z0-9_]+-[0-9a-f]{12}",
    dataset=r"[a-z0-9_]+",
    probe=r"[a-z0-9_]+",


def gpus_of_job(wildcards):
    """One GPU where the study insists on one, and where Snakemake counts them (profiles/local-gpu) and the study
    would take one; else 0: with `auto`, jobs share whatever GPU they find."""
    counted = "gpu" in set(workflow.resource_settings.resources)
    return int(DEVICE == "cuda" or (DEVICE == "auto" and counted))


def gpus_of_run(wildcards):
    """One for each of the processes that train a run together."""
    return gpus_of_job(wildcards) * PLAN.study.processes


def runs_of(seeds):
    """The runs with some seeds of a cell, as a function of the cell."""
    return lambda cell: [spec for spec in cell.specs if spec.seed in seeds]


def sweep_runs(cell):
    """The runs of the sweep that chooses a cell's learning rate."""
    return cell.specs[0].candidates()


def memory_for(runs):
    """The memory that a job at some of a cell's runs may take, in MB: of as many as it trains side by side; twice as
    much for each attempt before it."""

    def memory(wildcards, attempt, threads):
        some = runs(CELLS[wildcards.cell])
        return spec.at_once(some, threads) * RESOURCES.estimate(some).megabytes(attempt)

    return memory


def time_for(runs):
    """The minutes that it may take; twice as many for each attempt before it."""
    return lambda wildcards, attempt: RESOURCES.estimate(runs(CELLS[wildcards.cell])).minutes(attempt)


def longest_first(runs):
    """The seconds that a job at some of a cell's runs takes, as its priority: a long one begun last would keep the
    other cores waiting."""
    return lambda wildcards: int(RESOURCES.estimate(runs(CELLS[wildcards.cell])).seconds)


def code_of_cell(wildcards):
    """Digest of the code that determines a cell's numbers: a change of it trains the cell again."""
    return fingerprint.code_of(CELLS[wildcards.cell].specs[0])


def data_of_cell(wildcards):
    """The manifest of the dataset that a cell trains on."""
    return MANIFEST.format(dataset=CELLS[wildcards.cell].dataset)


def sweep_of_cell(wildcards):
    """The choice of a cell's learning rate, where a sweep makes it."""
    tuned = CELLS[wildcards.cell].specs[0].tuning is not None
    return [f"{RESULTS}/store/{wildcards.cell}/tuned.json"] if tuned else []


def receipts(seeds):
    """The receipts of some seeds of a cell, with the cell left open."""
    return [f"{RESULTS}/store/{{cell}}/seed-{seed:04d}.json" for seed in seeds]


# What says that the records are there: a receipt a run, or the mark of those that were unpacked.
RECEIPTS = [path.format(cell=cell) for cell in CELLS for path in receipts(PLAN.study.seed_list())]
if ARCHIVE:
    RECEIPTS = [f"{RESULTS}/{ORIGIN}"]
# A report of recorded results says whether this checkout would train them with the code that did.
TRAINING = "".join(fingerprint.code_of(cell.specs[0]) for cell in PLAN.cells) if ARCHIVE else ""
DATA = list(dict.fromkeys(MANIFEST.format(dataset=cell.dataset) for cell in PLAN.cells))
PROBES = [f"{HOME}/probes/{probe}.parquet" for probe in PLAN.study.probes]
SPEED = f"{HOME}/speed.parquet"


onstart:
    # Snakemake deletes what a job makes before the job starts, and another one may be about to read it: a checkout of
    # its own with the same results. Of two that share cells or the study's products, the second waits.
    try:
        locks.hold_names([PLAN.name, *CELLS], Path(LOGS) / "snakemake.lock")
    except UserError as error:
        raise WorkflowError(str(error)) from None
    except Terminated:
        raise WorkflowError("stopped while waiting") from None
    # A clock that was set back has left files from the future.
    files.redate_future({Path(file) for job in workflow.dag.jobs for file in (*job.input, *job.output)})
