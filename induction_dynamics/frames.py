"""Haar-random frames in R^d and C^d: products of Householder reflections, at the cost of a few batched products.

A frame of k vectors is H_1 .. H_k, applied to the first k axes, where H_j = I - w_j w_j^H reflects axis j to minus a
uniformly random direction of the last d - j + 1 axes. H_j is the j-th step of a QR factorisation of normal vectors,
taken without the vectors: whatever they are, its w_j is well defined, so that no draw is ill-conditioned. With
Y = [w_1; ..; w_k] as rows, conj(Y) Y^T = T + T^H has 2 on the diagonal, and T, upper triangular, has 1:

    H_1 .. H_k = I - Y^T T^-1 conj(Y).

References:
    G. W. Stewart, The efficient generation of random orthogonal matrices with an application to condition estimators,
    SIAM J. Numer. Anal. 17 (1980) 403-409; for the product of reflections H. F. Walker, Implementation of the GMRES
    method using Householder transformations, SIAM J. Sci. Stat. Comput. 9 (1988) 152-163; for the random words
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel random numbers: as easy as 1, 2, 3, SC11 (2011).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, PRNGKeyArray, UInt32

_EXACT = jax.lax.Precision.HIGHEST  # accelerators would round to fewer digits than the frames are orthonormal to
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)  # of threefry
_TANGENT = 0.392699082, 0.0201863429, 0.00124547529, 7.69594114e-05, 5.70160213e-06
"""tan(pi x/8) = x P(x^2) for 0 <= x <= 1, the coefficients of P in ascending order; off by at most 1e-9."""
_LEAF = 9  # rows of the diagonal blocks that inverting T begins with


@functools.partial(jax.jit, static_argnames=("batch", "count", "dim", "dtype", "shared"))
def haar_frames(
    key: PRNGKeyArray, batch: int, count: int, dim: int, dtype: jnp.dtype | type = jnp.float32, shared: int = 1
) -> Float[Array, "{batch} {count} {dim}"]:
    """Orthonormal frames of R^dim as rows, each Haar-random: invariant in law under every rotation of R^dim.

    Args:
        key: jax random key.
        batch: number of frames.
        count: vectors of a frame, at most dim.
        dim: width of a vector.
        dtype: float32 or float64.
        shared: number of consecutive frames that are one frame drawn afresh, its vectors in random order and with
            random signs. Each is Haar-random by itself; only frames of different groups are independent.
    """
    shared = min(shared, batch)
    if shared <= 1:
        directions = _normals(key, batch, count, dim, dtype, np.triu(np.ones((count, dim), bool)))
        return _frames(directions, dim)
    key_frames, key_orders = jax.random.split(key)
    drawn = haar_frames(key_frames, -(-batch // shared), count, dim, dtype)
    orders, words = _orders(key_orders, batch, count)
    signs = jnp.where(words >> np.uint32(31) == 1, -jnp.ones((), dtype), jnp.ones((), dtype))
    return _mix(jnp.where(orders, signs[:, :, None], jnp.zeros((), dtype)), drawn, shared)


@functools.partial(jax.jit, static_argnames=("batch", "count", "half", "dtype", "shared"))
def haar_unitary_frames(
    key: PRNGKeyArray, batch: int, count: int, half: int, dtype: jnp.dtype | type = jnp.float32, shared: int = 1
) -> Float[Array, "{batch} {count} 2*{half}"]:
    """Unitary frames of C^half, each vector z a row [Re z; Im z], Haar-random: invariant in law under U(half).

    Args:
        key: jax random key.
        batch: number of frames.
        count: vectors of a frame, at most half.
        half: number of complex entries of a vector.
        dtype: float32 or float64, of the real and of the imaginary parts.
        shared: as for `haar_frames`, with uniformly random phases in the place of signs.
    """
    shared = min(shared, batch)
    if shared <= 1:
        above = np.triu(np.ones((count, half), bool))
        directions = _normals(key, batch, count, 2 * half, dtype, np.concatenate([above, above], axis=1))
        return _frames(directions, half)
    key_frames, key_orders = jax.random.split(key)
    drawn = haar_unitary_frames(key_frames, -(-batch // shared), count, half, dtype)
    orders, words = _orders(key_orders, batch, count)
    angles = jnp.asarray(2 * math.pi * 2.0**-32, dtype) * words.astype(dtype)
    phases = jax.lax.complex(jnp.cos(angles), jnp.sin(angles))
    zero = jnp.zeros((), phases.dtype)
    return _mix(_wide(jnp.where(orders, phases[:, :, None], zero)), _with_turned(drawn), shared)


def _frames(directions: Float[Array, "batch count width"], dim: int) -> Float[Array, "batch count width"]:
    """Frames of k vectors in R^dim, or in C^dim where width = 2 dim, of the random directions of k reflections.

    Row j of the directions x is zero before axis j. With u = x/|x| and the phase (sign) s of u_j,
    w = (u + s e_j)/sqrt(1 + |u_j|) and H e_j = -conj(s) u; the sign of R's diagonal, that a QR factorisation needs to
    be told, is the factor s that is put to each vector: that makes it -u, as uniform as u.

    Args:
        directions: x, normal random numbers.
        dim: complex or real entries of a vector.
    """
    count, width = directions.shape[1:]
    unitary = width == 2 * dim
    pivot = _diagonal(directions, dim)
    length, size = jnp.sqrt(jnp.sum(directions * directions, axis=-1)), jnp.abs(pivot)
    phase = pivot / size.astype(pivot.dtype)
    added = _on_diagonal(phase * length.astype(phase.dtype), dim)
    # a quotient, so that XLA does not compute it anew for everything that it enters
    reflections = (directions + added) / jnp.sqrt(length * (length + size))[:, :, None]

    operand = _with_turned(reflections) if unitary else reflections
    inner = _narrow(jnp.einsum("biw,bjw->bij", reflections, operand, precision=_EXACT), unitary)
    leading = reflections[:, :, :count]
    if unitary:
        leading = jax.lax.complex(leading, reflections[:, :, dim : dim + count])
    combined = _product(_inverse(inner), leading) * -phase.conj()[:, None, :]
    weights = jnp.concatenate([combined.real, -combined.imag], axis=1) if unitary else combined
    return jnp.einsum("bji,bjw->biw", weights, operand, precision=_EXACT) + _on_diagonal(phase, dim)


def _inverse(triangle: Inexact[Array, "batch count count"]) -> Inexact[Array, "batch count count"]:
    """Inverse of the upper triangular matrix with 1 on the diagonal and the given entries above it.

    By doubling: [[A, B], [0, C]]^-1 = [[A^-1, -A^-1 B C^-1], [0, C^-1]], for all diagonal blocks of a size at once;
    below nine rows within blocks of fixed size, where slices would cost more than products.
    """
    count = triangle.shape[-1]
    blocks = 1
    while -(-count // blocks) > _LEAF:
        blocks *= 2
    size = -(-count // blocks)
    total = size * blocks
    triangle = jnp.pad(triangle, ((0, 0), (0, total - count), (0, total - count)))
    one, zero = jnp.ones((), triangle.dtype), jnp.zeros((), triangle.dtype)

    def cut(size: int, right: int) -> Inexact[Array, "blocks batch size size"]:
        starts = range(0, total, (1 + right) * size)
        return jnp.stack([triangle[:, s : s + size, s + right * size : s + (1 + right) * size] for s in starts])

    diagonal = cut(size, 0)
    found = jnp.where(np.eye(size, dtype=bool), one, -jnp.where(_beside(size, 1), diagonal, zero))
    part = 2
    while part < size:
        found = found - _product(found, _product(jnp.where(_beside(size, part), diagonal, zero), found))
        part *= 2
    while size < total:
        upper, lower = found[::2], found[1::2]
        right = -_product(upper, _product(cut(size, 1), lower))
        rows = [upper, right], [jnp.zeros_like(right), lower]
        found = jnp.concatenate([jnp.concatenate(row, axis=-1) for row in rows], axis=-2)
        size *= 2
    return found[0, :, :count, :count]


def _beside(size: int, part: int) -> Bool[np.ndarray, "size size"]:
    """Where, with a matrix cut in parts, one to the right of an even diagonal part is."""
    place = np.arange(size) // part
    return (place[:, None] % 2 == 0) & (place[None, :] == place[:, None] + 1)


def _mix(
    weights: Float[Array, "batch count of_frame"], frames: Float[Array, "groups of_frame width"], shared: int
) -> Float[Array, "batch count width"]:
    """Combinations of the vectors of the frame of each group of `shared` sequences; the last group may be smaller."""
    batch, count, of_frame = weights.shape
    groups = frames.shape[0]
    weights = jnp.pad(weights, ((0, groups * shared - batch), (0, 0), (0, 0)))
    mixed = jnp.matmul(weights.reshape(groups, shared * count, of_frame), frames, precision=_EXACT)
    return mixed.reshape(groups * shared, count, -1)[:batch]


def _orders(
    key: PRNGKeyArray, batch: int, count: int
) -> tuple[Bool[Array, "{batch} {count} {count}"], UInt32[Array, "{batch} {count}"]]:
    """Random permutation matrices, and a random word for each of their rows.

    Places are ranks of random words; of equal ones, which happen once in 2^32 pairs, the earlier comes first.
    """
    ordered, words = jax.random.bits(key, (2, batch, count), jnp.uint32)
    one, other = ordered[:, :, None], ordered[:, None, :]
    before = (other < one) | ((other == one) & np.tri(count, k=-1, dtype=bool)[None])
    rank = jnp.sum(before, axis=-1, dtype=jnp.int32)
    return rank[:, :, None] == np.arange(count, dtype=np.int32)[None, None], words


# Complex matrices as real ones, twice as wide: XLA multiplies real ones three times as fast on CPU.


def _product(one: Inexact[Array, "*batch i j"], other: Inexact[Array, "*batch j k"]) -> Inexact[Array, "*batch i k"]:
    if not jnp.iscomplexobj(one):
        return jnp.matmul(one, other, precision=_EXACT)
    return _narrow(jnp.matmul(_wide(one), _with_turned(_wide(other)), precision=_EXACT), True)


def _wide(matrix: Inexact[Array, "*batch rows columns"]) -> Float[Array, "*batch rows 2*columns"]:
    """[Re z; Im z] of each row z."""
    return jnp.concatenate([matrix.real, matrix.imag], axis=-1)


def _narrow(matrix: Float[Array, "*batch rows width"], unitary: bool) -> Inexact[Array, "*batch rows columns"]:
    """The rows z of [Re z; Im z]."""
    return jax.lax.complex(*jnp.split(matrix, 2, axis=-1)) if unitary else matrix


def _with_turned(matrix: Float[Array, "*batch rows width"]) -> Float[Array, "*batch 2*rows width"]:
    """Beneath rows [Re z; Im z] those of i z."""
    real, imaginary = jnp.split(matrix, 2, axis=-1)
    return jnp.concatenate([matrix, jnp.concatenate([-imaginary, real], axis=-1)], axis=-2)


def _diagonal(rows: Float[Array, "batch count width"], dim: int) -> Inexact[Array, "batch count"]:
    """Entry j of row j."""
    count, width = rows.shape[1:]
    parts = [jnp.diagonal(rows[:, :, start : start + count], axis1=1, axis2=2) for start in range(0, width, dim)]
    return jax.lax.complex(*parts) if len(parts) == 2 else parts[0]


def _on_diagonal(entries: Inexact[Array, "batch count"], dim: int) -> Float[Array, "batch count width"]:
    """Rows with the given entry j in row j, and 0 elsewhere."""
    count, unitary = entries.shape[1], jnp.iscomplexobj(entries)
    zero = jnp.zeros((), entries.real.dtype)
    rows = jnp.where(np.eye(count, dim * (1 + unitary), dtype=bool), entries.real[:, :, None], zero)
    if unitary:
        rows = rows + jnp.where(np.eye(count, 2 * dim, k=dim, dtype=bool), entries.imag[:, :, None], zero)
    return rows


def _normals(
    key: PRNGKeyArray,
    batch: int,
    count: int,
    width: int,
    dtype: jnp.dtype | type,
    keep: Bool[np.ndarray, "count width"],
) -> Float[Array, "{batch} {count} {width}"]:
    """Independent standard normal numbers where they are kept, never 0, and 0 elsewhere; a fifth of jax's time on CPU.

    sqrt(-2 log u) times the cosine of a random angle (Box and Muller), of the words of threefry at the counters
    (sequence, place), in one loop: whatever the sharding, a sequence gets the same numbers. jax.random goes through
    memory for every fourth of threefry's rounds, and uses half of the words. It all ends in a quotient, so that XLA
    does not compute it anew for everything that it enters.
    """
    shape = (batch, count, width)
    if jnp.dtype(dtype) == jnp.float64:
        uniform, angle = (_between(*_words(key, shape, number), dtype) for number in range(2))
        negative = angle < 0.5
        part = jnp.where(negative, 1 - 2 * angle, 2 * angle - 1)
    else:
        first, second = _words(key, shape)
        uniform = _between(first, None, dtype)
        negative = second >> np.uint32(31) == 1
        part = _between(second << np.uint32(1), None, dtype)
    cosine, divisor = _cosine(part)
    radius = jnp.sqrt(-2 * jnp.log(uniform))
    return jnp.where(keep, jnp.where(negative, -radius, radius) * cosine, jnp.zeros((), dtype)) / divisor


def _cosine(part: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """cos(pi x/2) for 0 < x < 1 as a quotient, whose parts are positive whatever the rounding.

    With s = tan(pi x/8): cos(pi x/4) = (1 - s^2)/(1 + s^2), then the double angle.
    """
    if part.dtype == jnp.float64:
        tangent = jnp.tan(jnp.asarray(math.pi / 8, part.dtype) * part)
    else:
        square, tangent = part * part, jnp.asarray(_TANGENT[-1], part.dtype)
        for coefficient in _TANGENT[-2::-1]:
            tangent = tangent * square + jnp.asarray(coefficient, part.dtype)
        tangent = tangent * part
    less, more = 1 - tangent * tangent, 1 + tangent * tangent
    return jnp.maximum(2 * less * less - more * more, jnp.finfo(part.dtype).eps), more * more


def _between(
    word: UInt32[Array, "*shape"], low: UInt32[Array, "*shape"] | None, dtype: jnp.dtype | type
) -> Float[Array, "*shape"]:
    """Uniform numbers strictly between 0 and 1: the midpoints of 2^23 intervals, or with a second word of 2^52."""
    if low is None:
        return ((word >> np.uint32(9)).astype(dtype) + jnp.asarray(0.5, dtype)) * jnp.asarray(2.0**-23, dtype)
    whole = word.astype(dtype) * jnp.asarray(2.0**20, dtype) + (low >> np.uint32(12)).astype(dtype)
    return (whole + jnp.asarray(0.5, dtype)) * jnp.asarray(2.0**-52, dtype)


def _words(
    key: PRNGKeyArray, shape: tuple[int, ...], number: int = 0
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Two random words for every place of an array: threefry2x32 of (index along the first axis, place in the rest).

    Args:
        key: jax random key of threefry.
        shape: of the array.
        number: of the pair, where a place needs 0 and 1.
    """
    place = jnp.zeros(shape, jnp.uint32)
    for axis in range(1, len(shape)):
        step = np.uint32(math.prod(shape[axis + 1 :]))
        place = place + step * jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    return _threefry(
        key, jax.lax.broadcasted_iota(jnp.uint32, shape, 0), place + np.uint32(number * math.prod(shape[1:]))
    )


def _threefry(
    key: PRNGKeyArray, first: UInt32[Array, "*shape"], second: UInt32[Array, "*shape"]
) -> tuple[UInt32[Array, "*shape"], UInt32[Array, "*shape"]]:
    """Threefry2x32, twenty rounds, of a pair of counters: what jax.random computes, here written out for one loop."""
    one, two = jax.random.key_data(key)
    keys = one, two, one ^ two ^ np.uint32(0x1BD11BDA)
    first, second = first + keys[0], second + keys[1]
    for group in range(5):
        for bits in _ROTATIONS[group % 2]:
            first = first + second
            second = ((second << np.uint32(bits)) | (second >> np.uint32(32 - bits))) ^ first
        first = first + keys[(group + 1) % 3]
        second = second + keys[(group + 2) % 3] + np.uint32(group + 1)
    return first, second
