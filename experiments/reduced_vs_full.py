"""The trained full model laid over the reduced flow: nineteen coordinates, loss, residual with its standard error.

`python -m experiments.reduced_vs_full --output DIR` writes a table of curves and of the largest deviations, and a
figure, for each kind of inputs.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.comparison import plot_comparison
from induction_dynamics.task import Task
from induction_dynamics.training.comparison import compare


@dataclasses.dataclass(frozen=True)
class OverlayConfig:
    """What is run.

    Args:
        output: folder for the tables and the figures.
        context_length: N.
        inputs: a comparison for each.
        query: which pair is queried.
        seeds: a pair of runs for each.
        horizon: flow time to which all run, in units of N^2.
        batch_size: sequences per training step.
        step: flow time per training step.
        samples: Gram matrices in the reduced loss of isotropic inputs.
    """

    output: Path = Path("build/figures/reduced_vs_full")
    context_length: int = 6
    inputs: tuple[str, ...] = ("orthonormal", "isotropic")
    query: str = "uniform"
    seeds: tuple[int, ...] = (0, 1, 2)
    horizon: float = 4.0
    batch_size: int = 256
    step: float = 0.25
    samples: int = 2048

    def __post_init__(self):
        if not self.inputs:
            raise ArgumentError("inputs", self.inputs, "at least one kind")


def main(config: OverlayConfig, command: str = "make figures ONLY=reduced_vs_full") -> None:
    """Run the pairs and record how far they are apart."""
    jax.config.update("jax_enable_x64", True)
    figures: dict[str, Figure] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    with progress(lines=True) as tell:
        for inputs in config.inputs:
            comparison = compare(
                Task(config.context_length, inputs=inputs, query=config.query),
                seeds=config.seeds,
                horizon=config.horizon,
                batch_size=config.batch_size,
                step=config.step,
                samples=config.samples,
                on_progress=tell,
            )
            figures[inputs] = plot_comparison(comparison)
            tables[f"{inputs}_curves"] = comparison.curves()
            tables[f"{inputs}_deviations"] = [dataclasses.asdict(found) for found in comparison.largest_deviations()]
    record(config.output, config=config, command=command, figures=figures, tables=tables)


if __name__ == "__main__":
    run_script(main, OverlayConfig, __doc__)
