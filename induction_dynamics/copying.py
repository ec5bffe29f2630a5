"""Whether an attention head puts out what it attends to, from its weights as plain arrays of any framework."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from induction_dynamics.errors import ArgumentError
from induction_dynamics.heads import real_array

_BLOCK = 2**24  # logits in memory at a time


class CopyingScore(NamedTuple):
    """How much a head raises the logit of the token that it attends to.

    Args:
        eigenvalue: from -1 to 1; chance 0.
        direct_logit: in units of logits; chance 0.
        top_fraction: from 0 to 1; chance 1/V.
    """

    eigenvalue: float
    direct_logit: float
    top_fraction: float


def copying_score(embeddings: ArrayLike, value: ArrayLike, output: ArrayLike, unembedding: ArrayLike) -> CopyingScore:
    """Whether a head puts out what it attends to: M = W_U W_O W_V T^T, columns attended tokens and rows logits, [V, V].

    `eigenvalue` is sum_k Re(lambda_k) / sum_k |lambda_k| over the eigenvalues of M: 1 if every direction of token space
    is raised, -1 if every one is lowered. It is computed from W_V T^T W_U W_O, [head_dim, head_dim], which has the same
    eigenvalues but for zeros. `direct_logit` is mean_v (M_vv - mean_u M_uv), and `top_fraction` the share of tokens v
    whose own logit is the largest of column v, where a tie of k tokens counts 1/k. By chance these are 0, 0 and 1/V: M
    and -M are alike then, and so are all tokens. A head that is zero everywhere scores just that, its eigenvalue score
    being 0 by definition.

    Layer norms, biases and what lies between the head and the logits are left out. The eigenvalue score is that of
    Elhage et al. (2021), A Mathematical Framework for Transformer Circuits.

    Args:
        embeddings: T, [V, D], a row for each token.
        value: W_V, [head_dim, D].
        output: W_O, [D, head_dim].
        unembedding: W_U, [V, D], a row for each token.

    Raises:
        ArgumentError: one has an entry that is not finite or shapes that do not fit, or their product overflows.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics.copying import copying_score
        >>> copying_score(np.eye(4), np.eye(4), 2 * np.eye(4), np.eye(4))
        CopyingScore(eigenvalue=1.0, direct_logit=1.5, top_fraction=1.0)
    """
    T, W_V, W_O, W_U = _checked_weights(embeddings, value, output, unembedding)
    types = [np.asarray(given).dtype for given in (embeddings, value, output, unembedding)]
    single = all(dtype.kind in "fV" and dtype.itemsize <= 4 for dtype in types)
    tokens = len(T)
    with np.errstate(over="ignore", invalid="ignore"):
        read, write = W_V @ T.T, W_U @ W_O
        small = read @ write
        whole = write.sum(axis=0) @ read.sum(axis=1)
    if not (np.isfinite(small).all() and np.isfinite(whole)):
        raise ArgumentError("output", float(np.abs(W_O).max()), "so small that W_U W_O W_V T^T does not overflow")
    eigenvalues = np.linalg.eigvals(small)
    sizes = np.abs(eigenvalues).sum()
    return CopyingScore(
        eigenvalue=float(eigenvalues.real.sum() / sizes) if sizes > 0 else 0.0,
        direct_logit=float(np.trace(small) / tokens - whole / tokens**2),
        top_fraction=_top_fraction(read, write, np.dtype(np.float32 if single else np.float64)),
    )


def _top_fraction(read: np.ndarray, write: np.ndarray, dtype: np.dtype) -> float:
    """Share of columns of write @ read whose entry on the diagonal is the largest; some columns in memory at a time."""
    # Neither scale changes which entry is the largest, and none overflows.
    read, write = ((factor / (np.abs(factor).max() or 1.0)).astype(dtype) for factor in (read, write))
    tokens = len(write)
    width, found = max(_BLOCK // tokens, 1), 0.0
    for start in range(0, tokens, width):
        logits = write @ read[:, start : start + width]
        places = np.arange(logits.shape[1])
        own, largest = logits[start + places, places], logits.max(axis=0)
        top = np.flatnonzero(own == largest)
        found += float((1 / np.count_nonzero(logits[:, top] == largest[top], axis=0)).sum())
    return found / tokens


def _checked_weights(
    embeddings: ArrayLike, value: ArrayLike, output: ArrayLike, unembedding: ArrayLike
) -> list[np.ndarray]:
    """The four matrices in float64."""
    given = {"embeddings": embeddings, "value": value, "output": output, "unembedding": unembedding}
    arrays = {name: real_array(name, matrix) for name, matrix in given.items()}
    for name, matrix in arrays.items():
        if matrix.ndim != 2 or matrix.size == 0:
            raise ArgumentError(name, matrix.shape, "a matrix that is not empty")
    (tokens, dim), head_dim = arrays["embeddings"].shape, len(arrays["value"])
    wanted = {"value": (head_dim, dim), "output": (dim, head_dim), "unembedding": (tokens, dim)}
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise ArgumentError(name, arrays[name].shape, f"of the shape that fits the others, {shape}")
    found = [matrix.astype(np.float64) for matrix in arrays.values()]
    for name, matrix in zip(arrays, found, strict=True):
        if not np.isfinite(matrix).all():
            raise ArgumentError(name, float(matrix[~np.isfinite(matrix)][0]), "finite")
    return found
