"""What is learned: item-label pairs with a query, and how sequences of them are drawn."""

import dataclasses
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from induction_dynamics.errors import ArgumentError, whole_number
from induction_dynamics.frames import haar_frames, haar_unitary_frames

INPUTS = ("orthonormal", "isotropic")
QUERIES = ("last", "uniform")
ROTATION_ALLOWED = "a finite angle in degrees, at least 0.06 away from any multiple of 180"


@dataclasses.dataclass(frozen=True)
class Task:
    r"""N item-label pairs and a query; the answer is the label of the queried item.

    | position (1-based) | token t | position vector r |
    |---|---|---|
    | 2k-1 (item k)  | x_k | p_k |
    | 2k (label k)   | y_k | M p_k |
    | 2N+1 (query)   | x_q | p_{N+1} |

    with M = cos(phi) I + sin(phi) J and J = [[0, -I], [I, 0]]; the target is y_q. With several copies (burstiness) the
    tokens of pair q stand at m of the N places, which are random, and N - m other pairs at the rest.

    Args:
        context_length: N, the number of item-label pairs; the sequence has 2N + 1 tokens.
        embedding_dim: D, the width of a token and of a position vector. The default, 0, stands for 2N + 2 with
            orthonormal inputs and for 4N with isotropic ones.
        inputs: `orthonormal` (the 2N tokens a Haar-random orthonormal frame in R^D, the positions a Haar-random
            unitary frame in C^{D/2}) or `isotropic` (everything independent Normal(0, I/D)).
        query: `last` (q = N) or `uniform` (q uniform on 1..N).
        rotation: phi in degrees, away from multiples of 180.
        copies: m, how often the queried pair stands in the context, from 1 to N. With the query `last` one of the
            copies is in the last place and the others are anywhere before it; with `uniform` all are anywhere.

    Raises:
        ArgumentError: a value out of range; the message names the argument and what is allowed.

    Example:
        >>> from induction_dynamics import Task
        >>> task = Task(context_length=8, query="uniform")
        >>> task.sequence_length, task.embedding_dim, task.rotation
        (17, 18, 90.0)
        >>> Task(context_length=8, query="first")
        Traceback (most recent call last):
            ...
        induction_dynamics.errors.ArgumentError: query must be one of last, uniform; got 'first'.
    """

    context_length: int
    embedding_dim: int = 0
    inputs: str = "orthonormal"
    query: str = "last"
    rotation: float = 90.0
    copies: int = 1

    def __post_init__(self):
        _set_whole(self, "context_length", "a whole number of pairs, at least 1", smallest=1)
        if self.inputs not in INPUTS:
            raise ArgumentError("inputs", self.inputs, f"one of {', '.join(INPUTS)}")
        if self.query not in QUERIES:
            raise ArgumentError("query", self.query, f"one of {', '.join(QUERIES)}")
        check_rotation(self.rotation)
        if self.embedding_dim == 0 and not isinstance(self.embedding_dim, bool):
            default = 2 * self.context_length + 2 if self.inputs == "orthonormal" else 4 * self.context_length
            object.__setattr__(self, "embedding_dim", default)
        smallest = 2 * self.context_length + 2 if self.inputs == "orthonormal" else 2
        reason = f"an even whole number, at least {smallest}"
        if self.inputs == "orthonormal":
            reason += f" (2N + 2, for N = {self.context_length} pairs of orthonormal inputs)"
        _set_whole(self, "embedding_dim", reason, smallest)
        if self.embedding_dim % 2:
            raise ArgumentError("embedding_dim", self.embedding_dim, reason)
        allowed = f"a whole number, at least 1 and at most the number of pairs, {self.context_length}"
        _set_whole(self, "copies", allowed, smallest=1)
        if self.copies > self.context_length:
            raise ArgumentError("copies", self.copies, allowed)

    @property
    def sequence_length(self) -> int:
        """Number of tokens, 2N + 1."""
        return 2 * self.context_length + 1

    @property
    def angle(self) -> float:
        """The rotation phi in radians."""
        return math.radians(self.rotation)

    @property
    def right_angled(self) -> bool:
        """Whether M = J or M = -J: the basis matrices are orthogonal, and orthonormal inputs have a closed form."""
        return cosine_and_sine(self.rotation)[0] == 0.0


