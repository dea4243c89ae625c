"""``rdp adopt`` and ``rdp store`` as they are typed: what they print, and how they end."""

import shutil
import sys

import pytest

from rdp import cli
from rdp.store import Store, fingerprint, scratch


@pytest.fixture
def rdp(monkeypatch, capsys):
    """Run a command on a results directory; its status, and what it said."""

    def run(folder, *words: object) -> tuple[int, str, str]:
        monkeypatch.setenv("RDP_RESULTS", str(folder))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["rdp", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    return run


def test_the_list_names_cells_sizes_and_studies(rdp, results, plan):
    status, out, _ = rdp(results, "store", "ls", "--study", plan.file)
    assert status == 0
    assert "4 cells, 4 runs" in out
    (line,) = [line for line in out.splitlines() if plan.cells[0].id in line]
    assert [word in line for word in ("1 completed", "carried", "kB")] == [True] * 3


def test_cleaning_shows_and_with_yes_removes(rdp, results, plan):
    gone = results / "store" / scratch.RETRAINED / "0123"
    gone.mkdir(parents=True)
    (gone / "lock").touch()
    status, out, _ = rdp(results, "store", "clean")
    assert (status, gone.exists()) == (0, True)
    assert "to be removed: rdp store clean --yes" in out
    status, out, _ = rdp(results, "store", "clean", "--yes")
    assert (status, gone.exists()) == (0, False)
    assert " removed" in out
    assert rdp(results, "store", "clean", "--yes")[1] == "nothing to remove\n"


def test_runs_are_unneeded_by_the_studies_that_are_known(rdp, results, plan):
    status, out, _ = rdp(results, "store", "clean", "--unneeded", "--yes", "--study", plan.file)
    assert (status, "carried" in out, "nothing to remove" in out) == (0, True, True)
    (results / "gone").mkdir()
    (results / "gone" / "records.parquet").touch()
    status, _, said = rdp(results, "store", "clean", "--unneeded", "--yes")
    assert status == 2
    assert f"{results / 'gone'}: of a study whose file is not found" in said
    shutil.rmtree(results / "gone")
    status, out, _ = rdp(results, "store", "clean", "--unneeded", "--yes")
    assert out.count("no study asks for it") == 4
    assert not list((results / "store").glob("*"))


def test_runs_are_packed_and_unpacked_and_a_rejected_one_ends_in_failure(rdp, results, plan, tmp_path):
    path, site = tmp_path / "carried.tar", tmp_path / "site"
    status, out, _ = rdp(results, "pack", plan.file, "--to", path, "--weights")
    assert (status, out.startswith(f"{path}: 4 runs, ")) == (0, True)
    assert rdp(site, "unpack", path)[:2] == (
        0,
        "4 runs added, 0 already present, 0 rejected, 0 missing from the archive\n",
    )
    run = plan.cells[0].specs[0].run
    weights = Store(site).folder(run) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    status, out, said = rdp(site, "unpack", path)
    assert (status, out) == (1, "0 runs added, 3 already present, 1 rejected, 0 missing from the archive\n")
    assert f"rdp: {run}: not added" in said
    path.write_bytes(path.read_bytes()[:-600])
    status, out, said = rdp(site, "unpack", path)
    assert (status, out) == (2, "")
    assert said.startswith(f"rdp: {path}: damaged")
    for words in (["pack", "nothing", "--to", path], ["unpack", tmp_path / "absent.tar"], ["unpack", "nothing"]):
        status, out, said = rdp(results, *words)
        assert (status, out, said.count("\n")) == (2, "", 1)


def test_unpacking_an_unfinished_study_says_how_to_go_on(rdp, results, plan, tmp_path):
    Store(results).remove_receipt(plan.cells[1].specs[0].run)
    path, site = tmp_path / "carried.tar", tmp_path / "site"
    assert "3 runs, 1 missing" in rdp(results, "pack", plan.file, "--to", path)[1]
    out = rdp(site, "unpack", path)[1]
    assert "3 runs added, 0 already present, 0 rejected, 1 missing from the archive" in out
    assert out.endswith(f"snakemake --cores all --config study={site}/carried/carried.yaml\n")


def test_recorded_results_are_rebuilt_apart(rdp, packed, tmp_path):
    status, out, _ = rdp(tmp_path, "unpack", packed.path, "--recorded")
    rebuilt = tmp_path / "rebuilt" / "planted"
    assert (status, out) == (
        0,
        f"{rebuilt}: for its report, RDP_RESULTS={rebuilt} rdp report {rebuilt / 'planted.yaml'}\n",
    )


def test_a_study_of_this_code_has_nothing_to_adopt(rdp, results, plan):
    status, out, _ = rdp(results, "adopt", plan.file)
    assert (status, out) == (0, "carried: no run was made by other code\n")


def test_what_is_not_adopted_ends_in_failure(rdp, results, plan, monkeypatch):
    """The store is of another machine: nothing there can be compared on this one, unless it is of the same kind."""
    before_code, stack = fingerprint.code_of, fingerprint.stack("cpu")
    monkeypatch.setattr(fingerprint, "code_of", lambda spec: before_code(spec)[::-1])
    monkeypatch.setattr(fingerprint, "stack", lambda device: stack | {"torch": "0.0"})
    status, out, said = rdp(results, "adopt", plan.file)
    assert (status, out) == (1, "")
    assert said.count("not adopted: ") == 3
    assert "another stack (torch " in said


def test_listing_needs_neither_torch_nor_pandas(results):
    import subprocess

    code = "import sys; from rdp import cli; sys.argv[0] = 'rdp'\ntry:\n    cli.main()\nfinally:\n"
    code += "    print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    words = [sys.executable, "-c", code, "store", "ls"]
    done = subprocess.run(words, env={"RDP_RESULTS": str(results)}, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr
