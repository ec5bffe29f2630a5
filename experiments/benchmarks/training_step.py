"""How near is a step of training the full model to what its arithmetic must cost, and what is drawing its batch?

`python -m experiments.benchmarks.training_step --output DIR` writes training_step.csv and training_step.json.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from experiments.benchmarks.plain_transformer import plain_loss
from experiments.benchmarks.stopwatch import interleaved, keep, spread
from experiments.recorder import run_script
from induction_dynamics.task import Sequences, Task, sample_sequences
from induction_dynamics.transformer.disentangled import Weights, zero_weights
from induction_dynamics.transformer.gradient import loss_and_gradient

_SCALE = 0.3  # of the weights: scores then differ by about as much


@dataclasses.dataclass(frozen=True)
class TrainingStepConfig:
    """What is measured, in float32, with the query uniform and orthonormal inputs.

    Args:
        output: folder for the table.
        sizes: N, D and B, the sequences of a step.
        product: rows and columns of the matrices whose product tells the machine's rate.
        rounds: measurements of each, in turns.
        seed: of weights and sequences.
    """

    output: Path = Path("build/benchmarks")
    sizes: tuple[tuple[int, int, int], ...] = ((16, 64, 512), (32, 128, 512), (32, 256, 256))
    product: int = 2048
    rounds: int = 9
    seed: int = 0


def main(config: TrainingStepConfig) -> None:
    """Measure, and keep the table."""
    keep(config, "training_step", [row for size in config.sizes for row in _rows(*size, config)])


def _rows(pairs: int, dim: int, batch: int, config: TrainingStepConfig) -> list[dict[str, Any]]:
    task = Task(pairs, dim, query="uniform")
    key = jax.random.key(config.seed)
    draw = jax.jit(sample_sequences, static_argnums=(0, 2))
    sequences = draw(task, key, batch)
    square = jax.random.normal(key, (config.product, config.product), jnp.float32)
    calls = {
        "product": _call(jax.jit(jnp.matmul), square, square),
        "step": _steps(loss_and_gradient, _weights(dim, key), sequences),
        "plain": _steps(jax.value_and_grad(plain_loss), _weights(dim, key), sequences),
        "sampling": _call(draw, task, key, batch),
    }
    taken = interleaved(calls, config.rounds)
    needed = operations(pairs, dim, batch)
    counts = {"product": 2 * config.product**3, "step": needed, "plain": needed, "sampling": None}
    rows = []
    for what, seconds in taken.items():
        # of each round by itself: what slows the machine down slows both
        shares = [
            _share(counts[what], *each, counts["product"]) for each in zip(seconds, taken["product"], strict=True)
        ]
        over_step = [one / step for one, step in zip(seconds, taken["step"], strict=True)]
        rows.append(
            {
                "context_length": pairs,
                "embedding_dim": dim,
                "batch_size": batch,
                "what": what,
                **spread(seconds),
                "operations": counts[what],
                **_three("fraction", shares),
                **_three("over_step", over_step),
            }
        )
    return rows


def operations(context_length: int, embedding_dim: int, batch_size: int) -> int:
    """Additions and multiplications that a step needs, without the softmaxes and other work by elements.

    With K = 2N, as the first of the 2N + 1 positions attends to none and none attends to the last, and E = 2D:

    | what | for each sequence |
    |---|---|
    | W1 x0 of K keys, and dW1 of K queries | 2 * 2 K E^2 |
    | K (K + 1) / 2 scores of layer 1, and dS x0 | 2 * 2 E K (K + 1) / 2 |
    | W2 and W3: forward, back to what they read, and by themselves | 3 * 2 (4D)^2 + 3 * 2 * 8 D^2 |
    | x0 of K positions with a vector, or with a number each: five times forward, five back | 10 * 2 K E |
    | A1 of K positions with a number each: twice forward, twice back | 4 * 2 K (K - 1) / 2 |

    and W - eta dW once, 2 * 28 D^2.

    Args:
        context_length: N.
        embedding_dim: D.
        batch_size: B.
    """
    keys, width = 2 * context_length, 2 * embedding_dim
    of_sequence = (
        4 * keys * width**2
        + 2 * width * keys * (keys + 1)
        + 6 * (16 + 8) * embedding_dim**2
        + 20 * keys * width
        + 4 * keys * (keys - 1)
    )
    return batch_size * of_sequence + 56 * embedding_dim**2


def _share(count: int | None, seconds: float, of_product: float, in_product: int) -> float | None:
    """Part of the time that the operations take at the rate of the product."""
    return None if count is None else count / seconds / (in_product / of_product)


def _three(name: str, values: list[Any]) -> dict[str, float | None]:
    """The median and the extremes, as columns."""
    if None in values:
        return dict.fromkeys((name, f"least_{name}", f"most_{name}"))
    return {name: spread(values)["seconds"], f"least_{name}": min(values), f"most_{name}": max(values)}


def _weights(dim: int, key: Array) -> Weights:
    """Random ones, with which no attention is alike to every token."""
    leaves, structure = jax.tree.flatten(zero_weights(dim))
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.map(lambda leaf: _SCALE * leaf, jax.tree.unflatten(structure, drawn))


def _call(function: Callable[..., Any], *arguments: Any) -> Callable[[], object]:
    return lambda: jax.block_until_ready(function(*arguments))


def _steps(
    differentiate: Callable[[Weights, Sequences], tuple[Array, Weights]], weights: Weights, sequences: Sequences
) -> Callable[[], object]:
    """Steps W - eta G one after another, each in the place of the last; eta is 0, so that all compute the same."""

    @functools.partial(jax.jit, donate_argnums=0)
    def step(weights: Weights, sequences: Sequences, rate: Float[Array, ""]) -> tuple[Weights, Array]:
        loss, gradient = differentiate(weights, sequences)
        return jax.tree.map(lambda each, by: each - rate * by, weights, gradient), loss

    rate = jnp.zeros((), jnp.float32)

    def call() -> object:
        nonlocal weights
        weights, loss = step(weights, sequences, rate)
        return jax.block_until_ready((weights, loss))

    return call


if __name__ == "__main__":
    run_script(main, TrainingStepConfig, __doc__)
