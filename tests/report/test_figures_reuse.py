"""Figures of feature reuse show the numbers of the probe's tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from rdp import tables
from rdp.report import contents, figures, plots, style
from rdp.report.plots import common, reuse
from rdp.study import Cell, Plan
from rdp.tables import measurements
from tests.report.conftest import make_tables, save, save_probe

OFFSET = {"vanilla": 0.0, "rdp": 0.1, "rdp_flops": 0.2, "rdp_updates": 0.3, "plain": 0.4}
UNITS = 4
MakeRows = Callable[[Plan, Callable[..., list[dict[str, Any]]]], list[dict[str, Any]]]
PROBED = [name for name, figure in plots.available().items() if figure.probe and name != contents.MAPS]


def row(quantity: str, layer: int, other: int, value: float) -> dict[str, Any]:
    return {"quantity": quantity, "layer": layer, "other": other, "value": value}


def reuse_of(cell: Cell, seed: int, stage: str) -> list[dict[str, Any]]:
    """What `feature_reuse` says of a run: by method, seed and stage, each at a place of its own."""
    level = OFFSET[cell.label] + 0.01 * seed + (0.05 if stage == "trained" else 0)
    pairs = [(i, j) for i in range(1, UNITS + 1) for j in range(i + 1, UNITS + 1)]
    rows = [row("cka", i, j, 0.1 * i + 0.01 * j + level / 10) for i, j in pairs]
    rows.append(row("redundancy", 0, 0, 0.3 + level))
    rows += [row("cka_independent", i, j, 0.9) for i, j in pairs]
    rows.append(row("redundancy_independent", 0, 0, 0.1 + level))
    if cell.label == "plain":  # has branches, but neither a stream nor units to delete
        return rows
    rows += [row("branch_to_stream", i, 0, 2.0 / i + level) for i in range(1, UNITS + 1)]
    if stage == "trained":
        rows += [row("lesion", i, 0, 0.9 - 0.1 * i - level / 10) for i in range(1, UNITS + 1)]
        rows += [row("lesion_last", k, 0, 0.9 - 0.2 * k - level / 10) for k in range(UNITS + 1)]
    return rows


@pytest.fixture
def loaded(tuned: Plan, tmp_path: Path, make_probe_rows: MakeRows) -> tables.Tables:
    """The tables of a study whose runs are all measured."""
    save(tuned, tmp_path, make_tables(tuned, tmp_path))
    save_probe(tuned, tmp_path, "feature_reuse", make_probe_rows(tuned, reuse_of))
    return tables.load(tuned, tmp_path)


def draw(loaded: tables.Tables, name: str) -> common.Drawing:
    return figures.draw(loaded, name)


def axis_of(drawing: common.Drawing, title: str) -> Axes:
    (axis,) = (axis for axis in drawing.figure.axes if title == axis.get_title())
    return axis


def lines(axis: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """The points of each labelled line."""
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()}


class TestRedundancy:
    def test_a_setting_that_is_not_measured_has_no_panel(self, tuned, tmp_path, make_probe_rows):
        rows = make_probe_rows(tuned, reuse_of)
        save(tuned, tmp_path, make_tables(tuned, tmp_path))
        save_probe(tuned, tmp_path, "feature_reuse", rows)
        whole = len(draw(tables.load(tuned, tmp_path), "redundancy").figure.axes)
        left_out = rows[0]["architecture"], rows[0]["dataset"]
        measured = [row for row in rows if (row["architecture"], row["dataset"]) != left_out]
        assert 0 < len(measured) < len(rows)
        save_probe(tuned, tmp_path, "feature_reuse", measured)
        assert len(draw(tables.load(tuned, tmp_path), "redundancy").figure.axes) < whole

    def test_it_is_the_mean_over_seeds_beside_its_references(self, loaded: tables.Tables) -> None:
        data = draw(loaded, "redundancy").data
        assert len(data) == 2 * 5 * 3  # settings, methods, references
        mine = data[(data["dataset"] == "digits") & (data["method"] == "rdp")].set_index("reference")
        # Seeds 0, 1, 2 are 0.01 apart.
        means = {"trained": 0.46, "untrained": 0.41, "independent": 0.26}
        for reference, mean in means.items():
            found = mine.loc[reference, ["mean", "min", "max", "seeds"]].tolist()
            assert found == pytest.approx([mean, mean - 0.01, mean + 0.01, 3]), reference

    def test_trained_is_filled_untrained_hollow_and_apart_a_cross(self, loaded: tables.Tables) -> None:
        drawing = draw(loaded, "redundancy")
        axis = axis_of(drawing, "resnet20 on digits")
        marks = [c for c in axis.collections if isinstance(c, PathCollection)]
        at_rdp = {round(c.get_offsets()[0][0], 6): c for c in marks if c.get_offsets()[0][1] == 1}
        colour = style.looks(loaded.labels)["rdp"].colour.lower()
        assert to_hex(at_rdp[0.46].get_facecolor()[0]) == colour
        assert to_hex(at_rdp[0.41].get_facecolor()[0]) == "#ffffff"
        assert to_hex(at_rdp[0.41].get_edgecolor()[0]) == colour
        assert to_hex(at_rdp[0.26].get_edgecolor()[0]) == colour
        assert len(at_rdp[0.26].get_paths()[0].vertices) == 4  # two strokes
        assert [label.get_text() for label in axis.get_yticklabels()] == loaded.labels

    def test_a_run_without_branches_two_apart_is_left_out(
        self, loaded: tables.Tables, make_probe_rows: MakeRows
    ) -> None:
        rows = make_probe_rows(loaded.plan, reuse_of)
        for found in rows:
            if found["method"] == "rdp" and found["seed"] == 0 and found["quantity"] == "redundancy":
                found["value"] = float("nan")
        save_probe(loaded.plan, loaded.results, "feature_reuse", rows)
        data = draw(loaded, "redundancy").data
        here = (data["dataset"] == "digits") & (data["method"] == "rdp") & (data["reference"] == "trained")
        assert data.loc[here, ["mean", "seeds"]].to_numpy().tolist() == [pytest.approx([0.465, 2])]


class TestMatrices:
    def test_they_are_means_over_seeds_of_trained_networks_symmetric_with_ones(self, loaded: tables.Tables) -> None:
        drawing = draw(loaded, "reuse_matrices")
        shown = [axis.images[0].get_array() for axis in drawing.figure.axes if axis.images]
        assert len(shown) == 2 * 5
        matrix = np.asarray(shown[1])  # digits, rdp: seeds 0, 1, 2 have the mean of seed 1
        assert matrix.shape == (UNITS, UNITS)
        assert np.array_equal(matrix, matrix.T)
        assert np.diag(matrix).tolist() == [1.0] * UNITS
        assert matrix[0, 2] == pytest.approx(0.1 + 0.03 + 0.016)
        assert matrix[2, 3] == pytest.approx(0.3 + 0.04 + 0.016)

    def test_the_data_file_holds_every_pair_once(self, loaded: tables.Tables) -> None:
        data = draw(loaded, "reuse_matrices").data
        assert len(data) == 2 * 5 * 6
        mine = data[(data["dataset"] == "spiral") & (data["method"] == "plain")].set_index(["layer", "other"])["cka"]
        assert mine[1, 2] == pytest.approx(0.1 + 0.02 + 0.046)
        assert (mine.index.get_level_values("layer") < mine.index.get_level_values("other")).all()

    def test_a_method_that_a_setting_leaves_out_leaves_its_place_empty(
        self, loaded: tables.Tables, make_probe_rows: MakeRows
    ) -> None:
        rows = [r for r in make_probe_rows(loaded.plan, reuse_of) if r["method"] != "plain" or r["dataset"] != "digits"]
        save_probe(loaded.plan, loaded.results, "feature_reuse", rows)
        axes = [axis for axis in draw(loaded, "reuse_matrices").figure.axes if axis.get_label() != "<colorbar>"]
        assert [bool(axis.images) for axis in axes] == [True] * 4 + [False] + [True] * 5


class TestByLayer:
    def test_lesions_show_accuracy_in_percent_by_deleted_unit_and_by_how_many(self, loaded: tables.Tables) -> None:
        drawing = draw(loaded, "lesions")
        single = axis_of(drawing, "resnet20 on digits")
        x, y = lines(single)["rdp"]
        assert x == [1, 2, 3, 4]
        assert y == pytest.approx([78.4, 68.4, 58.4, 48.4])  # 90 - 10 i - (0.1 + 0.01 + 0.05) / 10 of 100
        last = drawing.figure.axes[drawing.figure.axes.index(single) + 2]  # two panels a row, two axes each
        assert last.get_xlabel() == "units deleted from the end"
        x, y = lines(last)["rdp"]
        assert x == [0, 1, 2, 3, 4]
        assert y == pytest.approx([88.4, 68.4, 48.4, 28.4, 8.4])
        assert "plain" not in lines(single)

    def test_their_bands_are_the_range_over_seeds(self, loaded: tables.Tables) -> None:
        data = draw(loaded, "lesions").data
        here = (data["dataset"] == "digits") & (data["method"] == "rdp") & (data["quantity"] == "lesion")
        first = data[here & (data["layer"] == 1)].iloc[0]
        assert first[["mean", "min", "max", "count"]].tolist() == pytest.approx([0.784, 0.783, 0.785, 3])

    def test_branch_to_stream_is_shown_at_both_stages(self, loaded: tables.Tables) -> None:
        drawing = draw(loaded, "branch_to_stream")
        data = drawing.data.set_index(["dataset", "quantity", "method", "layer"])["mean"]
        for stage, added in (("initial", 0.0), ("trained", 0.05)):
            for layer in (1, 2, 4):
                expected = 2.0 / layer + 0.2 + 0.01 + added
                assert data["spiral", stage, "rdp_flops", layer] == pytest.approx(expected)
        first = axis_of(drawing, "mlp8 on spiral")
        assert first.get_xlabel() == "unit, at initialisation"
        assert lines(first)["vanilla"][1] == pytest.approx([2.01, 1.01, 2 / 3 + 0.01, 0.51])


def tiles(cell: Cell, seed: int, stage: str) -> list[dict[str, Any]]:
    """Maps of two layers of three units on a grid of 2 x 2 points, of the points of the plane alone."""
    if cell.dataset != "spiral":
        return []
    sign = 1.0 if stage == "trained" else -1.0
    return [
        {"layer": layer, "neuron": neuron, "low": -1.5, "high": 1.5}
        | {"map": [sign * 10.0**layer * neuron * k for k in (1, 2, 3, 4)]}
        for layer in (1, 2)
        for neuron in (1, 2, 3)
    ]


class TestActivationMaps:
    @pytest.fixture
    def mapped(self, loaded: tables.Tables, make_probe_rows: MakeRows) -> tables.Tables:
        rows = [row for row in make_probe_rows(loaded.plan, tiles) if row["seed"] == 0]
        save_probe(loaded.plan, loaded.results, "activation_maps", rows)
        return loaded

    def test_each_tile_is_one_unit_about_its_median_by_its_own_spread(self, mapped: tables.Tables) -> None:
        drawing = draw(mapped, "activation_maps_rdp")
        initial, trained = drawing.figure.axes
        canvas = np.asarray(trained.images[0].get_array().filled(np.nan))
        assert canvas.shape == (2 * 3, 3 * 3)  # tiles of 2 x 2, a line after each
        for layer in (0, 1):
            for neuron in (0, 1, 2):
                tile = canvas[3 * layer : 3 * layer + 2, 3 * neuron : 3 * neuron + 2]
                # Rows of the plane from the top down; 1 to 4 about 2.5, of which 80 % lie within 1.5.
                assert tile.ravel().tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
        assert np.isnan(canvas[2]).all()
        assert np.isnan(canvas[:, 2]).all()
        assert np.array_equal(-canvas, np.asarray(initial.images[0].get_array().filled(np.nan)), equal_nan=True)
        assert trained.get_title() == "rdp, mlp8 on spiral, trained"
        assert initial.get_title() == "rdp, mlp8 on spiral, at initialisation"
        assert "Seed 0" in drawing.figure.get_supxlabel()
        assert "radius 1.5" in drawing.figure.get_supxlabel()

    def test_what_lies_outside_the_disc_is_left_out(self, mapped: tables.Tables, make_probe_rows: MakeRows) -> None:
        """A corner counts neither for a tile's size nor in it."""
        corner = [0, 3, 12, 15]
        values = [1e6 if k in corner else 1.0 for k in range(16)]
        rows = [r | {"map": values} for r in make_probe_rows(mapped.plan, tiles) if r["seed"] == 0]
        save_probe(mapped.plan, mapped.results, "activation_maps", rows)
        canvas = np.asarray(draw(mapped, "activation_maps_rdp").figure.axes[1].images[0].get_array().filled(np.nan))
        assert np.isnan(canvas[:4, :4].ravel()[corner]).all()
        assert np.nanmax(np.abs(canvas)) == 0

    def test_the_data_file_holds_its_own_method_whole(self, mapped: tables.Tables) -> None:
        figures.write(mapped, "activation_maps_rdp", mapped.results)
        data = pd.read_csv(mapped.results / mapped.plan.name / "figures" / "activation_maps_rdp.csv")
        runs = {spec.run for cell in mapped.plan.cells if cell.label == "rdp" for spec in cell.specs}
        assert len(data) == 2 * 2 * 3
        assert set(data["run"]) <= runs
        assert data["map"][0].split() == ["-10", "-20", "-30", "-40"]

    def test_a_method_not_trained_yet_says_so(self, mapped: tables.Tables, make_probe_rows: MakeRows) -> None:
        rows = [r for r in make_probe_rows(mapped.plan, tiles) if r["seed"] == 0 and r["method"] != "plain"]
        save_probe(mapped.plan, mapped.results, "activation_maps", rows)
        found = reuse.activation_maps(mapped, "plain")
        assert "No network of this method has been trained" in found.figure.get_supxlabel()
        assert found.data.empty


