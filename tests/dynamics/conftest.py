"""Runs that several tests look at, each solved once."""

import dataclasses
import functools
from collections.abc import Callable

import pytest

from induction_dynamics.dynamics.emergence import emergence_times
from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.task import Task

STOP = tuple((measure, 0.5) for measure in ("alpha_3", "beta_2", "gamma_3", "loss"))

LENGTHS = {
    ("circuit", "last"): (1, 2, 4, 8, 16, 32, 64, 256, 1000, 4096, 16384, 100_000, 10**9),
    ("circuit", "uniform"): (4, 64, 1024),
    ("subspace", "last"): (1, 2, 4, 16, 64, 10**6, 10**9),
    ("subspace", "uniform"): (1, 4, 32, 64, 10**6, 10**9),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A task, its trajectory, and the emergence times at one half."""

    task: Task
    trajectory: Trajectory

    @functools.cached_property
    def times(self) -> dict[str, float | None]:
        return {emergence.measure: emergence.time for emergence in emergence_times(self.trajectory)}

    def time(self, measure: str) -> float:
        time = self.times[measure]
        assert time is not None
        return time


@pytest.fixture(scope="session")
def run_of() -> Callable[[str, str, int], Run]:
    """The run of a model, query and context length, until all four measures have emerged."""
    solved: dict[tuple[str, str, int], Run] = {}

    def run(model: str, query: str, length: int) -> Run:
        if (model, query, length) not in solved:
            assert length in LENGTHS[model, query]
            task = Task(length, query=query)
            solved[model, query, length] = Run(task, solve_flow(task, model, stop=STOP))
        return solved[model, query, length]

    return run


@pytest.fixture(scope="session")
def turned() -> Run:
    """All nineteen coordinates at 60 degrees, where the metric is not the identity."""
    task = Task(4, query="uniform", rotation=60.0)
    return Run(task, solve_flow(task, stop=STOP))
