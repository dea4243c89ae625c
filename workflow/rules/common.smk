# Definitions for all rules: the study, which is read and checked before anything is planned.
import os
import shlex
import sys
from pathlib import Path

from rdp import spec, study
from rdp.archive import recorded
from rdp.cli import job_server
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
    # Snakemake reads 2024_10 as 202410, 007 as 7 and 1e3 as 1000.0, each of which may be another study's name.
    if key != "retrain" and not isinstance(config[key], str) and (key, config[key]) != ("results", None):
        hint = {"study": "; write study=config/studies/NAME.yaml", "results": "; write results=./NAME"}.get(key, "")
        raise WorkflowError(f"--config {key}: Snakemake reads the value as {config[key]!r}, which is no text{hint}")
STUDY = str(config.get("study", "quick"))
RECORDS = str(config.get("records", "trained"))
if RECORDS not in ("trained", "recorded"):
    raise WorkflowError(f"--config records={RECORDS}: {choices(RECORDS, ('trained', 'recorded'))}")
RETRAIN = config.get("retrain", 0)
if isinstance(RETRAIN, bool) or not isinstance(RETRAIN, int) or RETRAIN < 0:
    raise WorkflowError(f"--config retrain={RETRAIN}: expected a number of runs")
if "device" in config:
    os.environ.update(RDP_DEVICE=str(config["device"]))

try:
    ARCHIVE = recorded.find(STUDY) if RECORDS == "recorded" else None
    RESULTS = str(paths.results(str(config.get("results") or "")))
    if RESULTS == "." or RESULTS.startswith("-"):
        # Snakemake strips leading dots from some paths, and `rdp` takes a leading dash for an option.
        RESULTS = os.path.abspath(RESULTS)
    if ARCHIVE:
        # A separate directory, since other archives may hold the same runs of another machine.
        RESULTS = f"{RESULTS}/rebuilt/{ARCHIVE.manifest.study}"
        PLAN = recorded.plan(ARCHIVE, Path(RESULTS), STUDY)
        STUDY = str(PLAN.file)
    else:
        PLAN = study.load(STUDY)
    DEVICE = PLAN.device
    for path in (RESULTS, str(PLAN.file)):
        if set(path) & set("{}"):
            raise UserError(f"{path}: Snakemake takes braces for wildcards; use a path without them")
except UserError as error:
    raise WorkflowError(str(error)) from None

LOGS = f"{RESULTS}/logs"
HOME = f"{RESULTS}/{PLAN.name}"
MANIFEST = f"{RESULTS}/data/{{dataset}}/manifest.json"
RESOURCES = study_resources.ResourceEstimator(Path(RESULTS), DEVICE)
CELLS = {cell.id: cell for cell in PLAN.cells}
# Relative paths, so that the report of a project that was moved is up to date.
TEMPLATES = [
    os.path.relpath(path) for path in sorted(paths.templates().iterdir()) if path.suffix not in {".png", ".rst"}
]
CLAIMS = [os.path.relpath(path) for path in (paths.claims(), *extensions.claims())]
FIGURES = contents.figures_by_source(PLAN)  # by the table that they are drawn from

# The path of the `rdp` beside the running Python comes last, so that the environment of a rule (conda, container)
# comes first. The study is an environment variable, not a param: two studies that share a run must not retrain it.
BIN = Path(sys.executable).parent
SETTINGS = {"RDP_STUDY": f"./{STUDY}" if STUDY[:1] == "-" else STUDY, "RDP_RESULTS": RESULTS, "RDP_DEVICE": DEVICE}
# Jobs on this machine are forks of a process that has imported torch. Elsewhere no server has this address.
SETTINGS["RDP_JOB_SERVER"] = os.environ.get("RDP_JOB_SERVER", job_server.address())
SETTINGS |= dict.fromkeys(job_server.THREADS, "1")
exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in SETTINGS.items())
exports += f" PATH=$PATH:{shlex.quote(str(BIN))}"
shell.prefix(f"export {exports.replace('{', '{{').replace('}', '}}')}; ")  # it is a format string


