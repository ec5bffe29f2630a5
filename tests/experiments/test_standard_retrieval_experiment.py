"""The claims of figures/standard_retrieval, and that the experiment makes its numbers."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.recorder import read_table
from experiments.standard_retrieval import (
    StandardRetrievalConfig,
    failing_length,
    last_crossing,
    main,
    retrieval_of,
    two_number_weights,
    with_query_at,
)
from induction_dynamics.errors import ArgumentError
from induction_dynamics.task import split_seed
from induction_dynamics.token_task import TokenTask, sample_tokens
from induction_dynamics.transformer.progress import progress_measures
from induction_dynamics.transformer.standard import Architecture, StandardWeights, initial_weights


@pytest.fixture(scope="module")
def weights(table):
    return table("standard_retrieval", "weights")


@pytest.fixture(scope="module")
def moments(table):
    return table("standard_retrieval", "moments")


@pytest.fixture(scope="module")
def mean(weights):
    """Mean over the seeds of a column, by moment, place of the query and N."""

    def of(name, moment, place, pairs):
        key = (moment, place, pairs)
        found = [row[name] for row in weights if (row["moment"], row["query_at"], row["context_length"]) == key]
        assert len(found) == 3
        return float(np.mean(found))

    return of


def test_with_all_scores_the_weight_is_exact(weights):
    assert len(weights) == 3 * 3 * 2 * 12
    assert max(abs(row["scores"] - row["measured"]) for row in weights) < 1e-9
    assert max(row["standard_error"] for row in weights) < 0.0111


def test_all_three_seeds_solve_the_task_and_each_half_of_it_at_another_step(table):
    runs = table("standard_retrieval", "runs")
    assert [row["half"] for row in runs] == [1080, 1000, 960]
    assert min(row["accuracy"] for row in runs) > 0.99


def test_at_the_length_of_the_training_what_layer_1_delivers_predicts_the_weight_at_the_end(mean):
    found = [mean(name, "end", "trained", 16) for name in ("measured", "two", "binding", "placed")]
    assert found == pytest.approx([0.992, 0.969, 0.970, 0.997], abs=6e-4)


def test_in_short_contexts_it_cannot_tell_the_label_from_the_item(mean, moments):
    for pairs, measured, predicted in ((1, 0.866, 0.465), (2, 0.953, 0.722), (4, 0.978, 0.874)):
        assert mean("measured", "end", "trained", pairs) == pytest.approx(measured, abs=6e-4)
        assert mean("binding", "end", "trained", pairs) == pytest.approx(predicted, abs=6e-4)
    # what the places add mends that
    for row in moments:
        if (row["moment"], row["query_at"]) == ("end", "trained"):
            assert row["binding_shorter"] < -0.36 and 0 < row["placed_shorter"] < 0.107
    for pairs in (2, 3, 4, 6, 8, 12, 16):
        assert abs(mean("placed", "end", "trained", pairs) - mean("measured", "end", "trained", pairs)) < 0.03


def test_beyond_the_training_layer_1_fails_and_layer_2_does_not(mean, moments):
    for pairs in (20, 24, 28, 32):
        within, beyond, measured = (mean(name, "end", "trained", pairs) for name in ("within", "beyond", "measured"))
        assert within > 0.988 and beyond < 0.0035
        # so that the pairs at places of the training are all that is retrieved
        assert measured == pytest.approx(16 / pairs * mean("measured", "end", "trained", 16), abs=0.02)
    assert mean("measured", "end", "trained", 32) == pytest.approx(0.504, abs=6e-4)
    ends = [row for row in moments if (row["moment"], row["query_at"]) == ("end", "trained")]
    assert [round(row["fails_formula"]) for row in ends] == [2061, 4805, 3915]
    assert max(abs(row["binding_longer"]) for row in ends) < 0.014
    assert all(row["fails_measured"] is None for row in ends)


def test_the_query_at_a_place_of_its_own_is_worse_than_one_as_in_training(mean):
    for pairs, own, trained in ((12, 0.905, 0.989), (20, 0.671, 0.790)):
        assert mean("measured", "end", "next", pairs) == pytest.approx(own, abs=6e-4)
        assert mean("measured", "end", "trained", pairs) == pytest.approx(trained, abs=6e-4)
    assert [round(mean("loss", "end", place, 12), 2) for place in ("next", "trained")] == [0.84, 0.04]


def test_when_half_is_solved_one_number_is_too_few(mean, moments):
    found = [mean(name, "half", "trained", 16) for name in ("measured", "two", "binding", "path")]
    assert found == pytest.approx([0.638, 0.844, 0.777, 0.601], abs=6e-4)
    here = [row for row in moments if (row["moment"], row["query_at"]) == ("half", "trained")]
    assert all(abs(row["path_longer"]) < 0.041 and row["two_longer"] > 0.25 for row in here)
    fails = [row["fails_measured"] for row in here]
    assert [round(n, 1) for n in fails] == [20.5, 18.2, 21.7]
    assert [round(row["fails_binding"], 1) for row in here] == [24.6, 22.9, 24.8]
    assert [round(row["fails_path"], 1) for row in here] == [19.1, 17.9, 20.0]


@pytest.mark.slow
def test_the_experiment_makes_the_committed_numbers(tmp_path, weights):
    config = StandardRetrievalConfig(
        tmp_path / "figures", tmp_path / "ledger", seeds=(0,), moments=(), measured=(4, 16, 32)
    )
    main(config)
    assert abs(read_table(config.output / "runs.csv")[0]["half"] - 1080) <= 40
    committed = {(row["seed"], row["moment"], row["query_at"], row["context_length"]): row for row in weights}
    for row in read_table(config.output / "weights.csv"):
        same = committed[0, "end", row["query_at"], row["context_length"]]
        # two thousand steps of float32 on another machine end elsewhere
        most = 0.02 if row["query_at"] == "trained" else 0.1
        for name in ("measured", "binding", "placed"):
            assert row[name] == pytest.approx(same[name], abs=most), (name, row)


ALPHA, BETA, PAIRS, VOCABULARY = 2.5, 6.0, 5, 40


@pytest.fixture(scope="module")
def circuit():
    """The circuit of two numbers and nothing else, on orthonormal inputs; layer 1 moves tokens to dimensions apart."""
    jax.config.update("jax_enable_x64", True)
    length = 2 * PAIRS + 1
    dim = 2 * VOCABULARY + length
    token, moved, position = np.split(np.eye(dim), [VOCABULARY, 2 * VOCABULARY])
    query = np.stack([ALPHA * position.T @ position, BETA * token.T @ token])
    # an item is found by the position of the label behind it
    behind = sum(np.outer(position[i], position[i - 1]) for i in range(1, length, 2))
    key = np.stack([behind, token.T @ moved])
    value = np.stack([moved.T @ token, np.zeros((dim, dim))])
    output = np.stack([np.eye(dim), np.eye(dim)])
    matrices = (jnp.asarray(each[:, None]) for each in (query, key, value, output))
    return StandardWeights(jnp.asarray(token), jnp.asarray(position), *matrices, unembedding=jnp.asarray(token))


def test_for_the_circuit_alone_all_are_the_formula_of_two_numbers(circuit):
    task = TokenTask(PAIRS, VOCABULARY)
    measures = progress_measures(circuit, task.second_positions)
    assert float(measures.alpha_3[0, 0]) == pytest.approx(ALPHA)
    assert float(measures.beta_2[0, 0, 1, 0]) == pytest.approx(BETA)
    found = retrieval_of(circuit, task, BETA, sequences=200, seed=3)
    tokens = np.asarray(sample_tokens(task, split_seed(3).evaluation, 200).tokens)
    # a label that happens to be the query's token is retrieved as well
    alone = np.sum(tokens == tokens[:, -1:], axis=1) == 2
    expected = two_number_weights(ALPHA, BETA, PAIRS)[np.asarray(found.pair)]
    assert 100 < alone.sum() < 200 and set(np.asarray(found.pair).tolist()) == set(range(PAIRS))
    for name in ("measured", "scores", "path", "binding", "placed"):
        values = np.asarray(getattr(found, name))
        np.testing.assert_allclose(values[alone], expected[alone], rtol=1e-9)
        assert np.max(np.abs(values - expected)) > 0.01


def test_all_scores_give_what_is_measured_and_what_is_left_out_matters(circuit):
    more = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(jax.random.key(1), leaf.shape), circuit)
    found = retrieval_of(more, TokenTask(PAIRS, VOCABULARY), BETA, sequences=200, seed=3)
    np.testing.assert_allclose(found.scores, found.measured, rtol=1e-9)
    for name in ("path", "binding", "placed"):
        assert np.max(np.abs(np.asarray(getattr(found, name)) - np.asarray(found.measured))) > 0.1


def test_the_query_is_moved_to_where_it_was_in_training():
    weights = initial_weights(Architecture(8, 9, 4), jax.random.key(0))
    for pairs, order in ((1, [0, 1, 4, 2, 3, 5]), (2, list(range(9))), (4, [0, 1, 2, 3, 5, 6, 7, 8, 4])):
        moved = with_query_at(weights, pairs, trained_length=2)
        np.testing.assert_array_equal(moved.positions[: len(order)], weights.positions[np.array(order)])
        np.testing.assert_array_equal(moved.tokens, weights.tokens)


def test_the_last_crossing():
    lengths = (1, 2, 4, 8)
    assert last_crossing(lengths, [0.4, 0.6, 0.7, 0.6]) is None and last_crossing(lengths, [0.4] * 4) == 1
    # half way of the logarithm between odds of 4 and of 1/4
    assert last_crossing(lengths, [0.4, 0.9, 0.8, 0.2]) == pytest.approx(4 * 2**0.5)
    fails = failing_length(5.0, 15.0, 2**12)
    assert fails is not None
    before, after = (float(np.mean(two_number_weights(5.0, 15.0, round(x * fails)))) for x in (0.99, 1.01))
    assert after < 0.5 < before


SMALL = StandardRetrievalConfig(
    seeds=(0,),
    context_length=2,
    vocabulary=4,
    embedding_dim=16,
    learning_rate=0.01,
    steps=60,
    batch_size=64,
    record_every=10,
    evaluation=64,
    moments=(-5,),
    measured=(2, 3),
    sequences=16,
    longest=16,
)


def test_the_experiment_runs(tmp_path):
    config = dataclasses.replace(SMALL, output=tmp_path / "figures", ledger=tmp_path / "ledger")
    main(config)
    files = {"weights.csv", "moments.csv", "runs.csv", "config.json"}
    files |= {f"standard_retrieval.{kind}" for kind in ("png", "svg")}
    assert {file.name for file in config.output.iterdir()} == files
    rows = read_table(config.output / "weights.csv")
    assert [row["moment"] for row in rows[::4]] == ["half - 5", "end"] and len(rows) == 8
    for row in rows:
        assert row["scores"] == pytest.approx(row["measured"], abs=1e-9)
        assert (row["beyond"] is None) == (row["context_length"] <= 2)
    # the two queries differ but for the length of the training
    same = {row["query_at"]: row["measured"] for row in rows if (row["moment"], row["context_length"]) == ("end", 2)}
    assert same["next"] == same["trained"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("measured", (16, 8)),
        ("measured", (1, 2)),
        ("vocabulary", 31),
        ("seeds", ()),
        ("moments", (5, 0)),
        ("longest", 8),
    ],
)
def test_what_cannot_be_run_is_refused(name, value):
    with pytest.raises(ArgumentError, match=name):
        StandardRetrievalConfig(**{name: value})


def test_a_training_that_solves_nothing_is_refused(tmp_path, monkeypatch):
    run = SimpleNamespace(steps=np.array([0, 10]), accuracy=np.array([0.0, 0.49]))
    monkeypatch.setattr("experiments.standard_retrieval.trained", lambda *arguments: [run])
    with pytest.raises(ArgumentError, match="steps"):
        main(dataclasses.replace(SMALL, output=tmp_path, ledger=tmp_path))
