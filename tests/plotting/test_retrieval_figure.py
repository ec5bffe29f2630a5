import itertools

import numpy as np
import pytest
from matplotlib.lines import Line2D

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.retrieval import plot_retrieval

LENGTHS, MOMENTS, TIMES = (1, 4, 16, 64), (4.0, 12.0, 48.0), (1.0, 100.0)


def about(model, query, moment, seed=None):
    return {"model": model, "query": query, "moment": moment, "seed": seed, "trained_length": 8}


def share(model, query, moment, n, kind):
    """A number of its own for each."""
    return (len(model) + len(query) / 2 + moment / 100 + kind) / (30 * n**0.1)


RUNS = [
    (*run, seed)
    for run in itertools.product(("circuit", "full"), ("last", "uniform"), MOMENTS)
    for seed in ((None,) if run[0] == "circuit" else (0, 1))
]


@pytest.fixture(scope="module")
def data():
    weights = [
        about(model, query, moment, seed)
        | {"context_length": n, "three": share(model, query, moment, n, 1)}
        | {"nineteen": share(model, query, moment, n, 2) if n < 64 else None}
        # two seeds lie on either side of their mean
        | {
            "measured": share(model, query, moment, n, 3) + 0.01 * (0, -1, 1)[(None, 0, 1).index(seed)]
            if n < 64
            else None
        }
        for model, query, moment, seed in RUNS
        for n in LENGTHS
    ]
    moments = [about(*run) | {"fails_measured": None if run[2] == 4.0 else run[2]} for run in RUNS]
    flows = [
        {"query": query, "trained_length": length, "time_per_square": t, "fails_per_length": t / length}
        for query in ("last", "uniform")
        for length in (8, 64)
        for t in TIMES
    ] + [{"query": "last", "trained_length": 8, "time_per_square": 1000.0, "fails_per_length": None}]
    losses = [about(*run) | {"context_length": n, "loss": run[2] / n} for run in RUNS for n in LENGTHS]
    return weights, moments, flows, losses


@pytest.fixture(scope="module")
def lines(data):
    """Lines of the figure by their names."""
    found: dict[str | None, list[Line2D]] = {}
    for axes in plot_retrieval(*data).axes:
        for line in axes.get_lines():
            found.setdefault(line.get_gid(), []).append(line)
    return found


def test_every_weight_is_drawn_as_the_mean_of_its_seeds(lines):
    kinds = (("three", 1, LENGTHS), ("nineteen", 2, LENGTHS[:-1]), ("measured", 3, LENGTHS[:-1]))
    for model, query, moment in itertools.product(("circuit", "full"), ("last", "uniform"), MOMENTS):
        for name, kind, lengths in kinds:
            key = f"{name} {model} {query} {moment:g}"
            if (name, model) == ("nineteen", "circuit"):
                assert key not in lines  # it has no more than three
                continue
            (line,) = lines[key]
            assert np.array_equal(line.get_xdata(), lengths)
            assert line.get_ydata() == pytest.approx([share(model, query, moment, n, kind) for n in lengths])


def test_later_moments_are_darker_and_models_have_their_marks(lines):
    for model in ("circuit", "full"):
        points = [lines[f"measured {model} last {moment:g}"][0] for moment in MOMENTS]
        assert all(line.get_marker() == style.MARKERS[model] for line in points)
        shades = [line.get_color() for line in points]
        assert shades == sorted(set(shades), reverse=True) and shades[-1] == "#000000"
        dotted = lines[f"three {model} last 4"][0]
        assert not set(shades) & set(style.COLORS.values()) - {"#000000"} and dotted.get_color() == shades[0]


def test_the_failing_lengths_are_drawn_over_time(lines):
    for query in ("last", "uniform"):
        for length in (8, 64):
            (line,) = lines[f"{query} {length}"]
            assert np.array_equal(line.get_xdata(), TIMES)
            assert np.array_equal(line.get_ydata(), np.array(TIMES) / length)
        marks = [line for model in ("circuit", "full") for line in lines[f"fails {model} {query}"]]
        # what did not fail has no mark
        assert sorted((float(m.get_xdata()[0]), float(m.get_ydata()[0])) for m in marks) == sorted(
            (moment, moment / 8) for moment in MOMENTS[1:] for _ in range(3)
        )
        assert {mark.get_fillstyle() for mark in marks} == {"full" if query == "last" else "none"}


def test_the_losses_are_those_of_the_trained(lines):
    for query in ("last", "uniform"):
        for moment in MOMENTS:
            (line,) = lines[f"loss full {query} {moment:g}"]
            assert line.get_ydata() == pytest.approx(moment / np.array(LENGTHS))
    assert not any(key and key.startswith("loss circuit") for key in lines)


def test_another_model_gets_a_column_of_its_own(data):
    weights, *others = data
    figure = plot_retrieval([*weights, *({**row, "model": "standard"} for row in weights)], *others)
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 8 and titles[2] == "standard, query last"


def test_a_table_without_rows_is_refused(data):
    for place, name in enumerate(("weights", "moments", "flows", "losses")):
        tables = list(data)
        tables[place] = []
        weights, moments, flows, losses = tables
        with pytest.raises(ArgumentError, match=name):
            plot_retrieval(weights, moments, flows, losses)
