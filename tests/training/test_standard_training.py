"""Training of the standard transformer: against a plain loop, with its records, its seeds, its ends."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.heads import KINDS, head_scores
from induction_dynamics.task import split_seed
from induction_dynamics.token_task import TokenTask, sample_tokens
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.saving import Checkpoints
from induction_dynamics.training.standard import train_standard, train_standard_seeds
from induction_dynamics.training.standard_steps import token_loss
from induction_dynamics.transformer.progress import chance_spread, progress_measures, summed
from induction_dynamics.transformer.standard import Architecture, initial_weights, standard_forward, trained_part

TASK = TokenTask(context_length=3, vocabulary=6)
SMALL = Architecture(6, TASK.sequence_length, 12, heads=2, positions="learned")
OPTIONS: dict[str, Any] = {"steps": 30, "batch_size": 16, "evaluation": 32, "record_every": 10}


@pytest.fixture(scope="module")
def run():
    return train_standard(SMALL, TASK, seed=3, dtype="float64", **OPTIONS)


def plain(sequences, weights, task):
    logits = standard_forward(weights, sequences.tokens).logits
    likelihood = jax.nn.log_softmax(logits)[np.arange(16)[:, None], np.arange(logits.shape[1])[None], sequences.answers]
    return -likelihood[sequences.counted].mean()


@pytest.mark.parametrize("kind", ["pairs", "repeated"])
def test_it_is_gradient_descent_on_the_cross_entropy(kind):
    """Against a loop of optax's own adam, on the same batches."""
    task = TokenTask(context_length=3, vocabulary=6, kind=kind)
    run = train_standard(SMALL, task, seed=3, dtype="float64", **OPTIONS)
    streams = split_seed(3)
    trained, fixed = trained_part(SMALL, initial_weights(SMALL, streams.initialisation, 0.5, jnp.float64))
    adam = optax.adam(1e-3)
    memory, losses, last = adam.init(trained), [], trained  # pyright: ignore[reportArgumentType]
    for step in range(31):
        sequences = sample_tokens(task, jax.random.fold_in(streams.data, step), 16)
        loss, gradient = jax.value_and_grad(lambda x, s=sequences: plain(s, eqx.combine(x, fixed), task))(trained)
        losses.append(float(loss))
        last = trained
        with jax.numpy_dtype_promotion("standard"):
            update, memory = adam.update(gradient, memory, trained)  # pyright: ignore[reportArgumentType]
        trained = optax.apply_updates(trained, update)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(run.batch_loss, losses, rtol=1e-10)
    assert run.weights is not None
    for found, expected in zip(jax.tree.leaves(run.weights), jax.tree.leaves(eqx.combine(last, fixed)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_records_are_those_of_the_weights(run):
    """Measures, spread, head scores and losses of the last record, from the weights that it left."""
    assert run.steps.tolist() == [0, 10, 20, 30] and run.outcome == "horizon_reached"
    assert len(run.batch_loss) == len(run.batch_accuracy) == 31
    measures = progress_measures(run.weights, TASK.second_positions)
    spread = chance_spread(run.weights, TASK.second_positions)
    for name in measures._fields:
        np.testing.assert_allclose(getattr(run.progress, name)[-1], getattr(measures, name), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(getattr(run.spread, name)[-1], getattr(spread, name), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(run.summed[-1], summed(measures), rtol=1e-10)
    np.testing.assert_allclose(run.deviations[-1], summed(measures) / summed(spread, squares=True), rtol=1e-10)
    sequences = sample_tokens(TASK, split_seed(3).evaluation, 32)
    output = standard_forward(run.weights, sequences.tokens)
    loss, accuracy = token_loss(output.logits, sequences.answers, sequences.counted)
    assert (run.loss[-1], run.accuracy[-1]) == pytest.approx((float(loss), float(accuracy)), rel=1e-10)
    assert run.batch_loss[0] == pytest.approx(np.log(6), abs=0.2)


def test_head_scores_are_of_the_positions_of_the_circuit(run):
    """Of labels, and of the query; by hand from the attention."""
    sequences = sample_tokens(TASK, split_seed(3).evaluation, 32)
    attention = np.asarray(standard_forward(run.weights, sequences.tokens).attention)
    tokens = np.asarray(sequences.tokens)
    before = np.mean([attention[..., i, i - 1] for i in TASK.second_positions], axis=(0, 1))
    chance = np.mean([1 / (i + 1) for i in TASK.second_positions])
    np.testing.assert_allclose(run.head_scores["previous_token"][-1], before - chance, rtol=1e-9, atol=1e-12)
    found, by_chance = {kind: 0.0 for kind in KINDS[1:]}, {kind: 0.0 for kind in KINDS[1:]}
    for row, pattern in zip(tokens, attention, strict=True):
        earlier = np.flatnonzero(row[:-1] == row[-1])
        following = [j + 1 for j in earlier if j + 1 < len(row) - 1]
        for kind, keys in (("duplicate_token", earlier), ("induction", following)):
            found[kind] = found[kind] + pattern[..., -1, keys].sum(axis=-1) / 32
            by_chance[kind] += len(keys) / 7 / 32
    for kind in KINDS[1:]:
        np.testing.assert_allclose(run.head_scores[kind][-1], found[kind] - by_chance[kind], rtol=1e-9, atol=1e-12)


def test_of_repeated_segments_the_scores_are_those_of_the_positions_that_count():
    task = TokenTask(context_length=4, vocabulary=9, kind="repeated", period="fixed")
    architecture = Architecture(9, task.sequence_length, 12)
    run = train_standard(architecture, task, dtype="float64", **{**OPTIONS, "steps": 10})
    sequences = sample_tokens(task, split_seed(0).evaluation, 32)
    assert run.weights is not None
    attention = np.asarray(standard_forward(run.weights, sequences.tokens).attention)
    # nothing comes back in the first half, and everything in the second, so that these are the scores of all positions
    scores = head_scores(attention, np.asarray(sequences.tokens))
    for kind in KINDS:
        np.testing.assert_allclose(run.head_scores[kind][-1], scores[kind].above_chance, rtol=1e-9, atol=1e-12)


def test_several_seeds_are_each_its_own(run):
    """To the last bit."""
    both = train_standard_seeds(SMALL, TASK, (1, 3), dtype="float64", **OPTIONS)
    np.testing.assert_array_equal(both[1].batch_loss, run.batch_loss)
    np.testing.assert_array_equal(both[1].summed, run.summed)
    assert not np.allclose(both[0].batch_loss, run.batch_loss)


def test_the_last_step_is_always_recorded(run):
    rare = train_standard(SMALL, TASK, seed=3, dtype="float64", **{**OPTIONS, "record_every": 20})
    assert rare.steps.tolist() == [0, 20, 30]
    np.testing.assert_allclose(rare.summed, run.summed[[0, 2, 3]], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(rare.loss, run.loss[[0, 2, 3]], rtol=1e-12)


def test_what_is_fixed_stays(run):
    start = initial_weights(SMALL, split_seed(3).initialisation, 0.5, jnp.float64)
    np.testing.assert_array_equal(run.weights.tokens, start.tokens)
    assert not np.array_equal(run.weights.positions, start.positions)


def test_it_goes_on_to_the_same_numbers(tmp_path, run):
    """Interrupted after 20 steps by an error of the caller's own."""

    class Enough(Exception):
        pass

    def interrupt(done, most, loss):
        if done >= 20:
            raise Enough

    options = {**OPTIONS, "seed": 3, "dtype": "float64"}
    with pytest.raises(Enough):
        train_standard(SMALL, TASK, checkpoints=Checkpoints(tmp_path, every=7), on_progress=interrupt, **options)
    resumed = train_standard(SMALL, TASK, checkpoints=Checkpoints(tmp_path, every=7, resume=True), **options)
    np.testing.assert_array_equal(resumed.batch_loss, run.batch_loss)
    np.testing.assert_array_equal(resumed.summed, run.summed)
    assert eqx.tree_equal(resumed.weights, run.weights)
    with pytest.raises(ArgumentError, match="another optimizer"):
        other = Optimizer("adam", learning_rate=1e-2)
        train_standard(SMALL, TASK, checkpoints=Checkpoints(tmp_path, every=7, resume=True), optimizer=other, **options)


def test_what_overflows_ends():
    run = train_standard(SMALL, TASK, optimizer=Optimizer("sgd", learning_rate=1e30), **OPTIONS)
    assert run.outcome == "nonfinite" and run.weights is None
    assert np.isfinite(run.summed).all() and np.isfinite(run.batch_loss).all() and len(run.steps) >= 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"optimizer": Optimizer()}, "optimizer must be an Optimizer with a learning rate: sgd, adam or adamw"),
        ({"steps": 0}, "steps must be a whole number from 1 to"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 to"),
        ({"record_every": -1}, "record_every must be"),
        ({"evaluation": 0}, "evaluation must be"),
        ({"dtype": "float16"}, "dtype must be one of float32, float64"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"scale": -1.0}, "scale must be a finite number, at least 0"),
        ({"architecture": Architecture(5, 7, 12)}, "vocabulary must be at least that of the task, 6; got 5."),
        ({"architecture": Architecture(6, 6, 12)}, "length must be at least the task's number of tokens, 7; got 6."),
        (
            {"optimizer": Optimizer("adam", learning_rate=1.0, warmup=30)},
            "warmup must be less than the number of steps, which is 30; got 30.",
        ),
    ],
)
def test_what_is_refused(changes, message):
    given = {"architecture": SMALL, "task": TASK, **OPTIONS, **changes}
    with pytest.raises(ArgumentError) as refused:
        train_standard(given.pop("architecture"), given.pop("task"), **given)
    assert str(refused.value).startswith(message)
