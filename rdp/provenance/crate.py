"""Pack a study as a research object: an RO-Crate by the Workflow Run Crate profile.

It holds the study's products, its archive (`rdp.archive`), and the workflow, study file, claims, lock and dataset
manifests. It names datasets and weights with their checksums. Its metadata state which run made which file from what,
when and on what machine. Times are those of the records, so that the same results give the same bytes.

Sources: RO-Crate 1.1, https://w3id.org/ro/crate/1.1; Workflow Run Crate 0.5, https://w3id.org/ro/wfrun/workflow/0.5.
"""

import csv
import shutil
from pathlib import Path
from typing import Any

from rdp.archive import recorded
from rdp.archive.format import SUFFIX
from rdp.archive.pack import pack
from rdp.data import prepared
from rdp.errors import UserError
from rdp.provenance import checklist, metadata, products
from rdp.report import facts, templating
from rdp.store import RunRecord, Store, origin
from rdp.study import Plan
from rdp.tables import collect
from rdp.utils import files, sealed
from rdp.utils.distribution import LOCK

METADATA = "ro-crate-metadata.json"
CHECKLIST, WEIGHTS, ARCHIVES = f"report/{checklist.NAME}", "weights.csv", "recorded"
# Sealed products that `facts.gather` does not read. Files of the other types have no seal.
_SEALED, _UNSEALED = ("figures/", "probes/", "speed."), (".pdf", ".png", ".csv", ".rst")


def write(plan: Plan, results: Path) -> Path:
    """Write ``crate/`` of a study, whole or not at all, and return the path of its metadata.

    Raises:
        UserError: a product is absent or damaged; no run has a record; records are of other code; the folder holds
            something else.
    """
    target = results / plan.name / "crate"
    if target.exists() and not (target / METADATA).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: holds something else than a research object; move it away")
    records = _records(plan, results)
    if not any(spec.run in records for spec in plan.specs):
        raise UserError(
            f"{plan.name}: no run has left a record yet; first: snakemake --cores all --config study={plan.name}"
        )
    shared = facts.gather(plan, results)
    with files.atomic_folder(target) as part:
        descriptions = _fill(part, plan, results, shared, records)
        metadata.describe(part, descriptions, shared, list(records.values()), _config(plan, results)).write(part)
    return target / METADATA


def _config(plan: Plan, results: Path) -> dict[str, str]:
    """The workflow's configuration. An absolute path is cut to its last part."""
    return {
        "study": plan.name,
        "device": plan.device,
        "records": "recorded" if origin.is_recorded(results) else "trained",
        "results": results.name if results.is_absolute() else results.as_posix(),
    }


def _fill(
    part: Path, plan: Plan, results: Path, shared: dict[str, Any], records: dict[str, RunRecord]
) -> dict[str, tuple[str, str]]:
    descriptions = {}
    report = f"run: rdp report {plan.name}"
    for name, description in products.products(plan).items():
        _copy(results / plan.name / name, part / name, report)
        if name.startswith(_SEALED) and not name.endswith(_UNSEALED):
            sealed.read(part / name, plan.name, report)
        descriptions[name] = description
    for name, source in products.sources(plan).items():
        _copy(source, part / name, "it is a file of the project")
        descriptions[name] = ("workflow", f"{name} of the project")
    for name in shared["datasets"]:
        path = f"data/{name}/manifest.json"
        _copy(prepared.folder(name, results) / "manifest.json", part / path, f"run: rdp data prepare {name}")
        descriptions[path] = ("data", f"Manifest of the dataset {name}: origin, licence, sizes and checksum")
    file = f"{plan.name}.yaml"
    study, lock = (file, f"../{products.STUDY}/{file}"), (LOCK, f"../{LOCK}")
    (part / CHECKLIST).write_text(
        checklist.render(shared, {"study": study, "lock": lock, "data": ("", "../data")}), encoding="utf-8"
    )
    descriptions[CHECKLIST] = ("checklist", "The NeurIPS paper checklist, answered from the records")
    _write_weights(part / WEIGHTS, records)
    descriptions[WEIGHTS] = ("weights", "Checksums of weights and predictions")
    path = f"{ARCHIVES}/{plan.name}{SUFFIX}"
    missing = _write_archive(part / path, plan, results)
    descriptions[path] = ("archive", "All records, from which the report is made again")
    text = templating.html("crate.md.j2").render(shared, missing=missing)
    (part / "README.md").write_text(text, encoding="utf-8")
    descriptions["README.md"] = ("readme", "Content of this research object, and how to use it")
    return descriptions


def _copy(source: Path, target: Path, remedy: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror}); {remedy}") from None


def _records(plan: Plan, results: Path) -> dict[str, RunRecord]:
    store = Store(results)
    records = {spec.run: collect.usable_record(store, spec)[0] for spec in recorded.runs(plan)}
    return {run: record for run, record in records.items() if record is not None}


def _write_weights(path: Path, records: dict[str, RunRecord]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("run", "file", "sha256"))
        for run, record in records.items():
            table.writerows((run, f"store/{run}/{name}", digest) for name, digest in sorted(record.files.items()))


def _write_archive(path: Path, plan: Plan, results: Path) -> int:
    """Write the study's archive, or copy the one its recorded results are from; return the number of missing runs."""
    if not origin.is_recorded(results):
        return pack(plan, results, path).manifest.runs["missing"]
    archive = recorded.find(plan.name)
    if archive.seal != origin.read(results)["archive_seal"]:
        raise UserError(
            f"{archive.path}: is not the archive that {results} was unpacked from; "
            f"run: rdp unpack {plan.name} --recorded"
        )
    _copy(archive.path, path, f"run: rdp unpack {plan.name} --recorded")
    return archive.manifest.runs["missing"]
