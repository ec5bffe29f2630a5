"""The 19 pseudo-parameters: their names, their basis matrices, and the way to the weights and back.

W = sum_k theta_k B_k. Each basis matrix B_k is zero but for one D x D block, which is I or M. The roles of alpha_3,
beta_2 and gamma_3 are those of arXiv 2511.01033; the order of the other betas and gammas is this project's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from induction_dynamics.task import Task, check_rotation, cosine_and_sine
from induction_dynamics.transformer.disentangled import Weights


class Block(NamedTuple):
    """Where a coordinate sits: the D x D block (row, column) of a weight matrix, and the structure put there."""

    matrix: str
    row: int
    column: int
    structure: str


STREAMS: tuple[str, ...] = ("t", "r", "A1t", "A1r", "A2t", "A2r", "A2A1t", "A2A1r")
"""Parts of the residual stream in their order: tokens, position vectors, and what each layer retrieved of them."""

_T, _R, _A1T, _A1R, _A2T, _A2A1T = 0, 1, 2, 3, 4, 6

BLOCKS: dict[str, Block] = {
    "alpha_1": Block("W1", _T, _T, "I"),
    "alpha_2": Block("W1", _R, _R, "I"),
    "alpha_3": Block("W1", _R, _R, "M"),
    "beta_1": Block("W2", _T, _T, "I"),
    "beta_2": Block("W2", _T, _A1T, "I"),
    "beta_3": Block("W2", _A1T, _T, "I"),
    "beta_4": Block("W2", _A1T, _A1T, "I"),
    "beta_5": Block("W2", _R, _R, "I"),
    "beta_6": Block("W2", _R, _R, "M"),
    "beta_7": Block("W2", _R, _A1R, "I"),
    "beta_8": Block("W2", _R, _A1R, "M"),
    "beta_9": Block("W2", _A1R, _R, "I"),
    "beta_10": Block("W2", _A1R, _R, "M"),
    "beta_11": Block("W2", _A1R, _A1R, "I"),
    "beta_12": Block("W2", _A1R, _A1R, "M"),
    "gamma_1": Block("W3", 0, _T, "I"),
    "gamma_2": Block("W3", 0, _A1T, "I"),
    "gamma_3": Block("W3", 0, _A2T, "I"),
    "gamma_4": Block("W3", 0, _A2A1T, "I"),
}

COORDINATES: tuple[str, ...] = tuple(BLOCKS)
"""Names of the 19 coordinates, in the order of every array of coordinates."""

CIRCUIT: tuple[str, ...] = ("alpha_3", "beta_2", "gamma_3")
"""The three coordinates that make the induction head."""

PAIRS: tuple[tuple[int, int], ...] = tuple(
    (index, index + 1) for index, name in enumerate(COORDINATES[:-1]) if BLOCKS[COORDINATES[index + 1]].structure == "M"
)
"""Places of the coordinates that share a block, I first: their basis matrices overlap unless M = J."""


ROWS: dict[str, int] = {"W1": 2, "W2": 4, "W3": 1}
COLUMNS: dict[str, int] = {"W1": 2, "W2": 4, "W3": 8}
"""Shape of each matrix, in units of D."""

PLACES: dict[str, slice] = {"W1": slice(0, 3), "W2": slice(3, 15), "W3": slice(15, 19)}
"""Which of the coordinates are of which matrix."""


class OffSubspace(NamedTuple):
    """||W - sum_k theta_k B_k|| / ||W|| in the Frobenius norm, a matrix at a time and in total; 0 where W = 0."""

    W1: Float[Array, ""]
    W2: Float[Array, ""]
    W3: Float[Array, ""]
    total: Float[Array, ""]


class MatrixProjection(NamedTuple):
    """One matrix: its coordinates, and ||W - sum_k theta_k B_k||^2 and ||W||^2 in units of the squared scale."""

    coordinates: Float[Array, " of_matrix"]
    missed: Float[Array, ""]
    whole: Float[Array, ""]
    scale: Float[Array, ""]


class Projection(NamedTuple):
    """The coordinates of the nearest point of the subspace, and the fraction of the weights that it misses."""

    coordinates: Float[Array, "19"]
    off_subspace: OffSubspace


def combinations(*rows: tuple[str, ...]) -> Float[np.ndarray, "combinations 19"]:
    """Sums of coordinates, each as a row of ones and zeros.

    Args:
        rows: the names that each sum is made of.
    """
    return np.array([[float(name in row) for name in COORDINATES] for row in rows])


def metric(rotation: float = 90.0) -> Float[np.ndarray, "19 19"]:
    """Gram matrix of the basis, G_kl = <B_k, B_l>/D: the identity but for cos(phi) within each of `PAIRS`.

    Args:
        rotation: phi in degrees; at 90 degrees (M = J) the basis is orthogonal.

    Raises:
        ArgumentError: phi is a multiple of 180 degrees, where the basis is none.
    """
    check_rotation(rotation)
    gram = np.eye(len(COORDINATES))
    cosine, _ = cosine_and_sine(rotation)
    for first, second in PAIRS:
        gram[first, second] = gram[second, first] = cosine
    return gram


def lift(coordinates: Float[Array, "19"], task: Task) -> Weights:
    """Weights with the given coordinates, W = sum_k theta_k B_k.

    Args:
        coordinates: theta, in the order of `COORDINATES`.
        task: gives D and the rotation M.

    Example:
        >>> import jax.numpy as jnp
        >>> import induction_dynamics as idyn
        >>> theta = jnp.zeros(19).at[idyn.COORDINATES.index("gamma_3")].set(2.0)
        >>> weights = idyn.lift(theta, idyn.Task(context_length=1, embedding_dim=4))
        >>> float(weights.W3[0, 4 * 4]), float(jnp.abs(weights.W1).max())  # 2 I in the block of A2t
        (2.0, 0.0)
    """
    theta = jnp.asarray(coordinates)
    return Weights(
        *(_lift_matrix(theta[places], name, task.embedding_dim, task.rotation) for name, places in PLACES.items())
    )


def project(weights: Weights, rotation: float = 90.0) -> Projection:
    """Coordinates of weights: theta = G^-1 <B, W>/D, and the off-subspace fraction.

    Args:
        weights: W1, W2, W3; any floating type.
        rotation: phi in degrees, of the task that the weights were trained on.

    Raises:
        ArgumentError: phi is a multiple of 180 degrees, where the basis is none.

    Example:
        >>> import jax.numpy as jnp
        >>> import induction_dynamics as idyn
        >>> weights = idyn.lift(jnp.arange(19.0), idyn.Task(context_length=1, embedding_dim=4))
        >>> idyn.project(weights).coordinates.astype(int).tolist()[-4:]
        [15, 16, 17, 18]
        >>> W3 = jnp.ones((4, 32))  # 3/4 of each block's squared norm is off the diagonal, and 4 blocks of 8 have no I
        >>> bool(jnp.isclose(idyn.project(idyn.Weights(weights.W1, weights.W2, W3)).off_subspace.W3 ** 2, 7 / 8))
        True
    """
    parts = [project_matrix(name, getattr(weights, name), rotation) for name in PLACES]
    fractions = off_subspace(parts, jnp.stack([part.scale for part in parts]))
    return Projection(jnp.concatenate([part.coordinates for part in parts]), fractions)


def project_matrix(name: str, matrix: Float[Array, "rows columns"], rotation: float = 90.0) -> MatrixProjection:
    """The part of `project` that one matrix has to itself.

    Args:
        name: `W1`, `W2` or `W3`.
        matrix: its values.
        rotation: phi in degrees.

    Raises:
        ArgumentError: phi is a multiple of 180 degrees, where the basis is none.
    """
    check_rotation(rotation)
    cosine, sine = cosine_and_sine(rotation)
    dim = matrix.shape[1] // COLUMNS[name]
    values = []
    for coordinate in COORDINATES[PLACES[name]]:
        place = BLOCKS[coordinate]
        block = matrix[place.row * dim : (place.row + 1) * dim, place.column * dim : (place.column + 1) * dim]
        if place.structure == "I":
            values.append(jnp.trace(block) / dim)
        else:
            # In the orthogonal basis I, J a block is a I + b J = (a - b cot(phi)) I + (b / sin(phi)) M.
            along_J = _along_J(block) / dim
            values.append(along_J / sine)
            values[-2] = values[-2] - along_J * (cosine / sine)
    coordinates = jnp.stack(values)
    nearest = _lift_matrix(coordinates, name, dim, rotation)
    # A power of two near the largest entry: then no square overflows or vanishes, and no digit changes.
    one = jnp.ones((), matrix.dtype)
    scale = jnp.ldexp(one, jnp.frexp(jnp.max(jnp.abs(matrix)))[1])
    missed, whole = (jnp.sum(jnp.square(part / scale)) for part in (matrix - nearest, matrix))
    return MatrixProjection(coordinates, missed, whole, scale)


def off_subspace(parts: Sequence[MatrixProjection], scales: Float[Array, "3"]) -> OffSubspace:
    """Off-subspace fractions of W1, W2, W3 and of all together.

    Args:
        parts: the three projections.
        scales: in which each part's norms are given, in any common unit.
    """
    missed, whole = jnp.stack([part.missed for part in parts]), jnp.stack([part.whole for part in parts])
    # A matrix of zeros has a scale like any other, but no weight.
    counted = jnp.where(whole > 0, scales, jnp.zeros_like(scales))
    largest = jnp.max(counted)
    weights = jnp.square(counted / jnp.where(largest > 0, largest, jnp.ones_like(largest)))
    total = _fraction(jnp.sum(weights * missed), jnp.sum(weights * whole))
    return OffSubspace(*_fraction(missed, whole), total=total)


def rotation_matrix(embedding_dim: int, rotation: float) -> Float[np.ndarray, "dim dim"]:
    """M = cos(phi) I + sin(phi) J with J = [[0, -I], [I, 0]].

    Args:
        embedding_dim: D, even.
        rotation: phi in degrees.
    """
    cosine, sine = cosine_and_sine(rotation)
    half = np.eye(embedding_dim // 2)
    zero = np.zeros_like(half)
    complex_structure = np.block([[zero, -half], [half, zero]])
    return cosine * np.eye(embedding_dim) + sine * complex_structure


def _lift_matrix(
    coordinates: Float[Array, " of_matrix"], name: str, dim: int, rotation: float
) -> Float[Array, "rows columns"]:
    structures = {
        "I": jnp.eye(dim, dtype=coordinates.dtype),
        "M": _rotation(dim, rotation, coordinates.dtype),
    }
    matrix = jnp.zeros((ROWS[name] * dim, COLUMNS[name] * dim), coordinates.dtype)
    for value, coordinate in zip(coordinates, COORDINATES[PLACES[name]], strict=True):
        block = BLOCKS[coordinate]
        rows = slice(block.row * dim, (block.row + 1) * dim)
        columns = slice(block.column * dim, (block.column + 1) * dim)
        matrix = matrix.at[rows, columns].add(value * structures[block.structure])
    return matrix


def _rotation(dim: int, rotation: float, dtype: jnp.dtype | type) -> Float[Array, "dim dim"]:
    """M, made where it is needed: as a constant it would be part of every compiled program."""
    cosine, sine = (jnp.asarray(value, dtype) for value in cosine_and_sine(rotation))
    quarter_turn = jnp.roll(jnp.eye(dim, dtype=dtype), dim // 2, axis=0).at[: dim // 2].multiply(-1)
    return cosine * jnp.eye(dim, dtype=dtype) + sine * quarter_turn


def _along_J(block: Float[Array, "dim dim"]) -> Float[Array, ""]:
    half = block.shape[0] // 2
    return jnp.trace(block[half:, :half]) - jnp.trace(block[:half, half:])


def _fraction(missed: Float[Array, "*matrices"], whole: Float[Array, "*matrices"]) -> Float[Array, "*matrices"]:
    return jnp.where(whole > 0, jnp.sqrt(missed / jnp.where(whole > 0, whole, jnp.ones_like(whole))), 0 * whole)
