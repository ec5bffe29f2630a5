"""How a flow ends, what it refuses, and what its time is."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.dynamics.emergence import MEASURES, emergence_times
from induction_dynamics.dynamics.flow import flow_time_of_steps, learning_rate_of_step, solve_flow, solve_flows
from induction_dynamics.dynamics.trajectory import OUTCOMES
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.task import Task

CIRCUIT = ("alpha_3", "beta_2", "gamma_3")
STOP = tuple((measure, 0.5) for measure in (*CIRCUIT, "loss"))


def test_records_and_time():
    horizon = 0.5
    trajectory = solve_flow(Task(16), "circuit", horizon=horizon)
    assert trajectory.degree == 4 and (len(trajectory.time) - 1) % 4 == 0
    assert trajectory.time[0] == 0 and trajectory.time[-1] == pytest.approx(horizon * 256, rel=1e-14)
    np.testing.assert_allclose(np.diff(trajectory.time).reshape(-1, 4).std(axis=1), 0, atol=1e-10)
    assert trajectory.loss[0] == pytest.approx(0.5, rel=1e-12)
    assert np.all(trajectory.off_subspace == 0)
    losses = jax.vmap(reduced_loss(Task(16), "circuit"))(jnp.asarray(trajectory.coordinates))
    np.testing.assert_allclose(trajectory.loss, losses, rtol=1e-13)


def test_horizon_reached():
    trajectory = solve_flow(Task(16), "circuit", horizon=0.1, stop=STOP)
    assert trajectory.outcome == "horizon_reached"
    assert {e.measure: e.outcome for e in emergence_times(trajectory)} == {
        "alpha_3": "horizon_reached",
        "beta_2": "horizon_reached",
        "gamma_3": "emerged",
        "loss": "horizon_reached",
    }


def test_waits_for_the_last_of_several_thresholds():
    trajectory = solve_flow(Task(16), "circuit", stop=[("beta_2", 0.5), ("beta_2", 1.5), ("gamma_3", 0.5)])
    assert trajectory.outcome == "emerged"
    beta = trajectory.coordinates[:, COORDINATES.index("beta_2")]
    assert beta[-1] >= 1.5 > beta[-5]


def test_a_failed_solver_is_an_outcome_and_keeps_what_it_has():
    """At N = 1e9 rounding stops the solver before the loss has halved."""
    trajectory = solve_flow(Task(10**9), "circuit", stop=STOP)
    assert trajectory.outcome == "solver_failed"
    found = {emergence.measure: emergence for emergence in emergence_times(trajectory)}
    assert found["loss"].outcome == "solver_failed" and found["loss"].time is None
    limits = {"beta_2": 1.9197007, "alpha_3": 3.4224977}
    for measure, limit in limits.items():
        time = found[measure].time
        assert time is not None
        assert time / 10**18 == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("start", [{"gamma_3": 1e200}, {"beta_2": 1e308}])
def test_nonfinite_is_an_outcome(start):
    trajectory = solve_flow(Task(16), "circuit", start=start, stop=STOP)
    assert trajectory.outcome == "nonfinite"
    assert len(trajectory.time) == 1
    assert {e.outcome for e in emergence_times(trajectory, measures=["alpha_3"])} == {"nonfinite"}


def test_outcomes_have_their_sentences():
    assert set(OUTCOMES) == {"emerged", "horizon_reached", "stopped", "solver_failed", "nonfinite"}
    assert len(MEASURES) == 20


@pytest.mark.parametrize(
    "argument, options, message",
    [
        ("model", {"model": "full"}, "model must be one of circuit, subspace; got 'full'."),
        ("horizon", {"horizon": 0.0}, "horizon must be finite and above 0; got 0.0."),
        ("horizon", {"horizon": -1.0}, "horizon must be finite and above 0; got -1.0."),
        ("horizon", {"horizon": float("inf")}, "horizon must be finite and above 0; got inf."),
        ("horizon", {"horizon": float("nan")}, "horizon must be finite and above 0; got nan."),
        ("active", {"active": ()}, "active must be at least one coordinate; got ()."),
        ("active", {"active": ("delta_1",)}, "active must be coordinates, of alpha_1, "),
        ("start", {"start": {"gamma_5": 1.0}}, "start must be coordinates, of alpha_1, "),
        (
            "active",
            {"model": "circuit", "active": ("beta_1",)},
            "active must be of alpha_3, beta_2, gamma_3 for the model circuit; got 'beta_1'.",
        ),
        (
            "start",
            {"model": "circuit", "start": {"gamma_4": 1.0}},
            "start must be of alpha_3, beta_2, gamma_3 for the model circuit; got 'gamma_4'.",
        ),
    ],
)
def test_refuses(argument, options, message):
    with pytest.raises(ArgumentError, match=re.escape(message)) as error:
        solve_flow(Task(4), **options)
    assert error.value.argument == argument


def test_refuses_lengths_that_a_loss_cannot_do():
    for task in (Task(9999, rotation=60.0), Task(9999, query="uniform"), Task(9999, inputs="isotropic")):
        with pytest.raises(
            ArgumentError, match=r"context_length must be at most \d+ for subspace, query .*; got 9999\."
        ):
            solve_flow(task)
    with pytest.raises(ArgumentError, match="samples must be at least 1; got 0."):
        solve_flow(Task(2, inputs="isotropic"), samples=0)


@pytest.mark.parametrize(
    "tasks, message",
    [
        ([Task(4), Task(4, query="uniform")], "tasks must be alike in inputs, query and rotation; got {"),
        ([Task(4), Task(4, rotation=60.0)], "tasks must be alike in inputs, query and rotation; got {"),
        (
            [Task(4, rotation=60.0), Task(5, rotation=60.0)],
            "tasks must be of one length for isotropic inputs or another rotation; got 'several lengths'.",
        ),
        (
            [Task(2, inputs="isotropic"), Task(3, inputs="isotropic")],
            "tasks must be of one length for isotropic inputs or another rotation; got 'several lengths'.",
        ),
    ],
)
def test_refuses_tasks_that_are_not_alike(tasks, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        solve_flows(tasks)


def test_says_that_it_needs_float64():
    code = "\n".join(
        [
            "from induction_dynamics.dynamics.flow import solve_flow",
            "from induction_dynamics.task import Task",
            "try:",
            "    solve_flow(Task(4))",
            "except ValueError as error:",
            "    print(type(error).__name__, error)",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={"JAX_PLATFORMS": "cpu"}
    )
    assert done.stdout.startswith("ValueError ") and "jax_enable_x64" in done.stdout, done.stderr


def test_steps_and_flow_time():
    assert flow_time_of_steps(40.0, learning_rate_of_step(0.25, 24), 24) == pytest.approx(10.0, rel=1e-15)
    assert learning_rate_of_step(0.25, 24) == 6.0
