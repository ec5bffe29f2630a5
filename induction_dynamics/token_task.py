"""What a standard transformer learns: sequences of tokens of a vocabulary, and which next tokens count."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from induction_dynamics.errors import ArgumentError, whole_number
from induction_dynamics.task import QUERIES

KINDS = ("pairs", "repeated")
PERIODS = ("varied", "fixed")

LARGEST_VOCABULARY = 2**16
LARGEST_LENGTH = 2**12
"""Of the context: attention has as many entries as its square."""


@dataclasses.dataclass(frozen=True)
class TokenTask:
    r"""A task on the tokens 0 .. V - 1.

    `pairs`: N item-label pairs and a query, x_1 y_1 ... x_N y_N x_q, of 2N + 1 tokens. The items are distinct, the
    labels independent and uniform on the whole vocabulary, both drawn anew for each sequence, so that nothing can be
    learned by heart. The answer is y_q, and nothing else counts.

    `repeated`: a segment of S distinct tokens over and over, 2N tokens in all, token i being that of i mod S. What
    counts is every next token from the second time on. With S varied, uniform on ceil(N/2) .. N, only content tells
    where to look. With S fixed (S = N), as in what is used to detect induction heads, a single head that attends to the
    position N - 1 earlier solves the task as well, without any induction.

    Args:
        context_length: N.
        vocabulary: V, at least N.
        kind: `pairs` or `repeated`.
        query: `uniform` (q uniform on 1..N) or `last` (q = N: the answer is then always the token before the query, and
            attention by position solves the task); of pairs.
        period: `varied` or `fixed`; of repeated segments.

    Raises:
        ArgumentError: a value out of range; the message names the argument and what is allowed.

    Example:
        >>> from induction_dynamics import TokenTask
        >>> TokenTask(context_length=8, vocabulary=32).sequence_length
        17
        >>> TokenTask(context_length=8, vocabulary=32, kind="triples")
        Traceback (most recent call last):
            ...
        induction_dynamics.errors.ArgumentError: kind must be one of pairs, repeated; got 'triples'.
    """

    context_length: int
    vocabulary: int
    kind: str = "pairs"
    query: str = "uniform"
    period: str = "varied"

    def __post_init__(self):
        for name, known in (("kind", KINDS), ("query", QUERIES), ("period", PERIODS)):
            if getattr(self, name) not in known:
                raise ArgumentError(name, getattr(self, name), f"one of {', '.join(known)}")
        smallest = 1 if self.kind == "pairs" else 2
        length = whole_number(self.context_length)
        if length is None or not smallest <= length <= LARGEST_LENGTH:
            allowed = f"a whole number from {smallest} to {LARGEST_LENGTH}"
            raise ArgumentError("context_length", self.context_length, allowed)
        vocabulary = whole_number(self.vocabulary)
        if vocabulary is None or not max(length, 2) <= vocabulary <= LARGEST_VOCABULARY:
            allowed = (
                f"a whole number from {max(length, 2)} (the distinct tokens of a sequence) to {LARGEST_VOCABULARY}"
            )
            raise ArgumentError("vocabulary", self.vocabulary, allowed)
        object.__setattr__(self, "context_length", length)
        object.__setattr__(self, "vocabulary", vocabulary)

    @property
    def sequence_length(self) -> int:
        """L, number of tokens: 2N + 1 of pairs, 2N of repeated segments."""
        return 2 * self.context_length + (1 if self.kind == "pairs" else 0)

    @property
    def second_positions(self) -> tuple[int, ...]:
        """Positions, from 0, whose token belongs to the one before: labels; of repeated segments all but the first."""
        step = 2 if self.kind == "pairs" else 1
        return tuple(range(1, 2 * self.context_length, step))

    @property
    def counts_last_only(self) -> bool:
        """Whether the loss is that of the last position alone."""
        return self.kind == "pairs"


class TokenSequences(NamedTuple):
    """A batch of sequences.

    Args:
        tokens: numbers from 0 to V - 1.
        answers: the token that follows each of them.
        counted: which answers the loss counts.
    """

    tokens: Int[Array, "batch length"]
    answers: Int[Array, "batch length"]
    counted: Bool[Array, "batch length"]


def sample_tokens(task: TokenTask, key: PRNGKeyArray, batch_size: int) -> TokenSequences:
    """Draw independent sequences.

    Args:
        task: which task.
        key: jax random key (`jax.random.key`).
        batch_size: B.

    Raises:
        ArgumentError: B is below 1.

    Example:
        >>> import jax
        >>> from induction_dynamics import TokenTask, sample_tokens
        >>> task = TokenTask(3, vocabulary=10, kind="repeated", period="fixed")
        >>> sequences = sample_tokens(task, jax.random.key(0), 2)
        >>> bool((sequences.tokens[:, :3] == sequences.tokens[:, 3:]).all()), sequences.counted[0].tolist()
        (True, [False, False, False, True, True, True])
    """
    if batch_size < 1:
        raise ArgumentError("batch_size", batch_size, "at least 1")
    key_distinct, key_labels, key_place = jax.random.split(key, 3)
    pairs = task.context_length
    lots = jax.random.uniform(key_distinct, (batch_size, task.vocabulary), jnp.float32)
    distinct = jnp.argsort(lots, axis=1)[:, :pairs].astype(jnp.int32)
    if task.kind == "pairs":
        labels = jax.random.randint(key_labels, (batch_size, pairs), 0, task.vocabulary, jnp.int32)
        place = jnp.full((batch_size, 1), pairs - 1, jnp.int32)
        if task.query == "uniform":
            place = jax.random.randint(key_place, (batch_size, 1), 0, pairs, jnp.int32)
        body = jnp.stack([distinct, labels], axis=2).reshape(batch_size, 2 * pairs)
        tokens = jnp.concatenate([body, jnp.take_along_axis(distinct, place, axis=1)], axis=1)
        answers = jnp.concatenate([tokens[:, 1:], jnp.take_along_axis(labels, place, axis=1)], axis=1)
        counted = jnp.arange(task.sequence_length) == task.sequence_length - 1
        return TokenSequences(tokens, answers, jnp.broadcast_to(counted, tokens.shape))
    period = jnp.full((batch_size, 1), pairs, jnp.int32)
    if task.period == "varied":
        period = jax.random.randint(key_place, (batch_size, 1), (pairs + 1) // 2, pairs + 1, jnp.int32)
    place = jnp.arange(task.sequence_length + 1, dtype=jnp.int32)[None]
    longer = jnp.take_along_axis(distinct, place % period, axis=1)
    return TokenSequences(longer[:, :-1], longer[:, 1:], place[:, :-1] >= period)
