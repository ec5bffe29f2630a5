"""The loss of the full model with its gradient, derived by hand: what a training step costs.

Axes: B batch, L sequence (2N + 1 tokens), D width, E = 2D, F = 4D, G = 8D, C two at a time.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from induction_dynamics.task import Sequences
from induction_dynamics.transformer.disentangled import Weights, strictly_causal_softmax

_BLOCK = 2.25e6
"""Bytes of x0 in a block on a CPU, at most: what is made of it stays in the caches."""

_ABREAST = 4
"""Blocks at a time on a CPU: much of one is small operations that use a single core."""


class _Batch(NamedTuple):
    tokens: Float[Array, "batch length dim"]
    positions: Float[Array, "batch length dim"]
    target: Float[Array, "batch dim"]


class _Sums(NamedTuple):
    """What is summed over the sequences: ||e||^2 and dW1."""

    squares: Float[Array, ""]
    W1: Float[Array, "twice_dim twice_dim"]


class _Factors(NamedTuple):
    """What dW2 = x1_n d[k; k']^T and dW3 = e x2^T are made of."""

    x1: Float[Array, "*batch four_dim"]
    side: Float[Array, "*batch four_dim"]
    error: Float[Array, "*batch dim"]
    x2: Float[Array, "*batch eight_dim"]


def loss_and_gradient(weights: Weights, sequences: Sequences) -> tuple[Float[Array, ""], Weights]:
    r"""What `jax.value_and_grad(batch_loss)` gives, in less time and memory.

    With X the rows x0_i of a sequence, A = A1, a the attention of layer 2 (zero at the query), [k; k'] = W2^T x1_n and
    e = out - y_q, the forward pass is

        s  = X k + A (X k'),   a = softmax s,   x2 = [x1_n ; X^T a ; X^T (A^T a)],   out = W3 x2,

    and the gradients, with [. ; . ; g ; g'] the four quarters of W3^T e (x1_n takes the first two),

        da       = X g + A (X g')                        ds = a (da - a . da)
        d[k; k'] = [X^T ds ; X^T (A^T ds)]               dx1_n = W2 d[k; k'] + (W3^T e)_{1,2}
        dA       = a (X g')^T + ds (X k')^T + u (X h)^T  dS_ij = A_ij (dA_ij - sum_m A_im dA_im)
        dW1 = X^T dS X           dW2 = x1_n d[k; k']^T   dW3 = e x2^T

    where u is 1 at the query and h is the lower half of dx1_n. The sums over m are A (X g') and A (X k') again. A is
    applied to one number a position and never to X, nothing is differentiated by the inputs, and nothing has the size
    B L^2 D.

    On a CPU the batch is taken in equal blocks that stay in its caches, four at a time; elsewhere all at once. Beside
    its arguments and its results this needs the memory of a few times 2 B L D + B L^2 numbers, of a few such blocks on
    a CPU, and of 17 B D + 8 D^2 more: with D = 2N + 2 it grows like B L^2 and the weights.

    Args:
        weights: W1, W2, W3.
        sequences: the batch.

    Returns:
        Half the mean of ||y_q - out||^2, and its derivatives by each of the weights.

    Example:
        >>> import jax
        >>> from induction_dynamics.task import Task, sample_sequences
        >>> from induction_dynamics.transformer.disentangled import zero_weights
        >>> task = Task(context_length=2)
        >>> loss, gradient = loss_and_gradient(
        ...     zero_weights(task.embedding_dim), sample_sequences(task, jax.random.key(0), 16)
        ... )
        >>> print(f"{loss:.3f}", bool(gradient.W1.any()), bool(gradient.W3.any()))  # W3 = 0 hides the rest
        0.500 False True
    """
    batch = _Batch(sequences.tokens, sequences.positions, sequences.target)
    return jax.lax.platform_dependent(weights, batch, cpu=_in_blocks, default=_at_once)


def _at_once(weights: Weights, batch: _Batch) -> tuple[Float[Array, ""], Weights]:
    return _means(*_sums_and_factors(weights, batch), len(batch.target))


def _in_blocks(weights: Weights, batch: _Batch, most: float = _BLOCK) -> tuple[Float[Array, ""], Weights]:
    size, length, dim = batch.tokens.shape
    if size == 1:
        return _at_once(weights, batch)
    several = math.ceil(size * length * 2 * dim * batch.tokens.dtype.itemsize / (_ABREAST * most))
    count = _ABREAST * min(several, math.ceil(size / _ABREAST))
    missing = -size % count

    # A block is every count-th sequence, so that each has its share of every device's part of the batch. Sequences
    # that are missing at the end are all zero, and leave neither an error nor a gradient.
    def split(whole: Array) -> Array:
        padded = jnp.pad(whole, [(0, missing)] + [(0, 0)] * (whole.ndim - 1)) if missing else whole
        return padded.reshape(-1, count, *whole.shape[1:])

    blocks = jax.tree.map(split, batch)

    def add(sums: _Sums, index: Array) -> tuple[_Sums, _Factors]:
        block = jax.tree.map(lambda whole: jax.lax.dynamic_index_in_dim(whole, index, 1, keepdims=False), blocks)
        more, factors = _sums_and_factors(weights, block)
        return jax.tree.map(jnp.add, sums, more), factors

    zero = _Sums(jnp.zeros((), weights.W1.dtype), jnp.zeros_like(weights.W1))
    sums, factors = jax.lax.scan(add, zero, jnp.arange(count), unroll=_ABREAST)
    return _means(sums, jax.tree.map(lambda each: each.reshape(-1, each.shape[-1]), factors), size)


def _means(sums: _Sums, factors: _Factors, size: int) -> tuple[Float[Array, ""], Weights]:
    gradient = Weights(sums.W1, _pair(factors.x1, factors.side), _pair(factors.error, factors.x2))
    return sums.squares / (2 * size), jax.tree.map(lambda each: each / size, gradient)


def _pair(left: Float[Array, "rows left"], right: Float[Array, "rows right"]) -> Float[Array, "left right"]:
    """The sum over the rows of left right^T, whose transpose is never made (on a CPU it would be the dearest copy)."""
    return jax.lax.dot_general(left, right, (((0,), (0,)), ((), ())))


def _sums_and_factors(weights: Weights, batch: _Batch) -> tuple[_Sums, _Factors]:
    x0_BxLxE = jnp.concatenate([batch.tokens, batch.positions], axis=-1)
    size, length, twice_dim = x0_BxLxE.shape
    rows_BLxE = x0_BxLxE.reshape(size * length, twice_dim)
    is_query_1xL = jnp.arange(length)[None] == length - 1

    def read(columns_BxF: Array) -> tuple[Array, Array]:
        """X k and X k' for [k; k']."""
        columns_BxCxE = columns_BxF.reshape(size, 2, twice_dim)
        # einsum would choose the other order of the factors, and pack all of X for two columns
        numbers_BxLxC = jax.lax.dot_general(x0_BxLxE, columns_BxCxE, (((2,), (2,)), ((0,), (0,))))
        return numbers_BxLxC[:, :, 0], numbers_BxLxC[:, :, 1]

    def gather(numbers_BxL: Array) -> Array:
        """[X^T v ; X^T (A^T v)] for the numbers v."""
        pulled_back_BxL = jnp.einsum("bl,blm->bm", numbers_BxL, attention_1_BxLxL)
        both_BxCxL = jnp.stack([numbers_BxL, pulled_back_BxL], axis=1)
        return jnp.einsum("bcl,ble->bce", both_BxCxL, x0_BxLxE).reshape(size, 2 * twice_dim)

    def average(numbers_BxL: Array) -> Array:
        return jnp.einsum("blm,bm->bl", attention_1_BxLxL, numbers_BxL)

    keys_BxLxE = jnp.einsum("re,fe->rf", rows_BLxE, weights.W1).reshape(size, length, twice_dim)
    attention_1_BxLxL = strictly_causal_softmax(jnp.einsum("ble,bme->blm", x0_BxLxE, keys_BxLxE))
    query_row_BxL = attention_1_BxLxL[:, -1]
    x1_BxF = jnp.concatenate([x0_BxLxE[:, -1], jnp.einsum("bl,ble->be", query_row_BxL, x0_BxLxE)], axis=-1)

    direct_BxL, through_BxL = read(jnp.einsum("bf,fg->bg", x1_BxF, weights.W2))
    averaged_through_BxL = average(through_BxL)
    scores_BxL = jnp.where(is_query_1xL, -jnp.inf, direct_BxL + averaged_through_BxL)
    attention_2_BxL = jax.nn.softmax(scores_BxL, axis=-1)
    x2_BxG = jnp.concatenate([x1_BxF, gather(attention_2_BxL)], axis=-1)
    error_BxD = jnp.einsum("bg,dg->bd", x2_BxG, weights.W3) - batch.target

    by_x2_BxG = jnp.einsum("bd,dg->bg", error_BxD, weights.W3)
    by_direct_BxL, by_pulled_BxL = read(by_x2_BxG[:, 2 * twice_dim :])
    averaged_pulled_BxL = average(by_pulled_BxL)
    by_attention_2_BxL = by_direct_BxL + averaged_pulled_BxL
    centre_Bx1 = jnp.sum(attention_2_BxL * by_attention_2_BxL, axis=-1, keepdims=True)
    by_scores_BxL = attention_2_BxL * (by_attention_2_BxL - centre_Bx1)
    by_side_BxF = gather(by_scores_BxL)
    by_x1_BxF = jnp.einsum("bg,fg->bf", by_side_BxF, weights.W2) + by_x2_BxG[:, : 2 * twice_dim]
    by_query_row_BxL = jnp.einsum("ble,be->bl", x0_BxLxE, by_x1_BxF[:, twice_dim:])
    centre_Bx1 = jnp.sum(query_row_BxL * by_query_row_BxL, axis=-1, keepdims=True)

    by_scores_1_BxLxL = attention_1_BxLxL * (
        attention_2_BxL[:, :, None] * (by_pulled_BxL[:, None] - averaged_pulled_BxL[:, :, None])
        + by_scores_BxL[:, :, None] * (through_BxL[:, None] - averaged_through_BxL[:, :, None])
        + is_query_1xL.astype(x0_BxLxE.dtype)[:, :, None] * (by_query_row_BxL - centre_Bx1)[:, None]
    )
    gathered_BxLxE = jnp.einsum("blm,bme->ble", by_scores_1_BxLxL, x0_BxLxE)
    by_W1 = _pair(rows_BLxE, gathered_BxLxE.reshape(size * length, twice_dim))
    sums = _Sums(jnp.sum(error_BxD * error_BxD), by_W1)
    return sums, _Factors(x1_BxF, by_side_BxF, error_BxD, x2_BxG)
