"""diffrax as it comes, on the nineteen-coordinate loss: prints seconds and emergence times as JSON.

`python -m experiments.benchmarks.kvaerno --context-length 64` is a process of its own, so that its compiling, which can
take minutes, can be given up.
"""

import dataclasses
import json
import time
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.lsoda import root
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.reduced.loss import ReducedLoss, reduced_loss
from induction_dynamics.task import Task

MEASURES = ("alpha_3", "beta_2", "gamma_3", "loss")


@dataclasses.dataclass(frozen=True)
class KvaernoConfig:
    """What is run.

    Args:
        context_length: N.
        query: which pair is queried.
        tolerance: relative, of a step; the absolute one is a hundredth of it.
        rounds: solves after the first, which compiles.
    """

    context_length: int
    query: str = "last"
    tolerance: float = 1e-7
    rounds: int = 1


def main(config: KvaernoConfig) -> dict[str, Any]:
    """Solve, print and return what was measured."""
    jax.config.update("jax_enable_x64", True)
    loss = reduced_loss(Task(config.context_length, query=config.query), "subspace")
    span = float(config.context_length) ** 2
    seconds, solution = [], None
    for _ in range(1 + config.rounds):
        begun = time.perf_counter()
        solution = jax.block_until_ready(_solved(loss, span, config.tolerance))
        seconds.append(time.perf_counter() - begun)
    assert solution is not None
    answer = {"first": seconds[0], "seconds": seconds[1:], "times": _times(loss, span, solution)}
    print(json.dumps(answer))
    return answer


@jax.jit
def _solved(loss: ReducedLoss, span: float, tolerance: float) -> diffrax.Solution:
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda s, theta, args: -span * jax.grad(lambda at: loss(at))(theta)),
        diffrax.Kvaerno5(),
        t0=0.0,
        t1=12.0,
        dt0=1e-6,
        y0=jnp.zeros(len(COORDINATES)),
        saveat=diffrax.SaveAt(t0=True, steps=True, dense=True),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance / 100),
        event=diffrax.Event(lambda s, theta, args, **kwargs: jnp.all(_signals(loss, theta) >= 0)),
        max_steps=4096,
        throw=False,
    )


@jax.jit
def _signals(loss: ReducedLoss, theta: jax.Array) -> jax.Array:
    """What is positive beyond each threshold at one half."""
    places = jnp.asarray([COORDINATES.index(name) for name in MEASURES[:-1]])
    return jnp.append(theta[places] - 0.5, 0.25 - loss(theta))


def _times(loss: ReducedLoss, span: float, solution: diffrax.Solution) -> dict[str, float | None]:
    ends = np.asarray(solution.ts)
    ends = ends[np.isfinite(ends)]
    evaluate = jax.jit(lambda solution, s: _signals(loss, solution.evaluate(s)))

    def signals(at: float) -> np.ndarray:
        return np.asarray(evaluate(solution, jnp.asarray(at)))

    beyond = np.array([signals(end) >= 0 for end in ends])
    times: dict[str, float | None] = dict.fromkeys(MEASURES)
    for place, name in enumerate(MEASURES):
        if beyond[:, place].any():
            after = int(np.argmax(beyond[:, place]))
            times[name] = span * root(lambda at, place=place: signals(at)[place], ends[after - 1], ends[after])
    return times


if __name__ == "__main__":
    main(tyro.cli(KvaernoConfig, description=__doc__))
