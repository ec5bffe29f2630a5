"""The trained full model laid over the reduced flow: nineteen coordinates, loss, residual with its standard error.

`python -m experiments.reduced_vs_full --output DIR` writes, for each kind of inputs and each query, a table of curves,
one of the largest deviations, and a figure.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import Tell, progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.comparison import plot_comparison
from induction_dynamics.task import Task
from induction_dynamics.training.comparison import Comparison, compare

TIMES = 129
"""Flow times compared, evenly spaced: a coordinate changes little between two of them."""

DECIMALS = 5
"""Kept of a number in a table of curves."""


@dataclasses.dataclass(frozen=True)
class OverlayConfig:
    """What is run.

    Args:
        output: folder for the tables and the figures.
        cases: inputs, N and D, a comparison for each with each query.
        queries: which pair is queried.
        seeds: a pair of runs for each.
        horizon: flow time to which all run, in units of N^2.
        batch_size: sequences per training step.
        step: flow time per training step.
        samples: Gram matrices in the reduced loss of isotropic inputs, drawn for each seed. The flow fits its own too
            well, by an amount that falls as one over their number, and scatters as one over its root.
        accuracy: of each step of the reduced flow; what the samples scatter is a hundred times larger.
    """

    output: Path = Path("build/figures/reduced_vs_full")
    cases: tuple[tuple[str, int, int], ...] = (("orthonormal", 8, 18), ("isotropic", 6, 24))
    queries: tuple[str, ...] = ("last", "uniform")
    seeds: tuple[int, ...] = (0, 1, 2)
    horizon: float = 4.0
    batch_size: int = 512
    step: float = 0.125
    samples: int = 8192
    accuracy: float = 1e-5

    def __post_init__(self):
        if not self.cases:
            raise ArgumentError("cases", self.cases, "at least one kind of inputs, with N and D")
        if not self.queries:
            raise ArgumentError("queries", self.queries, "at least one")

    def tasks(self) -> dict[str, Task]:
        """What is run, by the name of its figure.

        Raises:
            ArgumentError: a task out of range.
        """
        return {
            f"{inputs}_{query}": Task(length, embedding_dim=dim, inputs=inputs, query=query)
            for inputs, length, dim in self.cases
            for query in self.queries
        }


def main(config: OverlayConfig, command: str = "make figures ONLY=reduced_vs_full") -> None:
    """Run the pairs and record how far they are apart.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    figures: dict[str, Figure] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    with progress(lines=True) as tell:
        for name, task in config.tasks().items():
            comparison = _compared(config, task, tell)
            figures[name] = plot_comparison(comparison)
            tables[f"{name}_curves"] = _curves(comparison)
            tables[f"{name}_deviations"] = [dataclasses.asdict(found) for found in comparison.largest_deviations()]
    record(config.output, config=config, command=command, figures=figures, tables=tables)


def _compared(config: OverlayConfig, task: Task, tell: Tell | None) -> Comparison:
    """A pair of runs for each seed, at evenly spaced records of the trained ones."""
    comparison = compare(
        task,
        seeds=config.seeds,
        horizon=config.horizon,
        batch_size=config.batch_size,
        step=config.step,
        samples=config.samples,
        accuracy=config.accuracy,
        on_progress=tell,
    )
    shared = comparison.trained[0].time
    shared = shared[shared <= comparison.time[-1]]
    places = np.linspace(0, len(shared) - 1, min(TIMES, len(shared))).round().astype(int)
    return dataclasses.replace(comparison, time=shared[places])


def _curves(comparison: Comparison) -> list[dict[str, Any]]:
    """The curves in few digits; the residual follows from them."""
    left_out = ("time", "time_unit", "residual")
    return [
        {"flow_time": row["time"]} | {name: _short(value) for name, value in row.items() if name not in left_out}
        for row in comparison.curves()
    ]


def _short(value: Any) -> Any:
    return round(value, DECIMALS) if isinstance(value, float) else value


if __name__ == "__main__":
    run_script(main, OverlayConfig, __doc__)
