"""The reduced flow and one training step lower for CUDA and TPU. Lowered here, not run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.dynamics import flow
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.reduced.loss import ACTIVE, reduced_loss
from induction_dynamics.task import Task, split_seed
from induction_dynamics.training import gradient_descent
from induction_dynamics.transformer.disentangled import zero_weights

PLATFORMS = ("cuda", "tpu")


def lowered(function, platform, *arguments):
    return jax.export.export(jax.jit(function), platforms=[platform])(*arguments)


def reduced_flow(model, task):
    """`_integrate` as `solve_flows` calls it, as a function of arrays alone, with its arguments."""
    losses = jax.tree.map(lambda leaf: leaf[None], reduced_loss(task, model, samples=4, padded_length=16))
    leaves, structure = jax.tree.flatten(losses)
    places = tuple(COORDINATES.index(name) for name in ACTIVE[model])

    def integrate(leaves, horizons, start, inverse_metric, levels):
        losses = jax.tree.unflatten(structure, leaves)
        explicit = model == "subspace"
        return flow._integrate(losses, horizons, start, inverse_metric, levels, places, explicit, 2048, 1e-9)

    levels = flow._levels([("loss", 0.5)])
    arrays = jnp.asarray([12.0 * 16.0]), jnp.zeros(19), jnp.asarray(np.eye(len(places))), levels
    return integrate, (leaves, *arrays)


@pytest.mark.parametrize(
    "model, task",
    [
        ("circuit", Task(4)),
        ("subspace", Task(4, query="uniform")),
        pytest.param("subspace", Task(2, inputs="isotropic", rotation=60.0), marks=pytest.mark.slow),
    ],
    ids=["circuit", "subspace", "gram"],
)
def test_the_reduced_flow_lowers(model, task):
    integrate, arguments = reduced_flow(model, task)
    for platform in PLATFORMS:
        exported = lowered(integrate, platform, *arguments)
        assert exported.platforms == (platform,)
        # Nothing on the host: callbacks would also keep the program out of the compilation cache.
        assert "callback" not in exported.mlir_module()


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("inputs, rotation", [("orthonormal", 90.0), ("isotropic", 60.0)])
def test_one_training_step_lowers(inputs, rotation, platform):
    task = Task(3, inputs=inputs, query="uniform", rotation=rotation)

    def step(weights, data, span, learning_rate):
        pending = gradient_descent.Pending(weights, weights)
        return gradient_descent._advance(pending, data, span, learning_rate, task, 8, 1)

    arguments = zero_weights(task.embedding_dim), split_seed(0).data, jnp.asarray([0, 1], jnp.int32), jnp.float32(2.0)
    exported = lowered(step, platform, *arguments)
    assert exported.platforms == (platform,)
    assert "callback" not in exported.mlir_module()
