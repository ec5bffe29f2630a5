"""How a flow ends, what it refuses, and what its time is."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.dynamics import flow, solvers
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
    assert trajectory.degree == 7 and (len(trajectory.time) - 1) % 7 == 0
    assert trajectory.time[0] == 0 and trajectory.time[-1] == horizon * 256
    assert np.all(np.diff(trajectory.time) >= 0)
    assert trajectory.loss[0] == pytest.approx(0.5, rel=1e-12)
    assert np.all(trajectory.off_subspace == 0)
    losses = jax.vmap(reduced_loss(Task(16), "circuit"))(jnp.asarray(trajectory.coordinates))
    # the loss is a polynomial as well, and has its error
    np.testing.assert_allclose(trajectory.loss, losses, rtol=1e-8)


@pytest.mark.parametrize("rotation, degree", [(90.0, 7), (60.0, 4)])
def test_records_of_each_solver(rotation, degree):
    """Where the parameter of a group is time itself: records at equal distances, with the loss at each."""
    task = Task(4, query="uniform", rotation=rotation)
    trajectory = solve_flow(task, "subspace", horizon=1.3)
    assert trajectory.degree == degree
    assert trajectory.time[0] == 0 and trajectory.time[-1] == pytest.approx(1.3 * 16, rel=1e-15)
    np.testing.assert_allclose(np.diff(trajectory.time).reshape(-1, degree).std(axis=1), 0, atol=1e-13)
    losses = jax.jit(jax.vmap(reduced_loss(task, "subspace")))(jnp.asarray(trajectory.coordinates))
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
    assert beta[-1] >= 1.5 > beta[-1 - trajectory.degree]


@pytest.mark.parametrize("start, steps", [(None, "_CIRCUIT_STEPS"), ({"gamma_3": 0.0}, "_IMPLICIT_STEPS")])
def test_a_failed_solver_is_an_outcome_and_keeps_what_it_has(start, steps, monkeypatch):
    """Given a few steps only, which see gamma_3 emerge and not the loss."""
    whole = solve_flow(Task(1000), "circuit", start=start, stop=STOP)
    few = (len(whole.time) - 1) // whole.degree // 2
    home, value = (solvers, (2, few)) if steps == "_CIRCUIT_STEPS" else (flow, few)
    monkeypatch.setattr(home, steps, value)
    trajectory = solve_flow(Task(1000), "circuit", start=start, stop=STOP)
    assert trajectory.outcome == "solver_failed" and 1 < len(trajectory.time) <= few * trajectory.degree + 1
    np.testing.assert_allclose(trajectory.coordinates, whole.coordinates[: len(trajectory.time)], rtol=1e-9, atol=1e-30)
    found = {emergence.measure: emergence for emergence in emergence_times(trajectory)}
    assert found["loss"].outcome == "solver_failed" and found["loss"].time is None
    assert found["gamma_3"].outcome == "emerged"
    assert found["gamma_3"].time == pytest.approx(2000 * np.log(2), rel=1e-5)


def test_a_run_that_needs_more_steps_is_run_again(monkeypatch):
    """Beside others that do not; nobody's crossings change."""
    tasks = [Task(4), Task(10**9), Task(16)]
    plain = [emergence_times(run) for run in solve_flows(tasks, "circuit", stop=STOP)]
    monkeypatch.setattr(solvers, "_CIRCUIT_STEPS", (20, 512))
    again = solve_flows(tasks, "circuit", stop=STOP)
    assert [run.outcome for run in again] == ["emerged"] * 3
    assert len(again[1].time) > 20 * again[1].degree + 1
    for one, other in zip(plain, map(emergence_times, again), strict=True):
        np.testing.assert_allclose([e.time for e in one], [e.time for e in other], rtol=1e-12)  # pyright: ignore


@pytest.mark.parametrize(
    "model, query, start",
    [
        ("circuit", "last", {"gamma_3": 1e200}),
        ("circuit", "uniform", {"gamma_3": -1e300}),
        ("subspace", "last", {"gamma_4": 1e200}),
        ("subspace", "last", {"gamma_1": 1e308, "gamma_2": -1e308}),
    ],
)
def test_nonfinite_is_an_outcome(model, query, start):
    trajectory = solve_flow(Task(16, query=query), model, start=start, stop=STOP)
    assert trajectory.outcome == "nonfinite"
    assert len(trajectory.time) == 1
    assert {e.outcome for e in emergence_times(trajectory, measures=["alpha_3"])} == {"nonfinite"}


def test_a_start_far_out_need_not_be_nonfinite():
    """All attention on the right label: gamma_3 is learned, alpha_3 has nothing to gain."""
    trajectory = solve_flow(Task(16), "circuit", start={"beta_2": 1e308}, horizon=1.0, stop=STOP)
    assert trajectory.outcome == "horizon_reached"
    found = {e.measure: e for e in emergence_times(trajectory)}
    assert found["beta_2"].time == 0.0 and found["alpha_3"].time is None
    # gamma_3' = 1 - gamma_3
    assert found["gamma_3"].time == pytest.approx(np.log(2), rel=1e-7)
    assert found["loss"].time == pytest.approx(np.log(2) / 2, rel=1e-7)


