"""Sums of terms fitted by least squares, with intervals. Pure statistics, no JAX."""

import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.laws import Interval


def fit_terms(
    terms: Mapping[str, np.ndarray], values: np.ndarray, *, confidence: float = 0.95
) -> tuple[dict[str, Interval], float]:
    """Fit a sum of terms with free coefficients by least squares, each deviation counted alike.

    Args:
        terms: what each coefficient multiplies, by its name, shaped like `values`.
        values: finite numbers, more than there are terms.
        confidence: coverage of the t-intervals, between 0 and 1; of values without noise they measure misfit.

    Returns:
        The coefficients with their intervals, and the root mean square of what is left.

    Raises:
        ArgumentError: too few values, or terms of which one is a sum of the others.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics.scaling.least_squares import fit_terms
        >>> n = np.array([4.0, 8.0, 16.0, 32.0])
        >>> found, left = fit_terms({"c": np.ones(4), "d": 1 / n}, 2 + 3 / n)
        >>> print(f"{found['c'].value:.6f} {found['d'].value:.6f} {left:.6f}")
        2.000000 3.000000 0.000000
    """
    if len(values) <= len(terms):
        raise ArgumentError("values", values.tolist(), f"more than {len(terms)}, the number of terms")
    columns = np.stack(list(terms.values()), axis=1)
    sizes = np.linalg.norm(columns, axis=0)
    if not np.all(sizes > 0) or np.linalg.matrix_rank(columns / sizes[None]) < len(terms):
        raise ArgumentError("terms", list(terms), "such that none is a sum of the others")
    q, r = np.linalg.qr(columns / sizes[None])
    coefficients = np.linalg.solve(r, q.T @ values) / sizes
    left = values - columns @ coefficients
    freedom = len(values) - len(terms)
    spread = np.linalg.norm(np.linalg.inv(r), axis=1) / sizes * math.sqrt(float(left @ left) / freedom)
    widths = float(stats.t.ppf((1 + confidence) / 2, freedom)) * spread
    found = {
        name: Interval(value, value - width, value + width)
        for name, value, width in zip(terms, coefficients.tolist(), widths.tolist(), strict=True)
    }
    return found, math.sqrt(float(left @ left) / len(values))
