r"""Limits of emergence times as the context length grows, from the first orders of the reduced flows.

For orthonormal inputs. Derived here; t is flow time, I(x) = int_0^x exp(-s^2/2) ds.

**First the plateau**, in a time of order N: attention is even and what it averages is learned. With u = t/N the flow
is linear there. `circuit`: gamma_3' = (1 - gamma_3)/2. `subspace`: with s = gamma_2 + gamma_3 (which are equal),
s' = 1 - s - gamma_4, and gamma_4' = -(s + 2 gamma_4)/2 with the query last, (1 - s - 2 gamma_4)/2 with it uniform.

**Then the way off it**, in a time of order N^2 or N^2/log N, with e^{alpha_3} still far below N:

- `circuit`: beta_2' = e^{alpha_3} / (4 N^2), alpha_3' = beta_2 e^{alpha_3} / (4 N^2), so that alpha_3 = beta_2^2 / 2.
  With the query uniform a label's attention to its item, e^{alpha_3} / (2q) for item q, is averaged over q:
  4 N^2 becomes 4 N^2 / ln N.
- `subspace`, query uniform: the same, times gamma_3, which leaves gamma_2 = gamma_3 = 1/2 by gamma_3' = beta_2
  e^{alpha_3} ln N / (8 N^2), so that gamma_3^2 = 1/4 + beta_2^2 / 2.
- `subspace`, query last: gamma_4 = -1 pushes alpha_3' = e^{alpha_3} ln N / (8 N^2), without beta_2, which follows when
  alpha_3 is of order ln N.

The loss halves when this way ends. `first_correction` has what comes next in `circuit` with the query last. There the
first integral alpha + (e^alpha - 1)/(2N - 2) = beta^2/2 is exact, and with a = e^alpha / (2N) and K = 2N - 1

    dt/dbeta = (K + 1 + ...) (1 - 2 beta a) / a + (the delay int (1 - gamma) dt = 2N while gamma_3 rises),

in which beta a counts twice: right attention grows by e^{beta a}, and gamma_3 follows it to 1 + beta a. To the order
of 1/N this is T = 4 N^2 I(x) + 2N (1 - 2 I(x) + 2x - x^2) for beta_2 at x. It holds as long as beta a is small. For
the loss, at the end of the way, it is cut off at beta a = 1, hence at x^2 = 2 ln(2N) - 2 ln x: then -2N x^2 leads, and
T/N^2 tends to its limit as -4 (ln N)/N, with 4 sqrt(2 ln 2N)/N and 2 ln(2 ln 2N)/N behind it.

What is of the order N^2 / log N holds at leading order: the next one is smaller by
a factor of order 1/ln N, in N^2/T a constant beside ln N.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, SupportsFloat

import numpy as np
from scipy import integrate, optimize, special

from induction_dynamics.errors import ArgumentError

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss")
"""What limits are known of."""

GROWTHS = ("N", "N^2", "N^2/log N")


@dataclasses.dataclass(frozen=True)
class AsymptoticLaw:
    """T -> c f(N) as N grows; the answer of `asymptotic_law`.

    Args:
        constant: c, in flow time.
        growth: f(N): `N`, `N^2` or `N^2/log N`. The first two are exact limits of T/f(N); the third holds at leading
            order, and there N^2/T grows in ln N with slope 1/c.
        formula: c in closed form, with I(x) and J(x) of `asymptotic_law`; x is the threshold.
    """

    constant: float
    growth: str
    formula: str

    def time(self, context_length: SupportsFloat | np.ndarray) -> np.ndarray:
        """The law c f(N).

        Args:
            context_length: N > 1, in pairs, any shape.

        Returns:
            T in flow time, shaped like N.
        """
        n = np.asarray(context_length, dtype=float)
        growth = {"N": n, "N^2": n**2, "N^2/log N": n**2 / np.log(n)}[self.growth]
        return np.asarray(self.constant * growth)


def asymptotic_law(model: str, query: str, measure: str, threshold: float = 0.5) -> AsymptoticLaw | None:
    r"""The law that the emergence times of a reduced flow approach in long contexts, for orthonormal inputs.

    | model | query | gamma_3 at x | beta_2 at x | alpha_3 at x | loss |
    |---|---|---|---|---|---|
    | circuit | last | -2 ln(1 - x) N | 4 I(x) N^2 | 4 I(sqrt(2x)) N^2 | 2 sqrt(2 pi) N^2 |
    | circuit | uniform | -2 ln(1 - x) N | 4 I(x) F | 4 I(sqrt(2x)) F | 2 sqrt(2 pi) F |
    | subspace | last | u N | 8 F | 8 (1 - e^{-x}) F | 8 F |
    | subspace | uniform | v N; 4 J(sqrt(2x^2 - 1/2)) F | 4 J(x) F | 4 J(sqrt(2x)) F | 2 sqrt(2) e^{1/8} K_0(1/8) F |

    with F = N^2/ln N, K_0 a modified Bessel function and

        I(x) = int_0^x exp(-s^2/2) ds,        J(x) = int_0^x exp(-s^2/2) / sqrt(1/4 + s^2/2) ds
        u > 0:  1 - e^{-u} (cosh(u/sqrt 2) + sinh(u/sqrt 2)/sqrt 2) = x        (x < 1)
        v > 0:  (1 - e^{-v} cosh(v/sqrt 2)) / 2 = x                             (x < 1/2)

    gamma_3 of the last row has a law of each kind, below and above the plateau at 1/2, and none there: T/N grows
    without bound. At its own plateau, which is 1 in the other rows, and beyond it has none here.

    Args:
        model: `circuit` or `subspace`.
        query: `last` or `uniform`.
        measure: `gamma_3`, `beta_2`, `alpha_3` or `loss`.
        threshold: x of the coordinate, finite and above 0. The loss falls so late and so fast that every fraction of
            its start has the same law.

    Returns:
        The law, or None where none is known.

    Raises:
        ArgumentError: an argument that is none of these.

    Example:
        >>> from induction_dynamics import asymptotic_law
        >>> for query in ("last", "uniform"):
        ...     law = asymptotic_law("circuit", query, "beta_2")
        ...     print(f"{law.constant:.4f} {law.growth}: {law.formula}")
        1.9197 N^2: 4 I(x)
        1.9197 N^2/log N: 4 I(x)
        >>> asymptotic_law("subspace", "uniform", "gamma_3", 0.5) is None
        True

    Sources: derived in the docstring of `induction_dynamics.scaling.limits`; the constants of N^2/log N at leading
    order, supported by the numbers of figures/asymptotics. The quadratic law is that of arXiv:2511.01033.
    """
    for name, value, allowed in (
        ("model", model, ("circuit", "subspace")),
        ("query", query, ("last", "uniform")),
        ("measure", measure, MEASURES),
    ):
        if value not in allowed:
            raise ArgumentError(name, value, f"one of {', '.join(allowed)}")
    if not 0 < threshold < math.inf:
        raise ArgumentError("threshold", threshold, "finite and above 0")
    if measure == "gamma_3":
        return _of_gamma(model, query, threshold)
    growth = "N^2" if (model, query) == ("circuit", "last") else "N^2/log N"
    if (model, query) == ("subspace", "last"):
        if measure == "alpha_3":
            return AsymptoticLaw(-8 * math.expm1(-threshold), growth, "8 (1 - exp(-x))")
        return AsymptoticLaw(8.0, growth, "8")
    integral, letter = (_gaussian, "I") if model == "circuit" else (_gaussian_over_gamma, "J")
    if measure == "loss":
        formula = "2 sqrt(2 pi)" if model == "circuit" else "2 sqrt(2) exp(1/8) K_0(1/8)"
        return AsymptoticLaw(4 * integral(math.inf), growth, formula)
    if measure == "beta_2":
        return AsymptoticLaw(4 * integral(threshold), growth, f"4 {letter}(x)")
    return AsymptoticLaw(4 * integral(math.sqrt(2 * threshold)), growth, f"4 {letter}(sqrt(2x))")


def first_correction(model: str, query: str, measure: str, threshold: float = 0.5) -> float | None:
    r"""The coefficient d of T = f(N) (c + d/N + ...), where f and c are those of `asymptotic_law`.

    Known for `circuit` with the query last, with y = sqrt(2x) and I as in `asymptotic_law`:

        gamma_3 at x: d = 0        (T/N differs from its limit by the order of 1/N^2)
        beta_2 at x:  d = 2 (1 - 2 I(x) + 2x - x^2)
        alpha_3 at x: d = 2 (1 - 2 I(y) + 2y - y^2 + (1 - e^{-x})/y)

    The loss has none: N (T/N^2 - c) grows in size, as -4 ln N.

    Args:
        model: see `asymptotic_law`, as for the next three.
        query: likewise.
        measure: likewise.
        threshold: x.

    Returns:
        d, or None where none is known.

    Raises:
        ArgumentError: see `asymptotic_law`.

    Example:
        >>> from induction_dynamics.scaling.limits import first_correction
        >>> print(f"{first_correction('circuit', 'last', 'beta_2'):.4f}")
        1.5803

    Sources: derived in the docstring of this module; checked against the flow solved to 1e-10.
    """
    law = asymptotic_law(model, query, measure, threshold)
    if (model, query) != ("circuit", "last") or law is None or measure == "loss":
        return None
    if measure == "gamma_3":
        return 0.0
    x = threshold if measure == "beta_2" else math.sqrt(2 * threshold)
    later = 0.0 if measure == "beta_2" else -math.expm1(-threshold) / x
    return 2 * (1 - 2 * _gaussian(x) + 2 * x - x**2 + later)


def _of_gamma(model: str, query: str, x: float) -> AsymptoticLaw | None:
    plateau = 0.5 if (model, query) == ("subspace", "uniform") else 1.0
    if x < plateau and model == "circuit":
        return AsymptoticLaw(-2 * math.log1p(-x), "N", "-2 ln(1 - x)")
    if x < plateau and query == "last":
        reached = _time_to(x, lambda u: 1 - _faded(u, math.sqrt(0.5)))
        return AsymptoticLaw(reached, "N", "u: 1 - exp(-u) (cosh(u/sqrt(2)) + sinh(u/sqrt(2))/sqrt(2)) = x")
    if x < plateau:
        reached = _time_to(x, lambda v: 0.5 * (1 - _faded(v, 0.0)))
        return AsymptoticLaw(reached, "N", "v: (1 - exp(-v) cosh(v/sqrt(2))) / 2 = x")
    if x > plateau and plateau == 0.5:
        constant = 4 * _gaussian_over_gamma(math.sqrt(2 * (x - 0.5) * (x + 0.5)))
        return AsymptoticLaw(constant, "N^2/log N", "4 J(sqrt(2x^2 - 1/2))")
    return None


def _faded(u: float, weight: float) -> float:
    """e^{-u} (cosh(u/sqrt 2) + weight sinh(u/sqrt 2))."""
    slow, fast = math.exp(-u * (1 - math.sqrt(0.5))), math.exp(-u * (1 + math.sqrt(0.5)))
    return 0.5 * ((1 + weight) * slow + (1 - weight) * fast)


def _time_to(threshold: float, value: Callable[[float], float]) -> float:
    """When a function that rises from 0, and is at its limit to rounding at 256, reaches a threshold below that."""
    found: Any = optimize.root_scalar(lambda u: value(u) - threshold, bracket=(0.0, 256.0), xtol=1e-14)
    return float(found.root)


def _gaussian(x: float) -> float:
    """I(x)."""
    return math.sqrt(math.pi / 2) * math.erf(x / math.sqrt(2))


def _gaussian_over_gamma(x: float) -> float:
    """J(x)."""
    whole = math.exp(1 / 8) * float(special.k0(1 / 8)) / math.sqrt(2)
    if x > 8:  # the rest is below 1e-15
        return whole
    part = integrate.quad(lambda s: math.exp(-(s**2) / 2) / math.sqrt(0.25 + s**2 / 2), 0, x, epsabs=0, epsrel=1e-13)
    return min(part[0], whole)
