"""A standard transformer built by hand: the circuit's three terms, and nothing else."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from induction_dynamics.errors import ArgumentError, whole_number
from induction_dynamics.transformer.standard import StandardWeights


def built_circuit(
    vocabulary: int,
    length: int,
    second_positions: Sequence[int],
    alpha: float = 30.0,
    beta: float = 150.0,
    gamma: float = 30.0,
    first: float = 0.0,
    dtype: jnp.dtype | type = jnp.float32,
) -> StandardWeights:
    r"""Two layers of one head whose scores and logits are the circuit's three terms.

    In D = 3V + L dimensions, with orthonormal vectors t_v (the embeddings), r_v (where layer 1 puts a token), o_v
    (where layer 2 puts it) and p_i (the positions):

        W_K1^T W_Q1 = alpha sum over second positions i of p_{i-1} p_i^T        W_O1 W_V1 = sum_v r_v t_v^T
        W_K2^T W_Q2 = beta sum_v r_v t_v^T - first p_0 sum_v t_v^T              W_O2 W_V2 = sum_v o_v t_v^T
        W_U = gamma sum_v e_v o_v^T

    so that (not `scaled`) a token scores alpha at the one before it if at a second position, and 0 elsewhere; beta
    times the attention that position j of layer 1 gives to tokens like its own, at j; and the logits are gamma times
    the attention of layer 2 to each token. The progress measures are alpha of the first layer, beta between the two,
    gamma of the second, and 0 elsewhere. The o_v keep what layer 1 writes, and the token itself, out of the logits.

    The three terms by themselves answer wrongly in one case. Position 0 can attend to itself alone, so that its own
    token is what it retrieved, as it is at position 1, whose token is the answer: a query like the first token attends
    to both, a little more to position 0. `first` is a fourth term, outside of the circuit, against that: what position
    0 loses of its scores in layer 2, whoever asks.

    Args:
        vocabulary: V.
        length: L, longest sequence.
        second_positions: i, from 1 (`TokenTask.second_positions`).
        alpha: of layer 1.
        beta: of layer 2.
        gamma: of the logits.
        first: what layer 2 takes from the score of position 0.
        dtype: floating type.

    Raises:
        ArgumentError: a value out of range.

    Example:
        >>> from induction_dynamics import progress_measures
        >>> from induction_dynamics.transformer.built import built_circuit
        >>> measures = progress_measures(built_circuit(8, 9, range(1, 8, 2), 3.0, 2.0, 1.0), range(1, 8, 2))
        >>> [values.ravel().tolist() for values in measures]
        [[3.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 1.0]]
    """
    for name, value, smallest in (("vocabulary", vocabulary, 1), ("length", length, 2)):
        number = whole_number(value)
        if number is None or number < smallest:
            raise ArgumentError(name, value, f"a whole number, at least {smallest}")
    second = [whole_number(place) for place in second_positions]
    if not second or any(place is None or not 1 <= place < length for place in second):
        raise ArgumentError("second_positions", list(second_positions), f"whole numbers from 1 to {length - 1}")
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma), ("first", first)):
        if not math.isfinite(value):
            raise ArgumentError(name, value, "a finite number")
    width, dim = max(vocabulary + 1, length), 3 * vocabulary + length
    basis = np.eye(dim)
    tokens, retrieved, put_out = (basis[place * vocabulary : (place + 1) * vocabulary] for place in range(3))
    positions = basis[3 * vocabulary :]
    query, key, value = (np.zeros((2, 1, width, dim)) for _ in range(3))
    output = np.zeros((2, 1, dim, width))
    for place in second:
        assert place is not None
        query[0, 0, place] = alpha * positions[place]
        key[0, 0, place] = positions[place - 1]
    value[:, 0, :vocabulary] = tokens
    output[0, 0, :, :vocabulary] = retrieved.T
    query[1, 0, :vocabulary] = beta * tokens
    key[1, 0, :vocabulary] = retrieved
    query[1, 0, vocabulary] = -first * tokens.sum(axis=0)
    key[1, 0, vocabulary] = positions[0]
    output[1, 0, :, :vocabulary] = put_out.T
    held = (tokens, positions, query, key, value, output, gamma * put_out)
    return StandardWeights(*jax.tree.map(lambda array: jnp.asarray(array, dtype), held))
