"""How soon does the command line answer, the first time and the second, and how much of that are imports?

`python -m experiments.benchmarks.warm_start --output DIR` writes warm_start.csv and warm_start.json.
"""

import dataclasses
import tempfile
from pathlib import Path

from experiments.benchmarks.stopwatch import interleaved, keep, process, spread
from experiments.recorder import run_script

_IMPORTS = "import induction_dynamics.cli, induction_dynamics.scaling.sweep"


@dataclasses.dataclass(frozen=True)
class WarmStartConfig:
    """What is measured.

    Args:
        output: folder for the table.
        context_length: N of the run.
        models: reduced models.
        queries: which pair is queried.
        first: starts from an empty cache.
        second: starts with what those before them compiled.
    """

    output: Path = Path("build/benchmarks")
    context_length: int = 64
    models: tuple[str, ...] = ("circuit", "subspace")
    queries: tuple[str, ...] = ("last", "uniform")
    first: int = 3
    second: int = 7


def main(config: WarmStartConfig) -> None:
    """Measure, and keep the table."""
    rows = []
    for model in config.models:
        for query in config.queries:
            words = ["simulate", "--context-length", str(config.context_length), "--model", model, "--query", query]
            command = ["-m", "induction_dynamics", *words, "--json"]
            first = []
            with tempfile.TemporaryDirectory() as folder:
                for place in range(config.first):
                    cache = Path(folder) / str(place)
                    first += interleaved({"": process(command, cache)}, 1, warm=False)[""]
                calls = {
                    "second": process(command, Path(folder) / "0"),
                    "imports": process(["-c", _IMPORTS], Path(folder) / "0"),
                }
                taken = {"first": first, **interleaved(calls, config.second, warm=False)}
            imports = spread(taken.pop("imports"))["seconds"]
            for start, seconds in taken.items():
                found = spread(seconds)
                shared = {"imports": imports, "share_of_imports": imports / found["seconds"]}
                rows.append({"model": model, "query": query, "start": start, **found, **shared})
    keep(config, "warm_start", rows)


if __name__ == "__main__":
    run_script(main, WarmStartConfig, __doc__)
