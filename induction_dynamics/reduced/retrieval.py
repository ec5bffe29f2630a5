r"""Layer 2 as an associative memory: what share of the query's attention goes to the right label, and up to which N.

With the three coordinates alpha_3, beta_2, gamma_3 (alpha, beta, gamma below) layer 2 is one update of a modern
Hopfield network. Its stored patterns are what layer 1 delivers, k_j = (A1 t)_j; its state is the query's token x_q; its
inverse temperature is beta; and instead of the patterns it puts out the tokens t_j that they belong to:

    energy    E(xi) = -ln(sum_j exp(beta k_j . xi))/beta + |xi|^2/2
    attention a = softmax_j(beta k_j . x_q),     output  gamma sum_j a_j t_j.

For orthonormal tokens the overlaps k_j . x_q are those of `CircuitLoss`: g_q at the label that is asked for, u_k and
v_k at labels and items after it, because layer 1 spreads the attention that is left, and 0 before it. The share of the
right label, b_q, is the retrieval weight.

References:
    H. Ramsauer et al., Hopfield Networks is All You Need, arXiv 2008.02217.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import expit, logit, wrightomega

from induction_dynamics.errors import ArgumentError, whole_number

QUERIES = ("last", "uniform")

LONGEST = 10**6
"""Longest context that is looked at with the query uniform, whose retrieval costs O(N)."""

_ONE_BY_ONE = 64  # N up to which every one is looked at: the mean over the queries rises here and there


class LimitingLengths(NamedTuple):
    """Two bounds of the failing length of the query last, each near it where the other is far.

    Args:
        memory: of a layer 1 that delivers every item alone, (1 + e^beta)/2.
        binding: of a layer 1 that delivers little of it, (1 + e^w)/2 with w + ln w = alpha + ln beta.
    """

    memory: float
    binding: float


def retrieval_weights(
    alpha: float, beta: float, context_length: int, query: str = "uniform"
) -> Float[np.ndarray, " queries"]:
    r"""Share b_q of the query's attention that goes to the right label, of each pair that may be queried.

        b_q = e^{beta g_q}/Z_q,    Z_q = 2q - 1 + e^{beta g_q} + sum_{k>q} (e^{beta u_k} + e^{beta v_k})
        b_N = 1/(1 + (2N - 1) e^{-beta g_N})

    with g_k = e^alpha/(e^alpha + 2k - 2), u_k = 1/(e^alpha + 2k - 2), v_k = 1/(2k - 2). Exact for the disentangled
    model with the sixteen other coordinates at 0 and orthonormal inputs, at any rotation, whatever gamma is; in
    logarithms, so that no size of the coordinates overflows. O(N) work; O(1) with the query last.

    Args:
        alpha: alpha_3.
        beta: beta_2, the inverse temperature.
        context_length: N.
        query: `uniform`, for q = 1 .. N, or `last`, for q = N alone.

    Raises:
        ArgumentError: N is no whole number from 1 on, a coordinate is not finite, or there is no such query.

    Example:
        >>> from induction_dynamics.reduced.retrieval import retrieval_weights
        >>> print(retrieval_weights(4.0, 6.0, context_length=4).round(4))
        [0.9273 0.9634 0.9681 0.9695]
        >>> print(retrieval_weights(4.0, 6.0, context_length=4, query="last").round(4))
        [0.9695]
    """
    _check(alpha, beta, query)
    pairs = _length(context_length)
    pair = np.arange(1.0, pairs + 1) if query == "uniform" else np.array([float(pairs)])
    first = pair == 1
    others = np.where(first, 1.0, 2 * pair - 2)
    log_others = np.log(others)
    own_item = np.where(first, 1.0, expit(alpha - log_others))
    log_wrong = np.log(2 * pair - 1)
    if query == "uniform" and pairs > 1:
        scores = np.logaddexp(beta * expit(log_others - alpha) / others, beta / others)
        later = np.logaddexp.accumulate(scores[:0:-1])[::-1]
        log_wrong[:-1] = np.logaddexp(log_wrong[:-1], later)
    return expit(beta * own_item - log_wrong)


def mean_retrieval(alpha: float, beta: float, context_length: int, query: str = "uniform") -> float:
    """The mean of `retrieval_weights` over the pairs that may be queried: b_N itself with the query last.

    Args:
        alpha: alpha_3.
        beta: beta_2.
        context_length: N.
        query: `last` or `uniform`.

    Raises:
        ArgumentError: as `retrieval_weights`.

    Example:
        >>> from induction_dynamics.reduced.retrieval import mean_retrieval
        >>> [round(mean_retrieval(4.0, 6.0, n, "last"), 3) for n in (1, 10, 100, 10**9)]
        [0.998, 0.827, 0.018, 0.0]
    """
    return float(np.mean(retrieval_weights(alpha, beta, context_length, query)))


def failing_length(alpha: float, beta: float, query: str = "uniform", level: float = 0.5) -> float | None:
    r"""Context length N* from which on retrieval fails: the weights stay as they are, and only N grows.

    With the query last b_N falls to the level p where

        beta g_N = ln(2N - 1) + ln(p/(1 - p)).

    The left side never rises with N for beta >= 0, and the right side does, so that there is exactly one real root
    N* >= 1 if beta >= ln(p/(1 - p)), and none otherwise: b_1 = 1/(1 + e^-beta) is below the level already. Solved for
    ln(2N - 1), which is between 0 and beta - ln(p/(1 - p)). At p = 1/2 it is the same equation as

        2N* - 2 = e^alpha (beta/ln(2N* - 1) - 1),

    bounded by `limiting_lengths`. With the query uniform N* is the smallest whole N at which the mean over the queries
    is below the level. This mean need not fall everywhere: what comes after the first item, which gets half of the next
    item's attention, dilutes it (at alpha = beta = 20 the mean rises from N = 2 on), though it was only ever seen to
    rise above 0.98. So every N up to 64 is looked at, and further ones are bracketed by doubling and bisected, which
    takes a mean that has fallen below the level to stay there. A step function gives the leading order: label q is
    found if beta g_q > ln 2N, so that half of all are where

        N* = e^alpha (beta/ln 2N* - 1),

    twice as long as with the query last, but for ln 2 in the logarithm.

    Args:
        alpha: alpha_3.
        beta: beta_2, at least 0.
        query: `last` or `uniform`.
        level: p, of the retrieval weight, between 0 and 1.

    Returns:
        N*: real with the query last, `inf` beyond the largest float; whole with the query uniform, None if the mean is
        not below the level at any N up to 10^6. 1 if retrieval fails with a single pair already.

    Raises:
        ArgumentError: beta is negative, a coordinate is not finite, the level is not between 0 and 1, or there is no
            such query.

    Example:
        >>> from induction_dynamics.reduced.retrieval import failing_length, limiting_lengths
        >>> round(failing_length(6.0, 8.0, "last"), 2), failing_length(6.0, 8.0, "uniform")
        (102.64, 167.0)
        >>> print(*(round(bound, 1) for bound in limiting_lengths(6.0, 8.0)))
        1491.0 258.8
    """
    _check(alpha, beta, query)
    _check_temperature(beta)
    if not 0 < level < 1:
        raise ArgumentError("level", level, "between 0 and 1")
    odds = float(logit(level))
    if query == "last":
        return _last_failing_length(alpha, beta, odds)

    def fails(pairs: int) -> bool:
        return mean_retrieval(alpha, beta, pairs, "uniform") < level

    for pairs in range(1, _ONE_BY_ONE + 1):
        if fails(pairs):
            return float(pairs)
    good = bad = _ONE_BY_ONE
    while not fails(bad := min(2 * good, LONGEST)):
        if bad == LONGEST:
            return None
        good = bad
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if fails(middle) else (middle, bad)
    return float(bad)


def limiting_lengths(alpha: float, beta: float) -> LimitingLengths:
    """Bounds of the failing length N* of the query last at level 1/2, for beta > 0; the second for alpha >= 0 only.

    ln(2N* - 1) = beta g_N is at most beta, with equality as alpha grows: the memory's own capacity, exponential in
    beta. And (2N* - 1 + e^alpha - 1) ln(2N* - 1) = beta e^alpha, so that M ln M <= beta e^alpha for M = 2N* - 1, with
    equality where N* is large beside e^alpha: by then layer 1 delivers hardly anything of the item.

    Args:
        alpha: alpha_3.
        beta: beta_2, above 0.

    Raises:
        ArgumentError: beta is not above 0, or a coordinate is not finite.

    Example:
        >>> from induction_dynamics.reduced.retrieval import limiting_lengths
        >>> print(*(round(bound, 1) for bound in limiting_lengths(20.0, 5.0)))
        74.7 64924555.8
    """
    _check(alpha, beta, "last")
    if not beta > 0:
        raise ArgumentError("beta", beta, "above 0")
    return LimitingLengths(_length_of_log(beta), _length_of_log(float(wrightomega(alpha + math.log(beta)))))


def _last_failing_length(alpha: float, beta: float, odds: float) -> float:
    most = beta - odds
    if most <= 0:
        return 1.0

    def margin(log_keys: float) -> float:
        # ln(2N - 2) from ln(2N - 1), which may be too large for 2N to be a float
        log_others = log_keys + math.log(-math.expm1(-log_keys)) if log_keys > 0 else -math.inf
        return -beta * float(expit(log_others - alpha)) + (most - log_keys)

    if margin(most) >= 0:
        return _length_of_log(most)
    root: float = brentq(margin, 0.0, most, xtol=1e-14)  # pyright: ignore[reportAssignmentType]
    return _length_of_log(root)


def _length_of_log(log_keys: float) -> float:
    """N of ln(2N - 1)."""
    return (1 + math.exp(log_keys)) / 2 if log_keys < math.log(np.finfo(float).max) else math.inf


def _length(context_length: int) -> int:
    pairs = whole_number(context_length)
    if pairs is None or pairs < 1:
        raise ArgumentError("context_length", context_length, "a whole number of pairs, at least 1")
    return pairs


def _check(alpha: float, beta: float, query: str) -> None:
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not math.isfinite(value):
            raise ArgumentError(name, value, "finite")
    if query not in QUERIES:
        raise ArgumentError("query", query, f"one of {', '.join(QUERIES)}")


def _check_temperature(beta: float) -> None:
    if beta < 0:
        raise ArgumentError("beta", beta, "at least 0")
