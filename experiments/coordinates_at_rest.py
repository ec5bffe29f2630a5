"""Late values of the nineteen coordinates over the context length: three stand out.

`python -m experiments.coordinates_at_rest --output DIR` writes coordinates.csv and the figure.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.coordinates_at_rest import plot_coordinates_at_rest
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.sweep import run_points
from induction_dynamics.task import Task


@dataclasses.dataclass(frozen=True)
class RestConfig:
    """What is run.

    Args:
        output: folder for the table and the figure.
        context_lengths: N.
        queries: a panel for each.
        horizon: flow time at which the coordinates are read, in units of N^2. They still grow then, as a logarithm of
            time: with orthonormal inputs the loss has no minimum at finite coordinates.
    """

    output: Path = Path("build/figures/coordinates_at_rest")
    context_lengths: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    queries: tuple[str, ...] = ("last", "uniform")
    horizon: float = 12.0

    def __post_init__(self):
        if not self.context_lengths or list(self.context_lengths) != sorted(set(self.context_lengths)):
            raise ArgumentError("context_lengths", self.context_lengths, "at least one, increasing")
        if not self.queries:
            raise ArgumentError("queries", self.queries, "at least one")


def main(config: RestConfig, command: str = "make figures ONLY=coordinates_at_rest") -> None:
    """Solve the flow of all nineteen at every length and record where it has come to."""
    jax.config.update("jax_enable_x64", True)
    points = [
        Point(Task(length, query=query), "subspace", horizon=config.horizon)
        for query in config.queries
        for length in config.context_lengths
    ]
    rows: list[dict[str, Any]] = [{} for _ in points]
    with progress(lines=True) as tell:
        for place, run in run_points(points, on_progress=tell):
            task = points[place].task
            rows[place] = {
                "query": task.query,
                "context_length": task.context_length,
                "time": float(run.time[-1]),
                "outcome": run.outcome,
                **dict(zip(COORDINATES, run.coordinates[-1].tolist(), strict=True)),
                "loss": float(run.loss[-1]),
                "initial_loss": float(run.loss[0]),
            }
    values = {
        f"query {query}": np.array([[row[name] for name in COORDINATES] for row in rows if row["query"] == query])
        for query in config.queries
    }
    figure = plot_coordinates_at_rest(
        config.context_lengths, values, subtitle=f"coordinates at t = {config.horizon:g} N$^2$, orthonormal inputs"
    )
    record(
        config.output,
        config=config,
        command=command,
        figures={"coordinates_at_rest": figure},
        tables={"coordinates": rows},
    )


if __name__ == "__main__":
    run_script(main, RestConfig, __doc__)
