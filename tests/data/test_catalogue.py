"""The output of ``rdp data list``, ``fetch`` and ``verify``."""

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
    rows = {columns[0]: columns for columns in catalogue.rows(results)}
    assert list(rows) == data.available()
    return dict(zip(catalogue.COLUMNS, rows[name], strict=True))


class TestList:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_missing_files_are_listed_with_download_size_and_command(self, name, root, results):
        columns = row(name, results)
        assert (columns["files"], columns["prepared"], columns["checksum"]) == ("no", "no", "")
        assert columns["size"] == f"{data.info(name).download_bytes / 1e6:.0f} MB to download"
        assert columns["how to get it"] == f"rdp data fetch {name}"
        assert columns["licence"]

    @pytest.mark.parametrize(("name", "words"), [("digits", "ships with scikit-learn"), ("spiral", "generated")])
    def test_bundled_datasets_need_no_files(self, name, words, root, results):
        columns = row(name, results)
        assert (columns["files"], columns["size"], columns["how to get it"]) == ("none needed", "", words)

    def test_files_are_listed_as_complete_or_partial(self, root, results, monkeypatch):
        written = write("svhn", root, monkeypatch)
        size = sum(path.stat().st_size for path in written.files)
        assert (row("svhn", results)["files"], row("svhn", results)["size"]) == ("yes", humanize.size(size))
        written.files[0].unlink()
        written.files[0].mkdir()  # not a file
        assert (row("svhn", results)["files"], row("svhn", results)["size"]) == ("part", "246 MB to download")

    def test_prepared_datasets_are_listed_with_their_checksum(self, root, results):
        prepared.prepare("spiral", results)
        columns = row("spiral", results)
        assert (columns["prepared"], columns["checksum"]) == ("yes", prepared.load("spiral", results).digest[:12])

    @pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"digest": "0"}', '{"seal": "0"}'])
    def test_an_unreadable_manifest_is_damaged(self, content, root, results):
        manifest = prepared.prepare("spiral", results)
        manifest.unlink()
        if content is None:
            manifest.mkdir()
        else:
            manifest.write_text(content)
        assert (row("spiral", results)["prepared"], row("spiral", results)["checksum"]) == ("damaged", "")

    def test_a_manifest_without_data_is_damaged(self, root, results):
        manifest = prepared.prepare("spiral", results)
        manifest.with_name("data.safetensors").unlink()
        assert row("spiral", results)["prepared"] == "damaged"

    def test_an_edited_manifest_is_damaged(self, root, results):
        manifest = prepared.prepare("spiral", results)
        content = json.loads(manifest.read_text())
        manifest.write_text(json.dumps(content | {"digest": "0" * 64}))
        assert row("spiral", results)["prepared"] == "damaged"


class TestFetch:
    def test_intact_files_are_not_fetched_again(self, root, results, monkeypatch):
        write("svhn", root, monkeypatch)
        assert catalogue.fetch("svhn") == f"svhn: 2 files in {root}, as published"

    def test_a_damaged_file_is_named(self, root, results, monkeypatch):
        written = write("svhn", root, monkeypatch)
        written.files[1].write_bytes(b"")
        with pytest.raises(UserError, match=f"^{written.files[1]}: damaged or not svhn's file"):
            catalogue.fetch("svhn")

    def test_bundled_datasets_have_nothing_to_fetch(self, root):
        assert catalogue.fetch("digits") == "digits: nothing to fetch: ships with scikit-learn"

    def test_an_unknown_name_suggests_the_closest_one(self, root):
        with pytest.raises(UserError, match="did you mean 'cifar100'"):
            catalogue.fetch("cifar-100")


