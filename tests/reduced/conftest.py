"""The full model on lifted weights, counted over every query: what each reduced loss must equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.pseudo_parameters import lift, metric, project
from induction_dynamics.task import Sequences
from induction_dynamics.transformer.disentangled import batch_loss

differentiate = jax.jit(jax.value_and_grad(batch_loss))


def every_query(task, sequences):
    """The sequences once for each pair, queried in turn or always the last: either way one compilation serves."""
    copies = []
    for pair in range(task.context_length):
        q = pair if task.query == "uniform" else task.context_length - 1
        tokens = sequences.tokens.at[:, -1].set(sequences.tokens[:, 2 * q])
        copies.append(Sequences(tokens, sequences.positions, jnp.full_like(sequences.query, q)))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *copies)


@pytest.fixture
def full_model():
    """A function (task, sequences, coordinates [points, 19]) -> the full model's losses and their 19 derivatives.

    The derivative along B_k is <B_k, grad_W loss>: D times the metric times the projected gradient.
    """

    def evaluate(task, sequences, coordinates):
        counted = every_query(task, sequences)
        values, gradients = [], []
        for point in coordinates:
            value, gradient = differentiate(lift(point, task), counted)
            values.append(float(value))
            projected = np.asarray(project(gradient, task.rotation).coordinates)
            gradients.append(task.embedding_dim * metric(task.rotation) @ projected)
        return np.array(values), np.array(gradients)

    return evaluate
