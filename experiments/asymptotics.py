"""Emergence times over eight decades of context length, the laws that they approach, and what a fit would have claimed.

`python -m experiments.asymptotics --output DIR` writes times.csv, slopes.csv, laws.csv, corrections.csv (what comes
after the law), exponents.csv and fits.csv (local exponents, and the power law of short contexts), and two figures.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.dynamics.flow import ACCURACY
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.asymptotics import plot_asymptotics
from induction_dynamics.plotting.local_exponents import plot_local_exponents
from induction_dynamics.scaling.laws import fit_laws, local_log_slopes
from induction_dynamics.scaling.least_squares import fit_terms
from induction_dynamics.scaling.limits import MEASURES, AsymptoticLaw, asymptotic_law, first_correction
from induction_dynamics.scaling.plan import log_spaced
from induction_dynamics.scaling.points import Point, Row
from induction_dynamics.scaling.sweep import sweep
from induction_dynamics.task import Task

AROUND_THE_PLATEAU = (0.4, 0.5, 0.7)
"""Thresholds of gamma_3 with nineteen coordinates and the query uniform, where its plateau is at 0.5."""

SERIES = ("model", "query", "measure", "threshold")

SHORT = 64
"""Longest context of the power law that is fitted as a warning."""

FAR = (10**3, 10**6, 10**9)
"""Context lengths at which the local exponent is told beside it."""

SQUARE = ("circuit", "last")
"""Model and query whose times grow as N^2."""

FINE = 1e-10
"""Accuracy of the flow whose corrections are of order 1/N: they are lost in that of others from N = 10^6 on."""


@dataclasses.dataclass(frozen=True)
class AsymptoticsConfig:
    """What is run.

    Args:
        output: folder for the tables and the figure.
        circuit_lengths: N of the three-coordinate flow, both queries.
        subspace_lengths: N of the nineteen-coordinate flow, both queries.
        short_lengths: further N of both, up to 64, over which a power law is fitted.
        queries: which of them.
    """

    output: Path = Path("build/figures/asymptotics")
    circuit_lengths: tuple[int, ...] = tuple(log_spaced(10, 10**9, 4))
    subspace_lengths: tuple[int, ...] = tuple(log_spaced(100, 10**9, 2))
    short_lengths: tuple[int, ...] = (4, 6, 8, 11, 16, 23, 32, 45, 64)
    queries: tuple[str, ...] = ("last", "uniform")

    def __post_init__(self):
        for name in ("circuit_lengths", "subspace_lengths", "short_lengths"):
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
        Point(Task(length, query=query), model, accuracy=FINE if (model, query) == SQUARE else ACCURACY)
        for model, lengths in (("circuit", config.circuit_lengths), ("subspace", config.subspace_lengths))
        for query in config.queries
        for length in sorted({*lengths, *(config.short_lengths if lengths else ())})
    ]
    with progress(lines=True) as tell:
        rows = sweep(points, measures=MEASURES, thresholds=AROUND_THE_PLATEAU, on_progress=tell)
    times = [_time(row) for row in rows if row.threshold == 0.5 or _around_the_plateau(row)]
    exponents = _exponents(times)
    fits = _fits(times, exponents)
    tables = {"slopes": _slopes(times), "laws": _laws(times), "corrections": _corrections(times)}
    tables |= {"exponents": exponents, "fits": fits}
    figures = {"asymptotics": plot_asymptotics(times)}
    if exponents:
        figures["local_exponents"] = plot_local_exponents(exponents, fits)
    record(config.output, config=config, command=command, figures=figures, tables={"times": times, **tables})


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


def _exponents(times: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The slope d ln T / d ln N at every length that has two neighbours, of the parabola through the three."""
    rows = []
    for series, (lengths, found) in _curves(times).items():
        if any(time is None for time in found):
            continue
        log_n, log_t = np.log(lengths), np.log(np.array(found, dtype=float))
        for at in range(len(lengths) if len(lengths) > 2 else 0):
            first = min(max(at - 1, 0), len(lengths) - 3)
            x, y = log_n[first : first + 3] - log_n[at], log_t[first : first + 3]
            rows.append(
                {
                    **dict(zip(SERIES, series, strict=True)),
                    "context_length": lengths[at],
                    "exponent": float(np.polyfit(x, y, 2)[1]),
                }
            )
    return rows


