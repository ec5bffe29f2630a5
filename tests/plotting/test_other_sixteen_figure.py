import math
import re

import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.other_sixteen import plot_one_by_one, plot_other_sixteen

GROUPS = ("beta_1", "beta_3+beta_9", "gamma_4")
RATIOS = {"held": 0.8, "freed": 1.5, "nineteen": 0.4, "circuit": 1.0}
SETS = ("none", "gamma_4", "gamma_2 gamma_4")
LENGTHS = (4, 64, 10**4, 10**9)


def ratio(kind, group, measure):
    """Another one for each mark."""
    shift = 0.1 * ("gamma_3", "beta_2", "alpha_3", "loss").index(measure)
    return RATIOS[kind] + shift + (0.01 * GROUPS.index(group) if group else 0)


def rows_of(query):
    places = [(kind, group) for kind in ("held", "freed") for group in GROUPS] + [("nineteen", None), ("circuit", None)]
    return [
        {
            "query": query,
            "context_length": 64,
            "inputs": "orthonormal",
            "kind": kind,
            "group": group,
            "measure": measure,
            "per_circuit": ratio(kind, group, measure),
        }
        for kind, group in places
        for measure in ("gamma_3", "beta_2", "alpha_3", "loss")
    ]


def curves_of(query):
    return [
        {
            "query": query,
            "context_length": n,
            "held": held,
            "alpha_3": 1 / (1 + place + 0.1 * math.log(n)),
            "loss": 1 / (1 + place),
        }
        for place, held in enumerate(SETS)
        for n in LENGTHS
    ]


BOTH = [*rows_of("last"), *rows_of("uniform")]
CURVES = [*curves_of("last"), *curves_of("uniform")]


def drawn(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def test_a_mark_for_each_group_measure_and_kind():
    figure = plot_one_by_one(BOTH)
    assert [axes.get_title() for axes in figure.axes] == [
        f"query {query}, orthonormal inputs, N = 64" for query in ("last", "uniform")
    ]
    # the second panel has the same rows
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [style.display(group) for group in GROUPS]
    for axes in figure.axes:
        for kind in ("held", "freed"):
            for measure in ("beta_2", "alpha_3", "loss"):
                (marks,) = drawn(axes, f"{kind} {measure}")
                np.testing.assert_allclose(
                    np.asarray(marks.get_xdata()), [ratio(kind, group, measure) for group in GROUPS]
                )
                # in its own row, whose middle is that of the group's name
                assert np.rint(np.asarray(marks.get_ydata())).tolist() == [0, 1, 2]
                assert marks.get_markeredgecolor() == style.color(measure)
                assert marks.get_markerfacecolor() == (style.color(measure) if kind == "held" else "white")
            assert not drawn(axes, f"{kind} gamma_3")


def test_the_references():
    axes = plot_one_by_one(BOTH).axes[0]
    (circuit,) = drawn(axes, "circuit")
    assert list(np.asarray(circuit.get_xdata())) == [1, 1]
    found = {line.get_color(): np.asarray(line.get_xdata())[0] for line in drawn(axes, "nineteen")}
    assert found == {
        style.color(measure): ratio("nineteen", None, measure) for measure in ("beta_2", "alpha_3", "loss")
    }
    low, high = axes.get_xlim()
    assert low < 0.5 and high > 1.82


def test_a_ratio_that_is_none_is_left_out():
    rows = [row | {"per_circuit": None} if (row["kind"], row["group"]) == ("held", "gamma_4") else row for row in BOTH]
    figure = plot_one_by_one(rows)
    (marks,) = drawn(figure.axes[0], "held loss")
    assert len(np.asarray(marks.get_xdata())) == 2
    figure.draw_without_rendering()


def test_the_ratios_of_sets_over_lengths():
    figure = plot_other_sixteen(BOTH, CURVES)
    assert len(figure.axes) == 6
    for across, measure in ((figure.axes[2:4], "alpha_3"), (figure.axes[4:], "loss")):
        for axes, query in zip(across, ("last", "uniform"), strict=True):
            assert axes.get_title() == f"{style.display(measure)}, query {query}"
            assert axes.get_xlabel() == "context length N (item-label pairs)"
            for held in SETS:
                (curve,) = drawn(axes, held)
                expected = [row[measure] for row in curves_of(query) if row["held"] == held]
                np.testing.assert_array_equal(np.asarray(curve.get_xdata()), LENGTHS)
                np.testing.assert_allclose(np.asarray(curve.get_ydata()), expected)
                assert curve.get_color() == style.color(measure)
            assert len({(line.get_linestyle(), line.get_marker()) for held in SETS for line in drawn(axes, held)}) == 3
            legend = axes.get_legend()
            assert legend is not None
            gamma_2, gamma_4 = style.display("gamma_2"), style.display("gamma_4")
            assert [text.get_text() for text in legend.get_texts()] == [
                "all nineteen",
                f"nineteen without {gamma_4}",
                f"nineteen without {gamma_2}, {gamma_4}",
            ]


def test_no_mark_is_behind_a_key():
    figure = plot_other_sixteen(BOTH, CURVES)
    figure.draw_without_rendering()
    for axes in figure.axes[2:]:
        legend = axes.get_legend()
        assert legend is not None
        box = legend.get_window_extent()
        for held in SETS:
            (curve,) = drawn(axes, held)
            assert not any(box.contains(*point) for point in axes.transData.transform(curve.get_xydata()))


def test_one_query_alone():
    figure = plot_other_sixteen(rows_of("uniform"), curves_of("uniform"))
    assert len(figure.axes) == 3
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("rows", "curves", "message"),
    [
        ([], CURVES, "rows must be at least one; got []."),
        (BOTH, [], "over_lengths must be of 1 to 5 sets; got []."),
        (BOTH, [CURVES[0] | {"held": f"beta_{k}"} for k in range(1, 7)], "over_lengths must be of 1 to 5 sets; got"),
    ],
)
def test_refused(rows, curves, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_other_sixteen(rows, curves)
