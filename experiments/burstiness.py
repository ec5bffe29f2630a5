"""Several copies of the queried pair: does the context length over the number of copies rule emergence?

`python -m experiments.burstiness --output DIR` writes times.csv, fits.csv, gains.csv and the figure. Stopped or killed,
it goes on from its ledger.

Where it comes from. At small coordinates, every token has attention close to 1/(2N), so that gamma_3 tends to a plateau
(`plateau`), near m for m^2 << 2N. There d loss/d beta_2 and d loss/d alpha_3 are those of

    -(m / 2N) E_S [ sum over the labels k in S of e^{beta g_k} ],    g_k about e^alpha / 2k,

and the mean of 1/k over the places is (ln N)/N, but the queried pair in the last place has 1/N alone. To leading order

    T(N, m) = T_1(N) / gain,   gain = m^2 (query uniform),   m (1 + (m - 1) ln N) (query last),

where T_1 is the time with one copy: 4 N^2/ln N (uniform) or 4 N^2 (last) times an integral that N and m do not change.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.burstiness import plot_burstiness
from induction_dynamics.scaling.least_squares import fit_terms
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.task import Task

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss")
FRACTIONS = (0.5, 0.1)
"""Of the loss: with many copies half of it is gone before any induction head."""


@dataclasses.dataclass(frozen=True)
class BurstConfig:
    """What is run.

    Args:
        output: folder for the tables and the figure.
        ledger: folder that keeps what has been computed.
        queries: which of them.
        circuit_lengths: N of the three-coordinate flow.
        circuit_copies: m, of each N those up to N/2.
        subspace_lengths: N of the nineteen-coordinate flow.
        subspace_copies: m, likewise.
        full_lengths: N of the trained full model.
        full_copies: m, likewise.
        seeds: of the trainings.
        batch_size: sequences per training step.
        step: flow time per training step.
        shared_frames: sequences of a batch that share tokens and positions.
    """

    output: Path = Path("build/figures/burstiness")
    ledger: Path = Path("build/ledgers/burstiness")
    queries: tuple[str, ...] = ("last", "uniform")
    circuit_lengths: tuple[int, ...] = (8, 16, 32, 64, 128, 256)
    circuit_copies: tuple[int, ...] = (1, 2, 4, 8, 16)
    subspace_lengths: tuple[int, ...] = (4, 8, 16)
    subspace_copies: tuple[int, ...] = (1, 2, 4)
    full_lengths: tuple[int, ...] = (8,)
    full_copies: tuple[int, ...] = (1, 2, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 256
    step: float = 0.125
    shared_frames: int = 16


def main(config: BurstConfig, command: str = "make figures ONLY=burstiness") -> None:
    """Solve and train, and record times, what copies gain, and the fitted exponents of N and m.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    with progress(lines=True) as tell:
        result = run_sweep(
            _points(config), config.ledger, measures=MEASURES, loss_fractions=FRACTIONS, on_progress=tell
        )
    names = ("model", "query", "context_length", "copies", "seed", "measure", "threshold", "time", "outcome")
    times = [{name: row[name] for name in names} for row in result.rows()]
    gains, fits = _gains(times), _fits(times)
    record(
        config.output,
        config=config,
        command=command,
        figures={"burstiness": plot_burstiness(gains)},
        tables={"times": times, "gains": gains, "fits": fits},
    )


