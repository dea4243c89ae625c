"""A study as a research object: an RO-Crate by the profile of workflow runs, to archive or to give away.

It holds the study's products, the workflow, the study's file, claims, lock and data manifests, and a bundle of all
records, from which tables, verdicts, figures and report can be made again; of datasets and weights it has names and
checksums. Its metadata say which run made which of the files from which, when and on what machine. Times are those of
the records, so that the same results give the same bytes.

Sources: RO-Crate 1.1, https://w3id.org/ro/crate/1.1; Workflow Run Crate 0.5, https://w3id.org/ro/wfrun/workflow/0.5.
"""

import csv
import shutil
from pathlib import Path

from rdp.archive import bundle, packing
from rdp.data import prepared
from rdp.errors import UserError
from rdp.provenance import checklist, evidence, metadata, products
from rdp.provenance.checklist import Links
from rdp.provenance.evidence import Evidence
from rdp.report import templating
from rdp.store import RunRecord, Store, origin
from rdp.study import Plan
from rdp.tables import collect
from rdp.utils import files, sealed
from rdp.utils.lockfile import LOCK

METADATA = "ro-crate-metadata.json"
CHECKLIST, WEIGHTS, BUNDLE = f"report/{checklist.NAME}", "weights.csv", "recorded"
# Products that `gather` has not verified, and say of themselves whether they are whole; not all of their kinds do.
_SEALED, _BARE = ("figures/", "probes/", "speed."), (".pdf", ".png", ".csv", ".rst")


def write(plan: Plan, results: Path) -> Path:
    """Write ``crate/`` of a study, whole or not at all, and return its metadata's path.

    Raises:
        UserError: a product that is absent or damaged; no run that left a record; records of other code; a folder
            that holds something else.
    """
    target = results / plan.name / "crate"
    if target.exists() and not (target / METADATA).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: holds something else than a research object; move it away")
    runs = _records(plan, results)
    if not any(spec.run in runs for spec in plan.specs):
        raise UserError(
            f"{plan.name}: no run has left a record yet; first: snakemake --cores all --config study={plan.name}"
        )
    found = evidence.gather(plan, results)
    with files.whole_folder(target) as part:
        told = _fill(part, plan, results, found, runs)
        metadata.describe(part, told, found, list(runs.values()), _asked(plan, results)).write(part)
    return target / METADATA


def _asked(plan: Plan, results: Path) -> dict[str, str]:
    """What the workflow was asked for; of a path on some machine the last part alone."""
    return {
        "study": plan.name,
        "device": plan.device,
        "records": "recorded" if origin.holds(results) else "trained",
        "results": results.name if results.is_absolute() else results.as_posix(),
    }


def _fill(
    part: Path, plan: Plan, results: Path, found: Evidence, runs: dict[str, RunRecord]
) -> dict[str, tuple[str, str]]:
    """Put the files in place; which kind each is one of, and what it is, by its path."""
    told = {}
    for name, what in products.products(plan).items():
        _copy(results / plan.name / name, part / name, f"run: rdp report {plan.name}")
        if name.startswith(_SEALED) and not name.endswith(_BARE):
            sealed.read(part / name, plan.name, f"run: rdp report {plan.name}")
        told[name] = what
    for name, source in products.sources(plan).items():
        _copy(source, part / name, "it is a file of the project")
        told[name] = ("workflow", f"{name} of the project")
    for name in found.datasets:
        path = f"data/{name}/manifest.json"
        source = prepared.folder(name, results) / "manifest.json"
        _copy(source, part / path, f"run: rdp data prepare {name}")
        told[path] = ("data", f"Manifest of the dataset {name}: origin, licence, sizes and checksum")
    study = f"{plan.name}.yaml"
    links = Links(f"../{products.STUDY}/{study}", f"../{LOCK}", "../data", study)
    (part / CHECKLIST).write_text(checklist.render(found, links), encoding="utf-8")
    told[CHECKLIST] = ("checklist", "The NeurIPS paper checklist, as far as the records can answer it")
    _weights(part / WEIGHTS, runs)
    told[WEIGHTS] = ("weights", "Names and checksums of what runs left beside their records, weights among it")
    for path in _bundle(part / BUNDLE, plan, results, found):
        told[path.relative_to(part).as_posix()] = ("bundle", "Of all records, from which the report is made again")
    bundled = (part / BUNDLE).exists()
    text = templating.html().get_template("crate.md.j2").render(found=found, plan=plan, bundled=bundled)
    (part / "README.md").write_text(text, encoding="utf-8")
    told["README.md"] = ("readme", "What is in this research object, and how to use it")
    return told


def _copy(source: Path, target: Path, remedy: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror}); {remedy}") from None


def _records(plan: Plan, results: Path) -> dict[str, RunRecord]:
    """The records of a study's runs that may be used, those of sweeps first."""
    store, found = Store(results), {}
    for spec in bundle.runs(plan):
        record, _ = collect.readable(store, spec)
        if record is not None:
            found[spec.run] = record
    return found


def _weights(path: Path, runs: dict[str, RunRecord]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("run", "file", "sha256"))
        for run, record in runs.items():
            table.writerows((run, f"store/{run}/{name}", digest) for name, digest in sorted(record.files.items()))


def _bundle(folder: Path, plan: Plan, results: Path, found: Evidence) -> list[Path]:
    """The files of the bundle: the one that results were unpacked from, or one of what was trained here.

    A study with runs that failed or are missing has none.
    """
    if origin.holds(results):
        kept = bundle.find(str(plan.file))
        if kept.seal != origin.origin(results)["seal_of_bundle"]:
            raise UserError(f"{kept.folder}: is not the bundle that {results} was unpacked from; run: rdp unpack STUDY")
        shutil.copytree(kept.folder, folder)
    elif found.counts.get("failed", 0) + found.counts.get("missing", 0):
        return []
    else:
        packing.write(plan, results, folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())
