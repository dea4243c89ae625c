"""Fixtures of all tests: small specs, datasets prepared once, networks, study files, subprocesses, a browser."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml
from hypothesis import settings
from playwright.sync_api import Browser, Page, sync_playwright

from rdp import data
from rdp.data import prepared
from rdp.data.sources import image_folders
from rdp.methods import method_class
from rdp.models import architecture, branch_ends, create_model
from rdp.probes import Subject
from rdp.spec import Recipe, RunSpec
from rdp.training.trainer import Trainer, make_deterministic
from tests.helpers import folders
from tests.helpers.reuse import warmed_up

ROOT = Path(__file__).resolve().parents[1]

# The same examples in every run, and no clock: a test that fails here fails everywhere.
settings.register_profile("unit", derandomize=True, deadline=None, database=None)
settings.load_profile("unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run the workflow come first: begun last, the longest of them would leave a worker waiting."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, driven by Playwright, which starts once a process."""
    found = os.environ.get("RDP_CHROMIUM") or shutil.which("chromium")
    if not found:
        pytest.skip("no Chromium: install Debian's package chromium, or name one in RDP_CHROMIUM")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page, by its file and what follows ``#``. At the end of the test its console must be clean."""
    contexts, said = [], []

    def open_it(path: Path, address: str = "", **options: Any) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        shown = context.new_page()
        shown.set_default_timeout(5000)
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
        shown.goto(path.as_uri() + (f"#{address}" if address else ""))
        return shown

    yield open_it
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="session", autouse=True)
def _deterministic() -> None:
    make_deterministic(1)


@pytest.fixture(scope="session", autouse=True)
def _without_fsync() -> Iterator[None]:
    """Files of tests need not survive a power failure, and most of the time of small writes is waiting for the disk."""
    with patch("os.fsync"):
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], prepared.Prepared]:
    """A dataset by name, prepared once for all tests."""
    results = tmp_path_factory.mktemp("prepared")
    return cache(lambda name: prepared.load(name, results))


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., RunSpec]:
    """A run small enough for a test: 8 layers on the spiral, two epochs of ten steps."""

    def make(
        method: str = "vanilla",
        options: dict[str, Any] | None = None,
        *,
        architecture: str = "mlp8",
        dataset: str = "spiral",
        seed: int = 0,
        threads: int = 1,
        **recipe: Any,
    ) -> RunSpec:
        chosen = {"learning_rate": 0.02, "epochs": 2, "batch_size": 50} | recipe
        return RunSpec(
            dataset=dataset,
            architecture=architecture,
            method=method,
            options=method_class(method)(**(options or {})).model_dump(mode="json"),
            recipe=Recipe(**chosen),
            threads=threads,
            seed=seed,
        )

    return make


@pytest.fixture(scope="session")
def make_run(dataset: Callable[[str], prepared.Prepared]) -> Callable[[RunSpec], Trainer]:
    """A run brought to life on the CPU, at its first step."""
    return lambda spec: Trainer(spec, dataset(spec.dataset), torch.device("cpu"))


def _shape(name: str) -> tuple[int, ...]:
    """Of an example that an architecture can read: a point, or an image of 8 x 8 pixels or of one large patch."""
    side = max(8, architecture(name).arguments.get("patch", 1))
    return (2,) if name.startswith("mlp") else (1, side, side)


@pytest.fixture(scope="session")
def make_network() -> Callable[..., torch.nn.Module]:
    """A network by name, for the images of digits or the points of the spiral."""

    def make(
        name: str,
        path: str = "residual",
        *,
        seed: int = 0,
        norm_gain: float = 1.0,
        input_shape: tuple[int, ...] | None = None,
        classes: int = 10,
        **path_options: Any,
    ) -> torch.nn.Module:
        return create_model(
            name,
            path=path,
            norm_gain=norm_gain,
            input_shape=input_shape or _shape(name),
            classes=classes,
            seed=seed,
            **path_options,
        )

    return make


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Random inputs and labels that suit a network of `make_network`."""

    def make(name: str, size: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        shape = _shape(name)
        x = torch.randn(size, *shape, generator=generator)
        return x, torch.randint(0, 10, (size,), generator=generator)

    return make


@pytest.fixture
def study_content() -> dict[str, Any]:
    """A small valid study, to be changed."""
    return {
        "title": "a small study",
        "seeds": 2,
        "recipe": {"learning_rate": 0.02, "epochs": 2, "batch_size": 50},
        "methods": {"vanilla": None, "droppath": {"rate": 0.2}},
        "grids": [{"datasets": ["spiral"], "architectures": ["mlp8"]}],
    }


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., str]:
    """Write a study (a mapping, or text) to a file; return its path."""

    def write(content: Any, name: str = "small.yaml") -> str:
        file = tmp_path / name
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return str(file)

    return write


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a fresh interpreter with these arguments; ``env`` is added to the environment."""

    def run(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def flip_byte() -> Callable[..., None]:
    """Flip bits of one byte of a file, in place."""

    def flip(path: Path, position: int, bits: int = 0x01) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= bits
        path.write_bytes(content)

    return flip


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of three classes of images, declared as the dataset ``small``: the working directory it is declared in,
    which is RDP_DATA as well."""
    folders.write_dataset(tmp_path / "small")
    folders.declare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RDP_DATA", str(tmp_path))
    data._sources.cache_clear()
    image_folders._read.cache_clear()
    yield tmp_path
    data._sources.cache_clear()


@pytest.fixture
def subject(make_network, make_batch):
    """A network that has seen examples, with labels that are its own answers for about half of them."""

    def make(name: str, path: str = "residual", size: int = 64, **options) -> Subject:
        x, y = make_batch(name, size)
        network = warmed_up(make_network(name, path, **options), x)
        with torch.no_grad():
            y = torch.where(torch.arange(size) % 2 == 0, network(x).argmax(1), y)
        return Subject(network, x, y)

    return make


@pytest.fixture
def user_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own block is registered, and what a test registers beside it is forgotten after it."""
    from tests.helpers.tiny import UserBlock  # with it comes timm, in seconds

    monkeypatch.setattr(branch_ends, "_registered", dict(branch_ends._registered))
    branch_ends.register_block(UserBlock, "last")
