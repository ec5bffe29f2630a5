r"""The three-coordinate flow with the query last, from zero, for many context lengths at once.

Written alpha, beta, gamma for alpha_3, beta_2, gamma_3, with K = 2N - 1, c = 1/(2N - 2), w = c e^alpha, a = w/(1 + w),
omega = e^{-beta a} and b = 1/(1 + K omega), the flow is (' is d/dt)

    gamma' = b (T - gamma omega),   beta' = gamma T b (1 - b) a,   alpha' = beta (1 - a) beta',
    T = 1 - gamma b (1 - omega),    loss = 1/2 [(T - gamma b omega)^2 + gamma^2 b (1 - b) omega].

Its first integral alpha + c (e^alpha - 1) = beta^2/2 makes beta, a and b explicit functions of alpha, which only grows.
What is left is one equation for gamma, and time is a quadrature. Both are written in x, by which

    alpha = (N - 1)/(2N - 1) x^4/(4N)^2,   at the start beta = x^2/(4N) + ..., gamma = x + ..., t = 2N x + ...

With u = dgamma/dx and s = a (1 - b)/(dbeta/dx) the equation needs no division, so that the pole beta' = 0, close
behind the curve that gamma follows once the loss has fallen, is never met:

    T (1 - u s gamma) = gamma omega,   dt/dx = 1/(s b gamma T),   dloss/dt = -(alpha'^2 + beta'^2 + gamma'^2).

Solved by Radau IIA collocation with Newton's method, in steps of x of each run's own length. The exponentials belong to
x alone; Newton's method is rational. Every step leaves the polynomial that it has computed, and the length of a step
keeps the error of that polynomial, not only of its end, within the tolerance.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from induction_dynamics.dynamics.collocation import STAGES, collocation

_FIRST_STEP = 0.3  # in x; gamma bends at x = 1 whatever N is
_NEWTON = 6  # iterations, after which a step is given up
_MARGIN = 3  # between the error demanded and the one estimated; with it, measured times keep to the tolerance
_CONVERGED = 1e-3  # error left by Newton's method, in tolerances


class Levels(NamedTuple):
    """What a run waits for: a lower bound of each coordinate, an upper one of the loss as a fraction of its start.

    -inf (inf for the loss) is no demand; inf can not be met, so that a run goes on to its horizon.
    """

    alpha: float | Float[Array, ""]
    beta: float | Float[Array, ""]
    gamma: float | Float[Array, ""]
    loss_fraction: float | Float[Array, ""]


class CircuitNodes(NamedTuple):
    """Records of a batch of runs: the start, and `STAGES` of each step, at equal distances in x; the last one repeated.

    Within a step each quantity is the polynomial through `STAGES` + 1 records; the first of them ends the step before.

    Args:
        time: flow time, never decreasing.
        alpha: alpha_3.
        beta: beta_2.
        gamma: gamma_3.
        loss: the population loss.
        steps: steps taken.
        stopped: whether the last record is beyond all levels.
        failed: whether the run gave up before it was there or at its horizon.
    """

    time: Float[Array, "run nodes"]
    alpha: Float[Array, "run nodes"]
    beta: Float[Array, "run nodes"]
    gamma: Float[Array, "run nodes"]
    loss: Float[Array, "run nodes"]
    steps: Int[Array, " run"]
    stopped: Bool[Array, " run"]
    failed: Bool[Array, " run"]


@functools.partial(jax.jit, static_argnames="max_steps")
def solve_circuit_last(
    context_lengths: Float[Array, " run"],
    horizons: Float[Array, " run"],
    levels: Levels,
    rtol: float | Float[Array, ""],
    max_steps: int,
) -> CircuitNodes:
    r"""Solve until a step ends beyond all levels, or exactly up to the horizon.

    Runs do not influence each other, not in a digit, but each takes as long as the slowest, and every number of runs is
    compiled anew and computed as the next power of two: give it runs of like N, 256 at a time.

    Args:
        context_lengths: N, at least 2.
        horizons: flow time at which each run is given up, above 0.
        levels: what the runs wait for.
        rtol: relative error of the time at which alpha, beta, gamma or the loss crosses a threshold, 1e-10 or more.
        max_steps: number of steps tried, refused ones included, and of groups of records. For N up to 1e9 and a
            tolerance of 1e-7 (1e-9) 80 (112) lead past the fall of the loss to a hundredth, 192 (256) far behind it.
    """
    runs = len(context_lengths)
    # Powers of two are all computed by the same instructions; other numbers differ from them in last digits.
    padded = (1 << max(runs - 1, 15).bit_length()) - runs
    context_lengths, horizons = (jnp.pad(each, (0, padded), mode="edge") for each in (context_lengths, horizons))
    nodes = _solve_lanes(context_lengths, horizons, levels, rtol, max_steps)
    return CircuitNodes(*(field[:runs] for field in nodes))


def _solve_lanes(
    context_lengths: Float[Array, " run"],
    horizons: Float[Array, " run"],
    levels: Levels,
    rtol: float | Float[Array, ""],
    max_steps: int,
) -> CircuitNodes:
    pairs, runs = context_lengths[None], len(context_lengths)
    zero, one, narrow = jnp.zeros_like(pairs), jnp.ones_like(pairs), 1 / (2 * pairs)
    state = _State(
        attempt=jnp.zeros((), int),
        x=zero,
        step=_FIRST_STEP * one,
        at=_Point(zero, zero, zero, zero, one / 2, zero),
        slope=_Point(2 * pairs, zero, zero, one, -narrow, narrow),
        ended=zero > 0,
        steps=jnp.zeros((1, runs), int),
        attempts=jnp.zeros((max_steps, runs), int),
        records=jnp.zeros((max_steps, 5, STAGES, runs)),
    )
    state = jax.lax.while_loop(
        lambda state: (state.attempt < max_steps) & ~jnp.all(state.ended),
        lambda state: _attempt(state, pairs, horizons[None], levels, rtol),
        state,
    )
    steps, run = state.steps[0], jnp.arange(runs)
    origin = jnp.broadcast_to(jnp.asarray([0, 0, 0, 0, 1 / 2]), (runs, 5))
    last, before = (state.attempts[jnp.maximum(steps - back, 0), run] for back in (1, 2))
    start = jnp.where((steps > 1)[:, None], state.records[before, :, -1, run], origin)
    part = _up_to(horizons, start, state.records[last, :, :, run])
    records = state.records.at[last, :, :, run].set(part)

    node = jnp.minimum(jnp.arange(STAGES * max_steps)[None], jnp.maximum(STAGES * steps[:, None] - 1, 0))
    nodes = records[state.attempts[node // STAGES, run[:, None]], :, node % STAGES, run[:, None]]
    nodes = jnp.where((steps > 0)[:, None, None], nodes, origin[:, None])
    columns = (jnp.concatenate([origin[:, i : i + 1], nodes[:, :, i]], axis=1) for i in range(5))
    time, alpha, beta, gamma, loss = columns
    stopped = _beyond(levels, alpha[:, -1], beta[:, -1], gamma[:, -1], loss[:, -1])
    return CircuitNodes(time, alpha, beta, gamma, loss, steps, stopped, ~stopped & (time[:, -1] < horizons))


_RADAU = collocation(STAGES)


def _weigh(weights: Float[np.ndarray, "row point"], values: Float[Array, "point run"]) -> Float[Array, "row run"]:
    return jnp.sum(jnp.asarray(weights)[:, :, None] * values[None], axis=1)


class _Path(NamedTuple):
    """What x alone determines, at the stages of a step."""

    alpha: Float[Array, "stage run"]
    beta: Float[Array, "stage run"]
    alpha_slope: Float[Array, "stage run"]
    beta_slope: Float[Array, "stage run"]
    right: Float[Array, "stage run"]  # b
    wrong: Float[Array, "stage run"]  # 1 - b
    odds: Float[Array, "stage run"]  # omega
    lead: Float[Array, "stage run"]  # 1 - omega
    pace: Float[Array, "stage run"]  # s


def _path(x: Float[Array, "stage run"], pairs: Float[Array, "1 run"]) -> _Path:
    """Every quantity to full relative precision, at the start and at saturation alike."""
    keys, others = 2 * pairs - 1, 2 * pairs - 2
    alpha = jnp.square(jnp.square(x)) * ((pairs - 1) / (keys * jnp.square(4 * pairs)))
    grown = jnp.expm1(alpha) / others
    item = grown + 1 / others
    beta = jnp.sqrt(2 * (alpha + grown))
    alpha_slope = 4 * alpha / x
    beta_slope = (1 + item) * alpha_slope / beta
    own_item = item / (1 + item)
    odds = jnp.exp(-beta * own_item)
    right = 1 / (1 + keys * odds)
    wrong = keys * odds * right
    lead = -jnp.expm1(-beta * own_item)
    return _Path(alpha, beta, alpha_slope, beta_slope, right, wrong, odds, lead, wrong * own_item / beta_slope)


def _shortfall(path: _Path, gamma: Float[Array, "stage run"]) -> Float[Array, "stage run"]:
    """T, from b or from 1 - b, whichever is small."""
    late = (1 - gamma) + gamma * (path.wrong + path.right * path.odds)
    return jnp.where(path.right < 0.5, 1 - gamma * path.right * path.lead, late)


class _Point(NamedTuple):
    """A batch of runs, each at some x; or their slopes by x."""

    time: Float[Array, "1 run"]
    alpha: Float[Array, "1 run"]
    beta: Float[Array, "1 run"]
    gamma: Float[Array, "1 run"]
    loss: Float[Array, "1 run"]
    fall: Float[Array, "1 run"]  # 1/2 - loss, which keeps its digits while it is small


class _State(NamedTuple):
    """A batch of runs at the ends of their last steps, and the records of all attempts."""

    attempt: Int[Array, ""]
    x: Float[Array, "1 run"]
    step: Float[Array, "1 run"]
    at: _Point
    slope: _Point
    ended: Bool[Array, "1 run"]
    steps: Int[Array, "1 run"]
    attempts: Int[Array, "step run"]  # the one that became each step
    records: Float[Array, "attempt 5 record run"]


_Newton = tuple[Array, Array, Array, Array, Array]  # count, gamma, its slope, last update, what is missing


def _gamma(
    path: _Path, state: _State, rtol: float | Float[Array, ""]
) -> tuple[Float[Array, "stage run"], Float[Array, "stage run"], Bool[Array, "1 run"]]:
    """Newton's method: gamma and its slope u at the stages, and in which runs it has converged."""
    integral = state.step[None] * jnp.asarray(_RADAU.integral)[:, :, None]
    identity = jnp.eye(STAGES)[:, :, None]
    enough = _CONVERGED * rtol

    def iterate(carry: _Newton) -> _Newton:
        count, gamma, slope, last, missing = carry
        shortfall = _shortfall(path, gamma)
        paced = slope * path.pace
        rest = 1 - paced * gamma
        residual = shortfall * rest - gamma * path.odds
        by_gamma = path.right * path.lead * rest + paced * shortfall + path.odds
        by_slope = path.pace * gamma * shortfall
        matrix = by_gamma[:, None] * integral + by_slope[:, None] * identity
        update = _solve(jnp.concatenate([matrix, residual[:, None]], axis=1))
        # A run that has converged waits for the others: its digits must not depend on them.
        update = jnp.where(missing <= enough, jnp.zeros_like(update), update)
        gain = jnp.sum(integral * update[None], axis=1)
        size = jnp.max(jnp.abs(gain / gamma), axis=0, keepdims=True)
        # The next update would be C size^2, and C is known from the second one on.
        next_size = jnp.where(count > 0, size * jnp.square(size / jnp.maximum(last, 1e-30)), size)
        missing = jnp.where(missing <= enough, missing, next_size)
        return count + 1, gamma + gain, slope + update, size, missing

    def unfinished(carry: _Newton) -> Array:
        count, _, _, _, missing = carry
        return (count < _NEWTON) & jnp.any(~(missing <= enough) & ~state.ended)

    slope = jnp.broadcast_to(state.slope.gamma, path.alpha.shape)
    gamma = state.at.gamma + state.step * jnp.asarray(_RADAU.stages)[:, None] * slope
    unknown = jnp.full_like(state.x, jnp.inf)
    _, gamma, slope, _, missing = jax.lax.while_loop(
        unfinished, iterate, (jnp.zeros((), int), gamma, slope, unknown, unknown)
    )
    return gamma, slope, missing <= enough


