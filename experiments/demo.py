"""The main job in two minutes, told at the terminal: `python -m experiments.demo --output build/demo` (`make demo`).

The same runs as `context_length_scaling`, but for the longest trainings.
"""

import dataclasses
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from experiments import context_length_scaling
from experiments.context_length_scaling import MEASURES, ScalingConfig
from experiments.recorder import run_script
from induction_dynamics.cli.tables import LAWS_TITLE, new_console

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
class DemoConfig(ScalingConfig):
    """What is run: as `ScalingConfig` says, with fewer trained models."""

    output: Path = Path("build/demo")
    full_lengths: tuple[int, ...] = (4, 6, 8)
    full_lengths_last: tuple[int, ...] = ()


def main(config: DemoConfig) -> dict[str, Any]:
    """Run the main job, print its table and its laws, and return its document."""
    console = new_console()
    begun = time.monotonic()
    print(_OPENING, flush=True)
    document, words = context_length_scaling.main(config, command="make demo")
    console.print(_table(document["rows"]))
    print()
    print("full/subspace: the trained model against the reduced flow; 1 is agreement.\n")
    print(LAWS_TITLE)
    for line in [*words, *document["notes"]]:
        print(textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="    "))
    seconds = time.monotonic() - begun
    print(f"\n{seconds:.0f} s. In {config.output}: sweep.json, rows.csv, config.json, emergence_times.png, .svg")
    return document


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    times = {(row["query"], row["model"], row["context_length"], row["measure"]): row["time"] for row in rows}
    runs = list(dict.fromkeys((row["query"], row["model"], row["context_length"]) for row in rows))
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
    run_script(main, DemoConfig, __doc__)
