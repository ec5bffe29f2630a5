r"""Gradient flows that are stiff: Radau IIA collocation with the exact Jacobian.

A step of length h replaces the flow dy/dt = f(y) by the polynomial of degree s that starts at y and satisfies the
equation at the s Radau points c_i (c_s = 1). With Z_i its value at c_i less y and A the collocation matrix,

    Z = h A f(y + Z)

is solved by Newton's method with the Jacobian J of the step's start; A is diagonalised, so that each iteration solves
s systems I - h lambda J of the size of y. The end of a step is right to order 2 s - 1 and the polynomial inside it to
order s, which the error estimate controls (E. Hairer and G. Wanner, "Solving Ordinary Differential Equations II",
sections IV.5 and IV.8; "Stiff differential equations solved by Radau methods", 1999).

Nothing here depends on t itself: a step is known by its length, and may be shorter than the rounding of t. (The loss of
a thousand million pairs falls within one unit of flow time after 10^17 of them.)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import lu_factor, lu_solve
from jaxtyping import Array, Bool, Float, Int

from induction_dynamics.dynamics.collocation import STAGES, radau_points

_ABSOLUTE = 0.01  # the tolerance of what is near zero, as a fraction of that of what is near one
_ITERATIONS = 10  # of Newton's method, before the step is halved
_ACCURACY = 1e-2  # of Newton's method, as a fraction of the tolerance
_TINY = 1e-5  # a change that is surely the last, likewise
_FIRST = 0.1  # step; losses here have curvatures of the order of 1, and a shorter one is found at once
_SAFETY, _SMALLEST, _LARGEST = 0.9, 0.2, 8.0  # of one step's length to the next
_ATTEMPTS = 4  # steps tried for each that fits in memory
_FAR = 3.0  # times the last step's length: beyond, its polynomial is no guess of the next


class _Tableau(NamedTuple):
    """What a step needs to know of its points.

    Args:
        matrix: A.
        eigenvalues: lambda of A, those with nonnegative imaginary part.
        into: A = back diag(eigenvalues) into, once the conjugates are counted in `back`.
        back: see above.
        real: which eigenvalue is real.
        error: weights of the stages in the error estimate.
        points: c.
        coefficients: of the polynomial without constant term through given values at the points.
        evenly: its values at the fractions 1/s, 2/s, .., 1.
    """

    matrix: np.ndarray
    eigenvalues: np.ndarray
    into: np.ndarray
    back: np.ndarray
    real: int
    error: np.ndarray
    points: np.ndarray
    coefficients: np.ndarray
    evenly: np.ndarray


def _tableau(stages: int) -> _Tableau:
    """Of an odd number of stages, of whose eigenvalues one is real."""
    points = radau_points(stages)
    exponents = np.arange(1, stages + 1)
    powers = points[:, None] ** exponents
    vandermonde = powers / points[:, None]
    matrix = (powers / exponents) @ np.linalg.inv(vandermonde)
    eigenvalues, vectors = np.linalg.eig(matrix)
    kept = np.flatnonzero(np.imag(eigenvalues) > -1e-12)
    real = int(np.argmin(np.abs(np.imag(eigenvalues[kept]))))
    twice = np.where(np.arange(len(kept)) == real, 1.0, 2.0)
    # The method of order s that also uses f(y), weighted with the real eigenvalue, less the method itself.
    difference = np.linalg.solve(vandermonde.T, -np.real(eigenvalues[kept[real]]) * np.eye(stages)[0])
    coefficients = np.linalg.inv(powers)
    return _Tableau(
        matrix=matrix,
        eigenvalues=eigenvalues[kept],
        into=np.linalg.inv(vectors)[kept],
        back=vectors[:, kept] * twice,
        real=real,
        error=np.linalg.solve(matrix.T, difference),
        points=points,
        coefficients=coefficients,
        evenly=(exponents / stages)[:, None] ** exponents @ coefficients,
    )


_TABLEAU = _tableau(STAGES)


class Steps(NamedTuple):
    """The accepted steps of a run; what lies beyond `taken` has no meaning.

    Args:
        start: time at which each step begins, from 0.
        length: h of each step.
        values: y at the fractions 1/s, 2/s, .., 1 of each step.
        taken: number of steps.
        stopped: whether the run ended because it had arrived.
        failed: whether it ended before its horizon without having arrived.
    """

    start: Float[Array, " step"]
    length: Float[Array, " step"]
    values: Float[Array, "step stage y"]
    taken: Int[Array, ""]
    stopped: Bool[Array, ""]
    failed: Bool[Array, ""]


class _State(NamedTuple):
    """Between two attempts of a step."""

    y: Float[Array, " y"]
    time: Float[Array, ""]
    length: Float[Array, ""]
    stages: Float[Array, "stage y"]
    last_length: Float[Array, ""]
    first_loss: Float[Array, ""]
    attempts: Int[Array, ""]
    active: Bool[Array, ""]
    steps: Steps


class _Attempt(NamedTuple):
    """A step tried: its stages, the estimated error over the tolerance, the loss at its start."""

    stages: Float[Array, "stage y"]
    error: Float[Array, ""]
    solved: Bool[Array, ""]
    loss: Float[Array, ""]


class _Newton(NamedTuple):
    """Newton's method on the stages of a step: its last change over the tolerance, and over the change before."""

    stages: Float[Array, "stage y"]
    change: Float[Array, ""]
    rate: Float[Array, ""]
    iterations: Int[Array, ""]


