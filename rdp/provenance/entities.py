"""The entities of a research object's metadata: files, parameters, software, datasets and resource usage."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from rdp.provenance import products
from rdp.store import RunRecord
from rdp.utils import digest
from rdp.utils.humanize import count

BIOSCHEMAS = "https://bioschemas.org/profiles/{}/1.0-RELEASE"
HOMES = {  # home pages of the packages whose versions records name
    "python": "https://www.python.org",
    "numpy": "https://numpy.org",
    "pydantic": "https://docs.pydantic.dev",
    "safetensors": "https://github.com/huggingface/safetensors",
    "timm": "https://github.com/huggingface/pytorch-image-models",
    "torch": "https://pytorch.org",
}


def context(crate: ROCrate, at: str, kind: str, /, **properties: Any) -> Entity:
    """An entity that is not a file; properties that are None are left out."""
    known = {name: value for name, value in properties.items() if value is not None and value != []}
    entity = crate.add(ContextEntity(crate, at, properties={"@type": kind}))
    for name, value in known.items():
        entity[name] = single(value)
    return entity


def single(value: Any) -> Any:
    """Unwrap a list of one value, as RO-Crate 1.1 recommends."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def file(crate: ROCrate, folder: Path, path: str, what: str) -> Entity:
    """A file by its path below a folder."""
    return crate.add_file(folder / path, path, properties=content(folder / path, path) | {"description": what})


def content(source: Path, path: str) -> dict[str, Any]:
    """Name, media type, size and checksum of a file."""
    return {
        "name": path,
        "encodingFormat": products.encoding(path),
        "contentSize": str(source.stat().st_size),
        "sha256": digest.of_file(source),
    }


def formal(crate: ROCrate, at: str, what: str, examples: list[Entity]) -> Entity:
    """An input or output of the workflow, with its values or files in this run."""
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
    """The packages that records name, once per version."""
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


def dataset(crate: ROCrate, manifest: Entity, name: str, shared: dict[str, Any]) -> Entity:
    """A dataset outside the research object: its origin, its licence and its checksum in the records."""
    info, runs = shared["datasets"][name], shared["done"]
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


def usage(crate: ROCrate, shared: dict[str, Any]) -> list[Entity]:
    """Machines, time and memory, from the records."""
    done = shared["done"]
    rows: list[tuple[str, str | float, str | None]] = [
        ("machine", f"{count(row['runs'], 'run')} on {row['device']}: {row['versions']}", None)
        for row in shared["machines"]
    ]
    rows.append(("total seconds of all runs", round(float(done["seconds"].sum()), 3), "SEC"))
    if shared["plan"].sweep and shared["sweep_seconds"] is not None:
        rows.append(("total seconds of the runs of sweeps", round(shared["sweep_seconds"], 3), "SEC"))
    most = done["process_peak_bytes"].max()
    rows += [("peak memory of a process in bytes", int(most), "AD")] if most == most else []
    return [
        context(crate, f"#usage-{i}", "PropertyValue", name=name, value=value, unitCode=unit)
        for i, (name, value, unit) in enumerate(rows, 1)
    ]
