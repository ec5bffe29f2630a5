"""Emergence times over context lengths: reduced flows and trained models on one time axis, with fitted laws.

`python -m experiments.context_length_scaling --output DIR` writes the document sweep.json, rows.csv and the figure.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from experiments.recorder import record, run_script, settings
from induction_dynamics.cli.document import build, fit_rows
from induction_dynamics.cli.progress import progress
from induction_dynamics.plotting.emergence_times import plot_emergence_times
from induction_dynamics.provenance import versions
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.sweep import sweep
from induction_dynamics.task import Task

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss")


@dataclasses.dataclass(frozen=True)
class ScalingConfig:
    """What is run.

    Args:
        output: folder for the document, the table and the figure.
        circuit_lengths: N of the three-coordinate flow, both queries.
        subspace_lengths: N of the nineteen-coordinate flow, both queries.
        full_lengths: N of the trained full model, query uniform.
        full_lengths_last: N of the trained full model, query last.
        batch_size: sequences per training step.
        step: flow time per training step.
        seed: of the training data.
    """

    output: Path = Path("build/figures/context_length_scaling")
    circuit_lengths: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    subspace_lengths: tuple[int, ...] = (4, 6, 8, 12, 16, 32, 64)
    full_lengths: tuple[int, ...] = (4, 6, 8, 12, 16)
    full_lengths_last: tuple[int, ...] = (4, 6, 8, 12)
    batch_size: int = 256
    step: float = 0.25
    seed: int = 0


def main(
    config: ScalingConfig, command: str = "make figures ONLY=context_length_scaling"
) -> tuple[dict[str, Any], list[str]]:
    """Run every point, fit the laws and record both.

    Args:
        config: what is run.
        command: what makes the same again.

    Returns:
        The document, and the laws in words.
    """
    jax.config.update("jax_enable_x64", True)
    with progress(lines=True) as on_progress:
        rows = sweep(_points(config), measures=MEASURES, on_progress=on_progress)
    fits, words, notes = fit_rows(rows)
    about = settings(config) | {"command": command, "versions": versions()}
    document = build("sweep", about, [dataclasses.asdict(row) for row in rows], fits, notes)
    record(
        config.output,
        config=config,
        command=command,
        figures={"emergence_times": plot_emergence_times(document["rows"], document["fits"])},
        tables={"rows": document["rows"]},
        documents={"sweep": document},
    )
    return document, words


def _points(config: ScalingConfig) -> list[Point]:
    reduced = [
        Point(Task(length, query=query), model)
        for model, lengths in (("circuit", config.circuit_lengths), ("subspace", config.subspace_lengths))
        for query in ("last", "uniform")
        for length in lengths
    ]
    trained = [
        Point(Task(length, query=query), "full", seed=config.seed, batch_size=config.batch_size, step=config.step)
        for query, lengths in (("last", config.full_lengths_last), ("uniform", config.full_lengths))
        for length in lengths
    ]
    return reduced + trained


if __name__ == "__main__":
    run_script(main, ScalingConfig, __doc__)