Flow = Callable[[Float[Array, " y"]], tuple[Float[Array, " y"], Float[Array, ""]]]
"""dy/dt and the loss at y."""


def integrate(
    flow: Flow,
    arrived: Callable[[Float[Array, " y"], Float[Array, ""]], Bool[Array, ""]],
    start: Float[Array, " y"],
    horizon: Float[Array, ""],
    rtol: Float[Array, ""],
    max_steps: int,
) -> Steps:
    """Integrate dy/dt = f(y) from t = 0 up to the horizon, or the step in which the run arrives.

    Args:
        flow: f and the loss.
        arrived: of y and the loss as a fraction of its first value, whether the run may end; looked at after each step.
        start: y at t = 0.
        horizon: t at which the run ends.
        rtol: tolerance of a step's polynomial relative to y; the absolute one is a hundredth of it.
        max_steps: most steps of the run.
    """
    zero, whole, no = jnp.zeros_like(horizon), jnp.zeros((), int), jnp.zeros((), bool)
    begun = _State(
        y=start,
        time=zero,
        length=jnp.minimum(_FIRST, horizon),
        stages=jnp.zeros((STAGES, len(start))),
        last_length=zero,
        first_loss=zero,
        attempts=whole,
        active=~no,
        steps=Steps(
            start=jnp.zeros(max_steps),
            length=jnp.zeros(max_steps),
            values=jnp.zeros((max_steps, STAGES, len(start))),
            taken=whole,
            stopped=no,
            failed=no,
        ),
    )

    def go_on(state: _State) -> _State:
        tried = _attempt(flow, rtol, state.y, state.length, state.stages, state.last_length)
        first_loss = jnp.where(state.attempts > 0, state.first_loss, tried.loss)
        there = arrived(state.y, tried.loss / first_loss)
        return _advance(state._replace(first_loss=first_loss), tried, there, horizon)

    return jax.lax.while_loop(lambda state: state.active, go_on, begun).steps


def _advance(state: _State, tried: _Attempt, there: Bool[Array, ""], horizon: Float[Array, ""]) -> _State:
    """Take or refuse the step tried, write it down, and choose the length of the next.

    Whether a run has arrived or reached its horizon is known of the step's start, with its loss.
    """
    steps, max_steps = state.steps, len(state.steps.length)
    over = there | (state.time >= horizon)
    taken = ~over & tried.solved & (tried.error <= 1)
    values = state.y[None] + _TABLEAU.evenly @ tried.stages
    last = state.length >= horizon - state.time
    time = jnp.where(taken, jnp.where(last, horizon, state.time + state.length), state.time)
    growth = _SAFETY * jnp.maximum(tried.error, 1e-12) ** (-1 / (STAGES + 1))
    growth = jnp.where(tried.solved, jnp.clip(growth, _SMALLEST, _LARGEST), _SMALLEST)
    length = jnp.minimum(state.length * growth, horizon - time)
    count, attempts = steps.taken + taken.astype(int), state.attempts + 1
    spent = (count >= max_steps) | (attempts >= _ATTEMPTS * max_steps) | ~(length > 0)
    exhausted = ~over & (time < horizon) & (spent | ~jnp.isfinite(tried.loss))

    def written(all_steps: Array, one: Array) -> Array:
        # What is written for a step refused is written over by the next; after the last of all nothing is.
        return all_steps.at[steps.taken].set(one, mode="drop")

    return _State(
        y=jnp.where(taken, state.y + tried.stages[-1], state.y),
        time=time,
        length=length,
        stages=jnp.where(taken, tried.stages, state.stages),
        last_length=jnp.where(taken, state.length, state.last_length),
        first_loss=state.first_loss,
        attempts=attempts,
        active=~(over | exhausted),
        steps=Steps(
            start=written(steps.start, state.time),
            length=written(steps.length, state.length),
            values=written(steps.values, values),
            taken=count,
            stopped=there,
            failed=exhausted,
        ),
    )


