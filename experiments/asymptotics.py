"""Emergence times over eight decades of context length, beside the laws that they approach.

`python -m experiments.asymptotics --output DIR` writes times.csv, slopes.csv, laws.csv and the figure.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.asymptotics import plot_asymptotics
from induction_dynamics.scaling.laws import local_log_slopes
from induction_dynamics.scaling.limits import MEASURES, asymptotic_law
from induction_dynamics.scaling.plan import log_spaced
from induction_dynamics.scaling.points import Point, Row
from induction_dynamics.scaling.sweep import sweep
from induction_dynamics.task import Task

AROUND_THE_PLATEAU = (0.4, 0.5, 0.7)
"""Thresholds of gamma_3 with nineteen coordinates and the query uniform, where its plateau is at 0.5."""

SERIES = ("model", "query", "measure", "threshold")


@dataclasses.dataclass(frozen=True)
class AsymptoticsConfig:
    """What is run.

    Args:
        output: folder for the tables and the figure.
        circuit_lengths: N of the three-coordinate flow, both queries.
        subspace_lengths: N of the nineteen-coordinate flow, both queries.
        queries: which of them.
    """

    output: Path = Path("build/figures/asymptotics")
    circuit_lengths: tuple[int, ...] = tuple(log_spaced(10, 10**9, 4))
    subspace_lengths: tuple[int, ...] = tuple(log_spaced(100, 10**9, 2))
    queries: tuple[str, ...] = ("last", "uniform")

    def __post_init__(self):
        for name in ("circuit_lengths", "subspace_lengths"):
            lengths = getattr(self, name)
            if list(lengths) != sorted(set(lengths)):
                raise ArgumentError(name, lengths, "increasing")
        if not (self.circuit_lengths or self.subspace_lengths):
            raise ArgumentError("circuit_lengths", (), "at least one, or else subspace_lengths")
        if not self.queries:
            raise ArgumentError("queries", self.queries, "at least one")


def main(config: AsymptoticsConfig, command: str = "make figures ONLY=asymptotics") -> None:
    """Solve the flow of every length, and record the times, how they grow and what they tend to.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    points = [
        Point(Task(length, query=query), model)
        for model, lengths in (("circuit", config.circuit_lengths), ("subspace", config.subspace_lengths))
        for query in config.queries
        for length in lengths
    ]
    with progress(lines=True) as tell:
        rows = sweep(points, measures=MEASURES, thresholds=AROUND_THE_PLATEAU, on_progress=tell)
    times = [_time(row) for row in rows if row.threshold == 0.5 or _around_the_plateau(row)]
    slopes, laws = _slopes(times), _laws(times)
    record(
        config.output,
        config=config,
        command=command,
        figures={"asymptotics": plot_asymptotics(times)},
        tables={"times": times, "slopes": slopes, "laws": laws},
    )


def _around_the_plateau(row: Row) -> bool:
    return (row.model, row.query, row.measure) == ("subspace", "uniform", "gamma_3")


def _time(row: Row) -> dict[str, Any]:
    n, time = row.context_length, row.time
    return {
        **{name: getattr(row, name) for name in SERIES},
        "context_length": n,
        "time": time,
        "outcome": row.outcome,
        "time_per_length": None if time is None else time / n,
        "time_per_square": None if time is None else time / n**2,
        "square_per_time": None if time is None else n**2 / time,
    }


def _curves(times: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], tuple[list[int], list[float | None]]]:
    """Lengths and times of each series, in the order of the table."""
    curves: dict[tuple[Any, ...], tuple[list[int], list[float | None]]] = {}
    for row in times:
        lengths, found = curves.setdefault(tuple(row[name] for name in SERIES), ([], []))
        lengths.append(row["context_length"])
        found.append(row["time"])
    return curves


def _slopes(times: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """d(N^2/T)/d ln N between neighbouring lengths, of the series that have a limit of it."""
    rows = []
    for series, (lengths, found) in _curves(times).items():
        law = asymptotic_law(*series)
        if law is not None and law.growth == "N^2/log N" and len(lengths) > 1:
            for middle, slope in zip(*local_log_slopes(lengths, found), strict=True):
                known = math.isfinite(slope)
                rows.append(
                    {
                        **dict(zip(SERIES, series, strict=True)),
                        "context_length": float(middle),
                        "slope": float(slope) if known else None,
                        "limit": 1 / law.constant,
                        "slope_per_limit": float(slope) * law.constant if known else None,
                    }
                )
    return rows


def _laws(times: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The law of each series, and how far the time at the largest N is from it."""
    rows = []
    for series, (lengths, found) in _curves(times).items():
        law, last, time = asymptotic_law(*series), lengths[-1], found[-1]
        rows.append(
            {
                **dict(zip(SERIES, series, strict=True)),
                "growth": None if law is None else law.growth,
                "constant": None if law is None else law.constant,
                "formula": None if law is None else law.formula,
                "context_length": last,
                "time_per_law": None if law is None or time is None else time / float(law.time(last)),
            }
        )
    return rows


if __name__ == "__main__":
    run_script(main, AsymptoticsConfig, __doc__)