def test_gradients_out_of_range_end_the_run_at_once():
    """Finite at the start, but e^beta_2 is not: it is known to several hundred with the query uniform."""
    trajectory = solve_flow(Task(16, query="uniform"), "circuit", start={"beta_2": 1e308}, stop=STOP)
    assert trajectory.outcome in ("solver_failed", "nonfinite")
    assert len(trajectory.time) == 1


def test_a_horizon_in_the_middle_of_the_rise():
    """alpha_3 reaches 0.5 at 3.5208 N^2: before that it is on its way, and says why it is not there."""
    rising = solve_flow(Task(16), "circuit", horizon=3.52, stop=STOP)
    assert rising.outcome == "horizon_reached" and rising.time[-1] == 3.52 * 256
    alpha = rising.coordinates[:, COORDINATES.index("alpha_3")]
    assert 0.499 < alpha[-1] < 0.5
    found = {e.measure: e for e in emergence_times(rising, thresholds=[0.4])}
    assert found["alpha_3"].outcome == "emerged" and found["alpha_3"].time is not None
    found = {e.measure: e for e in emergence_times(rising)}
    assert (found["alpha_3"].time, found["alpha_3"].outcome) == (None, "horizon_reached")
    there = solve_flow(Task(16), "circuit", horizon=3.521, stop=STOP)
    assert {e.measure: e.outcome for e in emergence_times(there)}["alpha_3"] == "emerged"


def test_a_threshold_above_the_limit_is_never_reached():
    """gamma_3 rises to about 2 and comes back to 1, the loss falls towards zero as 1/t."""
    trajectory = solve_flow(Task(16), "circuit", horizon=1e5, stop=[("gamma_3", 3.0)])
    assert trajectory.outcome == "horizon_reached" and trajectory.time[-1] == 1e5 * 256
    found = emergence_times(trajectory, measures=["gamma_3", "loss"], thresholds=[3.0], loss_fractions=[1e-3, 1e-12])
    assert [(e.time is None, e.outcome) for e in found] == [
        (True, "horizon_reached"),
        (False, "emerged"),
        (True, "horizon_reached"),
    ]


def test_a_coordinate_that_comes_back_counts_when_it_first_crosses():
    """With the query last gamma_2 rises to 1 on the plateau and turns negative late: not sustained to the end."""
    trajectory = solve_flow(Task(16), horizon=12.0)
    gamma_2 = trajectory.coordinates[:, COORDINATES.index("gamma_2")]
    (highest,) = np.flatnonzero(gamma_2 == gamma_2.max())
    assert gamma_2[-1] < 0.3 < gamma_2[highest]
    # the last crossing of a level just below its highest value falls back within a hundredth of the run
    level = float(gamma_2[highest] * (1 - 1e-6))
    once, early = emergence_times(trajectory, measures=["gamma_2"], thresholds=[level, 0.3])
    assert once.outcome == early.outcome == "emerged"
    assert early.time is not None and once.time is not None
    assert early.time < once.time <= trajectory.time[highest]
    assert early.sustained is True


def test_outcomes_have_their_sentences():
    assert set(OUTCOMES) == {"emerged", "horizon_reached", "stopped", "solver_failed", "nonfinite"}
    assert len(MEASURES) == 20


@pytest.mark.parametrize(
    "argument, options, message",
    [
        ("model", {"model": "full"}, "model must be one of circuit, subspace; got 'full'."),
        ("accuracy", {"accuracy": 9e-11}, "accuracy must be from 1e-10 to 0.01; got 9e-11."),
        ("accuracy", {"accuracy": 0.02}, "accuracy must be from 1e-10 to 0.01; got 0.02."),
        ("accuracy", {"accuracy": float("nan")}, "accuracy must be from 1e-10 to 0.01; got nan."),
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
    for task in (Task(99999999, rotation=60.0), Task(99999999, inputs="isotropic")):
        with pytest.raises(
            ArgumentError, match=r"context_length must be at most \d+ for subspace, query .*; got 99999999\."
        ):
            solve_flow(task)
    with pytest.raises(ArgumentError, match="samples must be at least 1; got 0."):
        solve_flow(Task(2, inputs="isotropic"), samples=0)


@pytest.mark.parametrize(
    "tasks, message",
    [
        ([Task(4), Task(4, query="uniform")], "tasks must be alike in inputs, query, rotation and copies; got {"),
        ([Task(4), Task(4, rotation=60.0)], "tasks must be alike in inputs, query, rotation and copies; got {"),
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