def check_rotation(rotation: float) -> None:
    """Refuse an angle at which M is so near to I or -I that its basis matrices coincide.

    Args:
        rotation: phi in degrees.

    Raises:
        ArgumentError: the angle is not finite, or within 0.06 degrees of a multiple of 180.
    """
    number = isinstance(rotation, int | float) and math.isfinite(rotation)
    if not number or abs(math.sin(math.radians(rotation))) < 1e-3:
        raise ArgumentError("rotation", rotation, ROTATION_ALLOWED)


def cosine_and_sine(rotation: float) -> tuple[float, float]:
    """cos(phi) and sin(phi), exact at odd multiples of 90 degrees so that M = +-J to the last bit.

    Args:
        rotation: phi in degrees.
    """
    if rotation % 180.0 == 90.0:
        return 0.0, 1.0 if rotation % 360.0 == 90.0 else -1.0
    return math.cos(math.radians(rotation)), math.sin(math.radians(rotation))


def require_float64(what: str) -> None:
    """Refuse to compute in float32 what needs float64.

    Args:
        what: needs it; opens the sentence.

    Raises:
        ValueError: jax_enable_x64 is off.
    """
    if not jax.config.read("jax_enable_x64"):
        raise ValueError(
            f"{what} float64: first say jax.config.update('jax_enable_x64', True) (jax_enable_x64 is off)."
        )


def _set_whole(task: Task, name: str, allowed: str, smallest: int) -> None:
    """Check a whole number, of Python or NumPy, and keep it as Python's."""
    value = getattr(task, name)
    number = whole_number(value)
    if number is None or number < smallest:
        raise ArgumentError(name, value, allowed)
    object.__setattr__(task, name, number)


class Streams(NamedTuple):
    """Independent random keys that one recorded seed is split into, one for each purpose."""

    initialisation: PRNGKeyArray
    data: PRNGKeyArray
    evaluation: PRNGKeyArray


def split_seed(seed: int) -> Streams:
    """The random streams of a seed.

    Args:
        seed: a whole number from 0 to 2^32 - 1.
    """
    return Streams(*jax.random.split(jax.random.key(seed), 3))


class Placements(NamedTuple):
    """Where the queried pair stands in each of some sequences.

    Args:
        query: q - 1, one of its places, counted from 0: the last one with the query `last`.
        held: whether it stands in each place.
    """

    query: Int[Array, " batch"]
    held: Bool[Array, "batch pairs"]

    @property
    def tokens(self) -> Int[Array, "batch keys"]:
        """Of each of the 2N places, whose token stands there: its own, or that of the queried pair."""
        every = jnp.arange(self.held.shape[1], dtype=self.query.dtype)[None]
        pair = jnp.where(self.held, self.query[:, None], every)
        return jnp.stack([2 * pair, 2 * pair + 1], axis=2).reshape(len(pair), -1)


def sample_placements(task: Task, key: PRNGKeyArray, count: int) -> Placements:
    """Draw where the queried pair stands: m random places, the last one among them with the query `last`.

    Args:
        task: which task.
        key: jax random key.
        count: of sequences.
    """
    pairs = task.context_length
    if task.query == "last":
        query = jnp.full((count,), pairs - 1, jnp.int32)
    else:
        query = jax.random.randint(key, (count,), 0, pairs, jnp.int32)
    held = jnp.arange(pairs, dtype=query.dtype)[None] == query[:, None]
    if task.copies > 1:
        # the others are those of the smallest of random numbers; q itself comes before them all
        lots = jnp.where(held, -1.0, jax.random.uniform(jax.random.fold_in(key, 1), (count, pairs), jnp.float32))
        rank = jnp.argsort(jnp.argsort(lots, axis=1), axis=1)
        held = rank < task.copies
    return Placements(query, held)


def number_of_placements(task: Task) -> int:
    """How many sets of places the queried pair may have, all alike in probability.

    Args:
        task: which task.
    """
    last = int(task.query == "last")
    return math.comb(task.context_length - last, task.copies - last)


def every_placement(task: Task) -> Placements:
    """Every set of places that the queried pair may have, each once.

    Args:
        task: which task.
    """
    last = int(task.query == "last")
    free = range(task.context_length - last)
    places = np.array(list(itertools.combinations(free, task.copies - last)), int).reshape(-1, task.copies - last)
    if last:
        places = np.append(places, np.full((len(places), 1), task.context_length - 1), axis=1)
    held = np.zeros((len(places), task.context_length), bool)
    held[np.arange(len(places))[:, None], places] = True
    return Placements(jnp.asarray(places[:, -1], jnp.int32), jnp.asarray(held))


