"""Inner products of everything in a sequence: of given vectors, and drawn by their own laws, with no vectors."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, PRNGKeyArray, Shaped

from induction_dynamics.task import Placements, Sequences, Task, cosine_and_sine, require_float64, rotate

_BATCH = 64
"""Sequences drawn side by side."""


class GramMatrices(NamedTuple):
    """Inner products of everything in a sequence; the loss of the reduced model needs no more (leading axes: samples).

    Args:
        tokens: S_t, of the 2N tokens before the query (the query's token is one of them).
        positions: S_r, r_i . r_j over the full sequence.
        rotated: S_m, r_i . M r_j over the full sequence.
    """

    tokens: Float[Array, "*samples keys keys"]
    positions: Float[Array, "*samples length length"]
    rotated: Float[Array, "*samples length length"]


def gram_matrices(task: Task, sequences: Sequences) -> GramMatrices:
    """Gram matrices of given sequences: t_i . t_j, r_i . r_j and r_i . M r_j.

    Args:
        task: gives the rotation M.
        sequences: of the task.
    """
    keys = sequences.tokens[:, :-1]
    rotated = rotate(sequences.positions, task.rotation)
    return GramMatrices(
        tokens=jnp.einsum("bid,bjd->bij", keys, keys),
        positions=jnp.einsum("bid,bjd->bij", sequences.positions, sequences.positions),
        rotated=jnp.einsum("bid,bjd->bij", sequences.positions, rotated),
    )


def with_copies(gram: GramMatrices, placements: Placements) -> GramMatrices:
    """Gram matrices of sequences in which the tokens of the queried pair also stand in other places.

    Args:
        gram: of sequences without copies, with one leading axis.
        placements: where the queried pair stands in each.
    """
    token = placements.tokens
    rows = jnp.take_along_axis(gram.tokens, token[:, :, None], axis=1)
    return gram._replace(tokens=jnp.take_along_axis(rows, token[:, None, :], axis=2))


def sample_gram_matrices(task: Task, key: PRNGKeyArray, samples: int) -> GramMatrices:
    r"""Gram matrices of independent sequences, in float64, at a cost that does not grow with D.

    Of isotropic inputs no vector is drawn, only the triangles of Bartlett's decomposition: over the 2N tokens before
    the query and over the N + 1 positions z = a + i b of p = [a; b],

        S_t = A A^T / D,              A lower-trapezoidal, 2N x min(2N, D),
                                      A_ii^2 ~ chi^2(D - i + 1), A_ij ~ Normal(0, 1) for i > j,
        H_ij = sum z_i conj(z_j),
        H = (2/D) A A^H,              A lower-trapezoidal, N + 1 x min(N + 1, D/2),
                                      A_ii^2 ~ Gamma(D/2 - i + 1, 1), A_ij complex normal, E|A_ij|^2 = 1, for i > j;

    with a label's z that of its item times e^{i phi}, S_r = Re H and S_m = Re(e^{-i phi} H). All sequences of
    orthonormal inputs have the same Gram matrices (`orthonormal_gram_matrices`). All tokens are distinct here; copies
    of a pair are put in by `with_copies`.

    Args:
        task: which task.
        key: jax random key.
        samples: number of sequences.

    Raises:
        ValueError: jax_enable_x64 is off.

    References:
        M. S. Bartlett, On the theory of statistical regression, Proc. R. Soc. Edinburgh 53 (1933) 260-283; for the
        complex law N. R. Goodman, Ann. Math. Statist. 34 (1963) 152-177.
    """
    require_float64("Gram matrices need")
    if task.inputs == "isotropic":
        pairs, dim = task.context_length, task.embedding_dim
        columns = min(2 * pairs, dim), min(pairs + 1, dim // 2)
        width = jnp.asarray(dim, jnp.float64)
        return _sample_isotropic(key, width, pairs=pairs, columns=columns, rotation=task.rotation, samples=samples)
    every = orthonormal_gram_matrices(task)
    return GramMatrices(*(jnp.broadcast_to(matrix, (samples, *matrix.shape)) for matrix in every))


def orthonormal_gram_matrices(task: Task) -> GramMatrices:
    """The Gram matrices that every sequence of orthonormal inputs has, at any rotation: S_t = I, and H = I.

    H is that of the N + 1 positions of `sample_gram_matrices`, which also says how S_r and S_m follow from it.

    Args:
        task: gives the number of pairs and the rotation M.
    """
    pairs = task.context_length
    return _with_labels(jnp.eye(2 * pairs), jnp.eye(pairs + 1, dtype=complex), task.rotation)


@functools.partial(jax.jit, static_argnames=("pairs", "columns", "rotation", "samples"))
def _sample_isotropic(
    key: PRNGKeyArray,
    dim: Float[Array, ""],
    *,
    pairs: int,
    columns: tuple[int, int],
    rotation: float,
    samples: int,
) -> GramMatrices:
    """Compiled once for all D above the number of vectors; `columns` of A for tokens and for positions.

    The gamma variables of a sample come from one call, the normal ones from another: a call takes a second to compile.
    """
    tokens, bases = _trapezoid(2 * pairs, columns[0]), _trapezoid(pairs + 1, columns[1])
    half = dim / 2
    shapes = jnp.concatenate([half - np.arange(columns[0]) / 2, half - np.arange(columns[1], dtype=float)])
    ends = np.cumsum([tokens.below, bases.below, bases.below])

    def one(key):
        key_diagonal, key_below = jax.random.split(key)
        squares = jax.random.gamma(key_diagonal, shapes) / half
        normal = jax.random.normal(key_below, (ends[-1],), jnp.float64) / jnp.sqrt(dim)
        of_tokens, of_bases = jnp.split(squares, columns[:1])
        below, real, imaginary, _ = jnp.split(normal, ends)
        return _with_labels(
            tokens.inner_products(of_tokens, below),
            bases.inner_products(of_bases, jax.lax.complex(real, imaginary)),
            rotation,
        )

    return jax.lax.map(one, jax.random.split(key, samples), batch_size=min(samples, _BATCH))


def _with_labels(
    tokens: Float[Array, "keys keys"], bases: Complex[Array, "bases bases"], rotation: float
) -> GramMatrices:
    """Inner products over the full sequence from H over the N + 1 base positions."""
    place = np.arange(tokens.shape[0] + 1)
    turn = complex(*cosine_and_sine(rotation))
    turns = np.where(place % 2 == 1, turn, 1)
    hermitian = (turns[:, None] * turns.conj()[None, :]) * bases[place[:, None] // 2, place[None, :] // 2]
    return GramMatrices(tokens, jnp.real(hermitian), jnp.real(turn.conjugate() * hermitian))


class _Trapezoid(NamedTuple):
    """Shape of a lower-trapezoidal matrix A, and where its entries are in [0, diagonal, entries below it by rows]."""

    below: int
    place: Int[np.ndarray, "rows columns"]

    def inner_products(
        self, squares: Float[Array, " columns"], below: Shaped[Array, " below"]
    ) -> Shaped[Array, "rows rows"]:
        """A A^H of the squares of A's diagonal and the entries below it, real or complex."""
        zero = jnp.zeros(1, below.dtype)
        entries = jnp.concatenate([zero, jnp.sqrt(squares).astype(below.dtype), below])
        matrix = entries[self.place]
        return matrix @ matrix.conj().T


def _trapezoid(rows: int, columns: int) -> _Trapezoid:
    row, column = np.tril_indices(rows, -1, columns)
    place = np.zeros((rows, columns), int)
    place[np.arange(columns), np.arange(columns)] = 1 + np.arange(columns)
    place[row, column] = 1 + columns + np.arange(row.size)
    return _Trapezoid(row.size, place)
