"""What does an evaluation of the nineteen-coordinate loss cost, over N, and how near is that to its floor?

`python -m experiments.benchmarks.loss_cost --output DIR` writes loss_cost.csv and loss_cost.json.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.benchmarks.stopwatch import interleaved, keep, spread
from experiments.recorder import run_script
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.reduced.mesh import Mesh, exact_mesh, logarithmic_mesh
from induction_dynamics.reduced.subspace import SubspaceLoss

_MESHES: dict[str, Callable[[int], Mesh]] = {"linear": exact_mesh, "logarithmic": logarithmic_mesh}
_SCALE = 0.7  # of the coordinates that are not of the circuit


@dataclasses.dataclass(frozen=True)
class LossCostConfig:
    """What is measured.

    Args:
        output: folder for the table.
        queries: which pair is queried.
        linear: N of the form that sums over every pair.
        logarithmic: N of the form whose cost does not depend on N.
        hessian: N of its Hessian.
        compared: N at which both are evaluated and compared.
        starts: number of random coordinates that they are compared at.
        rounds: measurements of each, in turns.
        seed: of the coordinates.
    """

    output: Path = Path("build/benchmarks")
    queries: tuple[str, ...] = ("last", "uniform")
    linear: tuple[int, ...] = (100_000, 200_000, 400_000, 800_000)
    logarithmic: tuple[int, ...] = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8, 10**9)
    hessian: tuple[int, ...] = (10**3, 10**6, 10**9)
    compared: int = 10**6
    starts: int = 5
    rounds: int = 9
    seed: int = 0


def main(config: LossCostConfig) -> None:
    """Measure, and keep the table."""
    jax.config.update("jax_enable_x64", True)
    starts = random_coordinates(config.compared, config.starts, config.seed)
    rows: list[dict[str, Any]] = []
    for query in config.queries:
        error = difference(config.compared, query, starts)
        groups = [
            ("linear", "gradient", config.linear),
            ("logarithmic", "gradient", config.logarithmic),
            ("logarithmic", "hessian", config.hessian),
        ]
        for form, what, lengths in groups:
            rows += _rows(form, what, query, lengths, starts[0], config.rounds)
        for row in rows:
            if (row["query"], row["form"], row["context_length"]) == (query, "logarithmic", config.compared):
                row["error"] = error
    keep(config, "loss_cost", rows)


def _rows(
    form: str, what: str, query: str, lengths: tuple[int, ...], theta: Float[Array, "19"], rounds: int
) -> list[dict[str, Any]]:
    losses = {length: SubspaceLoss(_MESHES[form](length), query) for length in lengths}
    calls = {str(length): _call(_EVALUATED[what], loss, theta) for length, loss in losses.items()}
    taken = interleaved(calls, rounds)
    counts: dict[int, int] = {}
    rows = []
    for length, loss in losses.items():
        found, places = spread(taken[str(length)]), len(loss.mesh.pairs)
        if places not in counts:  # one program for each number of places
            counts[places] = transcendentals(_EVALUATED[what], loss, theta)
        floor = counts[places] * _seconds_of_exponential(places)
        rows.append(
            {
                "query": query,
                "form": form,
                "what": what,
                "context_length": length,
                "places": places,
                **found,
                "over_first": found["seconds"] / spread(taken[str(lengths[0])])["seconds"],
                "transcendentals": counts[places],
                "floor": floor,
                "over_floor": found["seconds"] / floor,
                "error": None,
            }
        )
    return rows


def random_coordinates(context_length: int, count: int, seed: int) -> Float[Array, "starts 19"]:
    """Coordinates on all of the way: the circuit's from nothing to saturation at N, the others of the order of 1.

    Args:
        context_length: N.
        count: how many.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    theta = generator.normal(0, _SCALE, (count, len(COORDINATES)))
    grown = generator.uniform(0, 1, count)
    for name, most in (("alpha_3", 1.0), ("beta_2", 2.0)):
        theta[:, COORDINATES.index(name)] += most * math.log(2 * context_length) * grown
    theta[:, COORDINATES.index("gamma_3")] += grown
    return jnp.asarray(theta)


@jax.jit
def _gradient(loss: SubspaceLoss, theta: Float[Array, "19"]) -> tuple[Float[Array, ""], Float[Array, "19"]]:
    return jax.value_and_grad(lambda at: loss(at))(theta)


@jax.jit
def _hessian(loss: SubspaceLoss, theta: Float[Array, "19"]) -> Float[Array, "19 19"]:
    return jax.hessian(lambda at: loss(at))(theta)


_EVALUATED = {"gradient": _gradient, "hessian": _hessian}


def difference(context_length: int, query: str, starts: Float[Array, "starts 19"]) -> float:
    """The logarithmic form's largest error in the loss and, relative to the largest entry, in its gradient.

    Args:
        context_length: N.
        query: which pair is queried.
        starts: coordinates at which it is compared with the linear form.
    """
    linear, logarithmic = (SubspaceLoss(mesh(context_length), query) for mesh in _MESHES.values())
    errors = []
    for theta in starts:
        value, gradient = map(np.asarray, _gradient(linear, theta))
        other, slope = map(np.asarray, _gradient(logarithmic, theta))
        errors += [abs(other / value - 1), np.max(np.abs(slope - gradient)) / np.max(np.abs(gradient))]
    return float(max(errors))


def transcendentals(evaluated: Any, loss: SubspaceLoss, theta: Float[Array, "19"]) -> int:
    """How many exponentials, logarithms and the like the compiled program evaluates.

    Args:
        evaluated: a jitted function of the loss and theta.
        loss: the loss.
        theta: the coordinates.
    """
    return int(evaluated.lower(loss, theta).compile().cost_analysis()["transcendentals"])


def _call(evaluated: Callable[..., Any], loss: SubspaceLoss, theta: Float[Array, "19"]) -> Callable[[], object]:
    return lambda: jax.block_until_ready(evaluated(loss, theta))


def _seconds_of_exponential(places: int) -> float:
    """Per element of an array of this size, each computed from the one before: what calling jax costs is left out."""
    repeats = max(10_000_000 // places // 10, 10)
    values = jnp.linspace(0.0, 1.0, places)

    @jax.jit
    def chained(values: Float[Array, " place"]) -> Float[Array, " place"]:
        return jax.lax.fori_loop(0, repeats, lambda _, at: jnp.exp(-at), values)

    jax.block_until_ready(chained(values))
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        jax.block_until_ready(chained(values))
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds)[1] / (repeats * places)


if __name__ == "__main__":
    run_script(main, LossCostConfig, __doc__)
