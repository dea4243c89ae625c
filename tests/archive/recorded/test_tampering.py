"""No change to a bundle passes: whatever a file has lost or gained, it is named and nothing is unpacked."""

import hashlib
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rdp import study
from rdp.archive import bundle, unpacking
from rdp.archive.bundle import Bundle
from rdp.study import Plan
from rdp.utils import digest
from tests.damage.conftest import refusal
from tests.damage.damages import damages

NAMES = (
    bundle.MANIFEST,
    "planted.yaml",
    bundle.RECORDS,
    bundle.PREDICTIONS,
    bundle.SWEEPS,
    bundle.CLAIMS,
    bundle.SPEED,
    "labels/digits.safetensors.xz",
    "datasets/digits.json",
    "probes/feature_reuse.parquet.xz",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_named(name: str, copy: Bundle) -> None:
    path = copy.folder / name
    whole = path.read_bytes()
    for damage, damaged in damages(whole, 12, name):
        path.write_bytes(damaged)
        said = refusal(bundle.load, copy.folder)
        assert said is not None, damage
        assert said.startswith(f"{path}: "), damage
    path.unlink()
    assert str(path) in refusal(bundle.load, copy.folder)
    path.mkdir()
    assert str(path) in refusal(bundle.load, copy.folder)


def test_files_in_each_others_place_are_named(copy: Bundle) -> None:
    first, second = (copy.folder / "probes" / f"{name}.parquet.xz" for name in ("feature_reuse", "surviving_neurons"))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    assert str(first) in refusal(bundle.load, copy.folder)


def test_a_bundle_in_the_place_of_another_is_named(
    copy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(copy.folder, tmp_path / "results" / "recorded" / "quick")).relative_to(tmp_path)
    assert refusal(bundle.find, "quick") == f"{folder}/manifest.json: of the study 'planted', in the place of 'quick'"
    folder.rename(folder.with_name("planted"))
    assert bundle.find("planted").seal == copy.seal
    told = refusal(bundle.find, "plantet")
    assert told.startswith("results/recorded: no recorded study 'plantet'; did you mean 'planted'? valid: ")
    assert not {"bench", "reports"} & set(told.rpartition(": ")[2].split(", "))


def reseal(found: Bundle, name: str, change: Callable[[bytes], bytes]) -> Bundle:
    """What somebody makes who changes a file and knows how manifests are sealed."""
    content = change(found.content(name))
    content = lzma.compress(content) if name.endswith(".xz") else content
    (found.folder / name).write_bytes(content)
    manifest = found.manifest
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (found.folder / bundle.MANIFEST).write_text(json.dumps(digest.seal(manifest)))
    return bundle.load(found.folder)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (bundle.RECORDS, lambda c: c.replace(b'"parameters": 500.0', b'"parameters": 400.0'), "its digest is"),
        (bundle.RECORDS, lambda c: c.replace(b'"started": "2020', b'"started": "2021'), "its seal does not fit"),
        (bundle.RECORDS, lambda c: b"".join(sorted(c.splitlines(True))), "is in the place of"),
        (bundle.RECORDS, lambda c: b"".join(c.splitlines(True)[1:]), "35 records of 36 runs"),
        (bundle.PREDICTIONS, lambda c: c[:-1] + bytes([c[-1] ^ 1]), "not the file its record was made with"),
        ("labels/digits.safetensors.xz", lambda c: c[:-2] + bytes([c[-2] ^ 1]) + c[-1:], "do not give the accuracy"),
    ],
    ids=["number", "time", "order", "fewer", "prediction", "label"],
)
def test_a_forged_bundle_is_betrayed_by_its_records(
    name: str, change: Callable[[bytes], bytes], told: str, copy: Bundle, plan: Plan, tmp_path: Path
) -> None:
    forged = reseal(copy, name, change)
    said = refusal(unpacking.write, forged, plan, tmp_path / "rebuilt")
    assert said.startswith(f"{copy.folder / bundle.RECORDS}: ")
    assert told in said


def test_a_name_outside_the_bundle_is_refused(copy: Bundle) -> None:
    for name in ("../planted.yaml", "/etc/passwd", "a/../../b.json", "a/b/c.json"):
        manifest = copy.manifest | {"files": {name: {"bytes": 0, "sha256": ""}}}
        (copy.folder / bundle.MANIFEST).write_text(json.dumps(digest.seal(manifest)))
        assert "names a file outside a bundle" in refusal(bundle.load, copy.folder)


def test_a_claim_seen_at_a_place_outside_the_results_is_refused(copy: Bundle, plan: Plan, tmp_path: Path) -> None:
    forged = reseal(copy, bundle.CLAIMS, lambda content: b'{"../../../outside": "2020-01-01T00:00:00Z"}')
    said = refusal(unpacking.write, forged, plan, tmp_path / "rebuilt")
    assert "no name of a claim's text: ../../../outside" in said
    assert not (tmp_path / "outside").exists()


def test_a_study_that_asks_for_other_runs_than_its_bundle_is_refused(copy: Bundle, plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / plan.file.name
    text = plan.file.read_text()
    file.write_text(text.replace('"seeds": 2', '"seeds": 3'))
    said = refusal(bundle.plan, copy, str(file))
    assert said.startswith(f"{file}: it is another study than the recorded one, {copy.study_file}: ")
    assert "6 runs are not in the bundle, first " in said
    file.write_text(text.replace('"pnnh": null', '"plain": null'))
    assert "of the bundle's are not in the study" in refusal(bundle.plan, copy, str(file))
    file.write_text(text.replace('"Planted"', '"Another title"'))
    assert bundle.plan(copy, str(file)).study.title == "Planted"
    assert bundle.plan(copy, "planted").file == copy.study_file  # this checkout has no such study


def test_a_bundle_whose_runs_this_checkout_names_otherwise_is_refused(copy: Bundle) -> None:
    cells = dict(copy.manifest["cells"])
    name = next(iter(cells))
    cells[f"{name[:-12]}{'0' * 12}"] = cells.pop(name)
    (copy.folder / bundle.MANIFEST).write_text(json.dumps(digest.seal(copy.manifest | {"cells": cells})))
    said = refusal(bundle.plan, bundle.load(copy.folder), "planted")
    assert "this checkout makes other runs of it than the commit that recorded them: 2 runs" in said


def test_no_study_is_called_like_the_folders_of_bundles() -> None:
    assert {"recorded", "rebuilt"} <= study.RESERVED_NAMES
