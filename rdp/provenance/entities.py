"""The entities of a research object's metadata: files, parameters, software, datasets, and what the runs took."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from rdp.provenance import products
from rdp.provenance.evidence import Evidence
from rdp.store import RunRecord
from rdp.utils import digest
from rdp.utils.humanize import count

BIOSCHEMAS = "https://bioschemas.org/profiles/{}/1.0-RELEASE"
HOMES = {  # of what records name with its version
    "python": "https://www.python.org",
    "numpy": "https://numpy.org",
    "pydantic": "https://docs.pydantic.dev",
    "safetensors": "https://github.com/huggingface/safetensors",
    "timm": "https://github.com/huggingface/pytorch-image-models",
    "torch": "https://pytorch.org",
}


def context(crate: ROCrate, at: str, kind: str, /, **properties: Any) -> Entity:
    """An entity that is no file; without what is None."""
    known = {name: value for name, value in properties.items() if value is not None and value != []}
    entity = crate.add(ContextEntity(crate, at, properties={"@type": kind}))
    for name, value in known.items():
        entity[name] = single(value)
    return entity


def single(value: Any) -> Any:
    """A value in place of a list of one, as RO-Crate 1.1 recommends."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def file(crate: ROCrate, folder: Path, path: str, what: str) -> Entity:
    """A file by its path below a folder."""
    return crate.add_file(folder / path, path, properties=content(folder / path, path) | {"description": what})


def content(source: Path, path: str) -> dict[str, Any]:
    """What a file says of itself: name, media type, bytes and checksum."""
    return {
        "name": path,
        "encodingFormat": products.encoding(path),
        "contentSize": str(source.stat().st_size),
        "sha256": digest.of_file(source),
    }


def formal(crate: ROCrate, at: str, what: str, examples: list[Entity]) -> Entity:
    """An input or output of the workflow, with the values or files that it had."""
    formal = context(
        crate,
        at,
        "FormalParameter",
        name=at.partition("-")[2],
        description=what,
        additionalType="Text" if examples[0].type == "PropertyValue" else "File",
        conformsTo=context(
            crate, BIOSCHEMAS.format("FormalParameter"), "CreativeWork", name="Bioschemas FormalParameter"
        ),
        workExample=examples,
    )
    for example in examples:
        example["exampleOfWork"] = formal
    return formal


def name_of(author: dict[str, str]) -> str:
    """The name of a person or of an organization in CITATION.cff."""
    return author.get("name") or " ".join(filter(None, (author.get("given-names"), author.get("family-names"))))


def software(crate: ROCrate, runs: Iterable[RunRecord]) -> list[Entity]:
    """What records name with its version, each version once."""
    seen = {(name, version) for run in runs for name, version in run.telemetry.versions.items()}
    return [
        context(
            crate,
            f"{HOMES[name]}#{version}" if name in HOMES else f"#{name}-{version}",
            "SoftwareApplication",
            name=name,
            softwareVersion=version,
            url=HOMES.get(name),
        )
        for name, version in sorted(seen)
    ]


def dataset(crate: ROCrate, manifest: Entity, name: str, found: Evidence) -> Entity:
    """A dataset, which is not in the research object: its origin, its licence, and the checksum that runs name."""
    info, runs = found.datasets[name], found.done
    licence = context(crate, f"#licence-{name}", "CreativeWork", name=info.licence or "not known")
    digests = sorted(runs[runs["dataset"] == name]["data_digest"].dropna().unique())
    entity = context(
        crate,
        f"#data-{name}",
        "CreativeWork",
        additionalType="Dataset",
        name=name,
        description=info.origin,
        license=licence,
        identifier=[f"sha256:{value}" for value in digests],
        subjectOf=manifest,
    )
    manifest["about"] = entity
    return entity


def usage(crate: ROCrate, found: Evidence) -> list[Entity]:
    """Machines, time and memory, as the records tell them."""
    done = found.done
    told = [
        ("machine", f"{count(row['runs'], 'run')} on {row['device']}: {row['versions']}", None)
        for row in found.machines
    ]
    told.append(("seconds of all runs together", round(float(done["seconds"].sum()), 3), "SEC"))
    if found.plan.sweep and found.swept is not None:
        told.append(("seconds of the runs of sweeps together", round(found.swept, 3), "SEC"))
    most = done["process_peak_bytes"].max()
    told += [("most bytes of memory that a process took", int(most), "AD")] if most == most else []
    return [
        context(crate, f"#usage-{i}", "PropertyValue", name=name, value=value, unitCode=unit)
        for i, (name, value, unit) in enumerate(told, 1)
    ]
