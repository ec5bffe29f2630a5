"""What a reader at a terminal sees of a document."""

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LAWS_TITLE = """\
Laws for T(N): p is the exponent of power, T = c N^p, with its 95 % interval;
quadratic is T = N^2 (c + d/N), quadratic_log is T = N^2/(a ln N + b)"""

_LONG = 1000  # rows beyond which rich's half a millisecond a row is felt

_TRAINING = ("optimizer", "learning_rate", "steps", "sequences", "start", "hold", "training")
_OF_RUN = ("horizon", "batch_size", "step", "samples", "accuracy")
_OPTIONS = ("inputs", "query", "rotation", "copies", *_OF_RUN, *_TRAINING, "seed")
"""Of a run, besides N and the model; each is a column where several values of it occur."""

HEADINGS = {"batch_size": "batch", "embedding_dim": "D", "learning_rate": "rate"}
"""What columns are called where their own names are too wide."""

_OUTCOMES = {
    "emerged": "emerged",
    "solver_failed": "solver failed",
    "nonfinite": "not finite",
    "not_computed": "not computed",
}


def show(document: dict[str, Any], words: Sequence[str] = (), quiet: bool = False) -> None:
    """Print the table of times, and unless quiet the order of emergence, the fits in words and the notes.

    Args:
        document: as built by `document.build`.
        words: the fits in words.
        quiet: only the table.
    """
    console = new_console()
    rows = document["rows"]
    if not quiet and rows:
        first, several = rows[0], _several(rows)
        common = {
            "inputs": f"{first['inputs']} inputs",
            "query": f"query {first['query']}",
            "rotation": f"rotation {first['rotation']:g} degrees",
        }
        told = [words for name, words in common.items() if name not in several] or ["several tasks"]
        told += _unusual(rows, several)
        print(in_lines(told, console.width))
        print(f"{time_in_words(rows)}\n")
    show_table(_table(rows), console)
    if quiet:
        return
    for title, lines in (
        ("Order of emergence", _orders(rows)),
        (LAWS_TITLE, words),
        ("Notes", document["notes"]),
    ):
        show_lines(title, lines, console)


def time_in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """What N and T are, in lines of at most 80 characters.

    Args:
        rows: emergence times.
    """
    units = {row.get("time_unit") for row in rows}
    words = "training steps at emergence" if units == {"steps"} else "flow time at emergence"
    more = ",\nor training steps where the optimizer is not gd" if len(units) > 1 else ""
    return f"N item-label pairs: a sequence of 2N + 1 tokens; T: {words}{more}"


