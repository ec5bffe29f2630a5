"""The rival: one run after another by scipy's solvers, with the Jacobian, and crossings by their dense output.

For the circuit everything is done that makes a loop in Python fast: plain numbers instead of arrays, the derivatives
written out, time in units of N^2, and the dense output made only of the steps that a crossing is in.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.integrate import LSODA, OdeSolver, solve_ivp
from scipy.optimize import brentq

_ZERO = [0.0, 0.0, 0.0]
_HORIZON = 12.0  # in units of N^2

Signal = Callable[[list[float]], float]
"""Of the coordinates: negative before a crossing, not so after it."""


def circuit_times(context_length: int, rtol: float, level: float = 0.5, fraction: float = 0.5) -> dict[str, float]:
    """Times at which alpha_3, beta_2 and gamma_3 reach a level and the loss a fraction of its start, query last.

    Args:
        context_length: N, at least 2; from some 3e7 on the loss falls too fast for LSODA.
        rtol: relative tolerance of a step; the absolute one is a hundredth of it.
        level: of the three.
        fraction: of the loss.
    """
    signals, span = _signals(context_length, level, fraction), float(context_length) ** 2
    flow, jacobian = _scaled(context_length)
    solver = LSODA(flow, 0.0, _ZERO, _HORIZON, jac=jacobian, rtol=rtol, atol=rtol / 100)
    return {name: span * time for name, time in first_crossings(solver, signals).items()}


def plain_circuit_times(
    context_length: int, rtol: float, level: float = 0.5, fraction: float = 0.5
) -> dict[str, float]:
    """`circuit_times` as it is usually written: `solve_ivp` to the horizon, and crossings of the solution afterwards.

    Args:
        context_length: see `circuit_times`, as for all that follow.
        rtol: see there.
        level: see there.
        fraction: see there.
    """
    signals, span = _signals(context_length, level, fraction), float(context_length) ** 2
    flow, jacobian = _scaled(context_length)
    found = solve_ivp(
        flow, (0.0, _HORIZON), _ZERO, "LSODA", jac=jacobian, rtol=rtol, atol=rtol / 100, dense_output=True
    )
    times = dict.fromkeys(signals, math.nan)
    for name, signal in signals.items():
        after = next((place for place, theta in enumerate(found.y.T.tolist()) if signal(theta) >= 0), 0)
        if after:
            times[name] = span * _crossing(found.sol, signal, float(found.t[after - 1]), float(found.t[after]))
    return times


def _scaled(context_length: int) -> tuple[Callable[..., list[float]], Callable[..., list[list[float]]]]:
    """The flow and its Jacobian in units of N^2."""
    span = float(context_length) ** 2

    def flow(_: float, theta: list[float]) -> list[float]:
        return [-span * slope for slope in gradient(theta, context_length)]

    def jacobian(_: float, theta: list[float]) -> list[list[float]]:
        return [[-span * entry for entry in row] for row in hessian(theta, context_length)]

    return flow, jacobian


def _signals(context_length: int, level: float, fraction: float) -> dict[str, Signal]:
    return {
        "alpha_3": lambda theta: theta[0] - level,
        "beta_2": lambda theta: theta[1] - level,
        "gamma_3": lambda theta: theta[2] - level,
        "loss": lambda theta: fraction / 2 - loss(theta, context_length),
    }


def first_crossings(solver: OdeSolver, signals: Mapping[str, Signal]) -> dict[str, float]:
    """When each signal first turns positive, NaN if it does not; the solver goes on until all have.

    Args:
        solver: at its start.
        signals: by name.
    """
    times, waiting = dict.fromkeys(signals, math.nan), dict(signals)
    while solver.status == "running" and waiting:
        solver.step()
        theta = solver.y.tolist()
        for name in [name for name, signal in waiting.items() if signal(theta) >= 0]:
            between: Any = solver.dense_output()
            times[name] = _crossing(between, waiting.pop(name), between.t_old, between.t)
    return times


def _crossing(between: Callable[[float], Any], signal: Signal, begin: float, end: float) -> float:
    """Where a signal turns positive in a step, at whose ends its polynomial is right to the tolerance only."""

    def at(time: float) -> float:
        return signal(between(time).tolist())

    if at(end) <= 0:
        return end
    if at(begin) >= 0:
        return begin
    return root(at, begin, end)


def root(signal: Callable[[float], float], begin: float, end: float) -> float:
    """Where a signal of opposite signs at both ends vanishes, to rounding."""
    found: Any = brentq(signal, begin, end, xtol=1e-300, rtol=4 * np.finfo(float).eps)
    return float(found)


def loss(theta: list[float], context_length: int) -> float:
    """The population loss of (alpha_3, beta_2, gamma_3), see `CircuitLoss`."""
    gamma, keys = theta[2], 2 * context_length - 1
    _, _, right, wrong = _attention(theta, context_length)
    return ((1 - gamma * right) ** 2 + (gamma * wrong) ** 2 / keys) / 2


def gradient(theta: list[float], context_length: int) -> tuple[float, float, float]:
    """Of the loss by the three."""
    _, beta, gamma = theta
    keys = 2 * context_length - 1
    own, other, right, wrong = _attention(theta, context_length)
    by_score = -right * wrong * gamma * (1 - gamma * right + gamma * wrong / keys)
    by_gamma = gamma * wrong**2 / keys - (1 - gamma * right) * right
    return by_score * beta * own * other, by_score * own, by_gamma


def hessian(theta: list[float], context_length: int) -> tuple[tuple[float, float, float], ...]:
    """Second derivatives of the loss by the three; z = beta a is the score of the right label."""
    _, beta, gamma = theta
    keys = 2 * context_length - 1
    own, other, right, wrong = _attention(theta, context_length)
    spread = right * wrong
    short = 1 - gamma * right + gamma * wrong / keys
    z = -spread * gamma * short
    zz = -spread * gamma * (short * (wrong - right) - gamma * spread * (1 + 1 / keys))
    z_gamma = spread * (2 * gamma * right - 1 - 2 * gamma * wrong / keys)
    z_alpha, z_beta, z_alpha_beta = beta * own * other, own, own * other
    alpha_beta = zz * z_alpha * z_beta + z * z_alpha_beta
    return (
        (zz * z_alpha**2 + z * z_alpha * (other - own), alpha_beta, z_gamma * z_alpha),
        (alpha_beta, zz * z_beta**2, z_gamma * z_beta),
        (z_gamma * z_alpha, z_gamma * z_beta, right**2 + wrong**2 / keys),
    )


def _attention(theta: list[float], context_length: int) -> tuple[float, float, float, float]:
    """Layer 1 on the own item and not, layer 2 on the right label and not."""
    alpha, beta, _ = theta
    others, keys = 2 * context_length - 2, 2 * context_length - 1
    grown = others * math.exp(-alpha)
    own, other = 1 / (1 + grown), grown / (1 + grown)
    odds = keys * math.exp(-beta * own)
    return own, other, 1 / (1 + odds), odds / (1 + odds)
