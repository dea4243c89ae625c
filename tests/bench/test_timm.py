"""The benchmark `timm`: its loop trains, and the fastest of what was tried are compared. No test asserts a speed."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from rdp.bench import engine, measuring, timm
from rdp.bench.timm import Entry, Options, Race
from rdp.bench.timm_loop import dataset, make_loader, steps_of_timm, unrestricted
from rdp.errors import UserError
from rdp.utils import sealed
from tests.bench.conditions import setting

CPU = torch.device("cpu")
BOTH = ("float32", "bfloat16")


class Pictures(torch.utils.data.Dataset):
    """PIL images for a few batches, as timm's transforms expect."""

    transform = None  # set by timm's loader

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        return self.transform(Image.fromarray(pixels)), index % 10


@pytest.mark.parametrize("options", [{}, {"fused": True}], ids=["documented", "fused"])
@pytest.mark.parametrize("architecture", ["resnet20", "vit_tiny"])  # SGD and AdamW
def test_a_step_of_the_timm_loop_trains(architecture: str, options: dict[str, bool]) -> None:
    run = engine.make_run(architecture, setting(batch_size=4))
    before = [tensor.detach().clone() for tensor in run.network.parameters()]
    loader = make_loader(Pictures(), 4, CPU)
    steps_of_timm(run.network, loader, torch.channels_last, run.recipe, **options)(3)
    assert not all(torch.equal(old, new) for old, new in zip(before, run.network.parameters(), strict=True))


def test_without_cifar10_the_error_names_the_command_that_prepares_it(tmp_path) -> None:
    with pytest.raises(UserError, match="rdp data prepare cifar10"):
        dataset(tmp_path)


def test_the_loop_is_not_held_to_the_determinism_of_runs() -> None:
    setting()
    assert torch.get_deterministic_debug_mode() == 2
    with unrestricted():
        assert torch.get_deterministic_debug_mode() == 0
    assert torch.get_deterministic_debug_mode() == 2
    assert not torch.backends.cudnn.benchmark


def test_a_run_is_timed_against_the_documented_and_the_fastest_loop() -> None:
    documented, fastest = timm.loop_speeds("resnet20", Pictures(), setting(smoke=True), compiled=False)
    assert (documented.loop, fastest.loop) == ("documented", "fastest")
    assert documented.run_options == Options("float32", channels_last=True)
    assert documented.loop_options == Options("float32", channels_last=False)
    tried = {(trial.side, trial.options) for trial in fastest.trials}
    loops = {("loop", Options(precision, last)) for precision in BOTH for last in (False, True)}
    assert tried == loops | {("run", Options(precision, channels_last=True)) for precision in BOTH}
    for side, chosen in (("run", fastest.run_options), ("loop", fastest.loop_options)):
        assert (
            chosen == min((one for one in fastest.trials if one.side == side), key=lambda one: one.step_seconds).options
        )
    assert all(row.throughput.low > 0 and row.loop_seconds > 0 for row in (documented, fastest))


class Planned(Race):
    """A race whose entries take given times, in place of training."""

    clock = 0.0

    def __init__(self, seconds: dict[Entry, float]) -> None:
        super().__init__("resnet20", None, setting())
        self.seconds, self.made = seconds, list[Entry]()

    def _run(self, entry: Entry):
        self.made.append(entry)
        return partial(self._pass, entry)

    _loop = _run

    def _pass(self, entry: Entry, steps: int) -> None:
        Planned.clock += steps * self.seconds[entry]


def test_the_fastest_of_each_side_is_compiled_and_the_faster_form_chosen(monkeypatch) -> None:
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: Planned.clock)
    seconds = {Entry(side, Options(p, last)): 5.0 for side in ("run", "loop") for p in BOTH for last in (False, True)}
    seconds[Entry("loop", Options("float32", channels_last=True))] = 3.0
    seconds[Entry("loop", Options("float32", channels_last=True, compiled=True))] = 4.0
    seconds[Entry("run", Options("bfloat16", channels_last=True))] = 2.0
    seconds[Entry("run", Options("bfloat16", channels_last=True, compiled=True))] = 1.0
    race = Planned(seconds)
    race.choose(compiled=True)
    compiled = [entry for entry in race.made if entry.options.compiled]
    assert compiled == [
        Entry("loop", Options("float32", channels_last=True, compiled=True)),
        Entry("run", Options("bfloat16", channels_last=True, compiled=True)),
    ]
    assert race.fastest("loop") == Entry("loop", Options("float32", channels_last=True))
    assert race.fastest("run") == Entry("run", Options("bfloat16", channels_last=True, compiled=True))
    timed = race.time([race.fastest("run"), race.fastest("loop")])
    assert [float(np.median(times)) for times in timed.values()] == [1.0, 3.0]


def test_the_bar_is_to_be_no_slower_than_the_fastest_loop() -> None:
    for architecture in engine.ARCHITECTURES:
        assert timm.bar(architecture, "fastest", setting()) == 1.0


@pytest.mark.slow  # compiles for minutes
def test_compiled_runs_and_loops_are_tried(tmp_path) -> None:
    conditions = setting(smoke=True)
    rows = timm.loop_speeds("resnet20", Pictures(), conditions)
    tried = {(trial.side, trial.options.compiled) for trial in rows[1].trials}
    assert tried == {(side, compiled) for side in ("run", "loop") for compiled in (False, True)}
    content = measuring.Benchmark("a", rows, measuring.table("a")).save("timm", conditions, tmp_path)
    assert sealed.read_json(content, "bench", "")["rows"][1]["loop_options"]["precision"] in BOTH
