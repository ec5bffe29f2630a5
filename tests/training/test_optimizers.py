"""Optimizers by name: each against a few lines of numpy, and what is refused."""

import dataclasses
import re

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from induction_dynamics.errors import ArgumentError
from induction_dynamics.task import Task, sample_sequences, split_seed
from induction_dynamics.training.optimizers import OPTIMIZERS, Optimizer, mixing_dtypes, takes, transformation
from induction_dynamics.training.train import train
from induction_dynamics.transformer.disentangled import batch_loss, zero_weights

RATE = 0.03
STEPS = 12


def followed(optimizer, rate=RATE, steps=STEPS):
    """Weights after each of some updates, by optax as training calls it, on gradients of fixed random numbers."""
    rng = np.random.default_rng(0)
    gradients = [{"a": rng.normal(size=(2, 3)), "b": rng.normal(size=4)} for _ in range(steps)]
    weights = {"a": jnp.ones((2, 3)), "b": -jnp.ones(4)}
    optax_one = transformation(optimizer, rate, steps)
    state, after = optax_one.init(weights), []
    for gradient in gradients:
        with mixing_dtypes():
            update, state = optax_one.update(jax.tree.map(jnp.asarray, gradient), state, weights)
        weights = jax.tree.map(jnp.add, weights, update)
        after.append(flat(weights))
    return [flat(gradient) for gradient in gradients], np.stack(after)


