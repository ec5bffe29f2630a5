import dataclasses
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.emergence_times import plot_emergence_times
from induction_dynamics.scaling.laws import fit_laws
from induction_dynamics.scaling.points import Row

LENGTHS = (4, 8, 16, 32, 64)


def row(n: int, **changes: Any) -> dict[str, Any]:
    values = {
        "context_length": n,
        "embedding_dim": 2 * n + 2,
        "inputs": "orthonormal",
        "query": "last",
        "rotation": 90.0,
        "model": "circuit",
        "measure": "beta_2",
        "threshold": 0.5,
        "time": 1.92 * n**2 + 1.6 * n,
        "time_unit": "flow",
        "outcome": "emerged",
        "sustained": True,
        "seed": None,
        "batch_size": None,
        "step": None,
        "samples": None,
        "horizon": 12.0,
        "accuracy": None,
    }
    return dataclasses.asdict(Row(**(values | changes)))


def fits_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    common = {key: rows[0][key] for key in ("model", "inputs", "query", "measure", "threshold")}
    found = fit_laws([r["context_length"] for r in rows], [r["time"] for r in rows])
    return [{**common, **dataclasses.asdict(fit)} for fit in found]


def lines(axes: Axes, gid: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_gid() == gid]


def points(line: Line2D) -> tuple[list[float], list[float]]:
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def words(figure: Figure) -> list[list[str]]:
    return [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]


def test_axes_points_and_keys():
    rows = [
        row(n, query=query, model=model)
        for query in ("last", "uniform")
        for model in ("circuit", "full")
        for n in LENGTHS
    ]
    figure = plot_emergence_times(rows)
    assert len(figure.axes) == 2
    for axes, query in zip(figure.axes, ("last", "uniform"), strict=True):
        assert axes.get_xscale() == axes.get_yscale() == "log"
        assert axes.get_xlabel() == "context length N (item-label pairs; 2N + 1 tokens)"
        assert query in axes.get_title()
        assert [points(line)[0] for line in lines(axes, "emerged")] == [list(LENGTHS)] * 2
        assert axes.get_legend() is None
    assert figure.axes[0].get_ylabel() == "emergence time T (flow time)"
    assert words(figure) == [[r"$\beta_{2}$"], ["circuit", "full"]]


def test_points_are_where_the_rows_say_and_the_full_model_lies_on_top():
    figure = plot_emergence_times([row(4), row(8, model="full", measure="loss", time=300.0)])
    reduced, full = lines(figure.axes[0], "emerged")
    assert points(reduced) == ([4], [1.92 * 16 + 6.4])
    assert points(full) == ([8], [300.0])
    assert (reduced.get_marker(), full.get_marker()) == ("o", "D")
    assert full.get_markerfacecolor() == "none" and full.get_zorder() > reduced.get_zorder()
    assert to_hex(reduced.get_markeredgecolor()) == style.COLORS["beta_2"]
    assert to_hex(full.get_markeredgecolor()) == style.COLORS["loss"]


def test_one_panel_per_query_and_inputs():
    rows = [row(4, query=q, inputs=i) for q in ("last", "uniform") for i in ("orthonormal", "isotropic")]
    titles = [axes.get_title() for axes in plot_emergence_times(rows).axes]
    assert titles == [f"query {q}, {i} inputs" for i in ("orthonormal", "isotropic") for q in ("last", "uniform")]


def test_the_preferred_law_is_drawn_through_the_points():
    rows = [row(n) for n in LENGTHS]
    axes = plot_emergence_times(rows, fits_of(rows)).axes[0]
    (curve,) = lines(axes, "fit")
    n = np.asarray(curve.get_xdata())
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), 1.92 * n**2 + 1.6 * n, rtol=1e-8)
    assert to_hex(curve.get_color()) == style.COLORS["beta_2"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [r"$\beta_{2}$ circuit: $cN^2 + dN$, $p = 1.94$"]


def test_the_power_law_stands_in_where_nothing_is_preferred():
    rows = [row(n, time=2.0 * n**2) for n in LENGTHS]
    axes = plot_emergence_times(rows, fits_of(rows)).axes[0]
    (curve,) = lines(axes, "fit")
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), 2 * np.asarray(curve.get_xdata()) ** 2, rtol=1e-8)
    assert curve.get_label() == r"$\beta_{2}$ circuit: $p = 2.00$"


def test_each_fit_goes_to_its_own_panel():
    last = [row(n) for n in LENGTHS]
    uniform = [row(n, query="uniform", time=float(n) ** 2 / np.log(n)) for n in LENGTHS]
    figure = plot_emergence_times(last + uniform, fits_of(last) + fits_of(uniform))
    assert [len(lines(axes, "fit")) for axes in figure.axes] == [1, 1]
    assert r"$N^2/\ln N$" in str(lines(figure.axes[1], "fit")[0].get_label())


