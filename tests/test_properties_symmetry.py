"""What may be done to a sequence without the model of the 19 coordinates noticing, and what may not.

Symmetries, exact for every single sequence: tokens rotated by any R in O(D), position vectors by any U in U(D/2), which
commutes with M. The 19 coordinates are all that these leave: averaged over them, any weights become their projection.

The order of the pairs is no symmetry: a token's layer-1 average is over the tokens before it. What holds exactly is

- For orthonormal inputs every frame gives the same loss, at each place q of the queried pair: so does any permutation
  of the token vectors over their places, and any of the position vectors, each alone. The loss does depend on q.
- For any inputs, pairs may be reordered as wholes, the query following its item, as long as only the query's own
  layer-1 average is read. Seven coordinates read those of the keys: beta_2, beta_4, beta_7, beta_8, beta_11, beta_12
  and gamma_4. Without them the loss does not depend on q for orthonormal inputs: query last and uniform are one.

For isotropic inputs and all 19 a reordering is a symmetry in distribution only: each sequence's loss changes, averaged
over q as well, and the mean over sequences does not as long as q stays in its place. A query that follows its item to
another place changes the mean too, unless q is averaged over: the task with the query uniform does not know which pair
is which, the task with the query last does.
"""

import functools
import itertools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.gram_matrices import GramMatrices, sample_gram_matrices
from induction_dynamics.pseudo_parameters import BLOCKS, CIRCUIT, COORDINATES, lift, project, rotation_matrix
from induction_dynamics.reduced.gram import GramLoss
from induction_dynamics.reduced.mesh import exact_mesh
from induction_dynamics.reduced.subspace import SubspaceLoss
from induction_dynamics.task import Sequences, Task, sample_sequences
from induction_dynamics.transformer.disentangled import Weights, batch_loss, forward

DIM, LONGEST, BATCH = 12, 5, 3
INPUTS = ("orthonormal", "isotropic")
ORDERED = ("beta_2", "beta_4", "beta_7", "beta_8", "beta_11", "beta_12", "gamma_4")
"""Coordinates that read the layer-1 averages of layer 2's keys, and with them the order of the pairs."""
ROTATIONS = st.one_of(st.sampled_from([90.0, 270.0, 40.0]), st.floats(1, 179), st.floats(181, 359))

compute = jax.jit(lambda weights, sequences: (forward(weights, sequences), batch_loss(weights, sequences)))
reduced = jax.jit(lambda loss, theta: loss(theta))


def loss_of(weights, sequences):
    return float(compute(weights, sequences)[1])


def drawn(inputs, rotation, pairs, seed):
    """Sequences of width DIM, each asking for a random pair."""
    longest = Task(LONGEST, DIM, inputs, "uniform", rotation)
    whole = sample_sequences(longest, jax.random.key(seed), BATCH, jnp.float64)
    places = np.array([*range(2 * pairs), 2 * LONGEST])
    queried = np.random.default_rng(seed).integers(pairs, size=BATCH)
    return asked(np.asarray(whole.tokens)[:, places], np.asarray(whole.positions)[:, places], queried)


def asked(tokens, positions, query):
    """The sequences with their last token that of the queried items."""
    tokens = np.array(tokens)
    tokens[:, -1] = tokens[np.arange(len(tokens)), 2 * query]
    return Sequences(jnp.asarray(tokens), jnp.asarray(positions), jnp.asarray(query, jnp.int32))


def turned(sequences, tokens, positions):
    """The sequences with each token and each position vector multiplied by a matrix."""
    return sequences._replace(tokens=sequences.tokens @ tokens.T, positions=sequences.positions @ positions.T)


