"""What a job will need: near what runs used where some were measured, and never far off where none was."""

import math
from pathlib import Path

import pytest
import torch

from rdp import models
from rdp.store import RunRecord, Store
from rdp.study.resources import ResourceEstimator
from rdp.study.workload import checkpoint_bytes, forward_operations, operations, parameters, run_bytes
from rdp.training import cost

IDENTITY = {"spec": "s", "data": "d", "code": "c", "stack": "t"}
SHAPES = {"vector": (2,), "image": (3, 32, 32)}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def used(store):
    """Leave a record and receipt that say what a run used."""

    def leave(spec, seconds: float, gigabytes: float = 0.8, *, status: str = "completed", device: str = "cpu") -> None:
        telemetry = {"seconds": seconds, "process_peak_bytes": int(gigabytes * 1e9), "device": device}
        content = {"spec": spec.model_dump(mode="json"), "identity": IDENTITY, "status": status, "reason": None}
        record = RunRecord(**content, telemetry=telemetry)
        store.write_receipt(spec.run, store.commit(spec.run, store.new_attempt(spec.run), record))

    return leave


LARGE = ("resnet110_same_parameters", "resnet50", "vit_tiny")


@pytest.mark.parametrize(
    "name", ["bare32", "mlp8", "resnet20", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)]
)
def test_the_work_told_from_arguments_is_near_what_is_counted(name):
    shape = SHAPES[models.architecture(name).input]
    network = models.create_model(name, input_shape=shape).to("meta")
    counted = cost.count_flops(lambda: network(torch.zeros(2, *shape, device="meta")))
    assert 0.7 < forward_operations(name, shape) / counted < 1.4
    assert 0.7 < parameters(name, shape) / cost.count_parameters(network) < 1.4


def test_every_architecture_tells_its_work(make_spec):
    for name, architecture in models.architectures().items():
        assert 1e3 < forward_operations(name, SHAPES[architecture.input]) < 1e10


def test_more_epochs_seeds_and_examples_take_longer(make_spec, store):
    needs = ResourceEstimator(store.root.parent)
    one = needs.estimate([make_spec()]).seconds
    assert needs.estimate([make_spec(epochs=400)]).seconds > 2 * one
    assert needs.estimate([make_spec(seed=seed) for seed in range(3)]).seconds == pytest.approx(3 * one)
    assert operations(make_spec(train_size=100)) < operations(make_spec())


class TestEvidence:
    def test_runs_of_the_cell_come_first(self, make_spec, store, used):
        for seed, seconds in enumerate((10.0, 12.0, 80.0)):
            used(make_spec(seed=seed), seconds, 0.5 + 0.1 * seed)
        used(make_spec(method="droppath"), 500.0, 3.0)
        need = ResourceEstimator(store.root.parent).estimate([make_spec(seed=9)])
        assert (need.seconds, need.basis) == (pytest.approx(12.0), "this cell")
        assert need.bytes == pytest.approx(0.7e9)

    def test_then_those_of_the_network_scaled_by_their_work(self, make_spec, store, used):
        short, long = make_spec(epochs=2), make_spec(epochs=40)
        used(short, 10.0)
        need = ResourceEstimator(store.root.parent).estimate([long])
        assert need.basis == "this network"
        assert need.seconds == pytest.approx(0.5 + 9.5 * operations(long) / operations(short))

    def test_what_a_short_run_took_to_begin_is_not_scaled(self, make_spec, store, used):
        short, long = (make_spec(epochs=epochs) for epochs in (1, 400))
        used(short, 0.6)
        assert ResourceEstimator(store.root.parent).estimate([short]).seconds == pytest.approx(0.6)
        share = operations(long) / operations(short)
        assert ResourceEstimator(store.root.parent).estimate([long]).seconds == pytest.approx(0.5 + 0.1 * share)

    def test_then_those_of_its_family_and_then_any(self, make_spec, store, used):
        used(make_spec(architecture="mlp16"), 10.0)
        needs = ResourceEstimator(store.root.parent)
        assert needs.estimate([make_spec()]).basis == "this family"
        far = needs.estimate([make_spec(architecture="resnet20", dataset="digits")])
        assert far.basis == "other runs"
        assert far.bytes >= 1e9  # another network's memory says nothing

    def test_the_weakest_evidence_is_what_a_sum_rests_on(self, make_spec, store, used):
        used(make_spec(), 10.0)
        needs = ResourceEstimator(store.root.parent)
        assert needs.estimate([make_spec()]).measured
        assert not needs.estimate([make_spec(), make_spec(architecture="mlp32")]).measured

    @pytest.mark.parametrize("changes", [{"status": "failed"}, {"device": "cuda"}], ids=str)
    def test_failed_runs_and_those_of_another_device_say_nothing(self, changes, make_spec, store, used):
        used(make_spec(), 10.0, **changes)
        assert ResourceEstimator(store.root.parent, "cpu").estimate([make_spec()]).basis == "its size"

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"run": 1}'])
    def test_a_damaged_receipt_is_done_without(self, text, make_spec, store, used):
        used(make_spec(), 10.0)
        store.receipt(make_spec().run).write_text(text)
        assert ResourceEstimator(store.root.parent).estimate([make_spec()]).basis == "its size"


