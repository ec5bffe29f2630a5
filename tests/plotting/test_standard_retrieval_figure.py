import itertools

import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.standard_retrieval import PREDICTIONS, plot_standard_retrieval

LENGTHS, MOMENTS, PLACES = (1, 4, 8), ("half - 100", "half", "end"), ("next", "trained")
NAMES = ("measured", "accuracy", "within", *PREDICTIONS)


def number(place, moment, n, name):
    """A number of its own for each."""
    return (PLACES.index(place) + MOMENTS.index(moment) / 3 + NAMES.index(name) / 20 + 0.1) / (2.5 * n**0.2)


@pytest.fixture(scope="module")
def data():
    return [
        {"seed": seed, "moment": moment, "trained_length": 4, "query_at": place, "context_length": n}
        # two seeds lie on either side of their mean
        | {name: number(place, moment, n, name) + 0.01 * (-1) ** seed for name in NAMES}
        | {"beyond": 0.01 * n if n > 4 else None}
        for seed in (0, 1)
        for moment in MOMENTS
        for place in PLACES
        for n in LENGTHS
    ]


@pytest.fixture(scope="module")
def axes(data):
    return plot_standard_retrieval(data).axes


@pytest.fixture(scope="module")
def lines(axes):
    """Lines of the figure by their names, each with the number of its panel."""
    return {line.get_gid(): (panel, line) for panel, each in enumerate(axes) for line in each.get_lines()}


def test_everything_is_drawn_as_the_mean_of_its_seeds(lines):
    for place, moment, name in itertools.product(PLACES, MOMENTS, ("measured", "accuracy", *PREDICTIONS)):
        panel, line = lines[f"{name} {place} {moment}"]
        assert panel == (2 if name == "accuracy" else PLACES.index(place))
        assert np.array_equal(line.get_xdata(), LENGTHS)
        assert line.get_ydata() == pytest.approx([number(place, moment, n, name) for n in LENGTHS])


def test_the_pairs_are_told_apart_by_where_they_stand(lines):
    for moment in MOMENTS:
        assert lines[f"within {moment}"][1].get_ydata() == pytest.approx(
            [number("trained", moment, n, "within") for n in LENGTHS]
        )
        panel, beyond = lines[f"beyond {moment}"]
        assert panel == 3 and (beyond.get_xdata().tolist(), beyond.get_ydata().tolist()) == ([8], [0.08])


def test_later_moments_are_darker_and_no_coordinate_has_their_colour(lines):
    shades = [lines[f"measured next {moment}"][1].get_color() for moment in MOMENTS]
    assert shades == sorted(set(shades), reverse=True) and shades[-1] == "#000000"
    assert not set(shades[:-1]) & set(style.COLORS.values())
    assert [lines[f"two trained {moment}"][1].get_color() for moment in MOMENTS] == shades


def test_the_trained_length_and_the_level_are_marked(lines, axes):
    assert set(lines["trained length"][1].get_xdata()) == {4} and set(lines["level"][1].get_ydata()) == {0.5}
    words = [text.get_text() for text in axes[0].figure.legends[0].get_texts()]
    assert words[:3] == ["half solved − 100 steps", "half solved", "end"] and len(words) == 8


def test_no_rows_are_refused():
    with pytest.raises(ArgumentError, match="weights"):
        plot_standard_retrieval([])
