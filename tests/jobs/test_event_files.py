"""Event files for TensorBoard: what is in them, after a kill too, and what happens where they cannot be written."""

import logging
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rdp.cli import app as cli
from rdp.errors import UserError
from rdp.jobs import event_files
from rdp.jobs.runner import run_job
from rdp.store import Store
from rdp.training.optimizers import learning_rate
from rdp.training.trainer import Trainer

COLUMNS = {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy"}


def points(events: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    """Epoch and value of each point that TensorBoard shows, by the name of its scalar."""
    events.Reload()
    return {name: [(point.step, point.value) for point in events.Scalars(name)] for name in events.Tags()["scalars"]}


def recorded(spec, record) -> dict[str, list[tuple[int, float]]]:
    """The same points, from the record of a run."""
    history = record.numbers.history
    rates = {epoch.epoch: learning_rate(spec.recipe, epoch.step - 1, record.numbers.steps) for epoch in history}
    values = {name: {epoch.epoch: getattr(epoch, name) for epoch in history} for name in COLUMNS}
    return {
        name: [(epoch, pytest.approx(value)) for epoch, value in of_epoch.items() if value is not None]
        for name, of_epoch in (values | {"learning_rate": rates}).items()
    }


@pytest.fixture
def killed(make_spec, tmp_path, monkeypatch):
    """A run that was killed after its second epoch, and after its last checkpoint in the first one."""
    spec = make_spec(epochs=3, validate_every=2)
    step = Trainer.train_step

    def train_step(trainer: Trainer) -> None:
        if trainer.step == 20:
            raise KeyboardInterrupt
        step(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", train_step)
        with pytest.raises(KeyboardInterrupt):
            run_job([spec], tmp_path / "results", "cpu", checkpoint_seconds=0, event_folder=tmp_path / "events")
    (attempt,) = Store(tmp_path / "results").attempts(spec.run)
    (attempt / "checkpoint-000000020.safetensors").unlink()
    return spec


def test_a_resumed_run_has_each_epoch_once(killed, tmp_path):
    events = EventAccumulator(str(tmp_path / "events" / killed.run))  # of a TensorBoard that is open all the time
    assert [epoch for epoch, _ in points(events)["train_loss"]] == [1, 2]
    (record,) = run_job([killed], tmp_path / "results", "cpu", event_folder=tmp_path / "events")
    assert record.telemetry.resumed_at == [19]
    (undisturbed,) = run_job([killed], tmp_path / "undisturbed", "cpu")
    assert record.digest == undisturbed.digest
    new = EventAccumulator(str(tmp_path / "events" / killed.run))
    found = points(new)
    assert found == points(events) == recorded(killed, record)
    assert [epoch for epoch, _ in found["train_loss"]] == [1, 2, 3]
    assert [epoch for epoch, _ in found["validation_accuracy"]] == [2, 3]


def test_a_run_is_trained_where_its_event_file_cannot_be_written(make_spec, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    spec = make_spec()
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / spec.cell).write_text("a file, where a folder is wanted\n")
    (record,) = run_job([spec], tmp_path / "results", "cpu", event_folder=tmp_path / "events")
    assert record.status == "completed"
    assert caplog.messages == [f"{tmp_path}/events/{spec.run}: no event file: Not a directory"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"^.*/taken: cannot be written \(File exists\)$"):
        event_files.prepare(tmp_path / "taken")


def test_the_option_names_the_extra_that_it_needs(write_study, study_content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(sys, "argv", ["rdp", "train", write_study(study_content), "--tensorboard", "events"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    extra = "residual-droppath[tensorboard]"
    line = f"rdp: --tensorboard needs the packages of {extra}: pip install '{extra}'\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, line)
    assert not Path("events").exists()
    assert not Path("results").exists()


@pytest.mark.parametrize("cores", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_the_environment_names_the_folder(cores, write_study, study_content, tmp_path, monkeypatch):
    """So the jobs of a workflow write event files too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RDP_TENSORBOARD", "events")
    file = write_study(study_content | {"methods": {"vanilla": None}})
    cli.app(["train", file, "--cores", cores], standalone_mode=False)
    found = sorted(tmp_path.glob("events/mlp8-spiral-vanilla-*/*"))
    assert [path.name for path in found] == ["seed-0000", "seed-0001"]
    assert all(len(points(EventAccumulator(str(path)))["train_loss"]) == 2 for path in found)
