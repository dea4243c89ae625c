"""``rdp adopt`` and ``rdp store`` as they are typed: what they print, and how they end."""

import shutil
import sys

import pytest

from rdp import cli
from rdp.store import Store, fingerprint, scratch


@pytest.fixture
def rdp(monkeypatch, capsys):
    """Run a command on a results directory; its status, and what it said."""

    def run(results, *words: object) -> tuple[int, str, str]:
        monkeypatch.setenv("RDP_RESULTS", str(results))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["rdp", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    return run


def test_the_list_names_cells_sizes_and_studies(rdp, before, plan):
    status, out, _ = rdp(before, "store", "ls", "--study", plan.file)
    assert status == 0
    assert "4 cells, 4 runs" in out
    (line,) = [line for line in out.splitlines() if plan.cells[0].id in line]
    assert [word in line for word in ("1 completed", "before", "kB")] == [True] * 3


def test_cleaning_shows_and_with_yes_removes(rdp, before, plan):
    gone = before / "store" / scratch.RETRAINED / "0123"
    gone.mkdir(parents=True)
    (gone / "lock").touch()
    status, out, _ = rdp(before, "store", "clean")
    assert (status, gone.exists()) == (0, True)
    assert "to be removed: rdp store clean --yes" in out
    status, out, _ = rdp(before, "store", "clean", "--yes")
    assert (status, gone.exists()) == (0, False)
    assert " removed" in out
    assert rdp(before, "store", "clean", "--yes")[1] == "nothing to remove\n"


def test_runs_are_unneeded_by_the_studies_that_are_known(rdp, before, plan):
    status, out, _ = rdp(before, "store", "clean", "--unneeded", "--yes", "--study", plan.file)
    assert (status, "before" in out, "nothing to remove" in out) == (0, True, True)
    (before / "before").mkdir()
    (before / "before" / "records.parquet").touch()
    status, _, said = rdp(before, "store", "clean", "--unneeded", "--yes")
    assert status == 2
    assert f"{before / 'before'}: of a study whose file is not found" in said
    shutil.rmtree(before / "before")
    status, out, _ = rdp(before, "store", "clean", "--unneeded", "--yes")
    assert out.count("no study asks for it") == 4
    assert not list((before / "store").glob("*"))


def test_runs_are_carried_and_what_is_kept_out_ends_in_failure(rdp, before, plan, tmp_path):
    path, there = tmp_path / "runs.tar", tmp_path / "there"
    status, out, _ = rdp(before, "store", "export", plan.file, "--to", path)
    assert (status, out.startswith(f"{path}: 4 runs")) == (0, True)
    assert rdp(there, "store", "import", path)[:2] == (0, "4 runs entered, 0 were there, 0 kept out\n")
    run = plan.cells[0].specs[0].run
    weights = Store(there).folder(run) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    status, out, said = rdp(there, "store", "import", path)
    assert (status, out) == (1, "0 runs entered, 3 were there, 1 kept out\n")
    assert f"rdp: {run}: kept out" in said
    path.write_bytes(path.read_bytes()[:-600])
    status, out, said = rdp(there, "store", "import", path)
    assert (status, out) == (2, "")
    assert said.startswith(f"rdp: {path}: damaged")
    for words in (["export", "nothing", "--to", path], ["import", tmp_path / "absent.tar"]):
        status, out, said = rdp(before, "store", *words)
        assert (status, out, said.count("\n")) == (2, "", 1)


def test_a_study_of_this_code_has_nothing_to_adopt(rdp, before, plan):
    status, out, _ = rdp(before, "adopt", plan.file)
    assert (status, out) == (0, "before: no run was made by other code\n")


def test_what_is_not_adopted_ends_in_failure(rdp, before, plan, monkeypatch):
    """The store is of another machine: nothing there can be compared on this one, unless it is of the same kind."""
    before_code, stack = fingerprint.code_of, fingerprint.stack("cpu")
    monkeypatch.setattr(fingerprint, "code_of", lambda spec: before_code(spec)[::-1])
    monkeypatch.setattr(fingerprint, "stack", lambda device: stack | {"torch": "0.0"})
    status, out, said = rdp(before, "adopt", plan.file)
    assert (status, out) == (1, "")
    assert said.count("not adopted: ") == 3
    assert "another stack (torch " in said


def test_neither_needs_torch_nor_pandas(before, plan, tmp_path):
    import subprocess

    code = "import sys; from rdp import cli; sys.argv[0] = 'rdp'\ntry:\n    cli.main()\nfinally:\n"
    code += "    print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    words = [sys.executable, "-c", code, "store", "export", str(plan.file), "--to", str(tmp_path / "a.tar")]
    done = subprocess.run(words, env={"RDP_RESULTS": str(before)}, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr
