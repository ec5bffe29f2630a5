"""Laws of emergence time against context length: fits, intervals and their ranking. Pure statistics, no JAX."""

import dataclasses
import math
from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
from scipy import optimize, stats

from induction_dynamics.errors import ArgumentError

LAWS = ("power", "quadratic", "quadratic_log")

# Two coefficients and the variance of ln T, for every law.
_PARAMETERS_COUNTED = 3
_FEWEST_TO_FIT = 3
_FEWEST_TO_RANK = 5
_DECISIVE_LEAD = 2.0
_LARGEST = float(np.finfo(float).max)

Numbers = Sequence[SupportsFloat | None] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, low <= value <= high.

    Args:
        value: the least-squares estimate.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class LawFit:
    """One law fitted to emergence times; the answer of `fit_laws`.

    Args:
        law: `power`, `quadratic` or `quadratic_log`.
        parameters: c and p (`power`), c and d (`quadratic`) or a and b (`quadratic_log`), each with its interval.
        confidence: coverage of the intervals, between 0 and 1.
        points: number n of points fitted.
        censored: number of points without an emergence time, which are not fitted.
        aicc: corrected Akaike criterion; None below 5 points.
        preferred: whether this law leads every other one by an AICc of 2 or more.
        noise_free: whether the times were said to have no noise.
    """

    law: str
    parameters: dict[str, Interval]
    confidence: float
    points: int
    censored: int
    aicc: float | None
    preferred: bool
    noise_free: bool = False

    def time(self, context_length: SupportsFloat | np.ndarray) -> np.ndarray:
        """The fitted curve T(N).

        Args:
            context_length: N >= 1, in pairs, any shape.

        Returns:
            T in the unit of the fitted times, shaped like N; NaN where, outside the data, the law gives no positive
            time.
        """
        n = np.asarray(context_length, dtype=float)
        value = {name: interval.value for name, interval in self.parameters.items()}
        with np.errstate(all="ignore"):
            if self.law == "power":
                curve = np.exp(np.log(value["c"]) + value["p"] * np.log(n))
            elif self.law == "quadratic":
                linear = value["c"] + value["d"] / n
                curve = np.where(linear > 0, n**2 * linear, np.nan)
            else:
                linear = value["a"] * np.log(n) + value["b"]
                curve = np.where(linear > 0, n**2 / linear, np.nan)
        return np.asarray(curve)


def fit_laws(
    context_lengths: Numbers,
    times: Numbers,
    *,
    noise_free: bool = False,
    confidence: float = 0.95,
    resolution: float = 1e-9,
) -> list[LawFit]:
    r"""Fit three laws to ln T by least squares and rank them.

    | law | equation | |
    |---|---|---|
    | `power` | T = c N^p | p is the headline |
    | `quadratic` | T = N^2 (c + d/N) | |
    | `quadratic_log` | T = N^2 / (a ln N + b) | |

    The linear function in the last two is kept positive over the range of the data. Intervals are t-intervals with
    n - 2 degrees of freedom: exact for p and for ln c of the power law, by the delta method for c, d, a and b. They
    take the errors of ln T to be independent and equally large.

        AICc = n ln(RSS / n) + 2 k + 2 k (k + 1) / (n - k - 1),    k = 3,

    with RSS no smaller than n `resolution`^2. A law is preferred if its AICc leads the next one's by 2 or more, from 5
    points on; preferred is not proved, since the laws are compared with each other only. T = c N^2 is a member of all
    three (p = 2, d = 0, a = 0), so that no amount of data decides between them there.

    Args:
        context_lengths: N >= 1, in pairs; repeats (seeds) are welcome, at least 3 distinct.
        times: T > 0, in flow time; None or NaN for a point that never emerged: counted as censored, not fitted.
        noise_free: the times come from a deterministic model, so intervals and AICc measure misfit, not evidence;
            changes no number, only the words of `describe_fits`.
        confidence: coverage of the intervals, between 0 and 1.
        resolution: numerical resolution of ln T, so that exact data are not ranked by rounding errors.

    Returns:
        One fit per law, in the order of the table.

    Raises:
        ArgumentError: lengths differ; N below 1; T not positive or infinite; fewer than 3 points with a time, or fewer
            than 3 distinct N among them; `confidence` or `resolution` out of range.

    Example:
        >>> import math
        >>> from induction_dynamics import fit_laws
        >>> fits = fit_laws([4, 8, 16, 32, 64, 128], [n**2 / (0.3 * math.log(n) + 1) for n in (4, 8, 16, 32, 64, 128)])
        >>> [fit.law for fit in fits if fit.preferred]
        ['quadratic_log']
        >>> print(f"{fits[2].parameters['a'].value:.6f} {fits[2].parameters['b'].value:.6f}")
        0.300000 1.000000

    Sources: Hurvich and Tsai, Biometrika 76 (1989) 297 (AICc); Burnham and Anderson, Model Selection and Multimodel
    Inference (2002), section 2.6 (the lead of 2); Seber and Wild, Nonlinear Regression (1989), section 5.1 (intervals).
    """
    if not 0 < confidence <= (1 + confidence) / 2 < 1:
        raise ArgumentError("confidence", confidence, "between 0 and 1")
    if not (resolution > 0 and math.isfinite(resolution)):
        raise ArgumentError("resolution", resolution, "positive and finite")
    n, t = _checked(context_lengths, times)
    emerged = ~np.isnan(t)
    points = int(emerged.sum())
    if points < _FEWEST_TO_FIT:
        raise ArgumentError("times", list(times), f"at least {_FEWEST_TO_FIT} emergence times that are not censored")
    log_n, log_t = np.log(n[emerged]), np.log(t[emerged])
    if np.unique(log_n).size < _FEWEST_TO_FIT:
        raise ArgumentError(
            "context_lengths",
            list(context_lengths),
            f"at least {_FEWEST_TO_FIT} distinct values among the points with a time",
        )
    quantile = float(stats.t.ppf((1 + confidence) / 2, points - 2))
    c, p, power_rss = _fit_power(log_n, log_t, quantile)
    intercept, slope, quadratic_rss = _fit_linear(np.exp(-log_n), log_t - 2 * log_n, quantile)
    intercept_log, slope_log, log_rss = _fit_linear(log_n, 2 * log_n - log_t, quantile)
    parameters = ({"c": c, "p": p}, {"c": intercept, "d": slope}, {"a": slope_log, "b": intercept_log})
    scores = [_aicc(rss, points, resolution) for rss in (power_rss, quadratic_rss, log_rss)]
    return [
        LawFit(
            law=law,
            parameters=parameters[i],
            confidence=confidence,
            points=points,
            censored=int((~emerged).sum()),
            aicc=scores[i],
            preferred=_leads(scores, i),
            noise_free=noise_free,
        )
        for i, law in enumerate(LAWS)
    ]


def describe_fits(fits: Sequence[LawFit], *, noise_free: bool = False) -> str:
    """The fits of one table in one to three plain sentences: exponent, ranking, and what limits them.

    Args:
        fits: as returned by `fit_laws`.
        noise_free: say that the ranking measures misfit; also said if the fits themselves carry the mark.

    Raises:
        ArgumentError: there is no power law among the fits.

    Example:
        >>> import math
        >>> from induction_dynamics import describe_fits, fit_laws
        >>> lengths = [4, 8, 16, 32, 64, 128]
        >>> print(describe_fits(fit_laws(lengths, [n**2 / (0.3 * math.log(n) + 1) for n in lengths])))
        p = 1.842 [1.824, 1.860] over 6 points; preferred: quadratic_log (AICc leads by 198.3).
        >>> print(describe_fits(fit_laws(lengths, [2 * n**2 for n in lengths])))  # which every law can be
        p = 2.0000 [2.0000, 2.0000] over 6 points; the data do not decide.
    """
    power = next((fit for fit in fits if fit.law == "power"), None)
    if power is None:
        raise ArgumentError("fits", [fit.law for fit in fits], "fits that include the power law")
    p = power.parameters["p"]
    half_width = (p.high - p.low) / 2
    digits = min(max(-math.floor(math.log10(half_width / 3)), 2), 4) if half_width > 0 else 4
    words = f"p = {p.value:.{digits}f} [{p.low:.{digits}f}, {p.high:.{digits}f}] over {power.points} points"
    preferred = next((fit for fit in fits if fit.preferred), None)
    scores = sorted(fit.aicc for fit in fits if fit.aicc is not None)
    if not scores:
        words += "; too few points to rank."
    elif preferred is None:
        words += "; the data do not decide."
    else:
        words += f"; preferred: {preferred.law} (AICc leads by {scores[1] - scores[0]:.1f})."
    if scores and (noise_free or power.noise_free):
        words = words.removesuffix(".") + ", a ranking by misfit, without noise."
    if power.censored:
        words += f" Censored and not fitted: {power.censored} of {power.points + power.censored} points."
    return words


def local_exponents(context_lengths: Numbers, times: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Slopes d ln T / d ln N between neighbouring distinct N.

    Args:
        context_lengths: N >= 1, in pairs, in any order; ln T is averaged over points with the same N.
        times: T > 0, in flow time; None or NaN for a point that never emerged.

    Returns:
        The geometric means of neighbouring N, and the slopes; a slope is NaN where a point at either N never emerged.

    Raises:
        ArgumentError: lengths differ; N below 1; T not positive or infinite; fewer than 2 distinct N.

    Example:
        >>> from induction_dynamics import local_exponents
        >>> middles, slopes = local_exponents([4, 16, 64], [3.0, 48.0, 192.0])
        >>> print(middles, slopes)
        [ 8. 32.] [2. 1.]
    """
    log_n, log_t = _means(context_lengths, times)
    return np.exp((log_n[1:] + log_n[:-1]) / 2), np.diff(log_t) / np.diff(log_n)


def local_log_slopes(context_lengths: Numbers, times: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Slopes d(N^2/T) / d ln N between neighbouring distinct N: what the law `quadratic_log` calls a, locally.

    Args:
        context_lengths: N >= 1, in pairs, in any order; ln T is averaged over points with the same N.
        times: T > 0, in flow time; None or NaN for a point that never emerged.

    Returns:
        The geometric means of neighbouring N, and the slopes; a slope is NaN where a point at either N never emerged.

    Raises:
        ArgumentError: lengths differ; N below 1; T not positive or infinite; fewer than 2 distinct N.

    Example:
        >>> import math
        >>> lengths = [4, 16, 64]
        >>> middles, slopes = local_log_slopes(lengths, [n**2 / (0.25 * math.log(n) + 1) for n in lengths])
        >>> print(middles, slopes.round(12))
        [ 8. 32.] [0.25 0.25]
    """
    log_n, log_t = _means(context_lengths, times)
    return np.exp((log_n[1:] + log_n[:-1]) / 2), np.diff(np.exp(2 * log_n - log_t)) / np.diff(log_n)


def _means(context_lengths: Numbers, times: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ln N, increasing, and the mean ln T at each."""
    n, t = _checked(context_lengths, times)
    log_n, group = np.unique(np.log(n), return_inverse=True)
    if log_n.size < 2:
        raise ArgumentError("context_lengths", list(context_lengths), "at least 2 distinct values")
    return log_n, np.bincount(group, weights=np.log(t)) / np.bincount(group)


def _checked(context_lengths: Numbers, times: Numbers) -> tuple[np.ndarray, np.ndarray]:
    n, t = np.asarray(context_lengths, dtype=float), np.asarray(times, dtype=float)
    if n.ndim != 1 or n.shape != t.shape:
        raise ArgumentError("times", list(times), f"as many numbers as context_lengths ({n.size})")
    if not np.all(np.isfinite(n) & (n >= 1)):
        raise ArgumentError("context_lengths", list(context_lengths), "finite and at least 1")
    if np.any(np.isinf(t) | (t <= 0)):
        raise ArgumentError("times", list(times), "positive and finite, or None where nothing emerged")
    return n, t


def _interval(value: float, half_width: float) -> Interval:
    return Interval(*(float(np.clip(x, -_LARGEST, _LARGEST)) for x in (value, value - half_width, value + half_width)))


def _exp(x: float) -> float:
    return math.exp(x) if x < math.log(_LARGEST) else _LARGEST


def _fit_power(log_n: np.ndarray, log_t: np.ndarray, quantile: float) -> tuple[Interval, Interval, float]:
    n_mean, t_mean = float(log_n.mean()), float(log_t.mean())
    x, y = log_n - n_mean, log_t - t_mean
    sxx = float(x @ x)
    p = float(x @ y) / sxx
    rss = float(np.sum((y - p * x) ** 2))
    variance = rss / (x.size - 2)
    log_c = _interval(t_mean - p * n_mean, quantile * math.sqrt(variance * (1 / x.size + n_mean**2 / sxx)))
    c = Interval(*(_exp(end) for end in (log_c.value, log_c.low, log_c.high)))
    return c, _interval(p, quantile * math.sqrt(variance / sxx)), rss


def _fit_linear(x: np.ndarray, log_y: np.ndarray, quantile: float) -> tuple[Interval, Interval, float]:
    """Fit ln y = ln(intercept + slope x); return intercept, slope and the residual sum of squares.

    The unknowns are the logarithms u and v of the linear function at the two ends of the data, so that it is positive
    in between for all u and v, and ln y = logaddexp(ln(1 - w) + u, ln w + v) with w running from 0 to 1.
    """
    scale = float(log_y.mean())
    target = log_y - scale
    left, right = float(x.min()), float(x.max())
    w = (x - left) / (right - left)
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.column_stack([1 - w, w]))

    def residual(ends: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(log_weights + ends, axis=1) - target

    def jacobian(ends: np.ndarray) -> np.ndarray:
        terms = log_weights + ends
        return np.exp(terms - np.logaddexp.reduce(terms, axis=1)[:, None])

    y = np.exp(np.clip(target, -300, 300))
    slope, intercept = np.polyfit(w, y, 1)
    plain = np.log(np.clip([intercept, intercept + slope], y.min(), None))
    straight = np.polyval(np.polyfit(w, target, 1), [0.0, 1.0])
    options = {"jac": jacobian, "method": "lm", "ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": 10_000}
    # Data far from the law can have two minima; the second start costs little.
    found = min(
        (optimize.least_squares(residual, start, **options) for start in (plain, straight)), key=lambda r: r.cost
    )
    rss = float(np.sum(found.fun**2))
    # Both ends are data points, so J^T J is at least the identity and its inverse is safe.
    covariance = rss / (x.size - 2) * np.linalg.inv(found.jac.T @ found.jac)
    span = right - left
    with np.errstate(over="ignore"):
        at_left, at_right = np.exp(found.x + scale)
        rows = np.clip(np.array([[at_left * right, -at_right * left], [-at_left, at_right]]) / span, -1e300, 1e300)
    intervals = []
    for row in rows:
        size = float(np.abs(row).max()) or 1.0
        spread = size * math.sqrt(max(float(row / size @ covariance @ (row / size)), 0.0))
        intervals.append(_interval(float(row.sum()), quantile * spread))
    return intervals[0], intervals[1], rss


def _aicc(rss: float, points: int, resolution: float) -> float | None:
    if points < _FEWEST_TO_RANK:
        return None
    k = _PARAMETERS_COUNTED
    spread = max(math.sqrt(rss / points), resolution)
    return 2 * points * math.log(spread) + 2 * k + 2 * k * (k + 1) / (points - k - 1)


def _leads(scores: Sequence[float | None], index: int) -> bool:
    own, others = scores[index], [score for i, score in enumerate(scores) if i != index]
    return own is not None and all(other is not None and other - own >= _DECISIVE_LEAD for other in others)
