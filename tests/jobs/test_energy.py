"""Energy counters: read correctly, and unknown where there are none."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
import torch

from rdp.errors import Terminated
from rdp.jobs import energy
from rdp.jobs.runner import run_job
from rdp.store import Store

RANGE = 262_143_328_850  # microjoules, of many processors


class Zones:
    """A tree as Linux has it below /sys/class/powercap."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, zone: str, name: str, count: int, most: int = RANGE) -> None:
        (self.folder / zone).mkdir(parents=True)
        (self.folder / zone / "name").write_text(f"{name}\n")
        (self.folder / zone / "max_energy_range_uj").write_text(f"{most}\n")
        self.count(zone, count)

    def count(self, zone: str, count: int) -> None:
        (self.folder / zone / "energy_uj").write_text(f"{count}\n")

    def meter(self, earlier=None) -> energy.Meter:
        return energy.Meter({"cpu_package_joules": energy.package_counters(self.folder)}, earlier)


@pytest.fixture
def zones(tmp_path) -> Zones:
    """Two packages, with the zones that would count the same twice."""
    found = Zones(tmp_path / "powercap")
    found.add("intel-rapl:0", "package-0", 5_000_000)
    found.add("intel-rapl:1", "package-1", 7_000_000)
    found.add("intel-rapl:0:0", "core", 1_000_000)
    found.add("intel-rapl:2", "psys", 9_000_000)
    found.add("intel-rapl-mmio:0", "package-0", 5_000_000)
    (found.folder / "intel-rapl").mkdir()
    return found


def test_packages_are_summed_and_zones_within_them_left_out(zones):
    meter = zones.meter()
    for zone, count in (("intel-rapl:0", 8_500_000), ("intel-rapl:1", 7_250_000)):
        zones.count(zone, count)
    for zone in ("intel-rapl:0:0", "intel-rapl:2", "intel-rapl-mmio:0"):
        zones.count(zone, 99_000_000)
    assert meter.joules() == {"cpu_package_joules": 3.75, "gpu_joules": None}
    assert meter.joules()["cpu_package_joules"] == 3.75  # nothing went on since


def test_a_counter_that_wraps_is_followed(zones):
    zones.count("intel-rapl:0", RANGE - 2_000_000)
    meter = zones.meter()
    for count in (1_000_000, 4_000_000, RANGE - 1_000_000, 500_000):
        zones.count("intel-rapl:0", count)
        meter.joules()
    # 3 J over the end, 3 J on, nearly all of the range, 1.5 J over the end
    assert meter.joules()["cpu_package_joules"] == pytest.approx(RANGE / 1e6 + 2.5)


def test_counters_are_read_every_thirty_seconds(monkeypatch):
    clock, reads = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    meter = energy.Meter({"cpu_package_joules": [energy.Counter(lambda: reads.append(clock[0]) or 0.0)]})
    for step in range(1000):
        clock[0] = step * 0.1
        meter.poll()
    assert reads == pytest.approx([0, 30, 60, 90])


def test_attempts_add_up_and_unknown_energy_stays_unknown(zones):
    meter = zones.meter({"cpu_package_joules": 10.0, "gpu_joules": None})
    zones.count("intel-rapl:0", 6_000_000)
    assert meter.joules() == {"cpu_package_joules": 11.0, "gpu_joules": None}
    assert zones.meter({}).joules()["cpu_package_joules"] is None  # of a checkpoint that did not keep it


@pytest.mark.parametrize("spoil", ["absent", "not a number", "back"])
def test_after_a_failed_reading_the_energy_is_unknown(zones, spoil):
    meter = zones.meter()
    file = zones.folder / "intel-rapl:1" / "energy_uj"
    if spoil == "absent":
        file.unlink()
    elif spoil == "not a number":
        file.write_text("many\n")
    else:
        zones.count("intel-rapl:1", 0)
        meter._counters["cpu_package_joules"][1]._wrap = None  # as a GPU's, which never begins again
    assert meter.joules()["cpu_package_joules"] is None
    zones.count("intel-rapl:1", 8_000_000)
    assert meter.joules()["cpu_package_joules"] is None


def test_if_one_package_cannot_be_read_the_energy_is_unknown(zones):
    (zones.folder / "intel-rapl:1" / "energy_uj").unlink()
    (zones.folder / "intel-rapl:1" / "energy_uj").mkdir()  # unreadable, for root too
    assert zones.meter().joules()["cpu_package_joules"] is None


def test_no_counter_is_no_error(tmp_path):
    assert energy.package_counters(tmp_path / "nothing") == []
    assert energy.Meter({}).joules() == dict.fromkeys(energy.KINDS)
    assert energy.make_meter(gpus=[99]).joules()["gpu_joules"] is None  # no machine has so many


def test_a_gpu_counts_millijoules_and_is_identified_by_its_torch_index(monkeypatch):
    """In place of NVIDIA's library, which no machine without a GPU has: one of two GPUs, of which torch sees the other
    way round. What the real one counts is seen on a GPU alone."""
    counts = {"GPU-aa": 1_000_000, "GPU-bb": 5_000_000}
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda name: name if name in counts else 1 / 0)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", counts.__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=("bb", "aa")[i]))
    alone, both = energy.make_meter(gpus=[0]), energy.make_meter(gpus=[0, 1])
    counts |= {"GPU-aa": 2_000_000, "GPU-bb": 5_012_500}
    assert alone.joules()["gpu_joules"] == pytest.approx(12.5)
    assert both.joules()["gpu_joules"] == pytest.approx(1012.5)
    counts["GPU-bb"] = 0  # the driver was loaded anew
    assert alone.joules()["gpu_joules"] is None


def test_a_resumed_run_adds_up_its_energy(tmp_path, monkeypatch, zones, make_spec):
    """Each of twenty steps takes a joule; after the fifth the job is told to stop, which it does after the sixth."""
    spec, steps, used = make_spec(), [], [5_000_000]

    def poll(meter: energy.Meter) -> None:
        steps.append(len(steps))
        used[0] += 1_000_000
        zones.count("intel-rapl:0", used[0])
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(energy, "POWERCAP", zones.folder)
    monkeypatch.setattr(energy.Meter, "poll", poll)
    with pytest.raises(Terminated):
        run_job([spec], tmp_path, "cpu", bar=False)
    assert len(steps) == 5
    (record,) = run_job([spec], tmp_path, "cpu", bar=False)
    assert record.telemetry.resumed_at == [6]
    assert record.telemetry.energy.model_dump() == {"gpu_joules": None, "cpu_package_joules": 5.0 + 14.0}
    assert Store(tmp_path).read(spec.run).telemetry == record.telemetry


def test_without_counters_a_run_records_unknown_energy(tmp_path, monkeypatch, make_spec):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "nothing")
    (record,) = run_job([make_spec()], tmp_path, "cpu", bar=False)
    assert record.telemetry.energy.model_dump() == dict.fromkeys(energy.KINDS)
