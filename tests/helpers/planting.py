"""A study whose records are planted: real files in a real store, with numbers that a test chooses."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from rdp import data, study, tables
from rdp.claims.metrics.layers import closed_form
from rdp.jobs import tuning
from rdp.spec import RunSpec
from rdp.store import RunRecord, Store, fingerprint
from rdp.study import Cell, Plan
from rdp.tables import collect
from rdp.utils import digest, files, sealed

SEEDS = 6
EXAMPLES = 2000  # of the planted test sets
SUBJECTS = ("residual_droppath", "plain", "pnnh")  # whose numbers differ from seed to seed
DATASETS = ("digits", "fashion_mnist_14")  # exploratory and confirmatory
STUDY: dict[str, Any] = {
    "title": "Planted",
    "seeds": SEEDS,
    "recipe": {"epochs": 1, "batch_size": 50, "learning_rate": 0.1},
    "tune": {"learning_rates": [0.05, 0.1], "seeds": [1000, 1001]},
    "probes": ["feature_reuse", "dissipating_inputs", "surviving_neurons"],
    "speed_rounds": 10,
    "methods": {
        "vanilla": None,
        "residual_droppath": None,
        "flops": {"method": "residual_droppath", "recipe": {"budget": "flops"}},
        "updates": {"method": "residual_droppath", "recipe": {"budget": "updates"}},
        "droppath_batch": None,
        "random_freeze": None,
        "plain": None,
        "pnnh": None,
        "narrow": {"method": "vanilla", "form": "same_parameters"},
    },
    "grids": [
        {"datasets": list(DATASETS), "architectures": ["resnet56"]},
        {
            "datasets": list(DATASETS),
            "architectures": ["bare8"],
            "methods": ["vanilla", "plain"],
            "learning_rates": [],
        },
    ],
}
SHORT: dict[str, Any] = {  # in place of the study's own keys: no sweep, no probe, two methods
    "tune": None,
    "probes": [],
    "speed_rounds": None,
    "methods": {"vanilla": None, "pnnh": None},
    "grids": [{"datasets": list(DATASETS), "architectures": ["resnet56"]}],
}


@dataclass
class World:
    """What the records of a study say: numbers by method's label, each with a deviation from seed to seed.

    Attributes:
        spread: half the distance between even and odd seeds, of the methods that claims are about, relative to a
            scale of each metric.
        status: of a run in place of ``completed``, by label and seed.
        train_accuracy: in the last epoch, by architecture; 0.999 if not given.
    """

    accuracy: dict[str, float]
    parameters: dict[str, float]
    flops: dict[str, float]
    loss: dict[str, float]
    redundancy: dict[str, tuple[float, float]]  # and that of networks trained apart
    lesion: dict[str, float]
    reconstruction: dict[str, float]
    survival: dict[str, float]  # beside its closed form
    throughput: tuple[float, float, float]
    spread: float = 0.0
    status: dict[tuple[str, int], str] = field(default_factory=dict)
    train_accuracy: dict[str, float] = field(default_factory=dict)

    def value(self, metric: str, label: str, seed: int, scale: float) -> float:
        found = getattr(self, metric)
        value = found.get(label, found["vanilla"])
        return value + scale * self.spread * (-1) ** seed * (label in SUBJECTS)


def load(folder: Path, **keys: Any) -> Plan:
    (folder / "planted.yaml").write_text(json.dumps(STUDY | keys))
    return study.load(str(folder / "planted.yaml"))


def plant(plan: Plan, results: Path, world: World) -> tables.Tables:
    """Write every record, probe and speed of a study, and the tables that are made from them."""
    for dataset in {cell.dataset for cell in plan.cells}:
        _plant_dataset(dataset, results)
    store = Store(results)
    for cell in plan.cells:
        for spec in cell.specs:
            plant_run(store, cell, spec, world)
        swept = []
        for spec in cell.specs[0].candidates():
            loss = world.value("loss", cell.label, spec.seed, 0.4)
            # The first rate of the sweep is the worse one, and so is the first gain if it compares some.
            loss += 0.3 * (spec.recipe.learning_rate == 0.05) + 0.2 * (spec.recipe.norm_gain == 0.5)
            swept.append(_commit(store, spec, "completed", _numbers(spec, loss, world)))
        if swept:
            tuning.write(cell.specs[0], swept, results)
    for probe, rows in (
        ("feature_reuse", _feature_reuse),
        ("dissipating_inputs", _dissipating_inputs),
        ("surviving_neurons", _surviving_neurons),
    ):
        if probe in plan.study.probes:
            _save(plan, results, f"probes/{probe}", _probed(plan, world, rows))
    names = ("median", "low", "high")
    speed = [
        {"run": cell.specs[0].run, "method": cell.label, "rounds": 10}
        | dict(zip(names, world.throughput if cell.label == "pnnh" else (1.0, 1.0, 1.0), strict=True))
        for cell in plan.cells
    ]
    if plan.study.speed_rounds:
        _save(plan, results, "speed", speed)
    collect.write(plan, results)
    return tables.load(plan, results)


def plant_run(store: Store, cell: Cell, spec: RunSpec, world: World) -> None:
    """Write one record of the study."""
    status = world.status.get((cell.label, spec.seed), "completed")
    if status == "missing":
        return
    accuracy = world.value("accuracy", cell.label, spec.seed, 0.06)
    labels = _labels()
    # Seeds and methods err on the same hard examples, more or less, as networks do.
    wrong = np.random.Generator(np.random.PCG64(spec.seed)).permutation(EXAMPLES)[: round((1 - accuracy) * EXAMPLES)]
    predictions = labels.copy()
    predictions[wrong] = (labels[wrong] + 1) % 10
    numbers = _numbers(spec, world.value("loss", cell.label, spec.seed, 0.4), world) | {
        "parameters": int(world.value("parameters", cell.label, spec.seed, 0.0)),
        "training_flops": int(world.value("flops", cell.label, spec.seed, 400.0)),
        "test_accuracy": accuracy if status == "completed" else None,
    }
    _commit(store, spec, status, numbers, {"test": predictions.astype(np.int16)} if status == "completed" else {})


def _numbers(spec: RunSpec, loss: float, world: World) -> dict[str, Any]:
    epoch = {"epoch": 1, "step": 9, "train_loss": loss * float(np.log(data.info(spec.dataset).classes))}
    epoch |= {
        "train_accuracy": world.train_accuracy.get(spec.architecture, 0.999),
        "validation_loss": loss,
        "validation_accuracy": 0.5,
    }
    chosen = {"learning_rate": 0.1, "norm_gain": spec.recipe.norm_gain or 1.0}
    return chosen | {"steps": 9, "examples": 450, "unit_updates": 9.0, "history": [epoch]}


def _commit(
    store: Store, spec: RunSpec, status: str, numbers: dict[str, Any], predictions: dict[str, np.ndarray] | None = None
) -> RunRecord:
    trained_on = digest.of_arrays({"test_y": _labels()})
    identity = {"spec": spec.spec_digest, "data": trained_on, "code": fingerprint.code_of(spec), "stack": "0" * 64}
    telemetry = {"started": "2020-01-01T00:00:00Z", "stack": {"device": "a machine"}}
    attempt = store.new_attempt(spec.run)
    if predictions:
        save_file(predictions, attempt / "predictions.safetensors")
    reason = None if status == "completed" else "planted"
    content = {"identity": identity, "status": status, "reason": reason, "numbers": numbers, "telemetry": telemetry}
    record = RunRecord(spec=spec.model_dump(mode="json"), **content)
    record = store.commit(spec.run, attempt, record)
    store.write_receipt(spec.run, record)
    return record


def _labels() -> np.ndarray:
    return (np.arange(EXAMPLES) % 10).astype(np.int64)


def _plant_dataset(name: str, results: Path) -> None:
    """A prepared dataset of test labels alone."""
    info, arrays = data.info(name), {"test_y": _labels()}
    folder = results / "data" / name
    with files.atomic_write(folder / "data.safetensors") as part:
        save_file(arrays, part)
    manifest = {"format": 2, "name": name, "origin": info.origin, "licence": info.licence, "sizes": info.sizes}
    manifest |= {"mean": [0.0], "std": [1.0], "digest": digest.of_arrays(arrays)}
    manifest["seal"] = digest.of(manifest)
    files.write_json(folder / "manifest.json", manifest)


def _probed(plan: Plan, world: World, rows: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {"run": spec.run, "dataset": cell.dataset, "architecture": cell.architecture, "method": cell.label}
        | {"seed": spec.seed, "stage": stage}
        | row
        for cell in plan.cells
        for spec in cell.specs
        if world.status.get((cell.label, spec.seed), "completed") == "completed"
        for stage in ("initial", "trained")
        for row in rows(cell, spec.seed, stage, world)
    ]


def _feature_reuse(cell: Cell, seed: int, stage: str, world: World) -> list[dict[str, Any]]:
    label = cell.label
    within, apart = world.redundancy.get(label, world.redundancy["vanilla"])
    # Vanilla's deviation is in the networks trained apart, for the claim that compares it with them.
    found = [("redundancy", 0, within + 0.4 * world.spread * (-1) ** seed * (label in SUBJECTS))]
    found.append(("redundancy_independent", 0, apart + 0.4 * world.spread * (-1) ** seed))
    found += [("lesion_last", 0, 0.9), ("lesion", 1, 0.9 + world.value("lesion", label, seed, 0.4))]
    return [{"quantity": quantity, "layer": layer, "other": 0, "value": value} for quantity, layer, value in found]


def _dissipating_inputs(cell: Cell, seed: int, stage: str, world: World) -> list[dict[str, Any]]:
    last = world.value("reconstruction", cell.label, seed, 0.4)
    values = {("data", 0): 1.0, ("data", 1): 0.9, ("data", 2): last, ("noise", 2): 0.77}
    key = {"quantity": "reconstruction"}
    return [key | {"layer": layer, "source": source, "value": value} for (source, layer), value in values.items()]


def _surviving_neurons(cell: Cell, seed: int, stage: str, world: World) -> list[dict[str, Any]]:
    beside = world.value("survival", cell.label, seed, 0.06)
    closed = closed_form(cell) or {1: 0.5}
    return [
        {"source": "data", "layer": layer, "name": "relu", "positive": value + beside, "mean": 0.0, "variance": 1.0}
        for layer, value in closed.items()
    ]


def _save(plan: Plan, results: Path, name: str, rows: list[dict[str, Any]]) -> None:
    sealed.write_table(results / plan.name / f"{name}.parquet", pd.DataFrame(rows), plan.name)
