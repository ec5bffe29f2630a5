"""Does a draw of Gram matrices cost the same at every width, and what do explicit vectors cost?

`python -m experiments.benchmarks.gram_draws --output DIR` writes gram_draws.csv and gram_draws.json.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax

from experiments.benchmarks.stopwatch import interleaved, keep, spread
from experiments.recorder import run_script
from induction_dynamics.gram_matrices import GramMatrices, gram_matrices, sample_gram_matrices
from induction_dynamics.task import Task, sample_sequences

_SIDE_BY_SIDE = 64  # sequences; more of the widest do not fit into memory


@dataclasses.dataclass(frozen=True)
class GramDrawsConfig:
    """What is measured.

    Args:
        output: folder for the table.
        context_lengths: N.
        samples: sequences drawn.
        widths: D of the draws by their own law.
        vector_widths: D of the draws of explicit vectors.
        rounds: measurements of each, in turns.
        vector_rounds: measurements of explicit vectors.
        seed: of the draws.
    """

    output: Path = Path("build/benchmarks")
    context_lengths: tuple[int, ...] = (6, 16)
    samples: int = 2048
    widths: tuple[int, ...] = (64, 1_000, 1_000_000)
    vector_widths: tuple[int, ...] = (64, 1_000, 4_096)
    rounds: int = 9
    vector_rounds: int = 3
    seed: int = 0


def main(config: GramDrawsConfig) -> None:
    """Measure, and keep the table."""
    jax.config.update("jax_enable_x64", True)
    rows = []
    for pairs in config.context_lengths:
        seconds: dict[str, dict[int, list[float]]] = {}
        for how, draw, widths, rounds in (
            ("law", sample_gram_matrices, config.widths, config.rounds),
            ("vectors", explicit_gram_matrices, config.vector_widths, config.vector_rounds),
        ):
            calls = {str(width): _call(draw, pairs, width, config) for width in widths}
            taken = interleaved(calls, rounds)
            seconds[how] = {width: taken[str(width)] for width in widths}
        narrowest = spread(seconds["law"][config.widths[0]])["seconds"]
        rows += [
            {
                "context_length": pairs,
                "embedding_dim": width,
                "how": how,
                "samples": config.samples,
                **spread(taken),
                "over_narrowest": spread(taken)["seconds"] / narrowest,
            }
            for how, by_width in seconds.items()
            for width, taken in by_width.items()
        ]
    keep(config, "gram_draws", rows)


def explicit_gram_matrices(task: Task, key: jax.Array, samples: int) -> GramMatrices:
    """Gram matrices of sequences whose vectors are drawn, a batch at a time.

    Args:
        task: which task.
        key: jax random key.
        samples: number of sequences.
    """
    return _explicit(key, task=task, samples=samples)


@functools.partial(jax.jit, static_argnames=("task", "samples"))
def _explicit(key: jax.Array, *, task: Task, samples: int) -> GramMatrices:
    size = min(samples, _SIDE_BY_SIDE)

    def batch(key: jax.Array) -> GramMatrices:
        return gram_matrices(task, sample_sequences(task, key, size, jax.numpy.float64))

    batches = jax.lax.map(batch, jax.random.split(key, -(-samples // size)))
    return jax.tree.map(lambda each: each.reshape(-1, *each.shape[2:])[:samples], batches)


def _call(
    draw: Callable[[Task, jax.Array, int], GramMatrices], pairs: int, width: int, config: GramDrawsConfig
) -> Callable[[], object]:
    task, key = Task(pairs, width, "isotropic"), jax.random.key(config.seed)
    return lambda: jax.block_until_ready(draw(task, key, config.samples))


if __name__ == "__main__":
    run_script(main, GramDrawsConfig, __doc__)
