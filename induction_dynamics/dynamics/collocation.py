"""Radau IIA collocation: its points, and the weights that follow from them.

A step is the polynomial of degree s that satisfies a differential equation at s points c_i, of which the last is its
end. The end is right to order 2 s - 1, the polynomial inside to order s.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.polynomial import Polynomial, legendre

STAGES = 7
"""s of the flows here, and the degree of the polynomials that they leave."""


def radau_points(stages: int) -> Float[np.ndarray, " stage"]:
    """c, the zeros of P_s - P_{s-1} on [0, 1], with P the Legendre polynomials; the last is 1.

    Args:
        stages: s.
    """
    radau = legendre.Legendre.basis(stages) - legendre.Legendre.basis(stages - 1)
    roots = np.sort(np.real(radau.roots()))
    for _ in range(3):
        roots -= radau(roots) / radau.deriv()(roots)
    return np.append((roots[:-1] + 1) / 2, 1.0)


class Collocation(NamedTuple):
    """Rows of weights for a step of length 1, of values at its stages, or (`with_start`) at its start and stages.

    Records lie at the fractions 1/s, 2/s, .., 1 of the step.
    """

    stages: Float[np.ndarray, " stage"]
    integral: Float[np.ndarray, "stage stage"]  # up to each stage
    integral_records: Float[np.ndarray, "record stage"]
    records_with_start: Float[np.ndarray, "record point"]
    start: Float[np.ndarray, "1 stage"]
    start_slope_with_start: Float[np.ndarray, "1 point"]
    powers_of_records: Float[np.ndarray, "power record"]  # of a polynomial that starts from 0
    error: Float[np.ndarray, "record 1"]  # of a polynomial whose slope at the start is wrong by 1
    integral_error: Float[np.ndarray, "record 1"]  # of the integral of one whose value at the start is wrong by 1


def collocation(stages: int) -> Collocation:
    """The weights of a method.

    Args:
        stages: s.
    """
    places = radau_points(stages)
    records = np.arange(1, stages + 1) / stages
    basis, with_start = _lagrange(places), _lagrange(np.append(0.0, places))
    # the leading term of the error vanishes at the stages, and is largest between the records
    between = records - 0.5 / stages
    defect = Polynomial.fromroots(places) / abs(np.prod(places))
    return Collocation(
        stages=places,
        integral=np.array([each.integ()(places) for each in basis]).T,
        integral_records=np.array([each.integ()(records) for each in basis]).T,
        records_with_start=np.array([each(records) for each in with_start]).T,
        start=np.array([[each(0.0) for each in basis]]),
        start_slope_with_start=np.array([[each.deriv()(0.0) for each in with_start]]),
        powers_of_records=np.array([each.coef[1:] for each in _lagrange(np.append(0.0, records))[1:]]).T,
        error=np.abs(between * defect(between))[:, None],
        integral_error=np.abs(defect.integ()(between))[:, None],
    )


def _lagrange(nodes: Float[np.ndarray, " node"]) -> list[Polynomial]:
    others = [np.delete(nodes, i) for i in range(len(nodes))]
    return [Polynomial.fromroots(rest) / np.prod(node - rest) for node, rest in zip(nodes, others, strict=True)]
