"""The claims of figures/thresholds, and that the experiment makes its numbers."""

import itertools
import math
from pathlib import Path

import pytest

from experiments.recorder import read_table
from experiments.thresholds import RUN, THREE, ThresholdsConfig, changes_of_curves, main
from induction_dynamics.errors import ArgumentError

LENGTHS = (4, 8, 16, 64, 1024, 10**6)


@pytest.fixture(scope="module")
def curves(table):
    """Rows of the table of times, for each run."""
    return {key: list(rows) for key, rows in itertools.groupby(table("thresholds", "times"), key=run_of)}


@pytest.fixture(scope="module")
def changes(table):
    """Threshold and time of each change of order, by run and the two coordinates."""
    found: dict[object, tuple[float, float]] = {}
    for row in table("thresholds", "order_changes"):
        key = (*run_of(row), row["first_below"], row["first_above"])
        assert key not in found
        found[key] = row["threshold"], row["time"]
    return found


@pytest.fixture(scope="module")
def orders(table):
    """A function from a run and a threshold of the table to the order there."""
    rows = table("thresholds", "orders")

    def at(model, query, n, threshold, seed=None):
        (row,) = (
            row for row in rows if run_of(row) == (model, query, n, seed) and row["first"] <= threshold <= row["last"]
        )
        return row["order"]

    return at


def run_of(row):
    return tuple(row[name] for name in RUN)


def test_later_thresholds_come_later_and_gaps_say_why(curves):
    for rows in curves.values():
        assert [row["threshold"] for row in rows] == sorted({row["threshold"] for row in rows})
        for name in THREE:
            times = [row[name] for row in rows]
            emerged = [time for time in times if time is not None]
            assert emerged == sorted(emerged)
            assert times[: len(emerged)] == emerged  # what is never reached is never reached further up
        for row in rows:
            never = [name for name in THREE if row[name] is None]
            assert (row["never"] or "").split() == never
            assert row["outcome"] == ("horizon_reached" if never else "emerged")


def test_where_the_order_changes_lies_between_its_neighbours(curves, changes):
    """The roots on the runs are those of the curves, but for the curves' being straight between thresholds."""
    compared = 0
    for key, rows in curves.items():
        found = {(c["first_below"], c["first_above"]): c["threshold"] for c in changes_of_curves(rows)}
        for (*run, below, above), (threshold, _) in changes.items():
            if tuple(run) == key and (below, above) in found:
                assert found[below, above] == pytest.approx(threshold, abs=0.06)
                compared += 1
    assert compared > 0.8 * len(changes)


def test_alpha_3_overtakes_beta_2_where_the_first_integral_says(changes):
    """Three coordinates, query last: alpha + (e^alpha - 1)/(2N - 2) = beta^2/2, with alpha = beta."""
    for n in LENGTHS:
        found = changes.get(("circuit", "last", n, None, "beta_2", "alpha_3"))
        if found is None:
            # nowhere up to 3 is x^2/2 as large as the left-hand side
            assert all(x + math.expm1(x) / (2 * n - 2) > x**2 / 2 for x in (0.5, 1.0, 2.0, 2.5, 3.0))
        else:
            x = found[0]
            assert x + math.expm1(x) / (2 * n - 2) == pytest.approx(x**2 / 2, rel=1e-6)


USUAL = "gamma_3 < beta_2 < alpha_3"
OTHER = "gamma_3 < alpha_3 < beta_2"


def test_the_order_at_the_two_usual_thresholds(orders):
    for model, query in itertools.product(("circuit", "subspace"), ("last", "uniform")):
        for n in LENGTHS:
            at_tenth, at_half = (orders(model, query, n, threshold) for threshold in (0.1, 0.5))
            expected = (USUAL, USUAL)
            if (model, query) == ("subspace", "last") and n >= 16:
                expected = (USUAL if n == 16 else OTHER, OTHER)
            assert (at_tenth, at_half) == expected, (model, query, n)
    for query, seed in itertools.product(("last", "uniform"), range(3)):
        assert orders("full", query, 8, 0.1, seed) == orders("full", query, 8, 0.5, seed) == USUAL


def test_the_usual_order_ends_where_beta_2_or_alpha_3_comes_first(changes):
    """Of three coordinates at a threshold of 1 or more, which is gamma_3's plateau."""
    for (model, query, n, _, below, above), (threshold, _) in changes.items():
        if model == "circuit":
            assert threshold > 1, (query, n, below, above)
    for n, ends in ((4, (1.177, 1.476)), (64, (1.013, 1.030)), (10**6, (1.0, 1.0))):
        found = [changes["circuit", "last", n, None, "gamma_3", other][0] for other in ("beta_2", "alpha_3")]
        assert found == pytest.approx(ends, abs=6e-4)