class Sequences(NamedTuple):
    """A batch of sequences.

    Args:
        tokens: t, items and labels in turn, then the query.
        positions: r, the position vectors.
        query: q - 1, the queried pair counted from 0; with several copies, the place of one of them.
    """

    tokens: Float[Array, "batch length dim"]
    positions: Float[Array, "batch length dim"]
    query: Int[Array, " batch"]

    @property
    def target(self) -> Float[Array, "batch dim"]:
        """y_q, the label to be answered."""
        return _token_of_pair(self.tokens, 2 * self.query + 1)


def sample_sequences(
    task: Task, key: PRNGKeyArray, batch_size: int, dtype: jnp.dtype | type = jnp.float32, shared: int = 1
) -> Sequences:
    """Draw sequences of the task, independent unless they share frames.

    Args:
        task: which task.
        key: jax random key (`jax.random.key`).
        batch_size: B, number of sequences.
        dtype: floating type of the vectors, float32 or float64.
        shared: of orthonormal inputs, the number of consecutive sequences that are made of one frame, its vectors in
            random order and with random signs (positions: phases). Each sequence has the law of the task by itself,
            so that means over sequences are unbiased; those that share are not independent. Isotropic inputs, which
            cost less, are always independent.

    Raises:
        ArgumentError: `shared` is below 1.

    Example:
        >>> import jax
        >>> from induction_dynamics import Task
        >>> sequences = sample_sequences(Task(4, query="uniform"), jax.random.key(0), batch_size=3)
        >>> sequences.tokens.shape, sequences.positions.shape, sequences.target.shape
        ((3, 9, 10), (3, 9, 10), (3, 10))
        >>> q = int(sequences.query[0])
        >>> bool((sequences.tokens[0, -1] == sequences.tokens[0, 2 * q]).all())  # the query repeats item q
        True
    """
    if shared < 1:
        raise ArgumentError("shared", shared, "a whole number, at least 1")
    key_tokens, key_positions, key_query = jax.random.split(key, 3)
    pairs, dim = task.context_length, task.embedding_dim
    if task.inputs == "orthonormal":
        tokens = haar_frames(key_tokens, batch_size, 2 * pairs, dim, dtype, shared)
        base = haar_unitary_frames(key_positions, batch_size, pairs + 1, dim // 2, dtype, shared)
    else:
        scale = jnp.asarray(1 / math.sqrt(dim), dtype)
        tokens = scale * jax.random.normal(key_tokens, (batch_size, 2 * pairs, dim), dtype)
        base = scale * jax.random.normal(key_positions, (batch_size, pairs + 1, dim), dtype)
    placements = sample_placements(task, key_query, batch_size)
    query = placements.query
    if task.copies > 1:
        tokens = jnp.take_along_axis(tokens, placements.tokens[:, :, None], axis=1)
    queried = _token_of_pair(tokens, 2 * query)
    interleaved = jnp.stack([base[:, :-1], rotate(base[:, :-1], task.rotation)], axis=2)
    positions = jnp.concatenate([interleaved.reshape(batch_size, 2 * pairs, dim), base[:, -1:]], axis=1)
    return Sequences(jnp.concatenate([tokens, queried[:, None]], axis=1), positions, query)


def rotate(vectors: Float[Array, "*batch dim"], rotation: float) -> Float[Array, "*batch dim"]:
    """M v = cos(phi) v + sin(phi) J v, with J [a; b] = [-b; a].

    Args:
        vectors: v, of an even number of entries D.
        rotation: phi in degrees.
    """
    first, second = jnp.split(vectors, 2, axis=-1)
    quarter_turn = jnp.concatenate([-second, first], axis=-1)
    cosine, sine = (jnp.asarray(value, vectors.dtype) for value in cosine_and_sine(rotation))
    return cosine * vectors + sine * quarter_turn


def _token_of_pair(tokens: Float[Array, "batch length dim"], place: Int[Array, " batch"]) -> Float[Array, "batch dim"]:
    return jnp.take_along_axis(tokens, place[:, None, None], axis=1)[:, 0]