def _fits(times: Sequence[dict[str, Any]], exponents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The power law fitted up to N = 64, which is a warning, beside the law and the exponents far beyond."""
    rows = []
    for series, (lengths, found) in _curves(times).items():
        short = [(n, time) for n, time in zip(lengths, found, strict=True) if n <= SHORT]
        if len(short) < 3:
            continue
        p = fit_laws(*zip(*short, strict=True), noise_free=True)[0].parameters["p"]
        law, names = asymptotic_law(*series), dict(zip(SERIES, series, strict=True))
        own = {row["context_length"]: row["exponent"] for row in exponents if all(row[k] == names[k] for k in names)}
        rows.append(
            {
                **names,
                "first": short[0][0],
                "last": short[-1][0],
                "points": len(short),
                "p": p.value,
                "low": p.low,
                "high": p.high,
                "growth": None if law is None else law.growth,
                **{f"exponent_at_1e{round(math.log10(n))}": own.get(n) for n in FAR},
            }
        )
    return rows


def _corrections(times: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What comes after the law of each series: coefficients of the forms tried, with intervals of their misfit."""
    rows = []
    for series, (lengths, found) in _curves(times).items():
        law = asymptotic_law(*series)
        if law is None or any(time is None for time in found):
            continue
        n, time = np.array(lengths, dtype=float), np.array(found, dtype=float)
        for first, last, form, quantity, terms, values in _forms(series, law, n, time):
            kept = (n >= first) & (n <= last)
            if kept.sum() <= len(terms):
                continue
            fitted, left = fit_terms({name: term[kept] for name, term in terms.items()}, values[kept])
            for name, interval in fitted.items():
                known = {"s": 1 / law.constant, "d": first_correction(*series)}.get(name)
                rows.append(
                    {
                        **dict(zip(SERIES, series, strict=True)),
                        "quantity": quantity,
                        "form": form,
                        "first": int(n[kept][0]),
                        "last": int(n[kept][-1]),
                        "coefficient": name,
                        **dataclasses.asdict(interval),
                        "closed_form": known if name == "s" or form.startswith("d") else None,
                        "left": left,
                    }
                )
    return rows


Form = tuple[float, float, str, str, dict[str, np.ndarray], np.ndarray]


def _forms(series: tuple[Any, ...], law: AsymptoticLaw, n: np.ndarray, time: np.ndarray) -> list[Form]:
    """First and last N, the form in words, what it is of, its terms and the values, for all that is tried."""
    one, log_n = np.ones_like(n), np.log(n)
    if law.growth == "N^2/log N":
        value, rest = n**2 / time, n**2 / time - log_n / law.constant
        found: list[Form] = []
        for first in (1e4, 1e6):
            within = first, 1e9
            found += [
                (*within, "s ln N + c + e/ln N", "N^2/T", {"s": log_n, "c": one, "e": 1 / log_n}, value),
                (*within, "c", "N^2/T - ln N / C", {"c": one}, rest),
                (*within, "c + e/ln N", "N^2/T - ln N / C", {"c": one, "e": 1 / log_n}, rest),
                (
                    *within,
                    "c + e/ln N + f/(ln N)^2",
                    "N^2/T - ln N / C",
                    {"c": one, "e": 1 / log_n, "f": log_n**-2.0},
                    rest,
                ),
            ]
        return found
    power = 1 if law.growth == "N" else 2
    value = n * (time / n**power - law.constant)
    quantity = f"N (T/N{'^2' if power == 2 else ''} - C)"
    if series[:2] != SQUARE:  # gamma_3 alone, whose solver is right to 1e-7
        within = 64.0, 1e5
        return [
            (*within, "d + g ln N", quantity, {"d": one, "g": log_n}, value),
            (*within, "d", quantity, {"d": one}, value),
        ]
    if series[2] == "gamma_3":
        return [
            (4.0, 1e4, "e/N", quantity, {"e": 1 / n}, value),
            (4.0, 1e4, "d + e/N", quantity, {"d": one, "e": 1 / n}, value),
        ]
    if series[2] != "loss":
        return [(16.0, 1e5, "d + e/N", quantity, {"d": one, "e": 1 / n}, value)]
    within = 64.0, 1e6
    root = np.sqrt(2 * np.log(2 * n))
    behind = 4 * root + 2 * np.log(root**2)
    return [
        (*within, "g sqrt N", quantity, {"g": np.sqrt(n)}, value),
        (*within, "g", quantity, {"g": one}, value),
        (*within, "g ln N", quantity, {"g": log_n}, value),
        (*within, "g ln N + h", quantity, {"g": log_n, "h": one}, value),
        (
            *within,
            "g ln N + 4 sqrt(2 ln 2N) + 2 ln(2 ln 2N) + h",
            quantity,
            {"g": log_n, "h": one},
            value - behind,
        ),
    ]


if __name__ == "__main__":
    run_script(main, AsymptoticsConfig, __doc__)
