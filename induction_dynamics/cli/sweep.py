"""`induction-dynamics sweep`: models over context lengths, with fitted laws, in a folder."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from induction_dynamics.cli.computing import compute, make_points, use_device
from induction_dynamics.cli.document import as_csv, as_json, build, configuration, fit_rows
from induction_dynamics.cli.folder import CONFIG, claimed, pictures, text, write_all
from induction_dynamics.cli.options import SweepOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.refusal import Refusal
from induction_dynamics.cli.tables import show
from induction_dynamics.cli.values import visible

FILES = ("rows.csv", "fits.json", "sweep.json", "emergence_times.png", "emergence_times.svg")


def run(options: SweepOptions) -> None:
    """Compute every model at every context length, fit laws, write the folder and print the result.

    Raises:
        Refusal: the context lengths or the folder are refused; nothing was computed or written.
        ArgumentError: a value that the task or a model does not take.
    """
    lengths = context_lengths(options)
    points = make_points(lengths, options.model, options)
    device_kind = use_device(options.answer.device)
    config = configuration(options, device_kind, lengths)
    with claimed(options.output, config, FILES) as folder:
        rows = compute(points, options)
        fits, words, notes = fit_rows(rows)
        # flat, so that asdict, which copies what it holds, would take ten times as long
        document = build("sweep", config, [vars(row) for row in rows], fits, notes)
        printed = as_json(document)
        write_all(folder, _writers(document, printed))
    if options.answer.json:
        sys.stdout.write(printed)
        return
    show(document, words, quiet=options.answer.quiet)
    if not options.answer.quiet:
        print(f"\nWritten to {visible(options.output)}")


def context_lengths(options: SweepOptions) -> list[int]:
    """The context lengths that were listed, or those of the range.

    Raises:
        Refusal: neither or both forms are given, or the range is incomplete or runs backwards.
    """
    span = {"--from": options.first, "--to": options.last, "--per-decade": options.per_decade}
    given = [flag for flag, value in span.items() if value is not None]
    if options.context_lengths and given:
        raise Refusal(f"--context-lengths and {given[0]} exclude each other: give a list, or a range, not both.")
    if options.context_lengths:
        return list(options.context_lengths)
    first, last, per_decade = span.values()
    if not given:
        raise Refusal("--context-lengths is missing: give one or more of them, or --from, --to and --per-decade.")
    if first is None or last is None or per_decade is None:
        missing = next(flag for flag, value in span.items() if value is None)
        raise Refusal(f"{missing} is missing: a range takes all of --from, --to and --per-decade.")
    if last < first:
        raise Refusal(f"--to must be at least --from, which is {first}; got '{last}'.")
    return log_spaced(first, last, per_decade)


def log_spaced(first: int, last: int, per_decade: int) -> list[int]:
    """Distinct whole numbers, evenly spaced in their logarithm, with both ends.

    Example:
        >>> log_spaced(4, 400, 2)
        [4, 13, 40, 126, 400]
    """
    count = max(math.ceil(per_decade * math.log10(last / first) - 1e-9), 1)
    inner = (round(first * (last / first) ** (index / count)) for index in range(1, count))
    return sorted({first, *inner, last})


def _writers(document: dict[str, Any], printed: str) -> dict[str, Callable[[Path], object]]:
    from induction_dynamics.plotting.emergence_times import plot_emergence_times

    figure = plot_emergence_times(document["rows"], document["fits"])
    return {
        CONFIG: text(as_json(document["config"])),
        "rows.csv": text(as_csv(document["rows"])),
        "fits.json": text(as_json(document["fits"])),
        "sweep.json": text(printed),
        **pictures("emergence_times", figure),
    }


COMMAND = Command(
    name="sweep",
    summary="emergence times over context lengths, with fitted laws, in a folder",
    description="""\
Emergence times of one or more models over many context lengths, and three laws
fitted to them: T = c N^p, T = N^2 (c + d/N) and T = N^2 / (a ln N + b).

N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time:
for gradient descent, learning rate x steps / D. Writes rows.csv, fits.json,
sweep.json, config.json and emergence_times.png and .svg to the folder, which
may hold an earlier answer to the same options and no other.

Example:

  induction-dynamics sweep --context-lengths 4 8 16 32 64 --output out/sweep
  induction-dynamics sweep --from 4 --to 4096 --per-decade 3 --model circuit \\
    --output out/circuit""",
    options=SweepOptions,
    run=run,
)
