"""How long do emergence times of the circuit at ten thousand context lengths take, and how long do scipy's?

`python -m experiments.benchmarks.circuit_sweep --output DIR` writes circuit_sweep.csv and circuit_sweep.json.
"""

import dataclasses
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.benchmarks.lsoda import circuit_times, plain_circuit_times
from experiments.benchmarks.stopwatch import interleaved, keep, process, spread
from experiments.recorder import run_script
from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES, crossings_of_all
from induction_dynamics.dynamics.flow import ACCURACY, solve_flows
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.plan import log_spaced
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.sweep import sweep
from induction_dynamics.task import Task

Times = Mapping[int, Mapping[str, float]]
"""Emergence times by context length and measure."""

_EXACT = 1e-10  # accuracy of the times that others are compared with
_BATCH = 2048  # lengths that a sweep solves in one call


@dataclasses.dataclass(frozen=True)
class CircuitSweepConfig:
    """What is measured.

    Args:
        output: folder for the table.
        lengths: number of distinct context lengths, from 4 to `longest`.
        longest: largest N.
        rival_lengths: number of context lengths that scipy is timed on, drawn from those up to `rival_longest`.
        rival_longest: largest N of scipy, which loses the loss beyond some 3e7.
        rounds: measurements of each, in turns.
        commands: cold starts of the whole command.
        seed: of the draw.
    """

    output: Path = Path("build/benchmarks")
    lengths: int = 10_000
    longest: int = 10**9
    rival_lengths: int = 100
    rival_longest: int = 10**7
    rounds: int = 5
    commands: int = 3
    seed: int = 0

    def __post_init__(self):
        if not 4 <= self.lengths <= self.longest - 3:
            raise ArgumentError("lengths", self.lengths, "from 4 to as many as there are numbers from 4 to longest")


def main(config: CircuitSweepConfig) -> None:
    """Measure, and keep the table."""
    jax.config.update("jax_enable_x64", True)
    lengths = distinct_lengths(4, config.longest, config.lengths)
    points = [Point(Task(length), "circuit") for length in lengths]
    stop = [(measure, 0.5) for measure in DEFAULT_MEASURES]

    def solve() -> None:
        for first in range(0, len(points), _BATCH):
            tasks = [point.task for point in points[first : first + _BATCH]]
            crossings_of_all(solve_flows(tasks, "circuit", stop=stop), stop)

    few = _drawn([length for length in lengths if length <= config.rival_longest], config.rival_lengths, config.seed)
    exact, found = (_swept(few, accuracy) for accuracy in (_EXACT, ACCURACY))
    errors: dict[str, float] = dict.fromkeys(("sweep", "solve_flows", "command"), largest_error(found, exact))
    rtol, errors["LSODA"] = _tolerance(few, exact, errors["sweep"])
    errors["solve_ivp"] = largest_error({length: plain_circuit_times(length, rtol) for length in few}, exact)
    seconds = interleaved(
        {
            "sweep": lambda: sweep(points),
            "solve_flows": solve,
            "LSODA": lambda: [circuit_times(length, rtol) for length in few],
            "solve_ivp": lambda: [plain_circuit_times(length, rtol) for length in few],
        },
        config.rounds,
    )
    if config.commands:
        seconds["command"] = _cold(lengths, config.commands)
    sweep_each = spread(seconds["sweep"])["seconds"] / len(lengths)
    rows = []
    for name, taken in seconds.items():
        rival = name in ("LSODA", "solve_ivp")
        solved, found = few if rival else lengths, spread(taken)
        rows.append(
            {
                "what": name,
                "start": "cold" if name == "command" else "warm",
                "lengths": len(solved),
                "longest": max(solved),
                "tolerance": rtol if rival else ACCURACY,
                "largest_error": errors[name],
                **found,
                "seconds_per_length": found["seconds"] / len(solved),
                "over_sweep": found["seconds"] / len(solved) / sweep_each,
            }
        )
    keep(config, "circuit_sweep", rows)


def distinct_lengths(first: int, last: int, count: int) -> list[int]:
    """As many distinct whole numbers as asked for, evenly spaced in their logarithm where there are enough of them.

    Args:
        first: the smallest.
        last: the largest.
        count: how many, 2 or more.
    """
    per_decade = 1
    while len(found := log_spaced(first, last, per_decade)) < count:
        per_decade += max(per_decade // 50, 1)
    return [found[place] for place in np.linspace(0, len(found) - 1, count).round().astype(int).tolist()]


def largest_error(times: Times, exact: Times) -> float:
    """The largest relative error of any time."""
    return max(abs(times[length][name] / time - 1) for length, row in exact.items() for name, time in row.items())


def _drawn(lengths: Sequence[int], count: int, seed: int) -> list[int]:
    chosen = np.random.default_rng(seed).choice(len(lengths), min(count, len(lengths)), replace=False)
    return sorted(lengths[place] for place in chosen.tolist())


def _swept(lengths: Sequence[int], accuracy: float) -> Times:
    times: dict[int, dict[str, float]] = {length: {} for length in lengths}
    for row in sweep([Point(Task(length), "circuit", accuracy=accuracy) for length in lengths]):
        times[row.context_length][row.measure] = math.nan if row.time is None else row.time
    return times


def _tolerance(lengths: Sequence[int], exact: Times, error: float) -> tuple[float, float]:
    """The loosest tolerance of LSODA, in steps of a quarter of a decade, whose largest error is no larger than ours."""
    rtol, found = 1e-7, math.inf
    while found > error and rtol > 1e-12:
        rtol *= 10**-0.25
        found = largest_error({length: circuit_times(length, rtol) for length in lengths}, exact)
    return rtol, found


def _cold(lengths: Sequence[int], commands: int) -> list[float]:
    """Seconds of the command line, from an empty cache to the last of its files."""
    seconds = []
    for _ in range(commands):
        with tempfile.TemporaryDirectory() as folder:
            output = ["--output", str(Path(folder) / "out"), "--json"]
            words = ["sweep", "--context-lengths", *map(str, lengths), "--model", "circuit", *output]
            call = process(["-m", "induction_dynamics", *words], Path(folder) / "cache")
            seconds += interleaved({"command": call}, 1, warm=False)["command"]
    return seconds


if __name__ == "__main__":
    run_script(main, CircuitSweepConfig, __doc__)
