"""Downloads: only missing files, verified before they get their names, with instructions if there is no network."""

import contextlib
import shutil
import socket
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torchvision.datasets

from rdp.data.download import OFFLINE
from rdp.data.sources import torchvision_images
from rdp.errors import UserError
from rdp.utils import digest
from tests.helpers.sources import MNISTS, Written, pack, write

WHOLE = sorted(torchvision_images._CLASSES)


class Server:
    """A web server on this machine, which serves a folder and records its requests."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.requests = folder, []
        requests = self.requests

        class Handler(SimpleHTTPRequestHandler):
            def log_request(self, *arguments: object) -> None:
                requests.append(self.path.removeprefix("/"))

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    running = Server(folder)
    thread = Thread(target=running.http.serve_forever, args=(0.01,), daemon=True)  # seconds between checks for shutdown
    thread.start()
    yield running
    running.http.shutdown()
    running.http.server_close()
    thread.join()


def publish(name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Serve a dataset's files, with an empty data directory."""
    monkeypatch.delenv(OFFLINE, raising=False)
    source = tmp_path / "source"
    source.mkdir()
    written = write(name, source, monkeypatch)
    of = getattr(torchvision.datasets, torchvision_images._CLASSES[name])
    if name in MNISTS:
        for path in (source / MNISTS[name] / "raw").glob("*.gz"):
            shutil.copy(path, server.folder)
        # The first mirror has no files, so the second is needed.
        monkeypatch.setattr(of, "mirrors", [f"{server.url}gone/", server.url])
    elif name == "svhn":
        for path in written.files:
            shutil.copy(path, server.folder)
        listed = {part: [server.url + entry[1], *entry[1:]] for part, entry in of.split_list.items()}
        monkeypatch.setattr(of, "split_list", listed)
    else:
        pack(written, server.folder / of.filename)
        monkeypatch.setattr(of, "url", server.url + of.filename)
        monkeypatch.setattr(of, "tgz_md5", digest.of_file(server.folder / of.filename, "md5"))
    written.root = tmp_path / "data"
    return written


def fetch(written: Written) -> None:
    torchvision_images.fetch(written.name, written.root)


def refusal(written: Written) -> str:
    with pytest.raises(UserError) as error:
        fetch(written)
    assert "\n" not in str(error.value)
    return str(error.value)


def halves(root: Path) -> list[Path]:
    return list(root.rglob("*.part"))


@pytest.mark.parametrize("name", WHOLE)
def test_missing_files_are_fetched_once_and_verified(name, server, tmp_path, monkeypatch):
    written = publish(name, server, tmp_path, monkeypatch)
    fetch(written)
    assert torchvision_images.verify(name, written.root) == []
    assert not halves(written.root)
    arrays = torchvision_images.read(name, written.root, False)
    assert arrays["test_x"].tobytes() == written.arrays["test"][0].tobytes()
    server.requests.clear()
    fetch(written)
    assert server.requests == []


@pytest.mark.parametrize("name", ["svhn", "mnist"])
def test_a_present_file_is_not_fetched_again(name, server, tmp_path, monkeypatch):
    written = publish(name, server, tmp_path, monkeypatch)
    fetch(written)
    written.files[1].unlink()
    server.requests.clear()
    fetch(written)
    assert {Path(path).name for path in server.requests} == {written.files[1].name}


def test_an_archive_is_deleted_after_unpacking_unless_downloaded_by_hand(server, tmp_path, monkeypatch):
    written = publish("cifar100", server, tmp_path, monkeypatch)
    archive = written.root / "cifar-100-python.tar.gz"
    fetch(written)
    assert not archive.exists()
    shutil.rmtree(written.root)
    written.root.mkdir()
    shutil.copy(server.folder / archive.name, archive)
    monkeypatch.setenv(OFFLINE, "1")
    fetch(written)  # without a network
    assert torchvision_images.verify("cifar100", written.root) == []
    assert archive.exists()


@pytest.mark.parametrize("name", ["cifar100", "fashion_mnist"])
@pytest.mark.parametrize("damage", [lambda old: old[: len(old) // 2], lambda old: b"", lambda old: b"no archive"])
def test_a_damaged_archive_downloaded_by_hand_is_named_and_not_unpacked(damage, name, server, tmp_path, monkeypatch):
    written = publish(name, server, tmp_path, monkeypatch)
    at = {"cifar100": "cifar-100-python.tar.gz", "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte.gz"}
    archive = written.root / at[name]
    archive.parent.mkdir(parents=True)
    archive.write_bytes(damage((server.folder / archive.name).read_bytes()))
    assert refusal(written).startswith(f"{archive}: damaged, or not the published file (")
    assert not any(path.exists() for path in written.files if path.stem in archive.name)
    assert not halves(written.root)


@pytest.mark.parametrize("name", ["svhn", "cifar100"])
@pytest.mark.parametrize("damage", [lambda old: old[:-1], lambda old: old + b"\0"])
def test_a_download_with_a_wrong_checksum_is_discarded(damage, name, server, tmp_path, monkeypatch):
    written = publish(name, server, tmp_path, monkeypatch)
    for path in server.folder.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    message = refusal(written)
    assert f"{name} is missing and could not be downloaded ({server.url}" in message
    assert ", published " in message
    assert not [path for path in written.root.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_truncated_download_is_discarded(tmp_path, monkeypatch):
    """The server announces more bytes than it sends."""
    written = write("svhn", tmp_path, monkeypatch)
    whole = written.files[0].read_bytes()
    monkeypatch.delenv(OFFLINE, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        listed = {part: [url + entry[1], *entry[1:]] for part, entry in torchvision.datasets.SVHN.split_list.items()}
        monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", listed)

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(4096)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(whole)}\r\n\r\n"
                connection.sendall(head.encode() + whole[: len(whole) // 2])

        thread = Thread(target=answer)
        thread.start()
        written.files[0].unlink()
        message = refusal(written)
        thread.join()
    assert message.startswith(f"{written.files[0]}: svhn is missing and could not be downloaded (")
    assert not written.files[0].exists()
    assert not halves(written.root)


@pytest.mark.parametrize("name", WHOLE)
def test_without_a_network_missing_files_are_named_with_their_addresses(name, server, tmp_path, monkeypatch):
    written = publish(name, server, tmp_path, monkeypatch)
    monkeypatch.setenv(OFFLINE, "1")
    message = refusal(written)
    assert "could not be downloaded (RDP_OFFLINE is set)" in message
    assert message.startswith(f"{written.root}/")
    assert f"by hand: put {server.url}" in message
    assert message.endswith(f", then run: rdp data fetch {name}")
    assert server.requests == []
    assert not written.root.exists()


def test_an_unreachable_server_is_reported_in_one_line(server, tmp_path, monkeypatch):
    written = publish("svhn", server, tmp_path, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    listed = {part: [nobody + entry[1], *entry[1:]] for part, entry in torchvision.datasets.SVHN.split_list.items()}
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", listed)
    message = refusal(written)
    assert "refused" in message
    assert f"put {nobody}train_32x32.mat {nobody}test_32x32.mat into {written.root}, then" in message