@pytest.mark.parametrize(
    ("outcome", "gid", "word"),
    [("horizon_reached", "censored", "not by then"), ("solver_failed", "failed", "run failed")],
)
def test_runs_without_a_time_are_shown_at_their_horizon(outcome, gid, word):
    figure = plot_emergence_times([row(4), row(8, time=None, outcome=outcome, sustained=None, horizon=20.0)])
    axes = figure.axes[0]
    (mark,) = lines(axes, gid)
    assert points(mark)[1] == [20.0 * 64]
    assert len(lines(axes, "emerged")) == 1
    assert word in words(figure)[1]
    figure.draw_without_rendering()
    assert axes.get_ylim()[0] < 20.0 * 64 < axes.get_ylim()[1]


def test_censored_measures_with_one_horizon_stand_side_by_side():
    rows = [row(8, measure=m, time=None, outcome="horizon_reached") for m in ("alpha_3", "beta_2", "loss")]
    axes = plot_emergence_times(rows).axes[0]
    places = [float(np.asarray(line.get_xdata())[0]) for line in lines(axes, "censored")]
    assert len(set(places)) == 3
    assert axes.get_xlim()[0] < min(places) < 8 < max(places) < axes.get_xlim()[1]


def test_thresholds_differ_in_size_and_have_a_key():
    rows = [row(4, threshold=x, time=10.0 + x) for x in (0.25, 0.5, 0.9)]
    figure = plot_emergence_times(rows)
    sizes = [line.get_markersize() for line in lines(figure.axes[0], "emerged")]
    assert sizes == sorted(set(sizes))
    assert words(figure)[1] == ["circuit", "at 0.25", "at 0.5", "at 0.9"]


def test_points_without_a_time_lie_beside_those_that_have_one():
    rows = [row(n, time=None, outcome="horizon_reached") if n > 16 else row(n) for n in LENGTHS]
    axes = plot_emergence_times(rows).axes[0]
    (emerged,), (censored,) = lines(axes, "emerged"), lines(axes, "censored")
    assert points(emerged)[0] == [4, 8, 16]
    assert points(censored)[1] == [12.0 * 32**2, 12.0 * 64**2]


def test_thousands_of_points_are_an_image_in_the_vector_figure(tmp_path):
    sizes = []
    for count in (500, 5000):
        figure = plot_emergence_times([row(n) for n in range(4, 4 + count)])
        file = style.save_figure(figure, tmp_path / f"{count}.svg")
        sizes.append(len(file.read_bytes()))
        assert (b"<image" in file.read_bytes()) == (count > 1000)
    assert sizes[1] < 2 * sizes[0]


@pytest.mark.parametrize("rows", [[row(1)], [row(4, time=None, outcome="horizon_reached")], [row(4, model="additive")]])
def test_one_row_is_drawn_without_a_warning(rows):
    plot_emergence_times(rows).draw_without_rendering()


def test_labels_of_context_lengths_do_not_crowd():
    axes = plot_emergence_times([row(n) for n in range(1, 200)]).axes[0]
    ticks = axes.get_xticks()
    assert ticks[0] == 1 and 4 <= len(ticks) <= 10
    assert np.diff(np.log(ticks)).min() > 0.1 * np.log(199)


def test_settings_are_left_alone():
    before = dict(matplotlib.rcParams)
    plot_emergence_times([row(4)]).draw_without_rendering()
    assert dict(matplotlib.rcParams) == before


def test_steps_are_said_on_the_axis_and_are_where_runs_end():
    steps = {"model": "full", "time_unit": "steps", "horizon": None, "steps": 300, "optimizer": "adam"}
    rows = [row(4, **steps), row(8, **steps | {"time": None, "outcome": "horizon_reached"})]
    figure = plot_emergence_times(rows)
    assert figure.axes[0].get_ylabel() == "emergence time T (steps of training)"
    (censored,) = lines(figure.axes[0], "censored")
    assert points(censored)[1] == [300.0]
    with pytest.raises(ArgumentError, match="rows must be with times in one unit; got 'flow and steps'."):
        plot_emergence_times([row(4), *rows])


def test_no_rows_are_refused():
    with pytest.raises(ArgumentError, match=r"rows must be at least one row; got \[\]\."):
        plot_emergence_times([])


@pytest.mark.parametrize("thresholds", [(0.5,), (0.25, 0.75)])
def test_no_key_is_cut_off(thresholds):
    rows, fits = [], []
    for model in ("circuit", "subspace"):
        for measure in ("alpha_3", "loss"):
            for threshold in thresholds:
                own = [row(n, model=model, measure=measure, threshold=threshold) for n in LENGTHS]
                rows, fits = rows + own, fits + fits_of(own)
    figure = plot_emergence_times(rows, fits)
    figure.draw_without_rendering()
    legends = [*figure.legends, figure.axes[0].get_legend()]
    boxes = [legend.get_window_extent() for legend in legends if legend is not None]
    assert len(boxes) == 3
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1 and 0 <= box.y0 < box.y1 <= figure.bbox.y1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def trained(n: int, seed: int, time: float | None, **changes: Any) -> dict[str, Any]:
    own = {"model": "full", "seed": seed, "batch_size": 8, "step": 0.25, "time": time}
    return row(n, **(own | ({"outcome": "horizon_reached"} if time is None else {}) | changes))


