import numpy as np
import pytest

from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.task import Task
from induction_dynamics.training.comparison import Comparison

TIMES = np.linspace(0, 144, 49)


def trajectory(scale=1.0, off_subspace=0.0):
    """The nineteen rise or fall at their own speeds to ends between -1 and 3 times the scale."""
    theta = np.tanh(TIMES[:, None] / np.linspace(30, 90, 19)) * np.linspace(-1, 3, 19) * scale
    off = np.full_like(TIMES, off_subspace)
    return Trajectory(TIMES, theta, 0.5 * np.exp(-TIMES / 50), off, "horizon_reached")


def comparison_of(seeds, **task):
    trained = tuple(trajectory(1 + 0.02 * (seed + 1), 0.1 * (seed + 1)) for seed in range(seeds))
    return Comparison(Task(6, query="uniform", **task), tuple(range(seeds)), TIMES, (trajectory(),) * seeds, trained)


@pytest.fixture
def run():
    """One run to t = 4 N^2 at N = 6, by straight lines between its records."""
    return trajectory()


@pytest.fixture
def compared():
    """A function from a number of seeds, and what a task may say, to a comparison of as many pairs of runs."""
    return comparison_of
