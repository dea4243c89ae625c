"""What ``rdp data list``, ``fetch`` and ``verify`` say."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from rdp import data
from rdp.data import catalogue, prepared
from rdp.data.dataset import SPLITS, DatasetInfo
from rdp.data.download import OFFLINE
from rdp.data.sources import torchvision_images
from rdp.errors import UserError
from rdp.utils import humanize
from tests.helpers.sources import write

PUBLISHED = sorted(torchvision_images.DATASETS)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty data directory, and no network."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("RDP_DATA", str(folder))
    monkeypatch.setenv(OFFLINE, "1")
    return folder


@pytest.fixture
def results(tmp_path) -> Path:
    return tmp_path / "results"


def row(name: str, results: Path) -> dict[str, str]:
    rows = {found[0]: found for found in catalogue.rows(results)}
    assert list(rows) == data.available()
    return dict(zip(catalogue.COLUMNS, rows[name], strict=True))


class TestList:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_what_is_not_there_is_told_with_its_size_and_the_command_that_gets_it(self, name, root, results):
        found = row(name, results)
        assert (found["files"], found["prepared"], found["checksum"]) == ("no", "no", "")
        assert found["size"] == f"{data.info(name).download_bytes / 1e6:.0f} MB to download"
        assert found["how to get it"] == f"rdp data fetch {name}"
        assert found["licence"]

    @pytest.mark.parametrize(("name", "words"), [("digits", "ships with scikit-learn"), ("spiral", "generated")])
    def test_what_needs_no_files_says_so(self, name, words, root, results):
        found = row(name, results)
        assert (found["files"], found["size"], found["how to get it"]) == ("none needed", "", words)

    def test_files_are_there_in_part_or_all_of_them(self, root, results, monkeypatch):
        written = write("svhn", root, monkeypatch)
        size = sum(path.stat().st_size for path in written.files)
        assert (row("svhn", results)["files"], row("svhn", results)["size"]) == ("yes", humanize.size(size))
        written.files[0].unlink()
        written.files[0].mkdir()  # no file
        assert (row("svhn", results)["files"], row("svhn", results)["size"]) == ("part", "246 MB to download")

    def test_what_is_prepared_has_its_checksum(self, root, results):
        prepared.prepare("spiral", results)
        found = row("spiral", results)
        assert (found["prepared"], found["checksum"]) == ("yes", prepared.load("spiral", results).digest[:12])

    @pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"digest": "0"}', '{"seal": "0"}'])
    def test_a_manifest_that_is_a_folder_or_unreadable_is_damaged(self, content, root, results):
        manifest = prepared.prepare("spiral", results)
        manifest.unlink()
        if content is None:
            manifest.mkdir()
        else:
            manifest.write_text(content)
        assert (row("spiral", results)["prepared"], row("spiral", results)["checksum"]) == ("damaged", "")

    def test_a_manifest_whose_data_are_gone_is_damaged(self, root, results):
        manifest = prepared.prepare("spiral", results)
        manifest.with_name("data.safetensors").unlink()
        assert row("spiral", results)["prepared"] == "damaged"

    def test_a_manifest_that_was_altered_is_damaged(self, root, results):
        manifest = prepared.prepare("spiral", results)
        content = json.loads(manifest.read_text())
        manifest.write_text(json.dumps(content | {"digest": "0" * 64}))
        assert row("spiral", results)["prepared"] == "damaged"


class TestFetch:
    def test_what_is_there_and_well_is_left_as_it_is(self, root, results, monkeypatch):
        write("svhn", root, monkeypatch)
        assert catalogue.fetch("svhn") == f"svhn: 2 files in {root}, as published"

    def test_what_is_there_and_damaged_is_named(self, root, results, monkeypatch):
        written = write("svhn", root, monkeypatch)
        written.files[1].write_bytes(b"")
        with pytest.raises(UserError, match=f"^{written.files[1]}: damaged or not svhn's file"):
            catalogue.fetch("svhn")

    def test_what_needs_no_files_has_nothing_to_fetch(self, root):
        assert catalogue.fetch("digits") == "digits: nothing to fetch: ships with scikit-learn"

    def test_an_unknown_name_is_refused_with_the_near_miss(self, root):
        with pytest.raises(UserError, match="did you mean 'cifar100'"):
            catalogue.fetch("cifar-100")


class TestVerify:
    def test_what_is_well_is_told(self, root, results, monkeypatch):
        monkeypatch.setattr(prepared, "_check", lambda *arguments: None)  # few images are fewer than it should have
        write("svhn", root, monkeypatch)
        prepared.prepare("svhn", results)
        well, wrong = catalogue.verify("svhn", results)
        assert wrong == []
        checksum = prepared.load("svhn", results).digest[:12]
        assert well == [
            f"svhn: 2 files in {root}, as published",
            f"svhn: {results}/data/svhn matches its manifest, checksum {checksum}",
        ]

    def test_every_absent_file_is_named_and_nothing_is_prepared(self, root, results, monkeypatch):
        written = write("svhn", root, monkeypatch)
        for path in written.files:
            path.unlink()
        well, wrong = catalogue.verify("svhn", results)
        assert well == []
        manifest = results / "data" / "svhn" / "manifest.json"
        assert [line.partition(":")[0] for line in wrong] == [str(path) for path in (*written.files, manifest)]
        assert not results.exists()

    def test_damage_to_what_is_prepared_is_named_beside_files_that_are_well(self, root, results, flip_byte):
        file = prepared.prepare("spiral", results).with_name("data.safetensors")
        flip_byte(file, file.stat().st_size // 2)
        well, wrong = catalogue.verify("spiral", results)
        assert well == ["spiral: no files needed: generated"]
        assert len(wrong) == 1
        assert wrong[0].startswith(f"{file}: damaged")

    def test_the_command_tells_damage_in_lines_and_by_its_status(self, root, results, run_python, tmp_path):
        command = ("-m", "rdp.cli", "data", "verify", "spiral")
        prepared.prepare("spiral", results)
        done = run_python(*command, RDP_RESULTS=str(results))
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == 2
        (results / "data" / "spiral" / "data.safetensors").write_bytes(b"")
        done = run_python(*command, RDP_RESULTS=str(results))
        assert done.returncode == 2
        assert done.stderr.startswith(f"rdp: {results}/data/spiral/data.safetensors: damaged")
        assert done.stderr.count("\n") == 1


class TestSourceThatOffersLittle:
    """Data that need a registration: no command downloads them."""

    @pytest.fixture
    def offer(self, monkeypatch):
        sizes = dict.fromkeys(SPLITS, 1)
        info = DatasetInfo("image", (3, 4, 4), 2, sizes, "somewhere", "terms of use", get="register at their site")

        def make(**functions: object) -> None:
            module = SimpleNamespace(DATASETS={"shy": info}, **functions)
            monkeypatch.setattr(data, "_sources", lambda: {"shy": module})

        return make

    def test_with_nothing_but_words_these_are_told(self, offer, root, results):
        offer()
        assert (row("shy", results)["files"], row("shy", results)["how to get it"]) == (
            "unknown",
            "register at their site",
        )
        with pytest.raises(UserError) as error:
            catalogue.fetch("shy")
        assert str(error.value) == "shy: no command downloads it; how to get it: register at their site"

    def test_with_a_list_of_files_it_is_known_whether_they_are_there(self, offer, root, results):
        offer(files=lambda name, root: [root / "shy.bin"])
        assert row("shy", results)["files"] == "no"
        with pytest.raises(UserError, match="how to get it: register at their site"):
            catalogue.fetch("shy")
        assert catalogue.verify("shy", results)[1][0].startswith(f"{root / 'shy.bin'}: no such file")
        (root / "shy.bin").write_bytes(b"1")
        assert row("shy", results)["files"] == "yes"
        assert catalogue.fetch("shy") == f"shy: 1 file in {root}, not verified"


class TestFoldersOfImages:
    def test_they_are_listed_as_there_or_not(self, small):
        rows = {row[0]: dict(zip(catalogue.COLUMNS, row, strict=True)) for row in catalogue.rows(small / "results")}
        assert (rows["small"]["files"], rows["small"]["prepared"]) == ("yes", "no")
        assert rows["imagenet"]["files"] == "no"
        assert "image-net.org" in rows["imagenet"]["how to get it"]

    def test_a_changed_and_an_absent_image_are_named(self, small):
        results = small / "results"
        prepared.prepare("small", results)
        assert catalogue.verify("small", results)[1] == []
        changed, absent = sorted((small / "small" / "train").rglob("*.*"))[:2]
        changed.write_bytes(changed.read_bytes() + b"x")
        absent.unlink()
        well, wrong = catalogue.verify("small", results)
        assert len(wrong) == 2
        assert any(line.startswith(f"{changed}: changed since") for line in wrong)
        assert any(line.startswith(f"{absent}: cannot be read") for line in wrong)
        assert not any("manifest" in line for line in well)

    def test_what_no_command_gets_says_how(self, root):
        with pytest.raises(UserError, match=r"no command downloads it; how to get it: register at image-net\.org"):
            catalogue.fetch("imagenet")