class TestLimits:
    def test_they_leave_room_and_double_with_each_attempt(self, make_spec, store, used):
        used(make_spec(), 600.0, 2.0)
        need = ResourceEstimator(store.root.parent).estimate([make_spec()])
        assert 30 <= need.minutes() <= 32
        assert need.megabytes() == 3500
        assert [need.minutes(n) / need.minutes() for n in (2, 3)] == [2, 4]
        assert [need.megabytes(n) / need.megabytes() for n in (2, 3)] == [2, 4]

    def test_they_leave_more_where_nothing_was_measured(self, make_spec, store):
        need = ResourceEstimator(store.root.parent).estimate([make_spec(epochs=100_000)])
        assert need.minutes() == pytest.approx(10 * need.seconds / 60, rel=0.1)

    def test_nothing_gets_less_than_ten_minutes(self, make_spec, store):
        assert ResourceEstimator(store.root.parent).estimate([make_spec()]).minutes() == 10

    def test_on_a_gpu_less_time_and_more_memory_is_expected(self, make_spec):
        large = make_spec(architecture="vit_tiny", dataset="cifar10")
        cpu, gpu = (ResourceEstimator(Path("absent"), device).estimate([large]) for device in ("cpu", "cuda"))
        assert gpu.seconds < cpu.seconds / 10
        assert gpu.bytes > 3e9
        assert math.isfinite(gpu.seconds)


class TestDiskAndProcesses:
    def test_a_run_keeps_weights_and_predictions_and_one_of_a_sweep_neither(self, make_spec):
        spec = make_spec(architecture="resnet20", dataset="digits")
        weights = 4 * cost.count_parameters(models.create_model("resnet20", input_shape=(1, 8, 8)))
        swept = spec.model_copy(update={"sweep": True})
        assert run_bytes(spec) - run_bytes(swept) == pytest.approx(weights, rel=0.1)

    def test_checkpoints_hold_what_the_recipe_makes_an_optimizer_keep(self, make_spec):
        sizes = [
            checkpoint_bytes(make_spec(**recipe))
            for recipe in ({"momentum": 0}, {}, {"optimizer": "adamw"}, {"optimizer": "adamw", "ema": 0.9})
        ]
        assert [size / sizes[0] for size in sizes] == [1, 2, 3, 4]

    def test_processes_share_the_time_and_each_needs_its_memory(self, make_spec, store):
        one = make_spec(epochs=1000)
        two = one.model_copy(update={"processes": 2})
        needs = [ResourceEstimator(store.root.parent).estimate([spec]) for spec in (one, two)]
        assert needs[1].seconds - 0.5 == pytest.approx((needs[0].seconds - 0.5) / 2)  # each takes a while to begin
        assert needs[1].bytes == 2 * needs[0].bytes
