"""Emergence times computed apart from the package: `twin_losses` integrated by SciPy's Radau.

python -m tests.dynamics.twins        writes tests/data/twin_times.json, in about five minutes on two cores
"""

import functools
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import integrate, interpolate, optimize

from tests.dynamics.twin_losses import (
    MOBILITY,
    PLACES,
    Sums,
    Vector,
    circuit_last,
    circuit_uniform,
    complex_step,
    subspace,
)

THRESHOLDS = (0.01, 0.1, 0.5, 0.9, 0.99)
MEASURES = ("alpha_3", "beta_2", "gamma_3", "loss")
LENGTHS = {
    ("circuit", "last"): (2, 4, 10, 64, 1000, 100_000, 1_000_000),
    ("circuit", "uniform"): (2, 4, 64, 1024, 10_000, 100_000, 1_000_000),
    ("subspace", "last"): (2, 4, 16, 64, 1000, 10_000, 100_000, 1_000_000),
    ("subspace", "uniform"): (2, 4, 16, 64, 1000, 10_000, 100_000, 1_000_000),
}
TABLE = Path(__file__).parents[1] / "data" / "twin_times.json"
HORIZON = 100.0  # in units of N^2; for two pairs, query last, the nineteen come to rest with alpha_3 at 0.4876
TOLERANCES = (1e-9, 1e-10)  # of SciPy's step control; the times are those of the finer, the coarser shows their error


class Crossings(NamedTuple):
    """First crossings in flow time, by measure and then threshold (for the loss: fraction of its start, from above).

    None where there is none up to the horizon.
    """

    times: dict[str, tuple[float | None, ...]]
    steps: int


def first_crossings(model: str, query: str, pairs: int, tolerance: float) -> Crossings:
    """Integrate from zero until every measure has crossed every threshold, or up to the horizon."""
    mobility = np.ones(3) if model == "circuit" else MOBILITY
    if (model, query) == ("circuit", "last"):
        value_and_gradient, hessian = circuit_last(pairs)
    else:
        sums = Sums(pairs)
        value_and_gradient = circuit_uniform(sums) if model == "circuit" else subspace(sums, query)
        hessian = functools.partial(complex_step, lambda theta: value_and_gradient(theta)[1])
    scale = mobility * float(pairs) ** 2
    dimension, places = len(mobility), list(PLACES[model])
    solver = integrate.Radau(
        lambda s, theta: -scale * value_and_gradient(theta)[1],
        0.0,
        np.zeros(dimension),
        HORIZON,
        rtol=tolerance,
        atol=tolerance / 100,
        first_step=1e-6 / pairs,  # times at rest are of order 1/N
        jac=lambda s, theta: -scale[:, None] * hessian(theta),
    )

    def record():
        # Each measure and its derivative by s; the loss as what is gone of it.
        loss, gradient = value_and_gradient(solver.y)
        values = np.append(solver.y[places], loss)
        slopes = np.append(-scale[places] * gradient[places], -gradient @ (scale * gradient))
        return solver.t, values, slopes

    records = [record()]
    start = records[0][1][-1]
    while records[-1][1][:3].min() < THRESHOLDS[-1] or records[-1][1][-1] > THRESHOLDS[0] * start:
        message = solver.step()
        assert solver.status != "failed", message
        records.append(record())
        if solver.status == "finished":
            break
    time, values, slopes = (np.array(column) for column in zip(*records, strict=True))
    times = {}
    for measure, name in enumerate(MEASURES):
        sign, levels = (-1, [x * start for x in THRESHOLDS[::-1]]) if name == "loss" else (1, THRESHOLDS)
        found = [
            _crossing(time, sign * values[:, measure], sign * slopes[:, measure], sign * level) for level in levels
        ]
        times[name] = tuple(None if s is None else s * pairs**2 for s in found)
    return Crossings(times, len(time) - 1)


def _crossing(time: Vector, values: Vector, slopes: Vector, level: float) -> float | None:
    """Root of the Hermite interpolant of degree 7 through the four records around the first crossing.

    SciPy's own dense output is a cubic, far less accurate than the steps.
    """
    after = int(np.argmax(values >= level))
    if after == 0:
        return None
    first = min(max(after - 2, 0), len(time) - 4)
    here = slice(first, first + 4)
    span = time[after] - time[after - 1]
    at = np.repeat((time[here] - time[after - 1]) / span, 2)
    given = np.stack([values[here] - level, span * slopes[here]], axis=1).reshape(-1)
    polynomial = interpolate.KroghInterpolator(at, given)
    return float(time[after - 1] + span * optimize.brentq(polynomial, 0.0, 1.0, xtol=1e-15))


def row(model: str, query: str, pairs: int) -> dict[str, Any]:
    """Times at the finer tolerance, each with its relative difference from the coarser."""
    coarse, fine = (first_crossings(model, query, pairs, tolerance) for tolerance in TOLERANCES)
    differences = {
        name: [
            None if a is None or b is None else float(f"{abs(a / b - 1):.1e}")
            for a, b in zip(coarse.times[name], fine.times[name], strict=True)
        ]
        for name in MEASURES
    }
    return {
        "model": model,
        "query": query,
        "context_length": pairs,
        "times": {name: list(times) for name, times in fine.times.items()},
        "differences": differences,
    }


def main() -> None:
    """Write the table."""
    points = [(model, query, pairs) for (model, query), lengths in LENGTHS.items() for pairs in lengths]
    with ProcessPoolExecutor(2) as pool:
        rows = list(pool.map(row, *zip(*points, strict=True)))
    head = {
        "origin": "NumPy and SciPy alone: python -m tests.dynamics.twins, which says how.",
        "definitions": "Flow times of first crossings from zero, orthonormal inputs, 90 degrees: a coordinate rising "
        "through each threshold, the loss falling through each fraction of its start, which are listed from 0.99 down; "
        f"null: never, up to {HORIZON:g} N^2.",
        "method": f"Radau with rtol {TOLERANCES[1]:g}; differences: relative, from the times with rtol "
        f"{TOLERANCES[0]:g}, whose error they are, some ten times that of the times given.",
        "thresholds": THRESHOLDS,
    }
    lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    TABLE.write_text(json.dumps(head, indent=2)[:-2] + f',\n  "rows": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
