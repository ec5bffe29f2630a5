import numpy as np
import pytest

from induction_dynamics.plotting import style
from induction_dynamics.plotting.trained_scaling import MEASURES, plot_trained_scaling

LENGTHS = (4, 8, 16)
FACTORS = {"gamma_3": 0.5, "beta_2": 1.0, "alpha_3": 2.0, "loss": 3.0}


def rows_of(model, query, factor, seed=None):
    return [
        {"model": model, "query": query, "measure": measure, "threshold": 0.5, "context_length": n, "seed": seed}
        | {"time": factor * FACTORS[measure] * n**2}
        for measure in MEASURES
        for n in LENGTHS
    ]


TIMES = [
    row
    for query in ("last", "uniform")
    for row in (
        *rows_of("circuit", query, 2.0),
        *rows_of("subspace", query, 1.0),
        *rows_of("full", query, 1.01, 0),
        *rows_of("full", query, 1.03, 1),
    )
]
RATIOS = [
    {"query": query, "context_length": n, "measure": measure, "threshold": 0.5, "ratio": 1.02}
    | {"standard_error": 0.005 if n < 16 else None}
    for query in ("last", "uniform")
    for measure in MEASURES
    for n in LENGTHS
]
EXPONENTS = [
    {"query": "last", "measure": measure, "model": model, "exponent": 1.75, "low": 1.7, "high": 1.8}
    for measure in MEASURES
    for model in ("full", "subspace", "circuit")
]


def drawn(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def test_times_of_every_seed_lie_beside_both_flows():
    upper = plot_trained_scaling(TIMES, RATIOS, EXPONENTS).axes[0]
    (trained,), (nineteen,) = drawn(upper, "full loss"), drawn(upper, "subspace loss")
    assert sorted(np.asarray(trained.get_ydata())) == pytest.approx(
        sorted(factor * 3 * n**2 for factor in (1.01, 1.03) for n in LENGTHS)
    )
    np.testing.assert_allclose(np.asarray(nineteen.get_ydata()), [3 * n**2 for n in LENGTHS])
    assert trained.get_marker() == style.MARKERS["full"] and trained.get_linestyle() == "None"
    assert trained.get_markeredgecolor() == nineteen.get_color() == style.COLORS["loss"]
    (told,) = [text.get_text() for text in upper.texts if text.get_gid() == "exponents"]
    assert told.count("1.75 ± 0.05") == 12


def test_a_ratio_for_every_measure_with_its_error():
    figure = plot_trained_scaling(TIMES, RATIOS, EXPONENTS)
    lower = figure.axes[2]
    assert lower.get_ylabel() == "trained / nineteen coordinates"
    assert len(lower.containers) == len(MEASURES) * len(LENGTHS)
    spans = []
    for container in lower.containers:
        (line, _, (bar,)) = container
        assert float(np.asarray(line.get_ydata())[0]) == 1.02
        low, high = np.asarray(bar.get_segments()[0])[:, 1]
        spans.append(round(float(high - low), 6))
    assert sorted(set(spans)) == [0.0, 0.02]  # without an error, and two standard errors up and down
    assert [text.get_gid() for text in figure.axes[1].texts] == []  # no exponents were given of the query uniform
