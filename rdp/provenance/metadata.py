"""The metadata of a research object: which run of the workflow made which files, from what, when and on what machine.

People come from CITATION.cff only, and dates from the records only.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from rdp.errors import UserError
from rdp.provenance import entities, products
from rdp.store import RunRecord
from rdp.utils.distribution import LOCK, pinned_versions
from rdp.utils.humanize import count

VERSION = "1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
TERMS = {  # of the profile, not in RO-Crate 1.1
    name: f"https://w3id.org/ro/terms/workflow-run#{name}" for name in ("sha256", "resourceUsage")
}
LICENCE = ("https://spdx.org/licenses/Apache-2.0", "Apache License 2.0")
INPUTS = {
    "study": "The study: --config study=NAME",
    "device": "Device for training, cpu, cuda or auto: --config device=NAME",
    "records": "Whether runs are trained, or unpacked from an archive: --config records=trained or recorded",
    "results": "Results directory: --config results=DIR",
    "study-file": "Grid, recipe and probes of the study",
    "claims-file": "The claims of the papers, and how they are decided",
    "data": "Manifests of the datasets",
}
OUTPUTS = {
    **products.TABLES,
    "claims": "Verdicts on the claims",
    "probes": "Measurements of the probes",
    "speed": "Training throughput of the methods",
    "figures": "Figures, each with the data behind it",
    "tables": "Tables of the report",
    "page": "The report as a page",
    "paper": "The report as a paper",
    "checklist": "The NeurIPS paper checklist",
    "weights": "Checksums of weights and predictions",
    "archive": "All records, packed",
}
_ACTION = "#run"


def describe(
    folder: Path,
    descriptions: dict[str, tuple[str, str]],
    shared: dict[str, Any],
    runs: list[RunRecord],
    config: dict[str, str],
) -> ROCrate:
    """Return the research object of the files in a folder.

    Args:
        folder: the folder.
        descriptions: kind and description of each file, by its path.
        shared: the facts of the study, see `rdp.report.facts.gather`.
        runs: the records, including those of sweeps; at least one.
        config: the configuration of the workflow: ``study``, ``device``, ``records`` and ``results``.
    """
    plan = shared["plan"]
    crate = ROCrate(version=VERSION)
    crate.metadata.extra_terms.update(TERMS)
    licence = entities.context(crate, LICENCE[0], "CreativeWork", name=LICENCE[1])
    citation = yaml.safe_load((folder / "CITATION.cff").read_text(encoding="utf-8"))
    begun, ended = _times(runs)
    files = {
        path: entities.file(crate, folder, path, what)
        for path, (_, what) in descriptions.items()
        if path != "Snakefile"
    }
    by_kind: dict[str, list[Entity]] = {}
    for path, entity in files.items():
        by_kind.setdefault(descriptions[path][0], []).append(entity)
    values = {
        name: [entities.context(crate, f"#value-{name}", "PropertyValue", name=name, value=value)]
        for name, value in config.items()
    }
    study, claims = files[f"{products.STUDY}/{plan.name}.yaml"], [files[path] for path in products.claims()]
    inputs = {**values, "study-file": [study], "claims-file": claims, "data": by_kind["data"]}
    outputs = {kind: by_kind[kind] for kind in OUTPUTS if kind in by_kind}
    workflow = _workflow(crate, folder, citation, licence)
    workflow["softwareRequirements"] = entities.single([files[LOCK], *entities.software(crate, runs)])
    workflow["hasPart"] = [files[path] for path in files if path.endswith(".smk")]
    workflow["input"] = [entities.formal(crate, f"#input-{name}", what, inputs[name]) for name, what in INPUTS.items()]
    workflow["output"] = [
        entities.formal(crate, f"#output-{name}", OUTPUTS[name], entities_of_kind)
        for name, entities_of_kind in outputs.items()
    ]
    datasets = [
        entities.dataset(crate, files[f"data/{name}/manifest.json"], name, shared) for name in shared["datasets"]
    ]
    action = entities.context(
        crate,
        _ACTION,
        "CreateAction",
        name=f"The study {plan.name}",
        description=_describe_runs(shared),
        instrument=workflow,
        startTime=begun,
        endTime=ended,
        object=[*(entity for group in inputs.values() for entity in group), *datasets],
        result=[entity for group in outputs.values() for entity in group],
        resourceUsage=entities.usage(crate, shared),
        **_status(shared),
    )
    _root(crate, shared, citation, licence, action, ended)
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
    workflow["description"] = "From a study file to records, verdicts, figures, tables and report"
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


def _status(shared: dict[str, Any]) -> dict[str, str]:
    """Status of the action: failed if runs failed or are missing, with their names."""
    absent = [row for row in shared["unfinished"] if row["status"] in ("failed", "missing")]
    if not absent:
        return {"actionStatus": "http://schema.org/CompletedActionStatus"}
    named = "; ".join(f"{row['cell']}, seed {row['seeds']}: {row['status']} ({row['reason']})" for row in absent)
    return {"actionStatus": "http://schema.org/FailedActionStatus", "error": named}


def _describe_runs(shared: dict[str, Any]) -> str:
    counts = ", ".join(f"{n} {status}" for status, n in shared["counts"].items() if n)
    plan, commits = shared["plan"], ", ".join(shared["commits"])
    swept = f", and {count(len(plan.sweep), 'run')} of sweeps of {plan.swept}" if plan.sweep else ""
    at = f" Trained at commit {commits}." if commits else ""
    return f"{count(shared['runs'], 'run')}: {counts}{swept}.{at} {' '.join(shared['recording'])}".strip()


def _times(runs: list[RunRecord]) -> tuple[str, str]:
    """Start of the first run and end of the last one, in ISO 8601 with the offset that the profile requires."""
    begun = [run.telemetry.started for run in runs if run.telemetry.started]
    ended = [run.telemetry.ended for run in runs if run.telemetry.ended] or begun
    if not begun:
        raise UserError("no record has the time at which its run started, and a research object needs a date")
    return re.sub("Z$", "+00:00", min(begun)), re.sub("Z$", "+00:00", max(ended))


def _root(
    crate: ROCrate, shared: dict[str, Any], citation: dict[str, Any], licence: Entity, action: Entity, ended: str
) -> None:
    root, plan = crate.root_dataset, shared["plan"]
    root["name"] = f"{plan.study.title} ({plan.name})"
    root["description"] = plan.study.description or f"Results of the study {plan.name} of rdp"
    root["datePublished"] = ended
    root["license"] = licence
    root["mentions"] = action
    root["conformsTo"] = [
        entities.context(crate, url, "CreativeWork", name=name, version=version)
        for url, (name, version) in PROFILES.items()
    ]
    root["keywords"] = ", ".join(sorted({cell.dataset for cell in plan.cells}))
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