def test_repeats_are_points_with_a_line_through_their_geometric_means():
    rows = [trained(n, seed, n**2 * factor) for n in (4, 8, 16) for seed, factor in enumerate((1.0, 2.0, 4.0))]
    figure = plot_emergence_times(rows)
    axes = figure.axes[0]
    assert len(points(lines(axes, "emerged")[0])[0]) == 9
    (mean,) = lines(axes, "mean")
    assert points(mean)[0] == [4, 8, 16]
    np.testing.assert_allclose(points(mean)[1], [32.0, 128.0, 512.0])
    assert " mean of repeats" in words(figure)[1]


def test_the_line_through_means_breaks_where_a_repeat_has_no_time():
    rows = [trained(n, seed, None if (n, seed) == (8, 1) else 2.0 * n**2) for n in (4, 8, 16) for seed in (0, 1)]
    (mean,) = lines(plot_emergence_times(rows).axes[0], "mean")
    assert np.isnan(points(mean)[1]).tolist() == [False, True, False]


def test_what_is_not_repeated_has_no_line_through_means():
    rows = [
        row(n, model=model, measure=m) for n in LENGTHS for model in ("circuit", "full") for m in ("loss", "beta_2")
    ]
    figure = plot_emergence_times(rows)
    assert lines(figure.axes[0], "mean") == [] and " mean of repeats" not in words(figure)[1]


def test_what_stands_apart_has_panels_of_its_own():
    rows = [trained(n, 0, float(size * n**2), batch_size=size) for size in (8, 16, 32) for n in LENGTHS]
    fits = [fit | {"batch_size": size} for size in (8, 16, 32) for fit in fits_of(rows[:5])]
    rows += [row(n) for n in LENGTHS]
    figure = plot_emergence_times(rows, fits, apart=["batch_size"])
    assert [axes.get_title() for axes in figure.axes] == [
        f"query last, orthonormal inputs\nbatch size {size}" for size in (8, 16, 32)
    ]
    for size, axes in zip((8, 16, 32), figure.axes, strict=True):
        full, reduced = lines(axes, "emerged")
        assert points(full)[1] == [float(size * n**2) for n in LENGTHS]
        assert points(reduced)[1] == [1.92 * n**2 + 1.6 * n for n in LENGTHS]
        assert len(lines(axes, "fit")) == 1 and lines(axes, "mean") == []
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert 0 <= box.x0 < box.x1 <= figure.get_figwidth() and 0 <= box.y0 < box.y1 <= figure.get_figheight()


def test_queries_stay_side_by_side_where_more_stands_apart():
    rows = [row(4, query=query, rotation=angle) for angle in (60.0, 90.0) for query in ("last", "uniform")]
    titles = [axes.get_title().split("\n") for axes in plot_emergence_times(rows, apart=["rotation"]).axes]
    assert titles == [
        [f"query {query}, orthonormal inputs", f"rotation {angle} degrees"]
        for angle in (60, 90)
        for query in ("last", "uniform")
    ]


def test_a_fit_of_everything_is_drawn_in_every_panel_and_named_as_such():
    rows = [
        row(n, query=query, measure=m) for query in ("last", "uniform") for m in ("loss", "beta_2") for n in LENGTHS
    ]
    pooled = [{key: fit[key] for key in ("law", "parameters", "preferred")} for fit in fits_of(rows)]
    for axes in plot_emergence_times(rows, pooled).axes:
        (curve,) = lines(axes, "fit")
        assert to_hex(curve.get_color()) == style.GRAY and str(curve.get_label()).startswith("all: ")


def test_fits_that_no_panel_parts_are_all_drawn_and_told_apart():
    rows = [trained(n, 0, float(size * n**2), batch_size=size) for size in (8, 16) for n in LENGTHS]
    fits = [fit | {"batch_size": size} for size in (8, 16) for fit in fits_of(rows[:5])]
    labels = [str(line.get_label()) for line in lines(plot_emergence_times(rows, fits).axes[0], "fit")]
    assert [label.partition(":")[0] for label in labels] == [
        rf"$\beta_{{2}}$ full, batch size {size}" for size in (8, 16)
    ]


def test_a_run_that_was_not_computed_has_failed():
    figure = plot_emergence_times([row(4), row(8, time=None, outcome="not_computed", sustained=None)])
    assert len(lines(figure.axes[0], "failed")) == 1 and "run failed" in words(figure)[1]


def test_a_note_is_set_above_all_panels():
    figure = plot_emergence_times([row(4)], note="Pooled: " + "batch_size, " * 20)
    title = figure.legends[0].get_title()
    assert title.get_text().startswith("Pooled: ") and "\n" in title.get_text()
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert 0 <= box.x0 < box.x1 <= figure.get_figwidth() and box.y1 <= figure.get_figheight()
