"""Weights of runs in the store, as files that timm loads and that say what they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open

import rdp
from rdp import models, study
from rdp.cli import store as command
from rdp.data import prepared
from rdp.errors import UserError
from rdp.jobs.runner import run_job
from rdp.store import Store, export

STUDY = """
title: Two networks of timm's, and one of our own
seeds: 1
recipe: {epochs: 1, batch_size: 50, learning_rate: 0.02, train_size: 100}
methods:
  vanilla:
  plain:
  pnnh:
  averaged: {method: vanilla, recipe: {ema: 0.9}}
grids:
  - {datasets: [digits], architectures: [vit_micro]}
  - {datasets: [spiral], architectures: [mlp8]}
"""


class Trained(NamedTuple):
    plan: study.Plan
    results: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    """Eight small runs, really trained."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mine.yaml").write_text(STUDY)
    plan = study.load(str(folder / "mine.yaml"))
    run_job(list(plan.specs), folder / "results", "cpu", checkpoint_seconds=60)
    return Trained(plan, folder / "results")


@pytest.fixture
def exporter(trained, tmp_path) -> Callable[[str], export.Exported]:
    def made(title: str) -> export.Exported:
        (spec,) = (spec for cell in trained.plan.cells if cell.title == title for spec in cell.specs)
        return export.export(spec, trained.results, tmp_path / "mine.safetensors")

    return made


def accuracy(model: torch.nn.Module, results: Path, file: Path) -> float:
    """On the test split, by what the file itself says of its normalisation."""
    about = head(file)
    data = prepared.load(about["dataset"], results)
    x = torch.from_numpy(data.examples("test", slice(None))).float()
    if x.dim() == 4:
        x /= 255
    x = (x.transpose(1, -1) - torch.tensor(about["mean"])) / torch.tensor(about["std"])
    x = x.transpose(1, -1)
    with torch.no_grad():
        found = model.eval()(x).argmax(1).numpy()
    return float(np.mean(found == data.labels("test")))


def head(file: Path) -> dict:
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["rdp"])


@pytest.mark.parametrize("network", ["vit_micro/digits", "mlp8/spiral"])
@pytest.mark.parametrize("method", ["vanilla", "plain", "pnnh", "averaged"])
@pytest.mark.slow
def test_the_printed_lines_load_the_network_that_was_tested(trained, exporter, network, method):
    made = exporter(f"{network}/{method}")
    names: dict = {}
    exec("\n".join(made.lines), names)
    stated = head(made.path)["test_accuracy"]
    assert accuracy(names["model"], trained.results, made.path) == pytest.approx(stated, abs=0.003)
    assert ("create_model" in made.lines[1]) == (network == "vit_micro/digits")
    own = rdp.load_model(made.path)
    assert not own.training
    assert all(torch.equal(v, own.state_dict()[k]) for k, v in names["model"].state_dict().items())


def test_the_head_says_what_the_network_is(trained, exporter):
    made = exporter("vit_micro/digits/pnnh")
    about, spec = head(made.path), next(s for s in trained.plan.specs if s.run == head(made.path)["run"])
    assert about["record"] == Store(trained.results).read_finished(spec.run).digest
    assert (about["architecture"], about["path"], about["dataset"]) == ("vit_micro", "pnnh", "digits")
    assert timm.data.resolve_model_data_config(rdp.load_model(made.path))["input_size"] == (1, 8, 8)


@pytest.mark.parametrize(
    "name", [n for n, found in models.architectures().items() if found.family in ("vit", "timm_resnet")]
)
def test_every_network_of_timms_is_the_one_that_timm_makes(name):
    shape = (3, 32, 32)
    ours = rdp.create_model(name, input_shape=shape, classes=7).eval()
    called, arguments = export.in_timm(name, shape, 7)
    theirs = timm.create_model(called, **arguments).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


class TestBadInput:
    def test_a_run_that_is_not_trained_is_told(self, trained, tmp_path):
        spec = next(iter(trained.plan.specs))
        with pytest.raises(UserError, match="not trained yet; run: rdp train STUDY vit_micro-"):
            export.export(spec, tmp_path, tmp_path / "mine.safetensors")

    def test_weights_that_were_changed_are_refused(self, trained, tmp_path):
        spec = next(iter(trained.plan.specs))
        file = Store(trained.results).folder(spec.run) / "weights.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        try:
            with pytest.raises(UserError, match=r"weights\.safetensors: absent, damaged"):
                export.export(spec, trained.results, tmp_path / "mine.safetensors")
        finally:
            file.write_bytes(content)
        assert not (tmp_path / "mine.safetensors").exists()

    def test_a_file_of_other_weights_is_told(self, tmp_path):
        file = rdp.save_weights(rdp.create_model("mlp8", input_shape=(2,)), tmp_path / "mine.safetensors")
        with pytest.raises(UserError, match="not written by rdp weights"):
            rdp.load_model(file)


def test_the_command_writes_the_file_and_prints_how_to_load_it(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RDP_RESULTS", str(trained.results))
    monkeypatch.chdir(tmp_path)
    study_file = str(trained.plan.file)
    command.weights(study_file, "vit_micro/digits/vanilla", "mine.safetensors")  # of one seed: the cell will do
    assert capsys.readouterr().out.splitlines()[0] == "import timm"
    assert (tmp_path / "mine.safetensors").is_file()
    with pytest.raises(UserError, match=r"mine\.pth: the name must end in \.safetensors"):
        command.weights(study_file, "vit_micro/digits/vanilla/seed-0000", "mine.pth")
    with pytest.raises(UserError, match="did you mean 'vit_micro/digits/vanilla'"):
        command.weights(study_file, "vit_micro/digits/vanila", "mine.safetensors")
    with pytest.raises(UserError, match=r"'resnet20/digits/vanilla' is 10 runs; name one: .*/seed-0000"):
        command.weights("digits", "resnet20/digits/vanilla", "mine.safetensors")
