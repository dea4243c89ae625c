"""Planning, help and the Snakefile start fast, because they import no torch."""

import re

import pytest

SLOW = {"torch", "torchvision", "timm", "sklearn", "pandas", "matplotlib"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([command, name] for command in ("plan", "status") for name in ("quick", "rdp")),
        ["schema"],
        ["data", "list"],
        *([*command, "--help"] for command in (["train"], ["tune"], ["watch"], ["bench"])),
    ],
    ids=" ".join,
)
def test_planning_and_help_do_not_import_torch(arguments, run_python, tmp_path):
    done = run_python("-X", "importtime", "-m", "rdp.cli", *arguments, RDP_RESULTS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "pydantic" in imported
    assert not imported & SLOW
    assert done.stdout


def test_watching_does_not_import_torch(run_python):
    done = run_python(
        "-c", "import sys\nfrom rdp.report import watch_page\nprint({'torch', 'timm'} & sys.modules.keys())"
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_the_snakefile_does_not_import_torch(root, run_python):
    imports = re.findall(r"^from rdp.*", (root / "workflow/rules/common.smk").read_text(), re.M)
    assert len(imports) > 3
    loaded = f"print({SLOW} & sys.modules.keys())"
    script = "\n".join(
        [
            "import sys",
            *imports,
            "plan = study.load('quick')",
            "study_resources.ResourceEstimator(paths.results()).estimate(plan.specs)",
        ]
    )
    done = run_python("-c", f"{script}\n[fingerprint.code_of(spec) for spec in plan.specs]\n{loaded}")
    assert done.stdout.strip() == "set()", done.stderr
