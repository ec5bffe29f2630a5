import math
import re

import numpy as np
import pytest
from matplotlib.colors import to_hex

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.asymptotics import plot_asymptotics

LENGTHS = (100, 10**4, 10**6, 10**9)


def rows_of(model, query, measure, time, threshold=0.5):
    """Rows of one series, with T a function of N."""
    series = {"model": model, "query": query, "measure": measure, "threshold": threshold}
    return [series | {"context_length": n, "time": time(n)} for n in LENGTHS]


SQUARES = rows_of("circuit", "last", "loss", lambda n: 5.0 * n**2 * (1 + 3 / n))
LOGARITHMS = rows_of("subspace", "last", "alpha_3", lambda n: n**2 / (0.3 * math.log(n) + 1))
LINES = rows_of("circuit", "last", "gamma_3", lambda n: 1.4 * n)
NO_CLOCK = rows_of("subspace", "uniform", "gamma_3", lambda n: 3.0 * n * math.log(n))


def drawn(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def key(axes):
    legend = axes.get_legend()
    assert legend is not None
    return legend


def words(axes):
    return [text.get_text() for text in key(axes).get_texts()]


def test_squares_are_level_beside_their_limit():
    (axes,) = plot_asymptotics(SQUARES).axes
    assert (axes.get_title(), axes.get_ylabel()) == ("three coordinates (circuit), query last", "T / N$^2$")
    (times,), (law,) = drawn(axes, "times"), drawn(axes, "law")
    np.testing.assert_array_equal(np.asarray(times.get_xdata()), LENGTHS)
    np.testing.assert_allclose(np.asarray(times.get_ydata()), [5 * (1 + 3 / n) for n in LENGTHS])
    np.testing.assert_allclose(np.asarray(law.get_ydata()), 2 * math.sqrt(2 * math.pi))
    assert times.get_markerfacecolor() == to_hex(law.get_color()) == style.COLORS["loss"]
    assert times.get_marker() == style.MARKERS["circuit"]
    assert words(axes) == ["loss: 5.0000 → 5.0133", "law"]
    assert key(axes).get_title().get_text() == "last value → limit"


def test_times_that_grow_slower_rise_beside_the_slope():
    (axes,) = plot_asymptotics(LOGARITHMS).axes
    assert (axes.get_title(), axes.get_ylabel()) == ("nineteen coordinates (subspace), query last", "N$^2$ / T")
    (times,), (law,) = drawn(axes, "times"), drawn(axes, "law")
    np.testing.assert_allclose(np.asarray(times.get_ydata()), [0.3 * math.log(n) + 1 for n in LENGTHS])
    assert times.get_marker() == style.MARKERS["subspace"]
    x, y = np.asarray(law.get_xdata()), np.asarray(law.get_ydata())
    slope = 1 / (8 * (1 - math.exp(-0.5)))
    assert np.diff(y)[0] / np.diff(np.log(x))[0] == pytest.approx(slope)
    # through the last time, and across the panel
    assert y[-1] - slope * math.log(x[-1] / 10**9) == pytest.approx(0.3 * math.log(10**9) + 1)
    assert x[0] < 100 and x[-1] > 10**9
    assert words(axes) == [f"{style.display('alpha_3')}: 0.3000 → {slope:.4f}", "law"]


def test_a_panel_for_each_model_and_query_and_gamma_3_below():
    figure = plot_asymptotics([*SQUARES, *LOGARITHMS, *LINES, *NO_CLOCK])
    shown = [(axes.get_title(), axes.get_ylabel()) for axes in figure.axes if axes.get_visible()]
    gamma = style.display("gamma_3")
    assert shown == [
        ("three coordinates (circuit), query last", "T / N$^2$"),
        ("nineteen coordinates (subspace), query last", "N$^2$ / T"),
        (f"{gamma}, query last", "T / N"),
        (f"{gamma}, query uniform", "T / N"),
    ]
    last, uniform = figure.axes[-2:]
    assert words(last) == [f"circuit, {gamma}: 1.4000 → 1.3863", "law"]
    # at its plateau gamma_3 has no limit
    assert words(uniform) == [f"subspace, {gamma}: 62.2, no limit", "law"]
    assert drawn(uniform, "law") == []
    assert {axes.get_xlabel() for axes in figure.axes} == {"context length N (item-label pairs)"}


def test_gamma_3_below_and_above_its_plateau():
    below = rows_of("subspace", "uniform", "gamma_3", lambda n: 3.2 * n, 0.4)
    above = rows_of("subspace", "uniform", "gamma_3", lambda n: n**2 / math.log(n), 0.7)
    figure = plot_asymptotics([*below, *above, *NO_CLOCK])
    rising, level = figure.axes
    gamma = style.display("gamma_3")
    assert words(rising) == [f"{gamma} at 0.7: 1.0000 → 0.2188", "law"]
    assert words(level)[0] == f"subspace, {gamma} at 0.4: 3.2000 → 3.1669"
    assert [line.get_markerfacecolor() for line in drawn(level, "times")] == ["white", style.COLORS["gamma_3"]]


def test_a_row_without_a_time_is_left_out_and_one_point_is_drawn():
    missing = [row | {"time": None} if row["context_length"] > 100 else row for row in LOGARITHMS]
    figure = plot_asymptotics(missing)
    (times,) = drawn(figure.axes[0], "times")
    assert list(np.asarray(times.get_xdata())) == [100]
    assert words(figure.axes[0])[0].endswith(": one point → 0.3177")
    figure.draw_without_rendering()


def test_the_order_of_the_rows_does_not_matter():
    rows = [*SQUARES, *LOGARITHMS, *LINES, *NO_CLOCK]
    for axes, other in zip(plot_asymptotics(rows).axes, plot_asymptotics(rows[::-1]).axes, strict=True):
        for line, twin in zip(axes.lines, other.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), twin.get_xydata())


def test_no_mark_is_behind_a_key():
    figure = plot_asymptotics([*SQUARES, *LOGARITHMS, *LINES, *NO_CLOCK])
    figure.draw_without_rendering()
    for axes in figure.axes:
        if axes.get_visible():
            box = key(axes).get_window_extent()
            for line in drawn(axes, "times"):
                points = axes.transData.transform(line.get_xydata())
                assert not any(box.contains(*point) for point in points)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows must be at least one with a time; got []."),
        ([SQUARES[0] | {"model": "full"}], "model must be one of circuit, subspace; got 'full'."),
        (
            [SQUARES[0] | {"measure": "gamma_2"}],
            "measure must be one of gamma_3, beta_2, alpha_3, loss; got 'gamma_2'.",
        ),
    ],
)
def test_refused(rows, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_asymptotics(rows)
