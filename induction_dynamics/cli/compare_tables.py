"""What a reader at a terminal sees of a comparison."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from induction_dynamics.cli.tables import new_console, new_table, show_lines, show_table

_LEGEND = """\
residual: trained minus reduced, in the mean over the seeds, where it is largest
in size; error: its standard error over the seeds; T: flow time at which it is;
worst: the largest |trained - reduced| of any seed at any time. After +- stands
the standard error of a mean over the seeds."""


def show_comparison(document: dict[str, Any], quiet: bool = False) -> None:
    """Print emergence times of both models, and the largest deviations, the largest first.

    Args:
        document: as answered by `compare`.
        quiet: only the tables.
    """
    console, config, emergence = new_console(), document["config"], document["emergence"]
    first, span = emergence[0], document["curves"]["time"][-1]
    if not quiet:
        several = f", {first['copies']} copies" if first["copies"] > 1 else ""
        seeds = f"seed{'s' * (len(config['seeds']) > 1)} {', '.join(map(str, config['seeds']))}"
        print(
            f"N = {first['context_length']}, D = {first['embedding_dim']}, {first['inputs']} inputs, query "
            f"{first['query']}, rotation {first['rotation']:g} degrees{several}\n"
            f"batch size {config['batch_size']}, step {config['step']:g}, {seeds}, to flow time {span:g}\n"
        )
    show_table(_emergence(emergence), console)
    print()
    table = new_table(
        ("measure", "residual", "error", "T", "reduced", "trained", "worst"),
        right=("residual", "error", "T", "reduced", "trained", "worst"),
    )
    for row in sorted(document["rows"], key=lambda row: -abs(row["residual"])):
        error = "-" if row["standard_error"] is None else _short(row["standard_error"])
        values = (_short(row[name]) for name in ("reduced", "trained", "largest_of_a_seed"))
        table.add_row(row["measure"], _short(row["residual"], "+"), error, f"{row['time']:.6g}", *values)
    show_table(table, console)
    off = [values[-1] for name, values in document["curves"]["measures"]["off_subspace"].items() if "trained" in name]
    print(f"\nOff-subspace fraction of the trained weights at the end: {_mean(off, '.4g')}")
    if not quiet:
        print(f"\n{_LEGEND}")
        show_lines("Notes", document["notes"], console)


def _emergence(rows: Sequence[dict[str, Any]]) -> Any:
    """Emergence times of both models in the mean over the seeds, where every seed has one, and their ratio."""
    times = ("T reduced", "T trained", "trained/reduced")
    table = new_table(("measure", "level", *times), right=("level", *times))
    for measure, threshold in dict.fromkeys((row["measure"], row["threshold"]) for row in rows):
        own = [row for row in rows if (row["measure"], row["threshold"]) == (measure, threshold)]
        reduced = [row["time"] for row in own if row["model"] == "subspace"]
        trained = [row["time"] for row in own if row["model"] == "full"]
        both = None not in reduced and None not in trained and statistics.fmean(reduced) > 0
        ratio = _short(statistics.fmean(trained) / statistics.fmean(reduced)) if both else "-"
        table.add_row(measure, f"{threshold:g}", _mean(reduced, ".6g"), _mean(trained, ".6g"), ratio)
    return table


def _short(value: float, sign: str = "") -> str:
    size = abs(value)
    if 0 < size < 5e-4:
        return f"{value:{sign}.0e}"
    return f"{value:{sign}.3e}" if size >= 1e4 else f"{value:{sign}.{4 if size < 10 else 2 if size < 1000 else 1}f}"


def _mean(values: Sequence[float | None], digits: str) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"{len(known)} of {len(values)}" if known else "-"
    mean = f"{statistics.fmean(known):{digits}}"
    if len(set(known)) == 1:
        return mean
    return f"{mean} +- {statistics.stdev(known) / math.sqrt(len(known)):.2g}"
