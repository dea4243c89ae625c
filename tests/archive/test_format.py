"""An archive is a tar file whose every byte is verified, and a hostile or damaged one is refused."""

import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdp.archive import format as archive_format
from rdp.archive import unpack
from rdp.archive.format import CLAIMS, PREDICTIONS, RECORDS, Archive
from rdp.study import Plan
from tests.archive.conftest import contents, forge, rebuild, refusal
from tests.damage.damages import damages


def read(path: Path) -> Archive:
    return archive_format.load(path).verify()


def replace(name: str, change: Callable[[bytes], bytes]) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    """Change a file's content, and its entry in the manifest."""

    def apply(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        content = change(lzma.decompress(members[name]) if name.endswith(".xz") else members[name])
        stored = lzma.compress(content) if name.endswith(".xz") else content
        members[name] = stored
        manifest["files"][name] = {
            "bytes": len(stored),
            "sha256": hashlib.sha256(stored).hexdigest(),
            "content_bytes": len(content),
        }

    return apply


def test_any_tar_program_reads_an_archive(packed: Archive) -> None:
    with tarfile.open(packed.path) as tar:
        assert tar.getnames() == ["manifest.json", *sorted(packed.manifest.files)]
        assert {(member.isreg(), member.mtime, member.uname) for member in tar} == {(True, 0, "")}
        assert tar.extractfile("study.yaml").read() == packed.read("study.yaml")


def test_no_flipped_bit_and_no_cut_passes(copy: Archive, tmp_path: Path) -> None:
    path, whole = copy.path, copy.path.read_bytes()
    for place in [*range(0, 1024, 7), *range(1024, len(whole), 211), len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert refusal(read, path).startswith(f"{path}: "), place
    for length in [0, 1, 511, 512, 513, *range(1024, len(whole), 2999), len(whole) - 1024, len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert refusal(read, path).startswith(f"{path}: "), length
    for damage, damaged in damages(whole, 40, path.name):
        path.write_bytes(damaged)
        assert refusal(read, path).startswith(f"{path}: "), damage
    path.write_bytes(whole + b"\0")
    assert "damaged" in refusal(read, path)
    path.unlink()
    assert refusal(read, path) == f"{path}: cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/tmp/evil.json",
        "a/../../evil.json",
        "store/a-b-c-0123456789ab/seed-0000.json",
        "weights/a-b-c-0123456789ab/../../x.safetensors",
        "probes/x.pickle.xz",
    ],
)
def test_a_file_that_an_archive_cannot_hold_is_refused(name: str, copy: Archive) -> None:
    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        manifest["files"][name] = manifest["files"].pop("study.yaml")
        members[name] = members.pop("study.yaml")

    said = refusal(read, forge(copy.path, change))
    assert said == f"{copy.path}: its manifest names a file that an archive cannot hold: {name}"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
def test_links_and_folders_are_refused(kind: bytes, copy: Archive) -> None:
    with tarfile.open(copy.path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(copy.path, "w", format=tarfile.PAX_FORMAT) as tar:
        for i, (member, data) in enumerate(members):
            if i == 2:
                member.type, member.linkname, member.size, data = kind, "/etc/passwd", 0, b""
            tar.addfile(member, io.BytesIO(data))
    assert f"{copy.path}: damaged" in refusal(read, copy.path)


def test_a_decompression_bomb_is_refused(copy: Archive) -> None:
    bomb = lzma.compress(bytes(1 << 28))

    def understated(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        members[PREDICTIONS] = bomb
        manifest["files"][PREDICTIONS] |= {"bytes": len(bomb), "sha256": hashlib.sha256(bomb).hexdigest()}

    archive = read(forge(copy.path, understated))
    assert "does not decompress to the" in refusal(archive.read, PREDICTIONS)

    def stated(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        manifest["files"][PREDICTIONS]["content_bytes"] = 1 << 40

    assert "is larger than" in refusal(read, forge(copy.path, stated))


def test_another_format_is_refused_by_its_number(copy: Archive) -> None:
    path = forge(copy.path, lambda manifest, members: manifest.update(format=7))
    assert refusal(read, path).startswith(f"{path}: archive format 7; this version of rdp reads format 1")


@pytest.mark.parametrize("change", [{"cells": 3}, {"files": []}, {"extra": 1}, {"weights": "yes"}])
def test_a_manifest_of_another_form_is_refused(change: dict[str, Any], copy: Archive) -> None:
    path = forge(copy.path, lambda manifest, members: manifest.update(change))
    assert f"{path}: damaged: its manifest: {next(iter(change))}: " in refusal(read, path)


def test_an_absent_file_is_named(packed: Archive) -> None:
    assert refusal(packed.read, "probes/absent.parquet.xz") == f"{packed.path}: holds no probes/absent.parquet.xz"


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (RECORDS, lambda c: c.replace(b'"steps": 9', b'"steps": 8'), "its digest is"),
        (RECORDS, lambda c: c.replace(b'"started": "2020', b'"started": "2021'), "its seal does not match"),
        (RECORDS, lambda c: b"".join(sorted(c.splitlines(True))), "is in place of"),
        (RECORDS, lambda c: b"".join(c.splitlines(True)[1:]), "35 records of 36 runs"),
        (RECORDS, lambda c: c.replace(b'"run":', b'"ran":'), "not the record of a run"),
        (RECORDS, lambda c: b"[]\n" * 36, "not the record of a run"),
        (PREDICTIONS, lambda c: c[:-1] + bytes([c[-1] ^ 1]), "not the file that the record states"),
        ("labels/digits.safetensors.xz", lambda c: c[:-2] + bytes([c[-2] ^ 1]) + c[-1:], "do not give the accuracy"),
    ],
    ids=["number", "time", "order", "fewer", "key", "type", "prediction", "label"],
)
def test_records_show_that_an_archive_is_forged(
    name: str, change: Callable[[bytes], bytes], reason: str, copy: Archive, tmp_path: Path
) -> None:
    forged = read(forge(copy.path, replace(name, change)))
    for call in (rebuild, unpack.into_store):
        said = refusal(call, forged, tmp_path / call.__name__)
        assert said.startswith(f"{copy.path}: {RECORDS}: damaged or forged: ")
        assert reason in said
    assert not list((tmp_path / "into_store").rglob("*.json"))


@pytest.mark.parametrize("text", [b'{"../../../outside": "2020-01-01T00:00:00Z"}', b'{"' + b"a" * 32 + b'": 3}', b"[]"])
def test_hostile_times_of_claims_are_refused(text: bytes, copy: Archive, planted: Plan, tmp_path: Path) -> None:
    forged = read(forge(copy.path, replace(CLAIMS, lambda content: text)))
    for call in (rebuild, unpack.into_store):
        refusal(call, forged, tmp_path / call.__name__)
    assert not (tmp_path / "outside").exists()
    assert not list((tmp_path / "into_store").rglob("seed-*"))


@pytest.mark.parametrize("old", ["../../../../x", "f" * 64])
def test_hostile_adoptions_are_refused(old: str, copy: Archive, tmp_path: Path) -> None:
    text = f'[{{"old": "{old}", "new": "{"a" * 64}", "stack": {{}}}}]'.encode()

    def change(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        rest = {name: members.pop(name) for name in list(members)}
        members["adoptions.json"] = b""
        manifest["files"] = {"adoptions.json": {}} | manifest["files"]
        members.update(rest)
        replace("adoptions.json", lambda content: text)(manifest, members)

    forged = read(forge(copy.path, change))
    assert "adoptions.json: damaged or forged" in refusal(unpack.into_store, forged, tmp_path / "results")
    assert set(contents(tmp_path)) == {"planted.tar"}