@pytest.mark.parametrize("name", [name for name in PROBED if plots.available()[name].probe == "feature_reuse"])
@pytest.mark.slow
def test_the_data_file_is_what_is_drawn(name: str, loaded: tables.Tables) -> None:
    figures.write(loaded, name, loaded.results)
    folder = loaded.results / loaded.plan.name / "figures"
    for kind in ("svg", "pdf", "png"):
        assert (folder / f"{name}.{kind}").stat().st_size > 1000
    written, drawn = pd.read_csv(folder / f"{name}.csv", keep_default_na=False), figures.draw(loaded, name).data
    assert list(written.columns) == list(drawn.columns)
    assert written.to_numpy().tolist() == [pytest.approx(row) for row in drawn.to_numpy().tolist()]


@pytest.mark.parametrize(
    "name", [PROBED[0], "activation_maps_rdp", *(pytest.param(name, marks=pytest.mark.slow) for name in PROBED[1:])]
)
def test_a_probe_without_measurements_still_has_its_figures(name: str, tuned: Plan, tmp_path: Path) -> None:
    probes = {figure.probe for figure in plots.available().values() if figure.probe}
    tuned.study.probes.extend(probes - set(tuned.study.probes))
    save(tuned, tmp_path, make_tables(tuned, tmp_path))
    probe = contents.figures(tuned)[name]
    measurements.write(tuned, probe, tmp_path)  # no run is there
    figures.write(tables.load(tuned, tmp_path), name, tmp_path)
    written = (tmp_path / tuned.name / "figures" / f"{name}.csv").read_text()
    assert written.count("\n") == 1  # names of columns alone


@pytest.mark.parametrize("name", ["redundancy", "reuse_matrices", "lesions", "branch_to_stream"])
def test_a_probe_of_other_quantities_still_has_its_figures(
    name: str, loaded: tables.Tables, make_probe_rows: MakeRows
) -> None:
    rows = make_probe_rows(loaded.plan, lambda *run: [row("another", 1, 2, 0.5)])
    save_probe(loaded.plan, loaded.results, "feature_reuse", rows)
    figures.write(loaded, name, loaded.results)
    assert figures.draw(loaded, name).data.empty
