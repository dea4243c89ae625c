"""A process that dies costs only the item that it worked on."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from rdp.data.isolation import Died, isolated_map
from rdp.errors import UserError


def act(what: str | int, marks: Path) -> int:
    """Double a number, or do what a text says."""
    if isinstance(what, int):
        return 2 * what
    with (marks / what).open("a") as file:
        file.write(f"{os.getpid()}\n")
    match what:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "crash once" if (marks / what).read_text().count("\n") == 1:
            os.abort()
        case "leave":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fail":
            raise UserError("told")
    return -1


def run(items: list[str | int], folder: Path) -> list[int | Died]:
    return isolated_map(act, [(item, folder) for item in items], [])


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    assert not multiprocessing.active_children()


def test_results_keep_the_order_of_the_items(tmp_path):
    assert run(list(range(500)), tmp_path) == list(range(0, 1000, 2))
    assert run([], tmp_path) == []


@pytest.mark.parametrize(("what", "status"), [("crash", -11), ("leave", 3), ("kill", -9)])
def test_an_item_that_ends_its_process_costs_no_other(what, status, tmp_path):
    found = run([*range(100), what, *range(100)], tmp_path)
    assert found[100] == Died(status)
    assert found[100].killed == (what == "kill")
    assert found[:100] + found[101:] == 2 * list(range(0, 200, 2))
    assert len(set((tmp_path / what).read_text().split())) == 2  # the second process began with it


def test_items_that_end_their_processes_may_follow_each_other(tmp_path):
    found = run(["crash"] * 3 + [1] + ["leave"] * 2, tmp_path)
    assert found == [Died(-11)] * 3 + [2] + [Died(3)] * 2


def test_an_item_that_ends_one_process_only_has_a_result(tmp_path):
    """Its memory may have been damaged by an item before."""
    assert run([1, "crash once", 2], tmp_path) == [2, -1, 4]


def test_an_exception_of_the_function_is_raised(tmp_path):
    with pytest.raises(UserError, match="told"):
        run([*range(200), "fail", *range(200)], tmp_path)


def test_the_cause_is_named():
    assert str(Died(-11)) == "it ended the process that read it: SIGSEGV"
    assert str(Died(3)) == "it ended the process that read it: status 3"


def test_a_process_that_cannot_start_is_no_fault_of_its_item(run_python, tmp_path):
    script = tmp_path / "script.py"  # without a guard, every process would run it again
    script.write_text("from rdp.data.isolation import isolated_map\nprint(isolated_map(abs, [(-1,)], []))\n")
    done = run_python(str(script), cwd=tmp_path, PYTHONPATH=str(Path(__file__).parents[2]))
    assert done.returncode == 1
    assert done.stderr.strip().endswith("a process that reads files ended as it started (status 1)")
