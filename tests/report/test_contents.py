"""A study's report has the figures of its file, each with a caption."""

import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rdp import probes, study
from rdp.report import contents, plots
from rdp.study import Plan
from rdp.utils import paths
from tests.report.conftest import TUNED

COMMON = ["accuracy", "differences", "training_curves", "accuracy_by_depth", "cost"]
STUDIES = sorted(paths.studies())


def change(folder: Path, **keys: Any) -> Plan:
    """The tuned study with some of its keys changed; None takes a key out."""
    content = yaml.safe_load(TUNED) | keys
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "changed.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return study.load(str(folder / "changed.yaml"))


def test_a_study_without_sweep_and_probes_has_the_common_ones(planted: Plan) -> None:
    assert list(contents.figures(planted)) == COMMON
    assert set(contents.figures(planted).values()) == {None}


def test_nothing_is_compared_where_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    methods = {"pnnh": None, "free": {"method": "pnnh", "constraint": "none"}}
    plain = {"probes": [], "tune": None, "methods": methods}
    assert list(contents.figures(change(tmp_path, **plain))) == ["accuracy", "training_curves", "accuracy_by_depth"]
    assert list(contents.figures(change(tmp_path, **plain, baseline="pnnh"))) == COMMON


def test_a_sweep_adds_its_own(tmp_path: Path) -> None:
    found = contents.figures(change(tmp_path, probes=[]))
    assert list(found) == [*COMMON, "learning_rates"]
    assert set(found.values()) == {None}
    grids = [{"datasets": ["digits"], "architectures": ["resnet20", "resnet56"]}]
    deep = contents.figures(change(tmp_path, probes=[], grids=grids))
    assert list(deep) == [*COMMON, "learning_rates", "convergence"]


def test_widths_of_one_depth_add_their_frontier(tmp_path: Path) -> None:
    def of(*architectures: str) -> list[str]:
        grids = [{"datasets": ["digits"], "architectures": list(architectures)}]
        return list(contents.figures(change(tmp_path, probes=[], tune=None, grids=grids)))

    assert of("resnet20", "resnet20w8") == [*COMMON, "frontier"]
    assert of("resnet20", "resnet56") == COMMON
    assert of("resnet20", "vit_micro12") == COMMON


def test_speed_that_is_measured_adds_its_own(tmp_path: Path) -> None:
    assert list(contents.figures(change(tmp_path, probes=[], speed_rounds=10)))[-1] == contents.SPEED


def test_a_sweep_that_no_grid_uses_adds_none(tmp_path: Path) -> None:
    grids = [{"datasets": ["digits"], "architectures": ["resnet20"], "learning_rates": []}]
    assert list(contents.figures(change(tmp_path, probes=[], grids=grids))) == COMMON


def test_each_probe_adds_its_own_and_they_need_it(tmp_path: Path) -> None:
    reuse = dict.fromkeys(["redundancy", "reuse_matrices", "lesions", "branch_to_stream"], "feature_reuse")
    found = contents.figures(change(tmp_path, probes=["feature_reuse"]))
    assert {name: probe for name, probe in found.items() if probe} == reuse
    found = contents.figures(change(tmp_path, probes=["surviving_neurons"]))
    assert {name: probe for name, probe in found.items() if probe} == {"surviving_neurons": "surviving_neurons"}
    both = list(contents.figures(change(tmp_path, probes=["surviving_neurons", "feature_reuse"])))
    assert both[6:] == ["surviving_neurons", *reuse]


def test_every_method_trained_on_points_of_the_plane_has_maps(tmp_path: Path) -> None:
    grids = [
        {"datasets": ["digits"], "architectures": ["resnet20"]},
        {"datasets": ["spiral"], "architectures": ["mlp8"], "methods": ["rdp", "vanilla"]},
    ]
    found = contents.figures(change(tmp_path, probes=["activation_maps"], grids=grids))
    maps = {name: probe for name, probe in found.items() if probe}
    # In the study's order, not the grid's.
    assert list(maps.items()) == [(f"activation_maps_{label}", "activation_maps") for label in ("vanilla", "rdp")]
    assert not [
        name
        for name in contents.figures(change(tmp_path, probes=["activation_maps"], grids=grids[:1]))
        if name.startswith("activation_maps")
    ]


def test_every_probe_has_a_figure_and_every_figure_a_function() -> None:
    declared = plots.available()
    assert {figure.probe for figure in declared.values()} - {None} == set(probes.available())
    assert all(callable(plots.function(name)) for name in declared)


@pytest.mark.parametrize("name", STUDIES)
def test_every_figure_of_this_projects_studies_has_a_caption(name: str) -> None:
    captions = yaml.safe_load((paths.templates() / "captions.yaml").read_text())
    for figure in contents.figures(study.load(name)):
        caption = captions[contents.MAPS if figure.startswith(f"{contents.MAPS}_") else figure]
        assert caption.keys() == {"title", "alt", "caption"}, figure
        for text in caption.values():
            assert text[0] in string.ascii_uppercase, figure
        assert caption["alt"].endswith("."), figure


def test_no_caption_is_of_a_figure_that_no_study_has() -> None:
    captions = yaml.safe_load((paths.templates() / "captions.yaml").read_text())
    assert captions.keys() == plots.available().keys()


def test_the_snakefile_may_ask_without_loading_what_draws() -> None:
    code = (
        "import sys, rdp.report.contents; print(sorted({'matplotlib', 'pandas', 'torch', 'seaborn'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