def _points(config: BurstConfig) -> list[Point]:
    points = []
    for query in config.queries:
        for model, lengths, copies in (
            ("circuit", config.circuit_lengths, config.circuit_copies),
            ("subspace", config.subspace_lengths, config.subspace_copies),
            ("full", config.full_lengths, config.full_copies),
        ):
            pairs = itertools.product(lengths, copies)
            tasks = [Task(n, query=query, copies=m) for n, m in pairs if m <= max(n // 2, 1)]
            if model != "full":
                points += [Point(task, model) for task in tasks]
                continue
            how = {"batch_size": config.batch_size, "step": config.step, "shared_frames": config.shared_frames}
            points += [Point(task, "full", seed=seed, **how) for task in tasks for seed in config.seeds]
    return points


def plateau(pairs: int, copies: int) -> float:
    """gamma_3 at which the loss is least while all attention is even, 2N m / (2 m^2 + 2N - 2m).

    The answer then is "what is frequent": gamma_3 times the mean of all tokens, of which the right label is m/(2N).

    Args:
        pairs: N.
        copies: m.
    """
    return 2 * pairs * copies / (2 * copies**2 + 2 * pairs - 2 * copies)


def plateau_loss(pairs: int, copies: int) -> float:
    """The loss there, as a fraction of its start: 1 - m^2 / (2 m^2 + 2N - 2m).

    Args:
        pairs: N.
        copies: m.
    """
    return 1 - copies**2 / (2 * copies**2 + 2 * pairs - 2 * copies)


def gain(measure: str, query: str, pairs: int, copies: int) -> float:
    """By what m copies hasten emergence at threshold 1/2, to leading order in N.

    Of gamma_3, which goes to its plateau m as 1 - e^{-t/2N} does, ln 2 / -ln(1 - 1/(2m)).

    Args:
        measure: a coordinate of the circuit, or the loss.
        query: `last` or `uniform`.
        pairs: N.
        copies: m.
    """
    if measure == "gamma_3":
        return -math.log(2) / math.log1p(-0.5 / copies)
    return float(copies**2) if query == "uniform" else copies * (1 + (copies - 1) * math.log(pairs))


def _gains(times: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """T with one copy over T with m, at the same N and at N/m, beside the leading order; means over seeds.

    There is none where a run of either has no time.
    """
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in times:
        key = tuple(row[name] for name in ("model", "query", "measure", "threshold", "context_length", "copies"))
        found.setdefault(key, []).append(math.nan if row["time"] is None else row["time"])
    found = {key: values for key, values in found.items() if all(map(math.isfinite, values))}
    rows = []
    for (*series, length, copies), values in found.items():
        single, shorter = ((*series, pairs, 1) for pairs in (length, length / copies))
        if copies == 1 or single not in found:
            continue
        time = float(np.mean(values))
        query, measure = series[1], series[2]
        rows.append(
            {
                **dict(zip(("model", "query", "measure", "threshold"), series, strict=True)),
                "context_length": length,
                "copies": copies,
                "time": time,
                "gain": float(np.mean(found[single])) / time,
                "leading": gain(measure, query, length, copies),
                "against_effective_length": time / float(np.mean(found[shorter])) if shorter in found else None,
                "plateau": plateau(length, copies),
                "plateau_loss": plateau_loss(length, copies),
            }
        )
    return rows


def _fits(times: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Exponents p and r of T = c N^p / m^r, by least squares in logarithms, with 95 % intervals: N/m rules if r = p."""
    found: dict[tuple[Any, ...], list[tuple[int, int, float]]] = {}
    without: dict[tuple[Any, ...], int] = {}
    for row in times:
        # where a plateau of frequency is worth a tenth of the loss, half of the loss is another thing
        if plateau_loss(row["context_length"], row["copies"]) <= 0.9:
            continue
        key = tuple(row[name] for name in ("model", "query", "measure", "threshold"))
        if row["time"] is None:
            without[key] = without.get(key, 0) + 1
        else:
            found.setdefault(key, []).append((row["context_length"], row["copies"], row["time"]))
    rows = []
    for series, points in found.items():
        n, m, t = (np.log(np.array(column, float)) for column in zip(*points, strict=True))
        terms = {"constant": np.ones_like(n), "length": n, "copies": -m}
        try:
            fitted, _ = fit_terms(terms, t)
        except ArgumentError:  # too few, or of one N or one m alone
            continue
        exponents: dict[str, float] = {}
        for name in ("length", "copies"):
            exponents[f"of_{name}"] = fitted[name].value
            exponents[f"of_{name}_error"] = (fitted[name].high - fitted[name].low) / 2
        about = dict(zip(("model", "query", "measure", "threshold"), series, strict=True))
        rows.append({**about, "points": len(points), "censored": without.get(series, 0), **exponents})
    return rows


if __name__ == "__main__":
    run_script(main, BurstConfig, __doc__)
