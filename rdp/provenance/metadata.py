"""The metadata of a research object: which run of the workflow made which files, from what, when and on what machine.

Nobody is named who is not in CITATION.cff, and nothing is dated but by the records.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from rdp.errors import UserError
from rdp.provenance import entities, products
from rdp.provenance.evidence import Evidence
from rdp.store import RunRecord
from rdp.utils.humanize import count
from rdp.utils.lockfile import LOCK, pinned_versions

VERSION = "1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
TERMS = {  # of the profile, and not in RO-Crate 1.1
    name: f"https://w3id.org/ro/terms/workflow-run#{name}" for name in ("sha256", "resourceUsage")
}
LICENCE = ("https://spdx.org/licenses/Apache-2.0", "Apache License 2.0")
INPUTS = {
    "study": "Which study is run: --config study=NAME",
    "device": "Where it trains, cpu, cuda or auto: --config device=NAME",
    "records": "Whether runs are trained, or unpacked from an archive: --config records=trained or recorded",
    "results": "Where results go: --config results=DIR",
    "study-file": "What is trained, how, and what is measured",
    "claims-file": "What the papers claim, and how it is decided",
    "data": "Manifests of the datasets",
}
OUTPUTS = {
    **products.TABLES,
    "claims": "Verdicts on the claims",
    "probes": "What probes measured on the networks",
    "speed": "Training throughput, side by side",
    "figures": "Figures, each with the data behind it",
    "tables": "Tables of the report",
    "page": "The report as a page",
    "paper": "The report as a paper",
    "checklist": "The NeurIPS paper checklist",
    "weights": "Names and checksums of what runs left",
    "archive": "All records, packed",
}
_ACTION = "#run"


def describe(
    folder: Path, told: dict[str, tuple[str, str]], found: Evidence, runs: list[RunRecord], asked: dict[str, str]
) -> ROCrate:
    """The research object of the files in a folder.

    Args:
        folder: with the files.
        told: by a file's path the kind of product that it is one of, and what it is.
        found: what the study's records prove.
        runs: the records, those of sweeps among them; one or more.
        asked: what the workflow was asked for, ``study``, ``device``, ``records`` and ``results``.
    """
    crate = ROCrate(version=VERSION)
    crate.metadata.extra_terms.update(TERMS)
    licence = entities.context(crate, LICENCE[0], "CreativeWork", name=LICENCE[1])
    citation = yaml.safe_load((folder / "CITATION.cff").read_text(encoding="utf-8"))
    begun, ended = _times(runs)
    files = {path: entities.file(crate, folder, path, what) for path, (_, what) in told.items() if path != "Snakefile"}
    by_kind: dict[str, list[Entity]] = {}
    for path, entity in files.items():
        by_kind.setdefault(told[path][0], []).append(entity)
    values = {
        name: [entities.context(crate, f"#value-{name}", "PropertyValue", name=name, value=value)]
        for name, value in asked.items()
    }
    study, claims = files[f"{products.STUDY}/{found.plan.name}.yaml"], [files[path] for path in products.claims()]
    inputs = {**values, "study-file": [study], "claims-file": claims, "data": by_kind["data"]}
    outputs = {kind: by_kind[kind] for kind in OUTPUTS if kind in by_kind}
    workflow = _workflow(crate, folder, citation, licence)
    workflow["softwareRequirements"] = entities.single([files[LOCK], *entities.software(crate, runs)])
    workflow["hasPart"] = [files[path] for path in files if path.endswith(".smk")]
    workflow["input"] = [entities.formal(crate, f"#input-{name}", what, inputs[name]) for name, what in INPUTS.items()]
    workflow["output"] = [
        entities.formal(crate, f"#output-{name}", OUTPUTS[name], some) for name, some in outputs.items()
    ]
    datasets = [entities.dataset(crate, files[f"data/{name}/manifest.json"], name, found) for name in found.datasets]
    action = entities.context(
        crate,
        _ACTION,
        "CreateAction",
        name=f"The study {found.plan.name}",
        description=_happened(found),
        instrument=workflow,
        startTime=begun,
        endTime=ended,
        object=[*(entity for some in inputs.values() for entity in some), *datasets],
        result=[entity for some in outputs.values() for entity in some],
        resourceUsage=entities.usage(crate, found),
        **_status(found),
    )
    _root(crate, found, citation, licence, action, ended)
    if "README.md" in files:
        files["README.md"]["about"] = crate.root_dataset
    return crate


def _workflow(crate: ROCrate, folder: Path, citation: dict[str, Any], licence: Entity) -> Entity:
    source = folder / "Snakefile"
    workflow = crate.add_workflow(
        source,
        "Snakefile",
        main=True,
        lang="snakemake",
        lang_version=max(pinned_versions(folder / LOCK).get("snakemake", ()), default=None),
        properties=entities.content(source, "Snakefile"),
    )
    conforms = entities.BIOSCHEMAS.format("ComputationalWorkflow")
    workflow["name"] = citation["title"]
    workflow["description"] = "From a study's file to its records, verdicts, figures, tables and report"
    workflow["version"] = citation["version"]
    workflow["license"] = licence
    workflow["conformsTo"] = entities.context(crate, conforms, "CreativeWork", name="Bioschemas ComputationalWorkflow")
    workflow["author"] = entities.single(
        [
            entities.context(
                crate, f"#author-{i}", "Organization" if "name" in author else "Person", name=entities.name_of(author)
            )
            for i, author in enumerate(citation["authors"], 1)
        ]
    )
    return workflow


def _status(found: Evidence) -> dict[str, str]:
    """Failed where runs are failed or missing, and which."""
    absent = [row for row in found.unfinished if row["status"] in ("failed", "missing")]
    if not absent:
        return {"actionStatus": "http://schema.org/CompletedActionStatus"}
    named = "; ".join(f"{row['cell']}, seed {row['seeds']}: {row['status']} ({row['reason']})" for row in absent)
    return {"actionStatus": "http://schema.org/FailedActionStatus", "error": named}


def _happened(found: Evidence) -> str:
    counts = ", ".join(f"{n} {status}" for status, n in found.counts.items())
    swept = f", and {count(len(found.plan.sweep), 'run')} of sweeps of learning rates" if found.plan.sweep else ""
    at = f" Trained at commit {', '.join(found.commits)}." if found.commits else ""
    return f"{count(len(found.records), 'run')}: {counts}{swept}.{at} {' '.join(found.recording)}".strip()


def _times(runs: list[RunRecord]) -> tuple[str, str]:
    """When the first run began and the last one ended, in ISO 8601 with the offset that the profile asks for."""
    begun = [run.telemetry.started for run in runs if run.telemetry.started]
    ended = [run.telemetry.ended for run in runs if run.telemetry.ended] or begun
    if not begun:
        raise UserError("no record tells when its run began: a research object must be dated")
    return re.sub("Z$", "+00:00", min(begun)), re.sub("Z$", "+00:00", max(ended))


def _root(
    crate: ROCrate, found: Evidence, citation: dict[str, Any], licence: Entity, action: Entity, ended: str
) -> None:
    root = crate.root_dataset
    root["name"] = f"{found.plan.study.title} ({found.plan.name})"
    root["description"] = found.plan.study.description or f"What the study {found.plan.name} of rdp left"
    root["datePublished"] = ended
    root["license"] = licence
    root["mentions"] = action
    root["conformsTo"] = [
        entities.context(crate, url, "CreativeWork", name=name, version=version)
        for url, (name, version) in PROFILES.items()
    ]
    root["keywords"] = ", ".join(sorted({cell.dataset for cell in found.plan.cells}))
    root["citation"] = [
        entities.context(
            crate,
            "https://arxiv.org/abs/" + reference["identifiers"][0]["value"].removeprefix("arXiv:"),
            "ScholarlyArticle",
            name=reference["title"],
            author=[
                entities.context(crate, f"#{entities.name_of(a).replace(' ', '-')}", "Person", name=entities.name_of(a))
                for a in reference["authors"]
            ],
            datePublished=str(reference["year"]),
        )
        for reference in citation["references"]
    ]
    crate.metadata["conformsTo"] = [
        {"@id": f"https://w3id.org/ro/crate/{VERSION}"},
        {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
    ]