def flat(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def by_hand(optimizer, gradients):
    """The equations of the docstring."""
    weights = flat({"a": np.ones((2, 3)), "b": -np.ones(4)})
    first, second, after = 0 * weights, 0 * weights, []
    decay = optimizer.weight_decay or 0.0
    for s, g in enumerate(gradients):
        if optimizer.clip is not None:
            g = g * min(1.0, optimizer.clip / np.linalg.norm(g))
        if optimizer.name in ("sgd", "adam"):
            g = g + decay * weights
        eta = RATE * factor(optimizer, s)
        if optimizer.name == "gd":
            weights = weights - RATE * g
        elif optimizer.name == "sgd":
            first = optimizer.momentum * first + g
            weights = weights - eta * (g + optimizer.momentum * first if optimizer.nesterov else first)
        else:
            first = optimizer.b1 * first + (1 - optimizer.b1) * g
            second = optimizer.b2 * second + (1 - optimizer.b2) * g**2
            mean, square = first / (1 - optimizer.b1 ** (s + 1)), second / (1 - optimizer.b2 ** (s + 1))
            step = mean / (np.sqrt(square) + optimizer.eps)
            weights = weights - eta * (step + (decay * weights if optimizer.name == "adamw" else 0))
        after.append(weights)
    return np.stack(after)


def factor(optimizer, s):
    warmup = optimizer.warmup or 0
    if s < warmup:
        return s / warmup
    gone = (s - warmup) / (STEPS - warmup)
    return {"linear": 1 - gone, "cosine": (1 + np.cos(np.pi * gone)) / 2}.get(optimizer.schedule, 1.0)


@pytest.mark.parametrize(
    "optimizer",
    [
        Optimizer(),
        Optimizer("sgd", RATE),
        Optimizer("sgd", RATE, momentum=0.0),
        Optimizer("sgd", RATE, momentum=0.5, nesterov=True, weight_decay=0.1, clip=0.7),
        Optimizer("adam", RATE),
        Optimizer("adam", RATE, b1=0.5, b2=0.6, eps=1e-3, weight_decay=0.2, schedule="linear"),
        Optimizer("adamw", RATE, weight_decay=0.3, schedule="cosine", warmup=4),
        Optimizer("adamw", RATE, clip=0.5, warmup=3),
    ],
    ids=str,
)
def test_updates_are_the_equations(optimizer):
    gradients, after = followed(optimizer)
    np.testing.assert_allclose(after, by_hand(optimizer, gradients), rtol=2e-6, atol=1e-7)


def test_gradient_descent_is_sgd_without_momentum():
    """But for its clock: times are steps, and nothing pretends otherwise."""
    task, step = Task(2, 6, query="uniform"), 0.25
    flow = train(task, horizon=5.0, batch_size=16, step=step)
    plain = Optimizer("sgd", learning_rate=step * 6, momentum=0.0)
    steps = train(task, batch_size=16, optimizer=plain, steps=80)
    np.testing.assert_allclose(steps.coordinates, flow.coordinates, rtol=1e-5, atol=1e-6)
    assert (flow.time_unit, steps.time_unit) == ("flow", "steps")
    np.testing.assert_array_equal(steps.time, np.arange(81))


def test_adam_in_training_is_adam():
    """Two steps by numpy, on the batches that training draws."""
    task, optimizer = Task(2, 6, "isotropic"), Optimizer("adam", 0.01)
    run = train(task, batch_size=4, optimizer=optimizer, steps=2, dtype="float64")
    weights, first, second = zero_weights(6, jnp.float64), 0.0, 0.0
    for s in range(2):
        key = jax.random.fold_in(split_seed(0).data, jnp.asarray(s, jnp.int32))
        loss, gradient = jax.value_and_grad(batch_loss)(weights, sample_sequences(task, key, 4, jnp.float64))
        assert run.loss[s] == pytest.approx(float(loss), rel=1e-12)
        g = flat(gradient)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        update = 0.01 * (first / (1 - 0.9 ** (s + 1))) / (np.sqrt(second / (1 - 0.999 ** (s + 1))) + 1e-8)
        leaves, structure = jax.tree.flatten(weights)
        parts = np.split(update, np.cumsum([leaf.size for leaf in leaves])[:-1])
        moved = [leaf - part.reshape(leaf.shape) for leaf, part in zip(leaves, parts, strict=True)]
        weights = jax.tree.unflatten(structure, moved)
    # beyond the coordinates: every weight
    assert run.weights is not None
    np.testing.assert_allclose(flat(run.weights), flat(weights), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "lion"}, "optimizer must be one of gd, sgd, adam, adamw; got 'lion'."),
        ({"name": "adam"}, "learning_rate must be given with the optimizer adam; got None."),
        ({"learning_rate": 0.1}, "learning_rate must be left out with the optimizer gd (it is of sgd, adam, adamw)"),
        ({"name": "sgd", "learning_rate": 0.1, "b1": 0.5}, "b1 must be left out with the optimizer sgd"),
        ({"name": "adam", "learning_rate": 0.1, "momentum": 0.5}, "momentum must be left out with the optimizer adam"),
        ({"name": "sgd", "learning_rate": -0.1}, "learning_rate must be a finite number above 0; got -0.1."),
        ({"name": "sgd", "learning_rate": float("nan")}, "learning_rate must be a finite number above 0; got nan."),
        ({"name": "sgd", "learning_rate": 0.1, "momentum": 1.0}, "momentum must be a number from 0 to below 1"),
        ({"name": "adam", "learning_rate": 0.1, "clip": 0.0}, "clip must be a finite number above 0; got 0.0."),
        (
            {"name": "adam", "learning_rate": 0.1, "schedule": "step"},
            "schedule must be one of constant, cosine, linear",
        ),
        ({"name": "adam", "learning_rate": 0.1, "warmup": -1}, "warmup must be a whole number of steps, at least 0"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        Optimizer(**options)


@hypothesis.given(strategies.sampled_from(OPTIMIZERS[1:]), strategies.data())
def test_what_is_given_is_kept_and_shown(name, data):
    """`options` and the learning rate make the same optimizer again."""
    values = {
        "momentum": strategies.floats(0, 0.99),
        "nesterov": strategies.booleans(),
        "b1": strategies.floats(0, 0.99),
        "b2": strategies.floats(0, 0.99),
        "eps": strategies.floats(1e-9, 1),
        "weight_decay": strategies.floats(0, 1),
        "clip": strategies.floats(1e-3, 10),
        "schedule": strategies.sampled_from(("constant", "cosine", "linear")),
        "warmup": strategies.integers(0, 100),
    }
    taken = [option for option in takes(name) if option != "learning_rate"]
    given = {option: data.draw(values[option]) for option in taken if data.draw(strategies.booleans())}
    optimizer = Optimizer(name, 0.5, **given)
    assert Optimizer(name, 0.5, **optimizer.options()) == optimizer
    assert all(getattr(optimizer, option) == value for option, value in given.items())
    # setting every default by hand changes nothing
    assert Optimizer(**dataclasses.asdict(optimizer)) == optimizer