def _solve(matrix: Float[Array, "row column run"]) -> Float[Array, "row run"]:
    """Gauss-Jordan elimination in every run; the last column is the right-hand side.

    No pivots: the matrix of the integral has positive principal minors, and so has its sum with a positive diagonal.
    """
    for row in range(len(matrix)):
        scaled = matrix[row, 1:] / matrix[row, :1]
        matrix = (matrix[:, 1:] - matrix[:, :1] * scaled[None]).at[row].set(scaled)
    return matrix[:, 0]


def _attempt(
    state: _State,
    pairs: Float[Array, "1 run"],
    horizons: Float[Array, "1 run"],
    levels: Levels,
    rtol: float | Float[Array, ""],
) -> _State:
    at, slope, step = state.at, state.slope, state.step
    x = state.x + jnp.asarray(_RADAU.stages)[:, None] * step
    path = _path(x, pairs)
    gamma, gamma_slope, converged = _gamma(path, state, rtol)

    # Where gamma follows 1/b, T is lost in the rounding of gamma, but the slope of gamma still knows it.
    direct = _shortfall(path, gamma)
    followed = gamma * path.odds / (1 - gamma_slope * path.pace * gamma)
    shortfall = jnp.where(direct < 1e-4, followed, direct)
    time_slope = 1 / (path.pace * path.right * gamma * shortfall)
    spread = path.right * path.wrong * path.odds
    loss = (jnp.square(shortfall - gamma * path.right * path.odds) + jnp.square(gamma) * spread) / 2
    fall = gamma * path.right * (1 - gamma * (path.right + path.wrong * path.odds) / 2)

    time = at.time + step * _weigh(_RADAU.integral[-1:], time_slope)
    end = _Point(time, path.alpha[-1:], path.beta[-1:], gamma[-1:], loss[-1:], fall[-1:])
    rate = 1 / time_slope[-1:]
    fall_slope = rate * (
        jnp.square(path.alpha_slope[-1:]) + jnp.square(path.beta_slope[-1:]) + jnp.square(gamma_slope[-1:])
    )
    end_slope = _Point(
        time_slope[-1:], path.alpha_slope[-1:], path.beta_slope[-1:], gamma_slope[-1:], -fall_slope, fall_slope
    )

    high = at.loss > 0.25
    losses = jnp.concatenate([jnp.where(high, -at.fall, at.loss), jnp.where(high, -fall, loss)])
    betas = jnp.concatenate([at.beta, path.beta])
    alphas = jnp.concatenate([at.alpha, path.alpha])
    records = jnp.stack(
        [
            jax.lax.cummax(at.time + step * _weigh(_RADAU.integral_records, time_slope)),
            _weigh(_RADAU.records_with_start, alphas),
            _weigh(_RADAU.records_with_start, betas),
            at.gamma + step * _weigh(_RADAU.integral_records, gamma_slope),
            jnp.where(high, 0.5, 0.0) + _weigh(_RADAU.records_with_start, losses),
        ]
    )

    # An error of gamma or of the loss counts by what it does to the time of a crossing, where they move fast enough.
    gamma_scale = jnp.clip(jnp.abs(end_slope.gamma) * rate * time, 0.1 * end.gamma, end.gamma)
    loss_scale = jnp.clip(fall_slope * rate * time, jnp.minimum(0.1 * end.fall, end.loss), jnp.sqrt(end.loss))
    time_defect = step * (slope.time - _weigh(_RADAU.start, time_slope))
    gamma_defect = step * (slope.gamma - _weigh(_RADAU.start, gamma_slope))
    beta_defect = step * slope.beta - _weigh(_RADAU.start_slope_with_start, betas)
    loss_defect = step * slope.loss - _weigh(_RADAU.start_slope_with_start, losses)
    errors = [
        _RADAU.integral_error * time_defect / records[0],
        _RADAU.error * beta_defect / records[2],
        _RADAU.error * gamma_defect / gamma_scale,
        _RADAU.error * loss_defect / loss_scale,
    ]
    error = jnp.max(jnp.abs(jnp.concatenate(errors)), axis=0, keepdims=True) * (_MARGIN / rtol)
    sound = converged & jnp.all((shortfall > 0) & (gamma > 0), axis=0, keepdims=True) & jnp.isfinite(error)
    taken = sound & (error <= 1) & ~state.ended
    change = jnp.clip(0.85 * jnp.maximum(error, 1e-30) ** (-1 / (STAGES + 1)), 0.2, 8.0)
    next_step = step * jnp.where(sound, change, 0.25)

    stuck = ~taken & (state.x + next_step <= state.x)
    arrived = taken & (_beyond(levels, end.alpha, end.beta, end.gamma, end.loss) | (time >= horizons))
    run = jnp.arange(step.shape[1])[None]
    return _State(
        attempt=state.attempt + 1,
        x=jnp.where(taken, x[-1:], state.x),
        step=jnp.where(state.ended, step, next_step),
        at=_Point(*(jnp.where(taken, new, old) for new, old in zip(end, at, strict=True))),
        slope=_Point(*(jnp.where(taken, new, old) for new, old in zip(end_slope, slope, strict=True))),
        ended=state.ended | stuck | arrived,
        steps=jnp.where(taken, state.steps + 1, state.steps),
        attempts=state.attempts.at[state.steps, run].set(state.attempt, mode="drop"),
        records=jax.lax.dynamic_update_index_in_dim(state.records, records, state.attempt, 0),
    )


