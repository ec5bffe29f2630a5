"""The main job: emergence times over context lengths, reduced and trained, on one time axis, with fitted laws.

`python -m experiments.demo --output build/demo` (`make demo`) writes the document sweep.json, rows.csv and the figure.
"""

import dataclasses
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from induction_dynamics.cli.document import as_csv, as_json, build, fit_rows, versions
from induction_dynamics.cli.folder import text, write_all
from induction_dynamics.cli.progress import progress
from induction_dynamics.cli.tables import LAWS_TITLE
from induction_dynamics.plotting.emergence_times import plot_emergence_times
from induction_dynamics.plotting.style import save_figure
from induction_dynamics.scaling.sweep import Point, Row, sweep
from induction_dynamics.task import Task

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss")


_OPENING = """\
When does an induction head emerge? Times T, in flow time, at which gamma_3,
beta_2 and alpha_3 reach 0.5 and the loss has halved, over the context length N
(item-label pairs: a sequence of 2N + 1 tokens), in three models of orthonormal
inputs:
  circuit   gradient flow of 3 coordinates
  subspace  gradient flow of all 19
  full      gradient descent on all 28 D^2 weights of the transformer
"""


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """What is run.

    Args:
        output: folder for the document, the table and the figure.
        circuit_lengths: N of the three-coordinate flow, both queries.
        subspace_lengths: N of the nineteen-coordinate flow, both queries.
        full_lengths: N of the trained full model, query uniform.
        batch_size: sequences per training step.
        step: flow time per training step.
        seed: of the training data.
    """

    output: Path = Path("build/demo")
    circuit_lengths: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    subspace_lengths: tuple[int, ...] = (4, 6, 8, 16, 32, 64)
    full_lengths: tuple[int, ...] = (4, 6, 8)
    batch_size: int = 256
    step: float = 0.25
    seed: int = 0


def main(config: DemoConfig) -> dict[str, Any]:
    """Run the main job and return its document."""
    jax.config.update("jax_enable_x64", True)
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 80
    begun = time.monotonic()
    print(_OPENING, flush=True)
    with progress(lines=True) as on_progress:
        rows = sweep(_points(config), measures=MEASURES, on_progress=on_progress)
    fits, words, notes = fit_rows(rows)
    settings = dataclasses.asdict(config) | {"output": None, "command": "make demo", "versions": versions()}
    document = build("sweep", settings, rows, fits, notes)
    figure = plot_emergence_times(document["rows"], document["fits"])
    config.output.mkdir(parents=True, exist_ok=True)
    write_all(
        config.output,
        {
            "sweep.json": text(as_json(document)),
            "rows.csv": text(as_csv(document["rows"])),
            "emergence_times.png": lambda path: save_figure(figure, path),
            "emergence_times.svg": lambda path: save_figure(figure, path),
        },
    )
    console.print(_table(rows))
    print()
    print("full/subspace: the trained model against the reduced flow; 1 is agreement.\n")
    print(LAWS_TITLE)
    for line in [*words, *notes]:
        print(textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="    "))
    seconds = time.monotonic() - begun
    print(f"\n{seconds:.0f} s. In {config.output}: sweep.json, rows.csv, emergence_times.png, .svg")
    return document


def _points(config: DemoConfig) -> list[Point]:
    reduced = [
        Point(Task(length, query=query), model)
        for model, lengths in (("circuit", config.circuit_lengths), ("subspace", config.subspace_lengths))
        for query in ("last", "uniform")
        for length in lengths
    ]
    trained = [
        Point(Task(length, query="uniform"), "full", seed=config.seed, batch_size=config.batch_size, step=config.step)
        for length in config.full_lengths
    ]
    return reduced + trained


def _table(rows: Sequence[Row]) -> Table:
    times = {(row.query, row.model, row.context_length, row.measure): row.time for row in rows}
    runs = list(dict.fromkeys((row.query, row.model, row.context_length) for row in rows))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("query", "model", "N", *MEASURES):
        table.add_column(name, justify="left" if name in ("query", "model") else "right", no_wrap=True)
    for place, (query, model, length) in enumerate(runs):
        cells = [_number(times[query, model, length, measure]) for measure in MEASURES]
        followed = place + 1 < len(runs) and runs[place + 1][:2] != (query, model)
        reduced = [times.get((query, "subspace", length, measure)) for measure in MEASURES]
        compared = model == "full" and None not in reduced
        table.add_row(query, model, str(length), *cells, end_section=followed and not compared)
        if compared:
            full = [times[query, model, length, measure] for measure in MEASURES]
            ratios = [f"{a / b:.3f}" if a and b else "-" for a, b in zip(full, reduced, strict=True)]
            table.add_row("", "full/subspace", "", *ratios, end_section=followed)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value < 1e5 else f"{value:.4g}"


if __name__ == "__main__":
    main(tyro.cli(DemoConfig, description=__doc__))
