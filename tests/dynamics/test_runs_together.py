"""Several runs at once, in threads: digits, order, errors, and where they are computed."""

import dataclasses
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from induction_dynamics.dynamics import solvers
from induction_dynamics.dynamics.flow import solve_flow, solve_flows
from induction_dynamics.task import Task

STOP = tuple((measure, 0.5) for measure in ("alpha_3", "beta_2", "gamma_3", "loss"))


@pytest.mark.parametrize(
    "model, task, lengths",
    [
        ("circuit", Task(4, query="uniform"), (4, 100, 16, 200)),
        pytest.param("subspace", Task(4), (1, 100, 4, 10**6, 16), marks=pytest.mark.slow),
        ("subspace", Task(2, rotation=60.0), (2, 1)),
        pytest.param("circuit", Task(2, inputs="isotropic"), (2, 3), marks=pytest.mark.slow),
    ],
    ids=lambda value: "" if isinstance(value, Task) else str(value),
)
def test_several_lengths_together(model, task, lengths):
    """To the last bit what each is alone, in its own place, whichever thread has solved it."""
    tasks = [dataclasses.replace(task, context_length=length, embedding_dim=0) for length in lengths]
    together = solve_flows(tasks, model, stop=STOP, samples=8)
    for one, beside in zip(tasks, together, strict=True):
        alone = solve_flow(one, model, stop=STOP, samples=8)
        assert (alone.outcome, alone.degree) == (beside.outcome, beside.degree)
        for name in ("time", "coordinates", "loss"):
            kept = getattr(beside, name)
            np.testing.assert_array_equal(kept, getattr(alone, name))
            # and of the solver's memory nothing else
            assert kept.base is None or kept.base.size == kept.size


def test_an_error_in_one_run_is_raised_and_the_others_are_not_begun(monkeypatch):
    monkeypatch.setattr(solvers.os, "cpu_count", lambda: 2)
    begun = []

    def solve(part):
        begun.append(part)
        if part == 1:
            raise RuntimeError("one")
        time.sleep(0.2)
        return part

    with pytest.raises(RuntimeError, match="one"):
        list(solvers._in_threads(solve, range(40), lambda part: 0))
    assert begun[0] == 0 and len(begun) < 20


def test_each_size_is_compiled_by_one_run_alone(monkeypatch):
    monkeypatch.setattr(solvers.os, "cpu_count", lambda: 4)
    alone, at_work = [], set()

    def solve(part):
        at_work.add(part)
        time.sleep(0.02)
        if len(at_work) == 1:
            alone.append(part)
        at_work.discard(part)
        return 10 * part

    assert list(solvers._in_threads(solve, range(8), lambda part: part % 2)) == list(range(0, 80, 10))
    assert alone[:2] == [0, 1]


def test_runs_in_threads_are_where_the_caller_wants_them():
    code = [
        "import jax, jax.numpy as jnp",
        "from induction_dynamics.dynamics.solvers import _in_threads",
        "with jax.enable_x64(True), jax.default_device(jax.devices()[1]):",
        "    there = list(_in_threads(lambda part: jnp.ones(part), [1, 2, 3], lambda part: 0))",
        "print({str(each.device.id) + str(each.dtype) for each in there})",
    ]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    words = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("{'1float64'}\n", "")