def _beyond(
    levels: Levels,
    alpha: Float[Array, "*runs"],
    beta: Float[Array, "*runs"],
    gamma: Float[Array, "*runs"],
    loss: Float[Array, "*runs"],
) -> Bool[Array, "*runs"]:
    coordinates = (alpha >= levels.alpha) & (beta >= levels.beta) & (gamma >= levels.gamma)
    return coordinates & (loss <= levels.loss_fraction / 2)


def _up_to(
    horizons: Float[Array, " run"], start: Float[Array, "run 5"], records: Float[Array, "run 5 record"]
) -> Float[Array, "run 5 record"]:
    """The records of a step, or of the part of it up to the horizon if it has gone further."""
    passed = records[:, 0, -1] > horizons
    powers = jnp.sum(
        jnp.asarray(_RADAU.powers_of_records)[None, None] * (records - start[:, :, None])[:, :, None], axis=3
    )

    def at(parts: Float[Array, "run part"], kind: int) -> Float[Array, "run part"]:
        growth = jnp.zeros_like(parts)
        for power in reversed(range(STAGES)):
            growth = (growth + powers[:, kind, power : power + 1]) * parts
        return start[:, kind : kind + 1] + growth

    def halve(bracket):
        count, low, high = bracket
        middle = (low + high) / 2
        over = at(middle, 0) >= horizons[:, None]
        return count + 1, jnp.where(over, low, middle), jnp.where(over, middle, high)

    none = jnp.zeros_like(start[:, :1])
    _, _, end = jax.lax.while_loop(lambda bracket: (bracket[0] < 60) & jnp.any(passed), halve, (0, none, none + 1))
    shorter = [at(end * jnp.linspace(1 / STAGES, 1.0, STAGES)[None], kind) for kind in range(5)]
    shorter[0] = jnp.minimum(jax.lax.cummax(shorter[0], axis=1), horizons[:, None]).at[:, -1].set(horizons)
    return jnp.where(passed[:, None, None], jnp.stack(shorter, axis=1), records)
