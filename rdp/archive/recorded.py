"""Find the archive of a recorded study, and the plan of the study in it."""

from collections.abc import Iterable
from pathlib import Path

from rdp import study
from rdp.archive import format as archive_format
from rdp.archive.format import STUDY, SUFFIX, Archive
from rdp.errors import UserError, choices
from rdp.spec import RunSpec
from rdp.study import Plan
from rdp.utils import paths


def find(name: str) -> Archive:
    """Return a verified archive.

    Args:
        name: path of an archive; or a study's name or the path of its file, for ``results/recorded/STUDY.tar`` of the
            working directory or else of the project.

    Raises:
        UserError: no such archive, a damaged one, or one of another study.
    """
    if name.endswith(SUFFIX):
        return archive_format.load(paths.parse(name)).verify()
    stem = paths.parse(name).stem if _is_file(name) else name
    archives = paths.archives()
    if stem not in archives:
        raise UserError(f"results/recorded: no recorded study '{stem}'; {choices(stem, archives)}")
    archive = archive_format.load(archives[stem]).verify()
    if archive.manifest.study != stem:
        raise UserError(f"{archive.path}: holds the study '{archive.manifest.study}'; rename the file after it")
    return archive


def plan(archive: Archive, folder: Path, asked: str = "") -> Plan:
    """Return the plan of an archive's study, by the study file in the archive.

    Args:
        archive: the archive.
        folder: where the study file is, or will be.
        asked: name or path of a study. If this checkout has it, it must ask for the same runs.

    Raises:
        UserError: the study file asks for other runs than the archive states, or than the study that is asked for.
    """
    name = archive.manifest.study
    planned = study.parse(folder / f"{name}.yaml", archive.read(STUDY))
    _compare(archive, planned, f"{archive.path}: packed by a checkout that makes other runs of '{name}'")
    if _is_file(asked) or asked in paths.studies():
        other = study.load(asked)
        _compare(archive, other, f"{other.file}: asks for other runs than the study recorded in {archive.path}")
    return planned


def runs(plan: Plan) -> list[RunSpec]:
    """The runs of a study in the order of an archive: those of sweeps first."""
    return [*plan.sweep.values(), *plan.specs]


def cells(specs: Iterable[RunSpec]) -> dict[str, list[int]]:
    """The seeds of runs by cell, as a manifest lists them."""
    seeds: dict[str, list[int]] = {}
    for spec in specs:
        seeds.setdefault(spec.cell, []).append(spec.seed)
    return seeds


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _compare(archive: Archive, planned: Plan, message: str) -> None:
    requested = {spec.run for spec in runs(planned)}
    stated = {
        f"{cell}/seed-{seed:04d}"
        for listed in (archive.manifest.cells, archive.manifest.missing)
        for cell, seeds in listed.items()
        for seed in seeds
    }
    differences = [
        f"{len(names)} {where}, first {min(names)}"
        for names, where in ((requested - stated, "not in the archive"), (stated - requested, "only in the archive"))
        if names
    ]
    if differences:
        raise UserError(f"{message}: {'; '.join(differences)}")
