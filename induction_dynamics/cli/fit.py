"""`induction-dynamics fit`: laws for the curves in one or more folders of sweeps."""

import itertools
import math
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.document import as_json, build, versions
from induction_dynamics.cli.folder_options import FitOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.studies import read_curves
from induction_dynamics.cli.tables import (
    HEADINGS,
    in_lines,
    new_console,
    new_table,
    show_lines,
    show_table,
    time_in_words,
)
from induction_dynamics.cli.values import visible

if TYPE_CHECKING:
    from rich.table import Table

    from induction_dynamics.scaling.curves import Curve

_HEADINGS = HEADINGS | {"threshold": "level"}
_LEGEND = """\
Laws for T(N), with {percent:g} % intervals: power is T = c N^p, quadratic is
T = N^2 (c + d/N), quadratic_log is T = N^2 / (a ln N + b).
dAICc: AICc above that of the curve's best law; *: preferred, by 2 or more."""
_WITHOUT_NOISE = "Reduced models on orthonormal inputs have no noise: there dAICc and the intervals measure misfit."

Fit = dict[str, Any]


def run(options: FitOptions) -> None:
    """Fit laws to the curves, and print them.

    Raises:
        Refusal: a folder is refused, or no row is left.
    """
    from induction_dynamics.scaling.curves import fit_curves

    rows, curves = read_curves(options.folders, options.curves)
    fits, words, notes = fit_curves(curves, options.confidence)
    if options.json:
        sys.stdout.write(as_json(build("fit", _config(options, curves), rows, fits, notes)))
    else:
        _show(rows, curves, fits, words, notes, options)


def _config(options: FitOptions, curves: "Sequence[Curve]") -> dict[str, Any]:
    return {
        "folders": [visible(folder) for folder in options.folders],
        "by": list(curves[0].labels),
        "where": [visible(condition.typed) for several in options.curves.where for condition in several],
        "confidence": options.confidence,
        "versions": versions(),
    }


def _show(
    rows: Sequence[dict[str, Any]],
    curves: "Sequence[Curve]",
    fits: Sequence[Fit],
    words: Sequence[str],
    notes: Sequence[str],
    options: FitOptions,
) -> None:
    console = new_console()
    by_curve = [list(laws) for _, laws in itertools.groupby(fits, key=_labels)]
    varying = [name for name in curves[0].labels if len({curve.labels[name] for curve in curves}) > 1]
    if not options.quiet:
        print(_in_common(rows, curves, varying, console.width))
        print(time_in_words(rows))
        print("\n" if fits else "", end="")
    if fits or options.quiet:
        show_table(_table(by_curve, varying, console.width), console)
    if not fits or not options.quiet:
        told = [
            line
            for line, laws in zip(words, by_curve, strict=True)
            if laws[0]["censored"] or not any(fit["preferred"] for fit in laws)
        ]
        if fits:
            print("\n" + _LEGEND.format(percent=100 * options.confidence))
        if any(curve.noise_free for curve in curves) and fits:
            print(textwrap.fill(_WITHOUT_NOISE, console.width))
        show_lines("Undecided, or not of all points", told, console)
        show_lines("Notes", notes, console)


def _labels(fit: Fit) -> list[Any]:
    """What comes before the law: the labels of the curve."""
    return list(itertools.takewhile(lambda item: item[0] != "law", fit.items()))


def _in_common(rows: Sequence[dict[str, Any]], curves: "Sequence[Curve]", varying: Sequence[str], width: int) -> str:
    """All that the table does not say, but for what the notes say was pooled; in lines that part no phrase."""
    from induction_dynamics.scaling.curves import LABELS, is_usual, phrase, value_of

    pooled = {name for curve in curves for name in curve.pooled}
    parts = []
    for name in LABELS:
        values = [value for value in dict.fromkeys(value_of(row, name) for row in rows) if value is not None]
        if name in varying or name in pooled or all(is_usual(name, value) for value in values):
            continue
        if name == "seed" and len(values) > 1:
            parts.append(f"{len(values)} seeds")
        else:
            parts.append(" or ".join(phrase(name, value) for value in values))
    return in_lines([visible(part) for part in parts], width)


def _table(by_curve: Sequence[Sequence[Fit]], varying: Sequence[str], width: int) -> "Table":
    """A line for each curve and law with its first parameter, and one below it for the second."""
    from induction_dynamics.scaling.curves import phrase, shown

    blocks = [_laws(laws) for laws in by_curve]
    labels = [[visible(shown(laws[0][name])) for name in varying] for laws in by_curve]
    headings = [_HEADINGS.get(name, name) for name in varying]
    lines = [
        [[*own, *line] if line[0] else [*[""] * len(own), *line] for line in block]
        for own, block in zip(labels, blocks, strict=True)
    ]
    rest = ["law", "parameters", "dAICc", ""]
    if _width([[*headings, *rest], *itertools.chain(*lines)]) > width:
        headings = ["curve"]
        lines = []
        for laws, block in zip(by_curve, blocks, strict=True):
            names = [visible(phrase(name, laws[0][name])) for name in varying if laws[0][name] is not None]
            pairs = itertools.zip_longest(names, block)
            lines.append([[name or "", *(line or [""] * len(rest))] for name, line in pairs])
    table = new_table([*headings, *rest], right=["dAICc"])
    for block in lines:
        for place, line in enumerate(block):
            table.add_row(*line, end_section=place + 1 == len(block) and block is not lines[-1])
    return table


def _width(lines: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in zip(*lines, strict=True)) - 2


def _laws(laws: Sequence[Fit]) -> list[list[str]]:
    best = min((fit["aicc"] for fit in laws if fit["aicc"] is not None), default=math.nan)
    lines = []
    for fit in laws:
        lead = "-" if fit["aicc"] is None else f"{fit['aicc'] - best:.1f}"
        first, second = (f"{name} = {_interval(**found)}" for name, found in fit["parameters"].items())
        lines += [[fit["law"], first, lead, "*" if fit["preferred"] else ""], ["", second, "", ""]]
    return lines


def _interval(value: float, low: float, high: float) -> str:
    """An estimate and its interval, to two digits of the interval's half-width but five at most of the largest."""
    largest, half = max(abs(low), abs(high)), high / 2 - low / 2
    exponent = math.floor(math.log10(largest)) if largest else 0
    digits = min(max(exponent - math.floor(math.log10(half)) + 2, 3), 5) if half else 5
    form = f".{max(digits - 1 - exponent, 0)}f" if -3 <= exponent < 5 else f".{digits - 1}e"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


COMMAND = Command(
    name="fit",
    summary="laws for emergence times against N, from folders of sweeps",
    description="""\
Fits three laws to emergence times T(N) in one or more folders that 'sweep' has
written: T = c N^p, T = N^2 (c + d/N) and T = N^2 / (a ln N + b). Each comes
with intervals of its parameters, and with how far its AICc is above that of the
best. A law is preferred if it leads every other one by 2 or more, with 5 points
at least; else a sentence says that the data do not decide.

Rows that differ in N and seed alone make one curve, so that repeats are fitted
together; rows of several folders make several. --by says otherwise, and
--where picks rows, such as --where model=full batch_size=64. A time that has
not emerged, or whose run failed, is counted and not fitted.

N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time:
for gradient descent, learning rate x steps / D; for other optimizers, steps.

Example:

  induction-dynamics fit out/sweep
  induction-dynamics fit runs/small runs/large --where measure=beta_2 query=last""",
    options=FitOptions,
    run=run,
)