class TestVerify:
    def test_intact_data_are_reported(self, root, results, monkeypatch):
        monkeypatch.setattr(prepared, "_check", lambda *arguments: None)  # the fixture has fewer images
        write("svhn", root, monkeypatch)
        prepared.prepare("svhn", results)
        intact, bad = catalogue.verify("svhn", results)
        assert bad == []
        checksum = prepared.load("svhn", results).digest[:12]
        assert intact == [
            f"svhn: 2 files in {root}, as published",
            f"svhn: {results}/data/svhn matches its manifest, checksum {checksum}",
        ]

    def test_every_missing_file_is_named_and_nothing_is_prepared(self, root, results, monkeypatch):
        written = write("svhn", root, monkeypatch)
        for path in written.files:
            path.unlink()
        intact, bad = catalogue.verify("svhn", results)
        assert intact == []
        manifest = results / "data" / "svhn" / "manifest.json"
        assert [line.partition(":")[0] for line in bad] == [str(path) for path in (*written.files, manifest)]
        assert not results.exists()

    def test_damaged_prepared_data_are_named_beside_intact_files(self, root, results, flip_byte):
        file = prepared.prepare("spiral", results).with_name("data.safetensors")
        flip_byte(file, file.stat().st_size // 2)
        intact, bad = catalogue.verify("spiral", results)
        assert intact == ["spiral: no files needed: generated"]
        assert len(bad) == 1
        assert bad[0].startswith(f"{file}: damaged")

    def test_the_command_reports_damage_in_lines_and_exit_status(self, root, results, run_python, tmp_path):
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


class TestMinimalSource:
    """A source without a download, such as data behind a registration."""

    @pytest.fixture
    def offer(self, monkeypatch):
        sizes = dict.fromkeys(SPLITS, 1)
        info = DatasetInfo("image", (3, 4, 4), 2, sizes, "somewhere", "terms of use", get="register at their site")

        def make(**functions: object) -> None:
            module = SimpleNamespace(DATASETS={"shy": info}, **functions)
            monkeypatch.setattr(data, "_sources", lambda: {"shy": module})

        return make

    def test_without_files_the_instructions_are_shown(self, offer, root, results):
        offer()
        assert (row("shy", results)["files"], row("shy", results)["how to get it"]) == (
            "unknown",
            "register at their site",
        )
        with pytest.raises(UserError) as error:
            catalogue.fetch("shy")
        assert str(error.value) == "shy: no command downloads it; how to get it: register at their site"

    def test_with_a_list_of_files_their_presence_is_known(self, offer, root, results):
        offer(files=lambda name, root: [root / "shy.bin"])
        assert row("shy", results)["files"] == "no"
        with pytest.raises(UserError, match="how to get it: register at their site"):
            catalogue.fetch("shy")
        assert catalogue.verify("shy", results)[1][0].startswith(f"{root / 'shy.bin'}: no such file")
        (root / "shy.bin").write_bytes(b"1")
        assert row("shy", results)["files"] == "yes"
        assert catalogue.fetch("shy") == f"shy: 1 file in {root}, not verified"


class TestImageFolders:
    def test_they_are_listed_as_present_or_missing(self, small):
        rows = {row[0]: dict(zip(catalogue.COLUMNS, row, strict=True)) for row in catalogue.rows(small / "results")}
        assert (rows["small"]["files"], rows["small"]["prepared"]) == ("yes", "no")
        assert rows["imagenet"]["files"] == "no"
        assert "image-net.org" in rows["imagenet"]["how to get it"]

    def test_a_changed_and_a_missing_image_are_named(self, small):
        results = small / "results"
        prepared.prepare("small", results)
        assert catalogue.verify("small", results)[1] == []
        changed, absent = sorted((small / "small" / "train").rglob("*.*"))[:2]
        changed.write_bytes(changed.read_bytes() + b"x")
        absent.unlink()
        intact, bad = catalogue.verify("small", results)
        assert len(bad) == 2
        assert any(line.startswith(f"{changed}: changed since") for line in bad)
        assert any(line.startswith(f"{absent}: cannot be read") for line in bad)
        assert not any("manifest" in line for line in intact)

    def test_datasets_without_a_download_give_instructions(self, root):
        with pytest.raises(UserError, match=r"no command downloads it; how to get it: register at image-net\.org"):
            catalogue.fetch("imagenet")