def orthogonal(rng, dim=DIM):
    """A random matrix in O(D), of either determinant."""
    return rng.choice([-1, 1], size=dim)[:, None] * np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def unitary(rng, half=DIM // 2):
    """A random matrix in U(D/2), as it acts on [Re z; Im z]."""
    complex_matrix = np.linalg.qr(rng.normal(size=(half, half)) + 1j * rng.normal(size=(half, half)))[0]
    return as_real(complex_matrix)


def as_real(matrix):
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def coordinates_of(rng, names=COORDINATES, scale=1.0):
    """Random coordinates, those not named at 0."""
    theta = scale * rng.normal(size=19)
    theta[[name not in names for name in COORDINATES]] = 0
    return jnp.asarray(theta)


def width(rotation=90.0):
    return Task(1, DIM, "isotropic", rotation=rotation)


@hypothesis.settings(deadline=None, max_examples=25, derandomize=True)
@hypothesis.given(
    pairs=st.integers(1, LONGEST),
    inputs=st.sampled_from(INPUTS),
    rotation=ROTATIONS,
    scale=st.floats(0, 2),
    seed=st.integers(0, 2**16),
)
def test_rotated_tokens_and_positions_change_nothing(pairs, inputs, rotation, scale, seed):
    rng = np.random.default_rng(seed)
    weights = lift(coordinates_of(rng, scale=scale), width(rotation))
    sequences, rotated = drawn(inputs, rotation, pairs, seed), orthogonal(rng)
    output, loss = compute(weights, sequences)
    for tokens, positions in ((rotated, np.eye(DIM)), (np.eye(DIM), unitary(rng)), (rotated, unitary(rng))):
        moved = turned(sequences, tokens, positions)
        seen, same = compute(weights, moved)
        np.testing.assert_allclose(seen.attention_1, output.attention_1, rtol=0, atol=1e-12)
        np.testing.assert_allclose(seen.attention_2, output.attention_2, rtol=0, atol=1e-12)
        np.testing.assert_allclose(seen.prediction, output.prediction @ tokens.T, rtol=0, atol=1e-11)
        assert float(same) == pytest.approx(float(loss), rel=1e-11)


@pytest.mark.parametrize("which", ["tokens", "positions"])
@pytest.mark.parametrize("matrix", ["W1", "W2", "W3"])
@pytest.mark.parametrize("inputs", INPUTS)
def test_weights_off_the_subspace_notice(inputs, matrix, which):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        weights = lift(coordinates_of(rng), width())
        off = rng.normal(size=getattr(weights, matrix).shape)
        changed = {name: getattr(weights, name) + (0.1 * off if name == matrix else 0) for name in ("W1", "W2", "W3")}
        sequences = drawn(inputs, 90.0, 3, seed)
        rotated = {"tokens": np.eye(DIM), "positions": np.eye(DIM)}
        rotated[which] = orthogonal(rng) if which == "tokens" else unitary(rng)
        moved = turned(sequences, **rotated)
        assert loss_of(weights, moved) == pytest.approx(loss_of(weights, sequences), rel=1e-12)
        before, after = (loss_of(Weights(**changed), given) for given in (sequences, moved))
        # far beyond rounding, though by chance a sequence may notice little
        assert abs(after - before) > 1e-7 * before


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("rotation", [90.0, 40.0, 200.0])
def test_positions_may_not_be_rotated_at_will(inputs, rotation):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        weights, sequences = lift(coordinates_of(rng), width(rotation)), drawn(inputs, rotation, 3, seed)
        moved = turned(sequences, np.eye(DIM), orthogonal(rng))
        before, after = loss_of(weights, sequences), loss_of(weights, moved)
        # far beyond rounding, though by chance a sequence may notice little
        assert abs(after - before) > 1e-7 * before


@hypothesis.settings(deadline=None, max_examples=20, derandomize=True)
@hypothesis.given(inputs=st.sampled_from(INPUTS), rotation=ROTATIONS, seed=st.integers(0, 2**16))
def test_conjugated_positions_turn_the_other_way(inputs, rotation, seed):
    """z -> conj(z) takes J to -J, hence a I + b M to (a + 2 b cos phi) I - b M: the same loss elsewhere."""
    rng = np.random.default_rng(seed)
    theta = np.asarray(coordinates_of(rng))
    other = theta.copy()
    for place, name in enumerate(COORDINATES):
        if BLOCKS[name].structure == "M":
            other[place - 1] += 2 * math.cos(math.radians(rotation)) * theta[place]
            other[place] *= -1
    sequences = drawn(inputs, rotation, 3, seed)
    conjugated = turned(sequences, np.eye(DIM), np.kron(np.diag([1, -1]), np.eye(DIM // 2)))
    before = loss_of(lift(jnp.asarray(theta), width(rotation)), sequences)
    after = loss_of(lift(jnp.asarray(other), width(rotation)), conjugated)
    assert after == pytest.approx(before, rel=1e-11)


@pytest.mark.parametrize("rotation", [90.0, 40.0])
def test_the_projection_is_the_mean_over_the_symmetries(rotation):
    """Over finite groups that leave as little: signed permutations for O(4), those with phases i^k for U(2)."""
    dim, rng = 4, np.random.default_rng(0)
    identity = np.eye(dim)
    tokens = [
        np.diag(signs) @ identity[list(order)]
        for order in itertools.permutations(range(dim))
        for signs in itertools.product((1, -1), repeat=dim)
    ]
    positions = [
        as_real(np.diag(1j ** np.array(powers)) @ np.eye(2)[list(order)])
        for order in itertools.permutations(range(2))
        for powers in itertools.product(range(4), repeat=2)
    ]
    kinds = {"t": np.array(tokens), "r": np.array(positions)}
    assert (len(tokens), len(positions)) == (384, 32)

    def averaged(matrix, rows, columns):
        """Block by block; a block from tokens to positions has the product of the two means, which are 0."""
        found = np.zeros_like(matrix)
        for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns)):
            place = np.s_[i * dim : (i + 1) * dim, j * dim : (j + 1) * dim]
            if row == column:
                found[place] = np.einsum("gij,jk,glk->il", kinds[row], matrix[place], kinds[row]) / len(kinds[row])
            else:
                found[place] = kinds[row].mean(axis=0) @ matrix[place] @ kinds[column].mean(axis=0).T
        return found

    sides = {"W1": ("tr", "tr"), "W2": ("trtr", "trtr"), "W3": ("t", "trtrtrtr")}
    given = {name: rng.normal(size=(dim * len(rows), dim * len(columns))) for name, (rows, columns) in sides.items()}
    weights = Weights(**{name: jnp.asarray(matrix) for name, matrix in given.items()})
    nearest = lift(project(weights, rotation).coordinates, Task(1, dim, rotation=rotation))
    for name, matrix in given.items():
        np.testing.assert_allclose(getattr(nearest, name), averaged(matrix, *sides[name]), atol=1e-14)


def loss_by_place(weights, sequences, pairs):
    """The mean loss of the batch for each queried pair in turn."""
    tokens, positions = np.asarray(sequences.tokens), np.asarray(sequences.positions)
    return np.array([loss_of(weights, asked(tokens, positions, np.full(BATCH, q))) for q in range(pairs)])


@hypothesis.settings(deadline=None, max_examples=15, derandomize=True)
@hypothesis.given(pairs=st.integers(1, LONGEST), rotation=ROTATIONS, seed=st.integers(0, 2**16))
def test_orthonormal_vectors_may_change_places(pairs, rotation, seed):
    """At each place of the queried pair, hence in the mean over them; also items against labels."""
    rng = np.random.default_rng(seed)
    weights, sequences = lift(coordinates_of(rng), width(rotation)), drawn("orthonormal", rotation, pairs, seed)
    losses = loss_by_place(weights, sequences, pairs)
    same = {"rtol": 1e-12, "atol": 0}

    shuffled = sequences._replace(tokens=sequences.tokens[:, np.append(rng.permutation(2 * pairs), 2 * pairs)])
    np.testing.assert_allclose(loss_by_place(weights, shuffled, pairs), losses, **same)

    base = np.asarray(sequences.positions)[:, ::2][:, rng.permutation(pairs + 1)]
    labels = base @ rotation_matrix(DIM, rotation).T
    positions = np.stack([base, labels], axis=2).reshape(BATCH, 2 * pairs + 2, DIM)[:, :-1]
    moved = sequences._replace(positions=jnp.asarray(positions))
    np.testing.assert_allclose(loss_by_place(weights, moved, pairs), losses, **same)

    other = drawn("orthonormal", rotation, pairs, seed + 1)
    np.testing.assert_allclose(loss_by_place(weights, other, pairs), losses, **same)


def reordered(sequences, order):
    """Pairs in another order, each with its tokens and its position vectors, and the query with its item."""
    places = np.append(np.ravel([(2 * pair, 2 * pair + 1) for pair in order]), 2 * len(order))
    query = np.argsort(order)[np.asarray(sequences.query)]
    return asked(np.asarray(sequences.tokens)[:, places], np.asarray(sequences.positions)[:, places], query)


@hypothesis.settings(deadline=None, max_examples=20, derandomize=True)
@hypothesis.given(
    pairs=st.integers(1, LONGEST), inputs=st.sampled_from(INPUTS), rotation=ROTATIONS, seed=st.integers(0, 2**16)
)
def test_pairs_may_be_reordered_where_no_key_looks_back(pairs, inputs, rotation, seed):
    rng = np.random.default_rng(seed)
    weights = lift(coordinates_of(rng, set(COORDINATES) - set(ORDERED)), width(rotation))
    sequences = drawn(inputs, rotation, pairs, seed)
    moved = reordered(sequences, rng.permutation(pairs))
    assert loss_of(weights, moved) == pytest.approx(loss_of(weights, sequences), rel=1e-12)
    if inputs == "orthonormal":
        losses = loss_by_place(weights, sequences, pairs)
        np.testing.assert_allclose(losses, losses[0], rtol=1e-12)


@pytest.mark.parametrize("name", ORDERED)
def test_each_of_the_seven_notices_the_order(name):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        weights = lift(coordinates_of(rng, set(COORDINATES) - set(ORDERED) | {name}), width())
        sequences = drawn("isotropic", 90.0, 3, seed)
        moved = reordered(sequences, [2, 0, 1])
        before, after = loss_of(weights, sequences), loss_of(weights, moved)
        assert abs(after - before) > 1e-5 * before
        # for orthonormal inputs beta_7 and beta_8 have no effect at all
        losses = loss_by_place(weights, drawn("orthonormal", 90.0, 3, seed), 3)
        assert (np.ptp(losses) > 1e-5 * losses[0]) == (name not in ("beta_7", "beta_8"))


def test_tokens_may_not_change_places_alone():
    """Not even where no key looks back: what a token is compared with and where it stands belong together."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        weights = lift(coordinates_of(rng, set(COORDINATES) - set(ORDERED)), width())
        sequences = drawn("isotropic", 90.0, 3, seed)
        moved = reordered(sequences, [2, 0, 1])._replace(positions=sequences.positions)
        before, after = loss_of(weights, sequences), loss_of(weights, moved)
        # far beyond rounding, though by chance a sequence may notice little
        assert abs(after - before) > 1e-7 * before


@hypothesis.settings(deadline=None, max_examples=25, derandomize=True)
@hypothesis.given(pairs=st.integers(1, 8), seed=st.integers(0, 2**16), blind=st.booleans())
def test_query_last_is_query_uniform_where_no_key_looks_back(pairs, seed, blind):
    names = set(COORDINATES) - set(ORDERED) if blind else set(COORDINATES)
    theta = coordinates_of(np.random.default_rng(seed), names)
    mesh = exact_mesh(pairs, 8)
    last, uniform = (float(reduced(SubspaceLoss(mesh, query), theta)) for query in ("last", "uniform"))
    assert (last == pytest.approx(uniform, rel=1e-12)) == (blind or pairs == 1)


def test_isotropic_pairs_are_exchangeable_in_distribution():
    """Over 2,000 Gram matrices and the same in reverse order, on an induction head with some of everything else."""
    gram = sample_gram_matrices(Task(3, DIM, "isotropic"), jax.random.key(0), 2000)
    order = np.array([4, 5, 2, 3, 0, 1, 6])
    reverse = GramMatrices(
        gram.tokens[:, order[:-1]][:, :, order[:-1]],
        *(matrix[:, order][:, :, order] for matrix in (gram.positions, gram.rotated)),
    )

    head = jnp.zeros(19).at[np.array([COORDINATES.index(name) for name in CIRCUIT])].set(jnp.array([1.0, 4.0, 1.0]))

    def errors_off(difference):
        return abs(difference.mean()) / (difference.std(ddof=1) / math.sqrt(len(difference)))

    for seed in range(3):
        theta = head + coordinates_of(np.random.default_rng(seed), scale=0.3)
        uniform, last, uniform_reverse, last_reverse = (
            np.asarray(of_samples(given, theta, query)) for given in (gram, reverse) for query in ("uniform", "last")
        )
        for difference in (uniform_reverse - uniform, last_reverse - last):
            assert np.median(np.abs(difference)) > 1e-2
            assert errors_off(difference) < 4
        # the place of the queried pair matters in the mean as well
        assert errors_off(last - uniform) > 4


@functools.partial(jax.jit, static_argnames="query")
def of_samples(gram, theta, query):
    """The loss of each sample."""
    return jax.vmap(lambda one: GramLoss(jax.tree.map(lambda matrix: matrix[None], one), query)(theta))(gram)
