"""What do several processes gain over one on trainings of the full model?

`python -m experiments.benchmarks.workers --output DIR` writes workers.csv and workers.json.
"""

import contextlib
import dataclasses
import functools
import tempfile
from concurrent.futures import Executor
from pathlib import Path

import jax

from experiments.benchmarks.stopwatch import interleaved, keep, spread
from experiments.recorder import run_script
from induction_dynamics.scaling.plan import Grid
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.scaling.workers import cores, processes


@dataclasses.dataclass(frozen=True)
class WorkersConfig:
    """What is measured.

    Args:
        output: folder for the table.
        context_lengths: N.
        points: trainings of each sweep, which differ in their seeds alone.
        workers: numbers of processes, each of one thread; the first is what the others are compared with.
        batch_size: sequences per training step.
        steps: of a training.
        rounds: measurements of each, in turns.
    """

    output: Path = Path("build/benchmarks")
    context_lengths: tuple[int, ...] = (8, 16)
    points: int = 6
    workers: tuple[int, ...] = (1, 2)
    batch_size: int = 256
    steps: int = 128
    rounds: int = 3


def main(config: WorkersConfig) -> None:
    """Measure, and keep the table."""
    rows = []
    for pairs in config.context_lengths:
        horizon = 0.25 * config.steps / pairs**2
        grid = Grid((pairs,), ("full",), query=("uniform",), batch_size=(config.batch_size,), horizon=(horizon,))
        with contextlib.ExitStack() as stack:
            pools = {str(count): stack.enter_context(processes(count, threads=1)) for count in config.workers}
            for count, pool in pools.items():
                # so many that each process gets some, and has compiled
                _sweep(grid, 2 * int(count), pool)
            calls = {count: functools.partial(_sweep, grid, config.points, pool) for count, pool in pools.items()}
            taken = interleaved(calls, config.rounds, warm=False)
        single = taken[str(config.workers[0])]
        for count in config.workers:
            # of each round by itself: what slows the machine down slows both
            gains = [one / several for one, several in zip(single, taken[str(count)], strict=True)]
            rows.append(
                {
                    "context_length": pairs,
                    "workers": count,
                    "threads": 1,
                    "cores": cores(),
                    "points": config.points,
                    **spread(taken[str(count)]),
                    "gain": spread(gains)["seconds"],
                    "least_gain": min(gains),
                    "most_gain": max(gains),
                }
            )
    keep(config, "workers", rows)


def _sweep(grid: Grid, points: int, pool: Executor) -> None:
    """A sweep into a new folder, with all that it writes."""
    seeded = dataclasses.replace(grid, seed=tuple(range(points)))
    with tempfile.TemporaryDirectory() as folder:
        result = run_sweep(seeded.points(), folder, executor=pool)
    assert (result.computed, result.failed) == (points, [])


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    run_script(main, WorkersConfig, __doc__)