@pytest.mark.parametrize(
    ("run", "pair", "threshold"),
    [
        (("circuit", "last", 8), ("beta_2", "alpha_3"), 2.773),
        (("circuit", "last", 64), ("beta_2", "alpha_3"), 2.052),
        (("circuit", "last", 10**6), ("beta_2", "alpha_3"), 2.000),
        (("circuit", "uniform", 10**6), ("beta_2", "alpha_3"), 2.705),
        (("subspace", "uniform", 10**6), ("beta_2", "alpha_3"), 2.705),
        (("subspace", "last", 8), ("beta_2", "alpha_3"), 0.705),
        (("subspace", "last", 16), ("beta_2", "alpha_3"), 0.166),
        (("subspace", "uniform", 4), ("gamma_3", "beta_2"), 1.139),
        (("subspace", "uniform", 64), ("gamma_3", "beta_2"), 0.729),
        (("subspace", "uniform", 10**6), ("gamma_3", "beta_2"), 0.693),
        (("subspace", "uniform", 10**6), ("gamma_3", "alpha_3"), 1.333),
    ],
)
def test_where_it_changes(changes, run, pair, threshold):
    assert changes[*run, None, *pair][0] == pytest.approx(threshold, abs=6e-4)


def test_where_it_does_not_change(changes):
    crossed = {key[:3] for key in changes if key[4:] == ("beta_2", "alpha_3") and key[0] != "full"}
    assert crossed == {
        *(("circuit", "last", n) for n in LENGTHS if n > 4),
        ("circuit", "uniform", 10**6),
        ("subspace", "uniform", 10**6),
        ("subspace", "last", 8),
        ("subspace", "last", 16),
    }


def test_the_trained_model_changes_its_order_where_the_reduced_flow_does(changes):
    compared = 0
    for (model, query, n, seed, *pair), (threshold, time) in changes.items():
        if model == "full":
            reduced = changes["subspace", query, n, None, *pair]
            assert threshold == pytest.approx(reduced[0], abs=0.012), (query, seed, pair)
            assert time == pytest.approx(reduced[1], rel=0.01)
            compared += 1
    assert compared == 3 * (3 + 2)


def test_the_exponent_depends_on_the_threshold(table):
    """Power laws of N = 4 to 64 at 0.1 and at 0.5: always smaller at 0.1, often far outside the other interval."""
    found: dict[tuple[str, ...], dict[float, dict[str, float]]] = {}
    for row in table("thresholds", "exponents"):
        found.setdefault((row["model"], row["query"], row["measure"]), {})[row["threshold"]] = row
    assert len(found) == 12
    apart = {key for key, both in found.items() if both[0.1]["high"] < both[0.5]["low"]}
    assert all(both[0.1]["p"] < both[0.5]["p"] for both in found.values())
    assert {key for key in apart if key[2] != "gamma_3"} == {
        ("circuit", "last", "beta_2"),
        ("circuit", "uniform", "beta_2"),
        ("subspace", "last", "alpha_3"),
        ("subspace", "uniform", "beta_2"),
    }
    for key, expected in (
        (("circuit", "last", "beta_2"), (1.780, 1.936)),
        (("subspace", "last", "alpha_3"), (1.344, 1.552)),
        (("subspace", "uniform", "gamma_3"), (1.010, 1.418)),
    ):
        assert [found[key][threshold]["p"] for threshold in (0.1, 0.5)] == pytest.approx(expected, abs=6e-4)


REST = {"context_lengths": (16,), "seeds": (), "fit_lengths": ()}
SHORT = {"context_lengths": (4, 64), "models": ("circuit",), "queries": ("last",), "fit_lengths": (4, 16, 64)}
TRAINED = {"seeds": (0,), "trained_length": 2, "batch_size": 4, "step": 0.5, "shared_frames": 2}


@pytest.mark.parametrize("settings", [SHORT | TRAINED, pytest.param(REST, marks=pytest.mark.slow)])
def test_the_experiment_makes_the_committed_numbers(tmp_path, table, curves, changes, settings):
    main(ThresholdsConfig(tmp_path / "out", tmp_path / "ledger", **settings))
    tables = ["times", "loss", "order_changes", "orders", *(["exponents"] if settings["fit_lengths"] else [])]
    expected = {*(f"{name}.csv" for name in tables), "thresholds.png", "thresholds.svg", "config.json"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == expected
    made = {key: list(rows) for key, rows in itertools.groupby(read_table(tmp_path / "out/times.csv"), key=run_of)}
    reduced = {key: rows for key, rows in made.items() if key[0] != "full"}
    models, queries = settings.get("models", ("circuit", "subspace")), settings.get("queries", ("last", "uniform"))
    assert set(reduced) == {
        (model, query, n, None) for model in models for query in queries for n in settings["context_lengths"]
    }
    assert len(made) - len(reduced) == len(settings["seeds"])
    for key, rows in reduced.items():
        for row, committed in zip(rows, curves[key], strict=True):
            for name in ("threshold", *THREE):
                assert row[name] == (None if committed[name] is None else pytest.approx(committed[name], rel=3e-7))
    again = [row for row in read_table(tmp_path / "out/order_changes.csv") if row["model"] != "full"]
    assert len(again) == len([key for key in changes if key[:4] in reduced])
    for row in again:
        there = changes[*run_of(row), row["first_below"], row["first_above"]]
        assert (row["threshold"], row["time"]) == pytest.approx(there, rel=3e-7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thresholds": (0.5, 0.1)}, "thresholds must be increasing, at least 2"),
        ({"context_lengths": ()}, "context_lengths must be at least one"),
    ],
)
def test_refused(settings, message):
    with pytest.raises(ArgumentError, match=message):
        ThresholdsConfig(Path("nowhere"), **settings)
