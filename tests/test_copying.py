"""Copying scores: exact on heads built by hand, and beside the whole matrix."""

import ml_dtypes
import numpy as np
import pytest

from induction_dynamics.copying import copying_score
from induction_dynamics.errors import ArgumentError


def full_twin(T, W_V, W_O, W_U):
    """The three parts of the copying score from the whole [V, V] matrix, a column at a time."""
    M = W_U @ W_O @ W_V @ T.T
    eigenvalues = np.linalg.eigvals(M)
    direct = [M[v, v] - np.mean(M[:, v]) for v in range(len(M))]
    top = [(M[v, v] == max(M[:, v])) / np.sum(M[:, v] == max(M[:, v])) for v in range(len(M))]
    return np.sum(eigenvalues.real) / np.sum(np.abs(eigenvalues)), np.mean(direct), np.mean(top)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("tokens", "dim", "head_dim"), [(40, 12, 3), (7, 20, 9), (11, 5, 8), (1, 2, 1)])
def test_the_small_product_has_the_eigenvalues_of_the_whole(seed, tokens, dim, head_dim):
    """Also where head_dim is above V or D, and the small product has further zeros itself."""
    rng = np.random.default_rng(seed)
    shapes = (tokens, dim), (head_dim, dim), (dim, head_dim), (tokens, dim)
    T, W_V, W_O, W_U = (rng.standard_normal(shape) for shape in shapes)
    found, twin = copying_score(T, W_V, W_O, W_U), full_twin(T, W_V, W_O, W_U)
    # zero eigenvalues of a product that is not symmetric come out as large as rounding to the power of 1 / their block
    assert found.eigenvalue == pytest.approx(twin[0], abs=1e-6)
    assert found.direct_logit == pytest.approx(twin[1], rel=1e-12, abs=1e-12 * np.abs(W_U @ W_O @ W_V @ T.T).max())
    assert found.top_fraction == twin[2]


def test_top_fractions_a_few_columns_at_a_time(monkeypatch):
    rng = np.random.default_rng(1)
    T, W_V, W_O, W_U = (rng.standard_normal(shape) for shape in ((50, 8), (6, 8), (8, 6), (50, 8)))
    W_U += 2 * T  # some of the tokens come out on top
    whole = copying_score(T, W_V, W_V.T, W_U)
    assert whole.top_fraction == full_twin(T, W_V, W_V.T, W_U)[2] and 0.02 < whole.top_fraction < 1
    for block in (1, 50 * 7, 50 * 49):
        monkeypatch.setattr("induction_dynamics.copying._BLOCK", block)
        assert copying_score(T, W_V, W_V.T, W_U) == whole


def test_copying_of_hand_built_heads():
    eye, turn = np.eye(2), np.array([[0.0, -1.0], [1.0, 0.0]])
    assert copying_score(eye, eye, eye, eye) == (1, 0.5, 1)
    assert copying_score(eye, eye, -eye, eye) == (-1, -0.5, 0)
    assert copying_score(eye, eye, turn, eye) == (pytest.approx(0, abs=1e-16), 0, 0.5)
    # a cycle of three: eigenvalues 1 and two with real part -1/2; no token puts out itself
    assert copying_score(np.eye(3), np.eye(3), np.roll(np.eye(3), 1, axis=0), np.eye(3)) == (
        pytest.approx(0, abs=1e-15),
        pytest.approx(-1 / 3),
        0,
    )
    # one direction is read and put out again, and that raises one token of two
    first = np.array([[1.0, 0.0]])
    assert copying_score(eye, first, first.T, eye) == (1, 0.25, 0.75)


def test_a_head_of_zeros_scores_chance():
    zero = np.zeros((3, 8))
    assert copying_score(np.ones((16, 8)), zero, zero.T, np.ones((16, 8))) == (0, 0, 1 / 16)


def test_chance_of_random_heads():
    """Means over random heads; the bounds are five standard errors."""
    rng = np.random.default_rng(3)
    heads = [
        copying_score(*(rng.standard_normal(shape) for shape in ((16, 8), (4, 8), (8, 4), (16, 8)))) for _ in range(400)
    ]
    means, errors = np.mean(heads, axis=0), np.std(heads, axis=0) / 20
    assert np.all(np.abs(means - [0, 0, 1 / 16]) < 5 * errors)


def test_precision_of_what_is_given():
    """Numbers of 32 bits are compared in 32 bits, and no size of them overflows."""
    rng = np.random.default_rng(4)
    matrices = [rng.standard_normal(shape) for shape in ((30, 6), (3, 6), (6, 3), (30, 6))]
    exact = copying_score(*matrices)
    for dtype, tolerance in ((np.float32, 1e-5), (ml_dtypes.bfloat16, 0.05)):
        rough = copying_score(*(matrix.astype(dtype) for matrix in matrices))
        np.testing.assert_allclose(rough, exact, rtol=tolerance, atol=tolerance)
    large = copying_score(*(np.float32(1e18) * matrix.astype(np.float32) for matrix in matrices))
    assert large.top_fraction == exact.top_fraction and large.eigenvalue == pytest.approx(exact.eigenvalue, abs=1e-5)


@pytest.mark.parametrize(
    ("place", "matrix", "sentence"),
    [
        (0, np.ones(4), r"embeddings must be a matrix that is not empty; got \(4,\)\."),
        (1, np.ones((0, 2)), r"value must be a matrix that is not empty; got \(0, 2\)\."),
        (1, np.ones((3, 4)), r"value must be of the shape that fits the others, \(3, 2\); got \(3, 4\)\."),
        (2, np.ones((3, 2)), r"output must be of the shape that fits the others, \(2, 3\); got \(3, 2\)\."),
        (3, np.ones((2, 5)), r"unembedding must be of the shape that fits the others, \(5, 2\); got \(2, 5\)\."),
        (3, np.full((5, 2), np.nan), r"unembedding must be finite; got nan\."),
        (0, np.ones((5, 2), complex), r"embeddings must be real numbers; got 'complex128'\."),
        (2, np.full((2, 3), 1e308), r"output must be so small that W_U W_O W_V T\^T does not overflow; got 1e\+308\."),
    ],
)
def test_weights_that_are_refused(place, matrix, sentence):
    matrices = [np.full(shape, 9.0) for shape in ((5, 2), (3, 2), (2, 3), (5, 2))]
    matrices[place] = matrix
    with pytest.raises(ArgumentError, match=sentence):
        copying_score(*matrices)
