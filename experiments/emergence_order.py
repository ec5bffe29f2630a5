"""The nineteen coordinates and the loss along the reduced flow: in which order the induction head's three rise.

`python -m experiments.emergence_order --output DIR` writes curves.csv, crossings.csv and the figure.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.recorder import record, rounded, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES, MEASURES, emergence_times
from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.emergence_order import plot_emergence_order
from induction_dynamics.task import Task


@dataclasses.dataclass(frozen=True)
class OrderConfig:
    """What is run.

    Args:
        output: folder for the tables and the figure.
        context_length: N.
        inputs: a flow for each.
        query: which pair is queried.
        horizon: flow time at which the flows end, in units of N^2.
        threshold: of the coordinates; the loss is timed at one half.
        samples: Gram matrices in the loss of isotropic inputs.
        seed: of the Gram matrices.
        times: records kept of each flow, evenly spaced.
    """

    output: Path = Path("build/figures/emergence_order")
    context_length: int = 6
    inputs: tuple[str, ...] = ("orthonormal", "isotropic")
    query: str = "uniform"
    horizon: float = 6.0
    threshold: float = 0.5
    samples: int = 2048
    seed: int = 0
    times: int = 601

    def __post_init__(self):
        if not self.inputs:
            raise ArgumentError("inputs", self.inputs, "at least one kind")
        if self.times < 2:
            raise ArgumentError("times", self.times, "at least 2")


def main(config: OrderConfig, command: str = "make figures ONLY=emergence_order") -> None:
    """Solve the flow for each kind of inputs and record it."""
    jax.config.update("jax_enable_x64", True)
    curves: list[dict[str, Any]] = []
    crossings: list[dict[str, Any]] = []
    drawn: dict[str, Trajectory] = {}
    with progress(lines=True) as tell:
        for done, inputs in enumerate(config.inputs):
            if tell is not None:
                tell(done, len(config.inputs), f"subspace, {inputs} inputs, N = {config.context_length}")
            task = Task(config.context_length, inputs=inputs, query=config.query)
            flow = solve_flow(task, "subspace", horizon=config.horizon, samples=config.samples, seed=config.seed)
            drawn[f"{inputs} inputs"] = kept = thinned(flow, config.times)
            columns = np.concatenate([kept.coordinates, kept.loss[:, None]], axis=1).tolist()
            curves += [
                {"inputs": inputs, "time": time, **dict(zip(MEASURES, values, strict=True))}
                for time, values in zip(kept.time.tolist(), columns, strict=True)
            ]
            found = emergence_times(flow, measures=DEFAULT_MEASURES, thresholds=(config.threshold,))
            crossings += [{"inputs": inputs, **dataclasses.asdict(crossing)} for crossing in found]
    figure = plot_emergence_order(drawn, context_length=config.context_length, threshold=config.threshold)
    record(
        config.output,
        config=config,
        command=command,
        figures={"emergence_order": figure},
        tables={"curves": curves, "crossings": crossings},
    )


def thinned(run: Trajectory, times: int) -> Trajectory:
    """A run at evenly spaced times, to the digits that are recorded.

    Args:
        run: the run.
        times: how many.
    """
    time = np.array(rounded(np.linspace(run.time[0], run.time[-1], times).tolist()))
    coordinates, loss = run.at(np.minimum(time, run.time[-1]))
    return Trajectory(
        time=time,
        coordinates=np.array(rounded(coordinates.tolist())),
        loss=np.array(rounded(loss.tolist())),
        off_subspace=np.zeros(times),
        outcome=run.outcome,
    )


if __name__ == "__main__":
    run_script(main, OrderConfig, __doc__)