wildcard_constraints:
    cell=r"[a-z0-9_]+-[a-z0-9_]+-[a-z0-9_]+-[0-9a-f]{12}",
    dataset=r"[a-z0-9_]+",
    probe=r"[a-z0-9_]+",


def gpus_of_job(wildcards):
    """Return 1 if the study requires a GPU, or accepts one and Snakemake counts them (profiles/local-gpu), else 0.

    With `auto` and no counting, jobs share any GPU."""
    counted = "gpu" in set(workflow.resource_settings.resources)
    return int(DEVICE == "cuda" or (DEVICE == "auto" and counted))


def gpus_of_run(wildcards):
    """Return one GPU for each process of a run."""
    return gpus_of_job(wildcards) * PLAN.study.processes


def runs_of(seeds):
    """Return a function from a cell to its runs with these seeds."""
    return lambda cell: [spec for spec in cell.specs if spec.seed in seeds]


def sweep_runs(cell):
    """Return the runs of a cell's sweep."""
    return cell.specs[0].candidates()


def memory_for(runs):
    """Return the memory of a job in MB, for the runs that it trains in parallel. It doubles with every attempt."""

    def memory(wildcards, attempt, threads):
        specs = runs(CELLS[wildcards.cell])
        return spec.at_once(specs, threads) * RESOURCES.estimate(specs).megabytes(attempt)

    return memory


def time_for(runs):
    """Return the time limit of a job in minutes. It doubles with every attempt."""
    return lambda wildcards, attempt: RESOURCES.estimate(runs(CELLS[wildcards.cell])).minutes(attempt)


def longest_first(*runs):
    """Return the expected seconds of a job and of those that wait for it as its priority: no long chain starts last."""
    return lambda wildcards: int(sum(RESOURCES.estimate(each(CELLS[wildcards.cell])).seconds for each in runs))


def code_of_cell(wildcards):
    """Return the code digest of a cell. A change retrains the cell."""
    return fingerprint.code_of(CELLS[wildcards.cell].specs[0])


def data_of_cell(wildcards):
    """Return the manifest of a cell's dataset."""
    return MANIFEST.format(dataset=CELLS[wildcards.cell].dataset)


def sweep_of_cell(wildcards):
    """Return the file with what a sweep chose for a cell, if the study has a sweep."""
    tuned = CELLS[wildcards.cell].specs[0].tuning is not None
    return [f"{RESULTS}/store/{wildcards.cell}/tuned.json"] if tuned else []


def receipts(seeds):
    """Return the receipts of these seeds, with the cell as a wildcard."""
    return [f"{RESULTS}/store/{{cell}}/seed-{seed:04d}.json" for seed in seeds]


# Evidence that the records exist: one receipt per run, or the mark of unpacked results.
RECEIPTS = [path.format(cell=cell) for cell in CELLS for path in receipts(PLAN.study.seed_list())]
if ARCHIVE:
    RECEIPTS = [f"{RESULTS}/{ORIGIN}"]
# A report of recorded results says whether this checkout has the code that trained them.
TRAINING = "".join(fingerprint.code_of(cell.specs[0]) for cell in PLAN.cells) if ARCHIVE else ""
DATA = list(dict.fromkeys(MANIFEST.format(dataset=cell.dataset) for cell in PLAN.cells))
PROBES = [f"{HOME}/probes/{probe}.parquet" for probe in PLAN.study.probes]
SPEED = f"{HOME}/speed.parquet"


onstart:
    # Snakemake deletes the outputs of a job before it starts, while a second Snakemake on the same results may be about
    # to read them. So the second of two that share cells or products waits.
    try:
        locks.hold_names([PLAN.name, *CELLS], Path(LOGS) / "snakemake.lock")
    except UserError as error:
        raise WorkflowError(str(error)) from None
    except Terminated:
        raise WorkflowError("stopped while waiting") from None
    # If the clock was set back, some files have times in the future.
    files.redate_future({Path(file) for job in workflow.dag.jobs for file in (*job.input, *job.output)})
    if SETTINGS["RDP_JOB_SERVER"]:
        job_server.start()
