"""The claims of figures/circuit_picture, and that the experiment makes its numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.circuit_picture import CircuitConfig, main
from experiments.recorder import read_table
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES, project
from induction_dynamics.transformer.disentangled import Weights

PAIRS, SHOWN = 4, 2


def attention_of(rows):
    """Attention by stage, layer, attending and attended position."""
    return {(row["stage"], row["layer"], row["attending"], row["attended"]): row["attention"] for row in rows}


@pytest.fixture
def attention(table):
    return attention_of(table("circuit_picture", "attention"))


@pytest.fixture
def coordinates(table):
    return {row["stage"]: row for row in table("circuit_picture", "coordinates")}


@pytest.fixture
def weights(table):
    rows = table("circuit_picture", "weights")
    shapes = {"W1": (20, 20), "W2": (40, 40), "W3": (10, 80)}
    matrices = {name: np.zeros(shape) for name, shape in shapes.items()}
    for row in rows:
        matrices[row["matrix"]][row["row"], row["column"]] = row["value"]
    assert len(rows) == 28 * 10**2
    return Weights(**{name: jnp.asarray(matrix) for name, matrix in matrices.items()})


def test_every_row_sums_to_one(attention):
    sums = {}
    for (stage, layer, attending, _), value in attention.items():
        sums[stage, layer, attending] = sums.get((stage, layer, attending), 0.0) + value
    assert len(sums) == 3 * (2 * PAIRS + 1)
    for value in sums.values():
        assert value == pytest.approx(1, abs=1e-6)  # float32


def test_before_every_attention_is_even(attention):
    for (stage, layer, attending, _), value in attention.items():
        if stage == "before":
            assert value == pytest.approx(1 / (attending - 1) if layer == 1 else 1 / (2 * PAIRS), abs=1e-7)


def test_after_labels_attend_to_their_items_and_the_query_to_its_label(attention):
    for pair in range(1, PAIRS + 1):
        assert attention["after", 1, 2 * pair, 2 * pair - 1] > 0.8
    assert attention["after", 2, 2 * PAIRS + 1, 2 * SHOWN] == pytest.approx(0.80, abs=0.01)


def test_during_both_have_begun(attention):
    for pair in range(2, PAIRS + 1):
        now, even = attention["during", 1, 2 * pair, 2 * pair - 1], 1 / (2 * pair - 1)
        assert even < now < attention["after", 1, 2 * pair, 2 * pair - 1]
    assert 1.4 / (2 * PAIRS) < attention["during", 2, 2 * PAIRS + 1, 2 * SHOWN] < 0.25


def test_the_weights_shown_are_the_nineteen_blocks_and_little_else(weights, coordinates):
    found = project(weights)
    assert float(found.off_subspace.total) < 0.01
    assert float(found.off_subspace.total) == pytest.approx(coordinates["after"]["off_subspace"], rel=1e-4)
    recorded = [coordinates["after"][name] for name in COORDINATES]
    np.testing.assert_allclose(found.coordinates, recorded, atol=1e-5)


def test_the_three_are_large_only_after(coordinates):
    after = {name: abs(coordinates["after"][name]) for name in COORDINATES}
    assert {name for name in CIRCUIT if after[name] > 1.3} == set(CIRCUIT)
    assert after["alpha_3"] > 3 > 1.5 > coordinates["during"]["beta_2"] > coordinates["during"]["alpha_3"]
    assert all(coordinates["before"][name] == 0 for name in COORDINATES)


@pytest.mark.parametrize("after", [4.0, pytest.param(40.0, marks=pytest.mark.slow)])
def test_the_experiment_makes_the_committed_numbers(tmp_path, attention, coordinates, after):
    main(CircuitConfig(tmp_path, after=after))
    stages = ("before", "during", "after") if after == CircuitConfig().after else ("before", "during")
    made = attention_of(read_table(tmp_path / "attention.csv"))
    assert made.keys() == attention.keys()
    for place, value in made.items():
        if place[0] in stages:
            # float32 training on another machine rounds otherwise
            assert value == pytest.approx(attention[place], abs=2e-3)
    for row in read_table(tmp_path / "coordinates.csv"):
        if row["stage"] in stages:
            for name in COORDINATES:
                assert row[name] == pytest.approx(coordinates[row["stage"]][name], abs=1e-2)
    assert {file.name for file in tmp_path.iterdir()} == {
        *("attention.png", "attention.svg", "weights.png", "weights.svg"),
        *("attention.csv", "weights.csv", "coordinates.csv", "config.json"),
    }
