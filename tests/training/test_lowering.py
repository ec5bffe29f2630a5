"""The reduced flow and one training step lower for CUDA and TPU. Lowered here, not run."""

import jax
import jax.numpy as jnp
import pytest

from induction_dynamics.dynamics import circuit_flow, explicit, flow, solvers
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.task import Task, split_seed
from induction_dynamics.training import engine, steps
from induction_dynamics.training.settings import Settings
from induction_dynamics.transformer.disentangled import zero_weights

PLATFORMS = ("cuda", "tpu")


def lowered(function, platform, *arguments):
    return jax.export.export(jax.jit(function), platforms=[platform])(*arguments)


def reduced_flow(task, solve):
    """A solver as `solve_flows` calls it, as a function of arrays alone, with its arguments."""
    loss = reduced_loss(task, "subspace", samples=4)
    run = solvers.Run(
        loss=loss,
        horizon=jnp.asarray(12.0 * 16.0),
        start=jnp.zeros(19),
        directions=jnp.asarray(flow._directions(loss, task.rotation, COORDINATES)),
        levels=solvers.levels_of([("loss", 0.5)]),
    )
    leaves, structure = jax.tree.flatten(run)
    return (lambda leaves: solve(jax.tree.unflatten(structure, leaves), jnp.asarray(1e-7), 2048)), leaves


def assert_lowers(function, *arguments):
    for platform in PLATFORMS:
        exported = lowered(function, platform, *arguments)
        assert exported.platforms == (platform,)
        # Nothing on the host: callbacks would also keep the program out of the compilation cache.
        assert "callback" not in exported.mlir_module()


@pytest.mark.parametrize(
    "task, solve",
    [
        (Task(4), solvers.collocate),
        pytest.param(Task(100, query="uniform"), solvers.collocate, marks=pytest.mark.slow),
        pytest.param(Task(4, query="uniform", rotation=60.0), explicit.march, marks=pytest.mark.slow),
        (Task(2, inputs="isotropic", rotation=60.0), explicit.march),
    ],
    ids=["collocation", "collocation of long contexts", "explicit", "sampled"],
)
def test_the_reduced_flow_lowers(task, solve):
    assert_lowers(*reduced_flow(task, solve))


def test_the_circuits_own_flow_lowers():
    levels = circuit_flow.Levels(*map(jnp.asarray, (0.5, 0.5, 0.5, 0.5)))

    def solve(lengths, horizons, accuracy):
        return circuit_flow.solve_circuit_last(lengths, horizons, levels, accuracy, 96)

    assert_lowers(solve, jnp.asarray([4.0, 1e9]), jnp.asarray([192.0, 12e18]), jnp.asarray(1e-7))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("inputs, rotation", [("orthonormal", 90.0), ("isotropic", 60.0)])
def test_one_training_step_lowers(inputs, rotation, platform):
    task = Task(3, inputs=inputs, query="uniform", rotation=rotation)

    settings = Settings(task, batch_size=8)
    recipe, rate = settings.recipe(), jnp.float32(2.0)
    held = steps.held_from((), 1.0, jnp.float32)

    def step(state, data, first, count, rate):
        return engine.advance(state, steps.Inputs(data, rate, None, held), first, count, recipe, 1)

    inputs = steps.Inputs(split_seed(0).data, rate, None, held)
    state = engine.first_state(zero_weights(task.embedding_dim), recipe.transformation(inputs))
    exported = lowered(step, platform, state, split_seed(0).data, jnp.int32(0), jnp.int32(1), rate)
    assert exported.platforms == (platform,)
    assert "callback" not in exported.mlir_module()
