"""The claims of figures/coordinates_at_rest, and that the experiment makes its numbers."""

import pytest

from experiments.coordinates_at_rest import RestConfig, main
from experiments.recorder import read_table
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

OTHERS = [name for name in COORDINATES if name not in CIRCUIT]


@pytest.fixture
def rows(table):
    return {(row["query"], row["context_length"]): row for row in table("coordinates_at_rest", "coordinates")}


def least_of_three(row):
    return min(row[name] for name in CIRCUIT)


def largest_of_others(row):
    return max(abs(row[name]) for name in OTHERS)


def test_every_flow_reached_its_horizon_after_the_loss_had_fallen(rows):
    for (_, length), row in rows.items():
        assert row["outcome"] == "horizon_reached" and row["time"] == 12 * length**2
        assert row["loss"] / row["initial_loss"] < (0.025 if length == 2 else 0.01)


def test_three_stand_out_from_four_pairs_on(rows):
    for (query, length), row in rows.items():
        if length >= 4:
            assert least_of_three(row) > 1.1 * largest_of_others(row), (query, length)


def test_they_stand_out_further_in_long_contexts(rows):
    for query, ratio in (("last", 2.06), ("uniform", 3.40)):
        row = rows[query, 64]
        assert least_of_three(row) / largest_of_others(row) == pytest.approx(ratio, abs=0.01)


def test_at_two_pairs_they_do_not(rows):
    for query in ("last", "uniform"):
        assert least_of_three(rows[query, 2]) < largest_of_others(rows[query, 2])


def test_the_others_do_not_end_at_zero(rows):
    for (query, length), row in rows.items():
        if length >= 8:
            assert row["gamma_2"] < -0.25 and row["beta_10"] < -0.35, (query, length)
            assert (abs(row["beta_1"]) > 0.6) == (query == "last")


def test_five_never_move(rows):
    """With orthonormal inputs at 90 degrees alpha_2 and beta_5 .. beta_8 have no effect."""
    for row in rows.values():
        assert {row[name] for name in ("alpha_2", "beta_5", "beta_6", "beta_7", "beta_8")} == {0.0}


QUICKLY = {"context_lengths": (2, 4), "queries": ("last",)}


@pytest.mark.parametrize("settings", [QUICKLY, pytest.param({}, marks=pytest.mark.slow)])
def test_the_experiment_makes_the_committed_numbers(tmp_path, rows, settings):
    main(RestConfig(tmp_path, **settings))
    made = read_table(tmp_path / "coordinates.csv")
    assert len(made) == (2 if settings else len(rows))
    for row in made:
        committed = rows[row["query"], row["context_length"]]
        for name in (*COORDINATES, "loss"):
            assert row[name] == pytest.approx(committed[name], rel=1e-6, abs=1e-8)
    assert (tmp_path / "coordinates_at_rest.png").exists() and (tmp_path / "coordinates_at_rest.svg").exists()
