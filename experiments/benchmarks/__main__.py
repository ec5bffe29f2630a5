"""Measure anew: `python -m experiments.benchmarks` (`make benchmarks`), every table or some of them."""

import dataclasses
from pathlib import Path

from experiments.benchmarks import (
    circuit_sweep,
    frame_draws,
    gram_draws,
    loss_cost,
    subspace_sweep,
    training_step,
    warm_start,
    workers,
)
from experiments.recorder import chosen, run_script

BENCHMARKS = {
    "circuit_sweep": lambda folder: circuit_sweep.main(circuit_sweep.CircuitSweepConfig(folder)),
    "loss_cost": lambda folder: loss_cost.main(loss_cost.LossCostConfig(folder)),
    "subspace_sweep": lambda folder: subspace_sweep.main(subspace_sweep.SubspaceSweepConfig(folder)),
    "warm_start": lambda folder: warm_start.main(warm_start.WarmStartConfig(folder)),
    "gram_draws": lambda folder: gram_draws.main(gram_draws.GramDrawsConfig(folder)),
    "frame_draws": lambda folder: frame_draws.main(frame_draws.FrameDrawsConfig(folder)),
    "training_step": lambda folder: training_step.main(training_step.TrainingStepConfig(folder)),
    "workers": lambda folder: workers.main(workers.WorkersConfig(folder)),
}
"""What measures each table, with the configuration whose numbers are committed."""


@dataclasses.dataclass(frozen=True)
class BenchmarksConfig:
    """What is measured, and where the tables go.

    Args:
        output: folder; `experiments/benchmarks/tables` replaces those that are committed.
        only: names of the benchmarks to run; by default all.
    """

    output: Path = Path("build/benchmarks")
    only: tuple[str, ...] = ()


def main(config: BenchmarksConfig) -> None:
    """Run the benchmarks, one after another.

    Raises:
        ArgumentError: there is no such benchmark; nothing was run.
    """
    for name in chosen(config.only, BENCHMARKS):
        BENCHMARKS[name](config.output)


if __name__ == "__main__":
    run_script(main, BenchmarksConfig, __doc__)
