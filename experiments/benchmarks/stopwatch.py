"""How long calls take, side by side within one run, and the tables that this is kept in."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.recorder import settings
from induction_dynamics.cli.document import as_csv, as_json
from induction_dynamics.cli.folder import text, write_all
from induction_dynamics.provenance import versions

_DIGITS = 4  # of a time, of which the first two are sure
_LEAST = 0.1  # seconds that a measurement lasts


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int, warm: bool = True) -> dict[str, list[float]]:
    """Seconds that calls take, in rounds of each one once: what disturbs the machine disturbs all of them.

    Short calls are repeated within a round.

    Args:
        calls: what is measured, by name.
        rounds: how often.
        warm: whether each is called once beforehand, so that nothing is compiled while it is measured.
    """
    numbers = {name: _calls_of_a_round(call) if warm else 1 for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begun = time.perf_counter()
            for _ in range(numbers[name]):
                call()
            taken[name].append((time.perf_counter() - begun) / numbers[name])
    return taken


def _calls_of_a_round(call: Callable[[], object]) -> int:
    call()
    begun = time.perf_counter()
    call()
    return max(round(_LEAST / max(time.perf_counter() - begun, 1e-6)), 1)


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """The median of times, the extremes, and how many they were, as columns of a table."""
    return {
        "seconds": statistics.median(seconds),
        "least": min(seconds),
        "most": max(seconds),
        "rounds": len(seconds),
    }


def process(words: Sequence[str], cache: Path, patience: float | None = None) -> Callable[[], str]:
    """A call of Python with these words, in a process of its own, that returns what it printed.

    Args:
        words: the command line after the interpreter.
        cache: the user's folder of caches, where the package keeps what jax compiles; an empty one makes a cold start.
        patience: seconds after which it is ended with `subprocess.TimeoutExpired`.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment = kept | {"XDG_CACHE_HOME": str(cache)}

    def call() -> str:
        command = [sys.executable, *words]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=patience)
        return done.stdout.decode()

    return call


def keep(config: Any, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table of a benchmark as .csv, and beside it as .json what it was measured with.

    Args:
        config: the dataclass that the benchmark was run with; its `output` is the folder.
        name: of the benchmark.
        rows: with the same keys.
    """
    about = {
        "command": f"make benchmarks ONLY={name}",
        "config": settings(config),
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": versions(),
    }
    config.output.mkdir(parents=True, exist_ok=True)
    rounded = [{key: _rounded(value) for key, value in row.items()} for row in rows]
    write_all(config.output, {f"{name}.csv": text(as_csv(rounded)), f"{name}.json": text(as_json(about))})


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
