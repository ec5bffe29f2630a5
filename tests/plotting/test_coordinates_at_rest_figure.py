import re
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.coordinates_at_rest import plot_coordinates_at_rest
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

LENGTHS = (2, 4, 8, 16, 32)
ENDS = {name: 0.0 for name in COORDINATES} | {"alpha_3": 6.0, "beta_2": 5.0, "gamma_3": 1.5}
ENDS |= {"beta_10": -0.55, "gamma_2": -0.6, "alpha_1": 0.29, "beta_1": 0.31}
VALUES = np.linspace(0.2, 1, 5)[:, None] * np.array(list(ENDS.values()))


def test_values_against_context_length_in_one_panel_for_each_series():
    figure = plot_coordinates_at_rest(LENGTHS, {"last": VALUES, "uniform": -VALUES}, subtitle="at t = 30 N$^2$")
    assert [axes.get_title() for axes in figure.axes] == ["last", "uniform"]
    assert figure.get_suptitle() == "at t = 30 N$^2$"
    for axes, values in zip(figure.axes, (VALUES, -VALUES), strict=True):
        assert axes.get_xscale() == "log" and list(axes.get_xticks()) == list(LENGTHS)
        assert axes.get_xlabel() == "context length N" and figure.axes[0].get_ylabel() == "coordinate"
        drawn = {line.get_gid(): line for line in axes.lines}
        for k, name in enumerate(COORDINATES):
            assert list(np.asarray(drawn[name].get_xdata())) == list(LENGTHS)
            np.testing.assert_array_equal(np.asarray(drawn[name].get_ydata()), values[:, k])
            assert to_hex(drawn[name].get_color()) == style.COLORS[name] and drawn[name].get_marker() == "o"
        assert list(np.asarray(drawn["zero"].get_ydata())) == [0, 0]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_strong_markers_are_larger():
    axes = plot_coordinates_at_rest(LENGTHS, {"last": VALUES}).axes[0]
    sizes = {line.get_gid(): line.get_markersize() for line in axes.lines if line.get_gid() in COORDINATES}
    assert {name for name, size in sizes.items() if size > min(sizes.values())} == set(CIRCUIT)


def test_the_circuit_and_what_ends_away_from_zero_are_named():
    axes = plot_coordinates_at_rest(LENGTHS, {"last": VALUES}).axes[0]
    sizes = {text.get_text(): float(text.get_fontsize()) for text in axes.texts}
    assert set(sizes) == {style.display(name) for name in (*CIRCUIT, "beta_10", "gamma_2", "beta_1")}
    assert {text for text, size in sizes.items() if size > 15} == {style.display(name) for name in CIRCUIT}


def test_names_do_not_overlap_and_keep_the_order_of_the_ends():
    figure = plot_coordinates_at_rest(LENGTHS, {"last": VALUES})
    figure.draw_without_rendering()
    texts = figure.axes[0].texts
    # without the lines that lead back to the ends
    boxes = sorted((Text.get_window_extent(text) for text in texts), key=lambda box: box.y0)
    assert all(low.y1 < high.y0 for low, high in zip(boxes[:-1], boxes[1:], strict=True))
    shown = [text.get_text() for text in sorted(texts, key=lambda text: Text.get_window_extent(text).y0)]
    assert shown[:2] == [style.display("gamma_2"), style.display("beta_10")]


def test_one_length_is_drawn_without_a_warning():
    plot_coordinates_at_rest([4], {"last": VALUES[:1]}).draw_without_rendering()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_lengths": ()}, "context_lengths must be whole numbers of at least 1, increasing; got []."),
        ({"context_lengths": (8, 4)}, "context_lengths must be whole numbers of at least 1, increasing; got [8, 4]."),
        ({"context_lengths": (0, 4)}, "context_lengths must be whole numbers of at least 1, increasing; got [0, 4]."),
        ({"coordinates": {}}, "coordinates must be at least one series; got {}."),
        ({"coordinates": {"last": VALUES[1:]}}, "coordinates['last'] must be of shape (5, 19); got (4, 19)."),
        ({"coordinates": {"last": np.nan * VALUES}}, "coordinates['last'] must be finite; got [nan, "),
    ],
)
def test_refused(changes, message):
    arguments: dict[str, Any] = {"context_lengths": LENGTHS, "coordinates": {"last": VALUES}}
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_coordinates_at_rest(**(arguments | changes))
