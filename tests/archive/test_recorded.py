"""A recorded study is looked up by its name, and its plan must be the one that was packed."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from rdp import study
from rdp.archive import format as archive_format
from rdp.archive import recorded
from rdp.archive.format import Archive
from rdp.study import Plan
from tests.archive.conftest import forge, refusal


def test_an_archive_is_found_by_its_study_or_its_path(
    copy: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("results/recorded/planted.tar")
    path.parent.mkdir(parents=True)
    shutil.copy(copy.path, path)
    for name in ("planted", "elsewhere/planted.yaml", str(path), str(copy.path)):
        assert recorded.find(name).seal == copy.seal
    said = refusal(recorded.find, "plantet")
    assert said.startswith("results/recorded: no recorded study 'plantet'; did you mean 'planted'?")
    path.rename(path.with_name("quick.tar"))
    assert refusal(recorded.find, "quick") == (
        "results/recorded/quick.tar: holds the study 'planted'; rename the file after it"
    )
    damaged = path.with_name("quick.tar")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert refusal(recorded.find, "quick").startswith("results/recorded/quick.tar: damaged: ")


def test_a_study_that_asks_for_other_runs_than_its_archive_is_refused(
    copy: Archive, planted: Plan, tmp_path: Path
) -> None:
    file, text = tmp_path / planted.file.name, planted.file.read_text()
    file.write_text(text.replace('"seeds": 2', '"seeds": 3'))
    said = refusal(recorded.plan, copy, tmp_path, str(file))
    assert said.startswith(f"{file}: asks for other runs than the study recorded in {copy.path}: ")
    assert "6 not in the archive, first " in said
    file.write_text(text.replace('"pnnh": null', '"plain": null'))
    assert "only in the archive" in refusal(recorded.plan, copy, tmp_path, str(file))
    file.write_text(text.replace('"Planted"', '"Another title"'))
    assert recorded.plan(copy, tmp_path, str(file)).study.title == "Planted"
    assert recorded.plan(copy, tmp_path, "planted").file == file  # this checkout has no such study


def test_an_archive_whose_runs_have_other_names_here_is_refused(copy: Archive, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        name = next(iter(manifest["cells"]))
        manifest["cells"][f"{name[:-12]}{'0' * 12}"] = manifest["cells"].pop(name)

    archive = archive_format.load(forge(copy.path, change))
    said = refusal(recorded.plan, archive, tmp_path)
    assert f"{copy.path}: packed by a checkout that makes other runs of 'planted': 2 not in the archive" in said


@pytest.mark.parametrize("name", ["../outside", "store", "Upper"])
def test_a_study_name_that_is_no_file_name_is_refused(name: str, copy: Archive, tmp_path: Path) -> None:
    path = forge(copy.path, lambda manifest, members: manifest.update(study=name))
    said = refusal(lambda: recorded.plan(archive_format.load(path), tmp_path / "results"))
    assert "study: String should match pattern" in said or "a study cannot be called store" in said
    assert not (tmp_path / "outside.yaml").exists()


def test_no_study_has_the_name_of_a_folder_of_archives() -> None:
    assert {"recorded", "rebuilt"} <= study.RESERVED_NAMES