def _attempt(
    flow: Flow,
    rtol: Float[Array, ""],
    y: Float[Array, " y"],
    length: Float[Array, ""],
    last_stages: Float[Array, "stage y"],
    last_length: Float[Array, ""],
) -> _Attempt:
    """One step, if it is good enough."""

    def derivative(direction: Float[Array, " y"]) -> tuple[Float[Array, " y"], Float[Array, " y"], Float[Array, ""]]:
        return jax.jvp(flow, (y,), (direction,), has_aux=True)

    identity = jnp.eye(len(y))
    here, jacobian, loss = jax.vmap(derivative, out_axes=(None, 1, None))(identity)
    eigenvalues = jnp.asarray(_TABLEAU.eigenvalues)[:, None, None]
    factors = jax.vmap(lu_factor)(
        identity.astype(complex)[None] - eigenvalues * (length * jacobian).astype(complex)[None]
    )
    into, back = jnp.asarray(_TABLEAU.into), jnp.asarray(_TABLEAU.back)
    scale = rtol * (_ABSOLUTE + jnp.abs(y))

    def iterate(state: _Newton) -> _Newton:
        velocities = jax.vmap(lambda at: flow(at)[0])(y[None] + state.stages)
        residual = length * (_TABLEAU.matrix @ velocities) - state.stages
        change = (back @ jax.vmap(lu_solve)(factors, into @ residual.astype(complex))).real
        size = jnp.max(jnp.abs(change) / scale[None])
        # One change says nothing of convergence.
        rate = jnp.where(state.iterations > 0, size / state.change, 1.0)
        return _Newton(state.stages + change, size, rate, state.iterations + 1)

    def goes_on(state: _Newton) -> Bool[Array, ""]:
        growing = (state.iterations > 2) & (state.rate > 1)
        lost = ~jnp.isfinite(state.change) | growing | (state.iterations >= _ITERATIONS)
        return (state.iterations == 0) | ~(lost | _solved(state))

    guess = _continued(last_stages, last_length, length)
    found = jax.lax.while_loop(goes_on, iterate, _Newton(guess, jnp.asarray(1.0), jnp.asarray(1.0), jnp.asarray(0)))
    eigenvalue = _TABLEAU.eigenvalues[_TABLEAU.real].real
    estimate = eigenvalue * length * here + _TABLEAU.error @ found.stages
    error = lu_solve(jax.tree.map(lambda each: each[_TABLEAU.real], factors), estimate.astype(complex)).real
    largest = jnp.maximum(jnp.abs(y), jnp.abs(y + found.stages[-1]))
    over = jnp.max(jnp.abs(error) / (rtol * (_ABSOLUTE + largest)))
    return _Attempt(found.stages, over, _solved(found) & jnp.isfinite(over), loss)


def _solved(state: _Newton) -> Bool[Array, ""]:
    """Whether what Newton's method still misses, about its last change times rate/(1 - rate), is small."""
    missing = state.change * state.rate
    return (state.change < _TINY) | ((state.rate < 1) & (missing < _ACCURACY * (1 - state.rate)))


def _continued(
    stages: Float[Array, "stage y"], length: Float[Array, ""], next_length: Float[Array, ""]
) -> Float[Array, "stage y"]:
    """The stages of a step that goes on along the polynomial of the one before it."""
    ratio = jnp.where(length > 0, next_length / jnp.where(length > 0, length, 1.0), jnp.inf)
    near = jnp.where(ratio < _FAR, ratio, 0.0)
    exponents = np.arange(1.0, STAGES + 1)
    powers = (1 + near * _TABLEAU.points)[:, None] ** exponents[None] - 1
    return powers @ (_TABLEAU.coefficients @ stages)
