"""What do sequences of orthonormal inputs cost beside a step of the model, and what noise does sharing frames add?

`python -m experiments.benchmarks.frame_draws --output DIR` writes frame_draws.csv and frame_draws.json.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.stopwatch import interleaved, keep, spread
from experiments.recorder import run_script
from induction_dynamics import task as task_module
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES, lift
from induction_dynamics.task import Sequences, Task, sample_sequences
from induction_dynamics.transformer.disentangled import Weights, batch_loss
from induction_dynamics.transformer.gradient import loss_and_gradient

_HALFWAY = 2.5, 3.0, 0.5  # alpha_3, beta_2, gamma_3
_SCALE = 0.7  # of random coordinates


@dataclasses.dataclass(frozen=True)
class FrameDrawsConfig:
    """What is measured.

    Args:
        output: folder for the table.
        sizes: N, D and sequences of a batch, each.
        shared: numbers of sequences to a frame; the first is what the noise of the others is compared with.
        batches: gradients that the noise is estimated from.
        noisy: N up to which it is.
        rounds: measurements of each, in turns.
        seed: of the draws.
    """

    output: Path = Path("build/benchmarks")
    sizes: tuple[tuple[int, int, int], ...] = ((8, 18, 64), (16, 64, 512), (32, 128, 512), (32, 256, 256))
    shared: tuple[int, ...] = (1, 4, 16, 64)
    batches: int = 512
    noisy: int = 8
    rounds: int = 9
    seed: int = 0


def main(config: FrameDrawsConfig) -> None:
    """Measure, and keep the table."""
    rows = []
    for pairs, dim, batch in config.sizes:
        task, key = Task(pairs, dim), jax.random.key(config.seed)
        taken = interleaved(_calls(task, key, batch, config), config.rounds)
        found = noise(task, key, batch, config) if pairs <= config.noisy else {}
        step = spread(taken["step"])["seconds"]
        rows += [
            {
                "context_length": pairs,
                "embedding_dim": dim,
                "batch_size": batch,
                "how": how,
                "shared": shared,
                **spread(taken[name]),
                "over_step": spread(taken[name])["seconds"] / step,
                **(found.get(shared, _unknown()) if how == "frames" else _unknown()),
            }
            for name, how, shared in [
                *[(f"shared by {shared}", "frames", shared) for shared in config.shared],
                ("qr", "qr", 1),
                ("step", "step", None),
            ]
        ]
    keep(config, "frame_draws", rows)


def qr_frames(
    key: jax.Array, batch: int, count: int, dim: int, dtype: Any, shared: int = 1, corrected: bool = True
) -> jax.Array:
    """The rival: orthonormal frames as QR factorisations of normal vectors, with the arguments of `haar_frames`.

    Args:
        key: jax random key.
        batch: number of frames.
        count: vectors of a frame.
        dim: width of a vector.
        dtype: floating type.
        shared: not for rivals.
        corrected: whether each vector is multiplied by the sign of R's diagonal, without which they are not Haar.
    """
    return _factorised(jax.random.normal(key, (batch, dim, count), dtype), corrected)


def qr_unitary_frames(
    key: jax.Array, batch: int, count: int, half: int, dtype: Any, shared: int = 1, corrected: bool = True
) -> jax.Array:
    """The rival of `haar_unitary_frames`, likewise; `half` is the number of complex entries of a vector."""
    complex_dtype = jnp.complex128 if jnp.dtype(dtype) == jnp.float64 else jnp.complex64
    rows = _factorised(jax.random.normal(key, (batch, half, count), complex_dtype), corrected)
    return jnp.concatenate([rows.real, rows.imag], axis=-1)


def _factorised(normal: jax.Array, corrected: bool) -> jax.Array:
    frame, triangle = jnp.linalg.qr(normal)
    if corrected:
        frame = frame * jnp.sign(jnp.diagonal(triangle, axis1=-2, axis2=-1))[:, None, :]
    return jnp.swapaxes(frame, 1, 2)


def rival_sequences(task: Task, key: jax.Array, batch_size: int, dtype: Any, corrected: bool = True) -> Sequences:
    """Sequences whose frames are the rival's.

    Args:
        task: which task.
        key: jax random key.
        batch_size: number of sequences.
        dtype: floating type.
        corrected: as for `qr_frames`.
    """
    real = functools.partial(qr_frames, corrected=corrected)
    unitary = functools.partial(qr_unitary_frames, corrected=corrected)
    replace = mock.patch.object
    with replace(task_module, "haar_frames", real), replace(task_module, "haar_unitary_frames", unitary):
        return sample_sequences(task, key, batch_size, dtype)


def points() -> dict[str, jax.Array]:
    """Coordinates of the weights that the noise is measured at: the start, halfway through training, and anywhere."""
    halfway = np.zeros(len(COORDINATES))
    halfway[[COORDINATES.index(name) for name in CIRCUIT]] = _HALFWAY
    anywhere = _SCALE * np.random.default_rng(0).normal(size=len(COORDINATES))
    return {
        "zero": jnp.zeros(len(COORDINATES)),
        "halfway": jnp.asarray(halfway),
        "anywhere": jnp.asarray(anywhere),
    }


def noise(task: Task, key: jax.Array, batch: int, config: FrameDrawsConfig) -> dict[int, dict[str, float]]:
    """Variance of the gradient over that with the first of the numbers of sequences to a frame, by that number.

    The variance is the trace of the covariance, of all weights; each ratio has its standard error beside it.

    Args:
        task: which task.
        key: jax random key.
        batch: number of sequences.
        config: how many to a frame, and how many batches.
    """
    found: dict[int, dict[str, float]] = {shared: {} for shared in config.shared}
    for name, coordinates in points().items():
        weights = lift(coordinates, task)
        traces = {}
        for shared in config.shared:
            keys = jax.random.split(jax.random.fold_in(key, shared), config.batches)
            traces[shared] = _trace(np.asarray(_gradients(weights, keys, task=task, batch=batch, shared=shared)))
        first, first_error = traces[config.shared[0]]
        for shared, (trace, error) in traces.items():
            ratio = trace / first
            spreads = (error / trace, first_error / first) if shared != config.shared[0] else (0.0,)
            found[shared] |= {f"noise_{name}": ratio, f"error_{name}": ratio * math.hypot(*spreads)}
    return found


def _unknown() -> dict[str, None]:
    return {f"{what}_{name}": None for name in points() for what in ("noise", "error")}


@functools.partial(jax.jit, static_argnames=("task", "batch", "shared"))
def _gradients(weights: Weights, keys: jax.Array, *, task: Task, batch: int, shared: int) -> jax.Array:
    def one(key: jax.Array) -> jax.Array:
        sequences = sample_sequences(task, key, batch, weights.W1.dtype, shared)
        gradient = jax.grad(batch_loss)(weights, sequences)
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])

    return jax.lax.map(one, keys)


def _trace(gradients: np.ndarray) -> tuple[float, float]:
    """The trace of the covariance, and its standard error."""
    number = len(gradients)
    squares = np.sum((gradients - gradients.mean(axis=0)) ** 2, axis=1) * number / (number - 1)
    return float(squares.mean()), float(squares.std(ddof=1) / math.sqrt(number))


def _calls(task: Task, key: jax.Array, batch: int, config: FrameDrawsConfig) -> dict[str, Callable[[], object]]:
    calls: dict[str, Callable[[], object]] = {}
    for shared in config.shared:
        calls[f"shared by {shared}"] = _drawing(functools.partial(sample_sequences, shared=shared), task, key, batch)
    calls["qr"] = _drawing(rival_sequences, task, key, batch)
    weights = lift(points()["anywhere"].astype(jnp.float32), task)
    sequences, step = sample_sequences(task, key, batch), jax.jit(loss_and_gradient)
    return {**calls, "step": lambda: jax.block_until_ready(step(weights, sequences))}


def _drawing(draw: Callable[..., Sequences], task: Task, key: jax.Array, batch: int) -> Callable[[], object]:
    compiled = jax.jit(lambda key: draw(task, key, batch, dtype=jnp.float32))
    return lambda: jax.block_until_ready(compiled(key))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    run_script(main, FrameDrawsConfig, __doc__)
