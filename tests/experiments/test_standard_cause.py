"""The claims of figures/standard_cause, and that the experiment makes its numbers."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import experiments.standard_cause as experiment
from experiments.recorder import read_table
from experiments.standard_cause import CauseConfig, main, trained
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.token_task import sample_tokens
from induction_dynamics.transformer.ablation import CIRCUIT_PATHS, PATHS
from induction_dynamics.transformer.standard import standard_forward

TINY: dict[str, Any] = dict(kinds=("pairs",), heads=(1,), seeds=(0,), context_length=2, vocabulary=4, embedding_dim=8)
SHORT: dict[str, Any] = dict(steps=4, batch_size=4, sequences=8)


@pytest.fixture(scope="module")
def rows(table):
    return table("standard_cause", "interventions")


def span(rows, column, kind, heads, group, what, how=None):
    """Least and largest over seeds."""
    wanted = kind, heads, group, what, how
    found = [r[column] for r in rows if (r["kind"], r["heads"], r["group"], r["what"], r["how"]) == wanted]
    assert len(found) == 3
    return min(found), max(found)


def without(table, kind, heads, path):
    """Least and largest accuracy over seeds without a term."""
    wanted = kind, heads, path
    found = [r for r in table("standard_cause", "paths") if (r["kind"], r["heads"], r["path"]) == wanted]
    return min(r["without_accuracy"] for r in found), max(r["without_accuracy"] for r in found)


def near(*numbers):
    return pytest.approx(numbers, abs=5.1e-4)


def test_the_tables_are_whole_and_agree(table, rows):
    models = {(row["kind"], row["heads"], row["seed"]) for row in rows if row["heads"]}
    assert models == {(kind, h, seed) for kind in ("pairs", "repeated") for h in (1, 4) for seed in (0, 1, 2)}
    paths = table("standard_cause", "paths")
    assert len(paths) == len(models) * len(PATHS)
    intact = {(r["kind"], r["heads"], r["seed"], r["group"], r["what"]): r for r in rows if r["how"] == "whole"}
    for row in paths:
        if row["path"] in CIRCUIT_PATHS.values():
            (term,) = [name for name, path in CIRCUIT_PATHS.items() if path == row["path"]]
            model = row["kind"], row["heads"], row["seed"]
            assert row["without_loss"] == intact[*model, "without", term]["loss"]
            assert row["with_three_loss"] == intact[*model, "alone", "three"]["loss"]
    for row in rows:
        assert 0 <= row["accuracy"] <= 1
        between = sorted([row["accuracy_first"], row["accuracy_elsewhere"]])
        assert between[0] - 1e-6 <= row["accuracy"] <= between[1] + 1e-6


def test_by_hand_everything_is_solved_but_where_the_first_token_comes_again(rows):
    # from its third time on the first token of a repeated segment is answered rightly
    for kind, whole, first in (("pairs", 0.875, 0.0303), ("repeated", 0.9012, 0.5571)):
        built = {row["what"]: row for row in rows if row["kind"] == kind and row["group"] == "built"}
        assert built["built"]["accuracy_elsewhere"] == 1
        assert (built["built"]["accuracy"], built["built"]["accuracy_first"]) == near(whole, first)
        held = built["built, first position held back"]
        assert held["accuracy"] == 1 and held["loss"] < 1e-9
        for term in CIRCUIT:
            assert built[f"built, first position held back, without {term}"]["accuracy"] < 0.45


def test_trained_on_pairs_the_circuit_is_necessary(rows, table):
    def of(column, heads, *place):
        return span(rows, column, "pairs", heads, *place)

    assert min(of("accuracy", 1, "intact", "intact")) == 1 and min(of("accuracy", 4, "intact", "intact")) > 0.998
    for how, low, high in (("zero", 0.1094, 0.1797), ("mean", 0.1230, 0.1719)):
        ends = [of("accuracy", heads, "layer", f"layer {layer}", how) for heads in (1, 4) for layer in (1, 2)]
        assert (min(min(each) for each in ends), max(max(each) for each in ends)) == near(low, high)
    # what layer 1 adds is read by layer 2's scores alone
    kept = [of("accuracy", heads, "layer", "layer 1", "pattern") for heads in (1, 4)]
    assert kept == [near(1.0, 1.0), near(0.9961, 0.9980)]
    assert of("accuracy", 1, "without", "alpha_3", "whole") == near(0.3086, 0.4121)
    assert of("accuracy", 1, "without", "beta_2", "whole") == near(0.1523, 0.1563)
    assert of("accuracy", 1, "without", "gamma_3", "whole") == near(0.0566, 0.0996)
    assert of("accuracy", 4, "without", "alpha_3", "whole") == near(0.2988, 0.3281)
    assert of("accuracy", 4, "without", "beta_2", "whole") == near(0.1602, 0.1777)
    # four heads have another way to the logits as well
    assert of("accuracy", 4, "without", "gamma_3", "whole") == near(0.7305, 0.9102)
    for term in CIRCUIT:
        assert max(of("accuracy", 1, "alone", term, "whole")) < 0.14


def test_trained_on_pairs_the_three_alone_err_where_the_first_token_comes_again(rows):
    """The exact fraction of wrong answers of the circuit built by hand is (1/N)(1 - 1/V) in the mean, 1/8 here."""
    (by_hand,) = [r for r in rows if (r["kind"], r["what"]) == ("pairs", "built")]
    assert (by_hand["accuracy"], by_hand["accuracy_elsewhere"]) == (0.875, 1)
    for heads, whole, elsewhere in ((1, (0.8730, 0.8750), (0.9978, 1.0)), (4, (0.8457, 0.8516), (0.9664, 0.9686))):
        assert span(rows, "accuracy", "pairs", heads, "alone", "three", "whole") == near(*whole)
        assert span(rows, "accuracy_elsewhere", "pairs", heads, "alone", "three", "whole") == near(*elsewhere)
        assert max(span(rows, "accuracy_first", "pairs", heads, "alone", "three", "whole")) < 0.07
        # the numbers that the progress measures add up, and one strength for each, do just as the circuit by hand
        for place in (("alone", "three", "diagonal"), ("rebuilt", "rebuilt")):
            for column in ("accuracy", "accuracy_first", "accuracy_elsewhere"):
                found = span(rows, column, "pairs", heads, *place)
                assert found == pytest.approx(2 * (by_hand[column],), abs=1e-9)
        assert span(rows, "accuracy", "pairs", heads, "rebuilt", "rebuilt, first position held back") == (1, 1)
    assert span(rows, "loss", "pairs", 1, "rebuilt", "rebuilt, first position held back") == near(0.0001, 0.0002)
    assert span(rows, "accuracy", "pairs", 1, "alone", "three and places", "whole") == near(0.9883, 1.0)
    assert span(rows, "accuracy", "pairs", 4, "alone", "three and places", "whole") == near(0.9648, 0.9766)


def test_trained_on_pairs_four_or_five_terms_of_28_answer_nearly_as_well(table):
    sets = {
        (r["heads"], r["seed"]): set(r["kept"].split())
        for r in table("standard_cause", "sufficient")
        if r["kind"] == "pairs"
    }
    circuit = set(CIRCUIT_PATHS.values())
    assert sets[1, 1] == sets[1, 2] == circuit | {"scores_2:p,p"}
    assert sets[1, 0] == circuit | {"scores_2:p,p", "scores_2:p,1p"}
    assert all(sets[4, seed] == circuit | {"scores_2:p,1t", "scores_2:p,1p"} for seed in (0, 1, 2))


def test_trained_on_repeated_segments_it_is_another_circuit(rows, table):
    for heads, low, high in ((1, 0.1837, 0.2658), (4, 0.1382, 0.1428)):
        assert span(rows, "accuracy", "repeated", heads, "alone", "three", "whole") == near(low, high)
    assert span(rows, "accuracy", "repeated", 1, "intact", "intact") == near(0.9900, 0.9992)
    assert min(span(rows, "accuracy", "repeated", 4, "intact", "intact")) > 0.9985
    assert without(table, "repeated", 1, CIRCUIT_PATHS["beta_2"]) == near(0.7653, 0.9979)
    assert without(table, "repeated", 4, CIRCUIT_PATHS["beta_2"]) == near(0.9620, 0.9950)
    # layer 1 matches tokens, and what it moves to layer 2's queries and keys are positions
    assert without(table, "repeated", 1, "scores_1:t,t") == near(0.3302, 0.4140)
    assert without(table, "repeated", 4, "scores_1:t,t") == near(0.4326, 0.7353)
    assert without(table, "repeated", 1, "scores_2:1p,1p") == near(0.5499, 0.8373)
    assert without(table, "repeated", 4, "scores_2:1p,1p") == near(0.6933, 0.8965)
    for row in table("standard_cause", "sufficient"):
        matching = {"scores_1:t,t", "scores_2:p,1p", "scores_2:1p,p", "scores_2:1p,1p", "logits:21t"}
        assert (matching <= set(row["kept"].split())) == (row["kind"] == "repeated")
    # positions matter in layer 1, but not as the previous-token term does: its measure is below chance
    assert max(without(table, "repeated", 1, CIRCUIT_PATHS["alpha_3"])) < 0.31
    assert span(rows, "accuracy", "repeated", 1, "without", "alpha_3", "diagonal") == near(0.9697, 0.9931)
    for row in table("standard_cause", "trained"):
        pairs = row["kind"] == "pairs"
        assert (row["alpha_3_deviations"] > 100) == (row["beta_2_deviations"] > 1000) == pairs
        assert pairs or (row["alpha_3_deviations"] < -6 and row["beta_2_deviations"] < -200)
        assert row["gamma_3_deviations"] > 180


def test_what_was_built_by_hand_is_made_anew(rows):
    config = CauseConfig()
    task = config.task("pairs")
    sequences = sample_tokens(task, jax.random.key(experiment._EVALUATED), config.sequences)
    found = {row["what"]: row for row in experiment._built(config, task, experiment.Examiner(sequences))}
    for row in rows:
        if (row["kind"], row["group"]) == ("pairs", "built"):
            for column in ("loss", "accuracy", "accuracy_first", "accuracy_elsewhere"):
                assert found[row["what"]][column] == pytest.approx(row[column], rel=1e-6, abs=1e-9)


def test_the_experiment_goes_on_from_what_is_trained(tmp_path, monkeypatch):
    config = CauseConfig(tmp_path / "out", tmp_path / "ledger", **TINY, **SHORT)
    main(config)
    rows = read_table(tmp_path / "out" / "interventions.csv")
    # by hand 8; as it is, 2 layers x 3 ways, as a layer and as a head; 12 of terms, 3 of several, 2 rebuilt
    assert len(rows) == 8 + 1 + 2 * 6 + 12 + 3 + 2
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert [row["path"] for row in read_table(tmp_path / "out" / "paths.csv")] == list(PATHS)
    (sufficient,) = read_table(tmp_path / "out" / "sufficient.csv")
    assert sufficient["terms"] == len((sufficient["kept"] or "").split())
    assert {path.suffix for path in (tmp_path / "ledger").iterdir()} == {".npz"}

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(experiment, "train_standard_seeds", refuse)
    assert len(trained(config, "pairs", 1)) == 1
    with pytest.raises(AssertionError, match="trained again"):
        trained(dataclasses.replace(config, steps=5), "pairs", 1)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"kinds": ()}, "kinds must be at least one"),
        ({"heads": ()}, "heads must be at least one"),
        ({"seeds": ()}, "seeds must be at least one"),
        ({"lost": 1.0}, "lost must be at least 0 and below 1"),
    ],
)
def test_refused(named, message):
    with pytest.raises(ArgumentError, match=message):
        CauseConfig(**named)


@pytest.mark.slow
def test_a_training_ends_as_recorded(rows, tmp_path):
    config = CauseConfig(ledger=tmp_path, seeds=(0,))
    task = config.task("pairs")
    (weights,) = trained(config, "pairs", 1)
    sequences = sample_tokens(task, jax.random.key(experiment._EVALUATED), config.sequences)
    examiner = experiment.Examiner(sequences)
    found = [*experiment._heads(weights, examiner), *experiment._terms(weights, examiner)]
    recorded = {
        (row["group"], row["what"], row["how"]): row
        for row in rows
        if row["kind"] == "pairs" and row["heads"] == 1 and row["seed"] == 0
    }
    assert examiner.of(standard_forward(weights, jnp.asarray(sequences.tokens)))["accuracy"] > 0.99
    for row in found:
        # in single precision another machine's rounding makes another training with the same end
        before = recorded[row["group"], row["what"], row["how"] or None]
        assert row["accuracy"] == pytest.approx(before["accuracy"], abs=0.1)
