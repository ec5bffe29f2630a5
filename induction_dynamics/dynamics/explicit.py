"""Gradient flows whose loss has no closed form: by an explicit method, whose steps are cheaper.

Apart, and imported only where it is needed: diffrax takes a quarter of a second to import.
"""

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from induction_dynamics.dynamics.solvers import Nodes, Run, losses_at
from induction_dynamics.traced import traced_once

DEGREE = 4
"""Degree of the polynomial kept of a step, that of the solver's interpolant."""

_FIRST_STEP = 1e-14  # as a fraction of the run; it grows at once


@traced_once(Nodes)
def march(run: Run, rtol: Float[Array, ""], max_steps: int) -> Nodes:
    """Solve by an explicit method up to the horizon in s = t/horizon.

    The ends of the interval and the first step are constants: were they arguments, diffrax would check them on the
    host, and such a program neither enters the compilation cache nor lowers for another platform.
    """
    loss = jax.jit(lambda moved: run.loss(run.coordinates(moved)))
    start = jnp.zeros(run.directions.shape[1])
    first_loss = loss(start)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda s, moved, args: run.horizon * run.flow(moved)[0]),
        diffrax.Tsit5(),
        t0=0.0,
        t1=1.0,
        dt0=_FIRST_STEP,
        y0=start,
        saveat=diffrax.SaveAt(t0=True, steps=True, dense=True),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol / 100),
        event=diffrax.Event(lambda s, moved, args, **kwargs: run.arrived(moved, loss(moved) / first_loss)),
        max_steps=max_steps,
        throw=False,
    )
    assert isinstance(solution.ts, jax.Array)
    # Beyond the steps taken the buffer holds inf; the nodes there repeat the start, and are cut off later.
    begin = jnp.where(jnp.isfinite(solution.ts), solution.ts, jnp.zeros_like(solution.ts))
    end = jnp.append(solution.ts[1:], jnp.inf)
    length = jnp.where(jnp.isfinite(end), end - begin, jnp.zeros_like(begin))
    fractions = jnp.arange(DEGREE) / DEGREE
    times = (begin[:, None] + fractions[None, :] * length[:, None]).reshape(-1)
    moved = jax.vmap(solution.evaluate)(times)
    stopped = solution.result == diffrax.RESULTS.event_occurred
    failed = (solution.result != diffrax.RESULTS.successful) & ~stopped
    steps = solution.stats["num_accepted_steps"]
    losses = losses_at(loss, moved, DEGREE * steps + 1)
    return Nodes(times * run.horizon, run.coordinates(moved), losses, steps, stopped, failed)