def in_lines(phrases: Sequence[str], width: int) -> str:
    """Phrases between commas, in lines that part none of them."""
    whole = ", ".join(phrase.replace(" ", "\0") for phrase in phrases)
    return textwrap.fill(whole, width, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def new_console() -> "Console":
    """Standard output, 80 columns wide where it is no terminal."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = 80
    return console


def new_table(columns: Sequence[str], right: Sequence[str], wrapped: Sequence[str] = ()) -> "Table":
    """An empty table.

    Args:
        columns: their names.
        right: those of them whose cells stand to the right.
        wrapped: those whose cells may take several lines.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name in columns:
        justify = "right" if name in right else "left"
        table.add_column(name, justify=justify, no_wrap=name not in wrapped, overflow="fold")
    return table


def show_table(table: "Table", console: "Console") -> None:
    """Print a table with every cell whole: rather in lines longer than the console than without a digit.

    Args:
        table: as made by `new_table`, of words.
        console: as made by `new_console`.
    """
    from rich.cells import cell_len

    for column in table.columns:
        cells = [column.header, *column.cells] if column.no_wrap else [column.header]
        column.min_width = max(cell_len(str(cell)) for cell in cells)
    whole = all(column.no_wrap for column in table.columns)
    if len(table.rows) <= _LONG or not whole:
        _print(table, console, whole)
        return
    head = new_table((), ())
    head.columns = [column.copy() for column in table.columns]
    _print(head, console, whole)
    padded = []
    for column in table.columns:
        spaces = [" " * ((column.min_width or 0) - cell_len(str(cell))) for cell in column.cells]
        right = column.justify == "right"
        padded.append([f"{s}{c}" if right else f"{c}{s}" for c, s in zip(column.cells, spaces, strict=True)])
    for row, cells in zip(table.rows, zip(*padded, strict=True), strict=True):
        line = "  ".join(cells)
        print(line, " " * len(line), sep="\n") if row.end_section else print(line)


def _print(table: "Table", console: "Console", whole: bool) -> None:
    """Print a table, if it is to be whole on a console that is wide enough: rich leaves out narrow columns else."""
    width = console.width
    if whole:
        console.width = max(width, sum((column.min_width or 0) + 2 for column in table.columns))
    try:
        console.print(table, crop=False)
    finally:
        console.width = width


def show_lines(title: str, lines: Sequence[str], console: "Console") -> None:
    """Print a title and under it, indented, a paragraph for each line; nothing where there is none."""
    if lines:
        print(f"\n{title}")
    for line in lines:
        print(textwrap.fill(line, console.width, initial_indent="  ", subsequent_indent="    "))


def _table(rows: Sequence[dict[str, Any]]) -> "Table":
    several = _several(rows)
    own = [HEADINGS.get(name, name) for name in several]
    # With columns of its own a table has no room for one that can be had from the others.
    scaled = () if several or any(row["time_unit"] != "flow" for row in rows) else ("T/N^2",)
    columns = ("N", "model", *own, "measure", "level", "T", *scaled, "outcome")
    words = ("model", "inputs", "query", "measure", "outcome", "optimizer", "start", "hold", "training")
    table = new_table(columns, [column for column in columns if column not in words])
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        time, length = row["time"], row["context_length"]
        table.add_row(
            str(length),
            row["model"],
            *(_cell(row[name]) for name in several),
            row["measure"],
            f"{row['threshold']:g}",
            "-" if time is None else f"{time:.6g}",
            *(["-" if time is None else f"{time / length**2:.5g}"] if scaled else []),
            _outcome(row),
            end_section=following is not None and _run(following) != _run(row),
        )
    return table


def _outcome(row: dict[str, Any]) -> str:
    outcome: str = row["outcome"]
    words = _OUTCOMES.get(outcome, outcome)
    if outcome == "horizon_reached":
        words = f"not by {row['steps']} steps" if row["horizon"] is None else f"not by {row['horizon']:g} N^2"
    return f"{words}, not held" if row["sustained"] is False else words


def _several(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Options of which the rows have several values, each where it has an effect."""
    from induction_dynamics.scaling.curves import value_of

    found = [name for name in _OPTIONS if len({value_of(row, name) for row in rows} - {None}) > 1]
    widths = {(row["inputs"], row["context_length"], row["embedding_dim"]) for row in rows}
    return [*found, *(["embedding_dim"] if len(widths) > len({width[:2] for width in widths}) else [])]


def _unusual(rows: Sequence[dict[str, Any]], several: Sequence[str]) -> list[str]:
    """How all was trained or begun, in words, where it is not by default and no column tells it."""
    from induction_dynamics.scaling.curves import is_usual, phrase, value_of

    found = []
    for name in ("copies", *_TRAINING):
        values = {value_of(row, name) for row in rows} - {None}
        if name not in several:
            found += [phrase(name, value) for value in values if not is_usual(name, value)]
    return found


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _run(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["context_length"], row["embedding_dim"], *(row.get(name) for name in _OPTIONS)


def _orders(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each order of emergence that was seen: model, threshold, where, and the order."""
    from induction_dynamics.dynamics.emergence import Emergence, emergence_order

    several = [name for name in _several(rows) if name != "seed"]
    runs: dict[tuple[Any, ...], list[Emergence]] = {}
    named: dict[tuple[Any, ...], tuple[str, int]] = {}
    for row in rows:
        crossing = Emergence(row["measure"], row["threshold"], row["time"], row["outcome"], row["sustained"])
        runs.setdefault(_run(row), []).append(crossing)
        values = (f"{HEADINGS.get(name, name)} {_cell(row[name])}" for name in several if row[name] is not None)
        named[_run(row)] = ", ".join((row["model"], *values)), row["context_length"]
    seen: dict[tuple[str, float, str], list[int]] = {}
    for run, crossings in runs.items():
        model, length = named[run]
        if len(crossings) > 1:
            for order in emergence_order(crossings):
                seen.setdefault((model, order.threshold, str(order)), []).append(length)
    return [f"{model} at {level:g}, N = {lengths(at)}: {order}" for (model, level, order), at in seen.items()]


def lengths(values: Sequence[int]) -> str:
    """Context lengths in a few words, each once."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) < 4:
        return ", ".join(map(str, distinct))
    return f"{distinct[0]} .. {distinct[-1]} ({len(distinct)} values)"
