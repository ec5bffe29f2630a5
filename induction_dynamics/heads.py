"""Scores of attention heads from plain arrays: does a head look back by one, at its own token, or at what followed it?

Nothing here depends on the model or the framework that attended. Of a causal language model of Hugging Face, whose
tokens are [1, length] and whose attention must be computed eagerly to be told::

    model = AutoModelForCausalLM.from_pretrained(name, attn_implementation="eager").eval()
    out = model(tokens, output_attentions=True)
    attention = np.stack([a[0].detach().float().numpy() for a in out.attentions])  # [layers, heads, length, length]
    scores = head_scores(attention, tokens[0].numpy())
    scores["induction"].above_chance  # [layers, heads]

Every score of attention is a mean over positions of the attention that a head spends on certain keys, and comes with
its chance level: what a head scores that attends to all keys it may see alike. The mask lets a query see the keys up
to itself, or with `strict` those before itself.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from induction_dynamics.errors import ArgumentError, in_words, whole_number

KINDS: tuple[str, ...] = ("previous_token", "duplicate_token", "induction")
"""What `head_scores` looks for, in the order of the circuit."""

_ROW_SUM = 5e-3  # a number of bfloat16 is wrong by up to 2^-8 of itself, and a row of equal ones is so altogether
_HIDDEN = 1e-6  # what masks by large negative scores, and not by minus infinity, may leave


class HeadScores(NamedTuple):
    """One score of every head.

    Args:
        score: from 0 to 1, [layers, heads].
        chance: what uniform attention scores at the same positions.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics.heads import HeadScores
        >>> HeadScores(np.array([[0.75, 0.25]]), chance=0.25).above_chance.tolist()
        [[0.5, 0.0]]
    """

    score: Float[np.ndarray, "layers heads"]
    chance: float

    @property
    def above_chance(self) -> Float[np.ndarray, "layers heads"]:
        """Score less chance: 0 for uniform attention, 1 - chance for a perfect head."""
        return self.score - self.chance


class SoughtKeys(NamedTuple):
    """A score of attention as a sum over its entries.

    Args:
        factors: of each entry, rows queries and columns keys.
        chance: the sum for uniform attention.
    """

    factors: Float[np.ndarray, "batch length length"]
    chance: float


def previous_token_scores(attention: ArrayLike, *, strict: bool = False) -> HeadScores:
    """Attention to the position before: mean over i >= 1 of A[i, i - 1].

    Chance is the mean over the same i of 1/(i + 1), and with `strict` of 1/i. The heads are those of the first layer of
    an induction circuit in Elhage et al. (2021), A Mathematical Framework for Transformer Circuits.

    Args:
        attention: A, [layers, heads, length, length] or [batch, layers, heads, length, length], rows queries and
            columns keys, both counted from 0; the mean is over all positions of all sequences.
        strict: whether the mask hides a query's own position too; the first row is 0 then.

    Raises:
        ArgumentError: A is of another shape, has an entry that is not finite, below 0, or other than 0 where the mask
            hides a key, or a row that does not sum to 1 within 0.005 (as numbers of bfloat16 do); or there is one
            position only.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics.heads import previous_token_scores
        >>> looks_back = np.eye(3, k=-1)
        >>> looks_back[0, 0] = 1.0  # the first position has itself only
        >>> uniform = np.tri(3) / np.arange(1, 4)[:, None]
        >>> found = previous_token_scores([[looks_back, uniform]])  # one layer of two heads
        >>> found.above_chance.round(3).tolist(), round(found.chance, 3)
        ([[0.583, 0.0]], 0.417)
    """
    array = _checked_attention(attention, strict)
    if array.shape[-1] < 2:
        raise ArgumentError("attention", np.shape(attention), "of at least 2 positions")
    return _scores(array, _tokens_before(np.empty((len(array), array.shape[-1]))), strict)


def duplicate_token_scores(attention: ArrayLike, tokens: ArrayLike, *, strict: bool = False) -> HeadScores:
    """Attention to earlier copies of the own token: mean over i of the sum of A[i, j] over j < i with x_j = x_i.

    The mean is over those i alone that have such a j. Chance is the same with 1/(i + 1) for A, and with `strict` 1/i. A
    head that attends to its own position has found no duplicate, so j = i never counts. The name is of Wang et al.
    (2022), Interpretability in the Wild, arXiv 2211.00593.

    Args:
        attention: A, see `previous_token_scores`.
        tokens: x, whole numbers, [length], and [batch, length] where A has a batch; every position counts, so padding
            must be cut off before.
        strict: whether the mask hides a query's own position too.

    Raises:
        ArgumentError: see `previous_token_scores`; the tokens are no whole numbers, do not fit A, or none comes back.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics.heads import duplicate_token_scores
        >>> attention = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.75, 0, 0.25]])
        >>> found = duplicate_token_scores([[attention]], [7, 8, 7])  # position 2 has one duplicate, 0
        >>> found.score.tolist(), round(found.chance, 3)
        ([[0.75]], 0.333)
    """
    array = _checked_attention(attention, strict)
    return _scores(array, _duplicates(_checked_tokens(tokens, array, np.ndim(attention))), strict)


def induction_scores(attention: ArrayLike, tokens: ArrayLike, *, strict: bool = False) -> HeadScores:
    """Prefix matching: mean over i of the sum of A[i, j + 1] over j with j + 1 < i and x_j = x_i.

    The mean is over those i alone that have such a j: the own token stood there before, and what followed it is an
    earlier key. The successor may not be the query's own position, j + 1 = i, where a token follows itself: a strict
    mask hides that key, and with any other mask a head that attends to itself would pass for one that matches. So both
    masks have the same positions. Chance is the same with 1/(i + 1) for A, and with `strict` 1/i. The score is that of
    Olsson et al. (2022), In-context Learning and Induction Heads, arXiv 2209.11895, who take repeated random tokens.

    Args:
        attention: A, see `previous_token_scores`.
        tokens: x, see `duplicate_token_scores`.
        strict: whether the mask hides a query's own position too.

    Raises:
        ArgumentError: see `duplicate_token_scores`; no token comes back, or only right after itself.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics.heads import induction_scores
        >>> attention = np.tri(4) / np.arange(1, 5)[:, None]
        >>> attention[3] = [0, 0.9, 0, 0.1]
        >>> found = induction_scores([[attention]], [7, 8, 9, 7])  # at position 3: 7 stood at 0, and 1 came after
        >>> found.score.tolist(), found.chance
        ([[0.9]], 0.25)
    """
    array = _checked_attention(attention, strict)
    return _scores(array, _successors(_checked_tokens(tokens, array, np.ndim(attention))), strict)


def head_scores(attention: ArrayLike, tokens: ArrayLike, *, strict: bool = False) -> dict[str, HeadScores]:
    """The three scores of attention by their names, `previous_token`, `duplicate_token` and `induction`.

    Args:
        attention: A, see `previous_token_scores`; looked through once.
        tokens: x, see `duplicate_token_scores`.
        strict: whether the mask hides a query's own position too.

    Raises:
        ArgumentError: one of the three would.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics.heads import head_scores
        >>> uniform = np.tri(6) / np.arange(1, 7)[:, None]
        >>> found = head_scores(uniform[None, None], [3, 1, 4, 3, 1, 4])
        >>> {name: round(scores.chance, 3) for name, scores in found.items()}
        {'previous_token': 0.29, 'duplicate_token': 0.206, 'induction': 0.206}
    """
    array = _checked_attention(attention, strict)
    x = _checked_tokens(tokens, array, np.ndim(attention))
    if array.shape[-1] < 2:
        raise ArgumentError("attention", np.shape(attention), "of at least 2 positions")
    keys = (_tokens_before(x), _duplicates(x), _successors(x))
    return {kind: _scores(array, each, strict) for kind, each in zip(KINDS, keys, strict=True)}


def sought_keys(
    tokens: ArrayLike, *, strict: bool = False, positions: Mapping[str, ArrayLike] | None = None
) -> dict[str, SoughtKeys]:
    """The scores of `head_scores` as sums over the entries of A, for attention that is at hand elsewhere.

    Args:
        tokens: x, whole numbers, [batch, length].
        strict: whether the mask hides a query's own position too.
        positions: of some of `KINDS`, the only positions i that count, True and False, of a shape that broadcasts to
            that of the tokens.

    Returns:
        Of each of `KINDS`, the factor of each entry of A, [batch, length, length], and the chance level.

    Raises:
        ArgumentError: as `head_scores` does for tokens.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics.heads import head_scores, sought_keys
        >>> tokens = np.array([[3, 1, 4, 3, 1, 4]])
        >>> attention = np.random.default_rng(0).dirichlet(np.ones(6), size=6)
        >>> attention = np.tril(attention) / np.tril(attention).sum(axis=1, keepdims=True)
        >>> factors, chance = sought_keys(tokens)["induction"]
        >>> found = head_scores(attention[None, None], tokens[0])["induction"]
        >>> bool(np.isclose((factors[0] * attention).sum() - chance, found.above_chance[0, 0]))
        True
    """
    array = _array("tokens", tokens)
    if array.dtype.kind not in "iu" or array.ndim != 2 or array.size == 0:
        raise ArgumentError("tokens", f"{array.dtype} {array.shape}", "whole numbers, of shape [batch, length]")
    keys = dict(zip(KINDS, (_tokens_before(array), _duplicates(array), _successors(array)), strict=True))
    for kind, counted in (positions or {}).items():
        keys[kind] = keys[kind] & np.broadcast_to(counted, array.shape)[:, :, None]
        if not keys[kind].any():
            raise ArgumentError("positions", kind, "positions of which one has such a key")
    return {kind: _factors(each, strict) for kind, each in keys.items()}


def in_context_learning_score(losses: ArrayLike, *, early: int, late: int) -> float:
    """What a model has learned in context: the mean over sequences of loss[late] - loss[early], below 0 if anything.

    By chance it is 0, if no position is harder than another. The score is that of Olsson et al. (2022), In-context
    Learning and Induction Heads, arXiv 2209.11895, who take the 50th token and the 500th.

    Args:
        losses: the loss of each prediction, [..., length], in nats or bits, as the score is then.
        early: place of the early prediction, counted from 0.
        late: place of the late one, beyond it.

    Raises:
        ArgumentError: a loss is not finite, or the places are none of the losses' or in another order.

    Example:
        >>> from induction_dynamics.heads import in_context_learning_score
        >>> in_context_learning_score([[4.0, 3.0, 2.5], [4.0, 2.0, 0.5]], early=0, late=2)
        -2.5
    """
    array = real_array("losses", losses).astype(np.float64)
    if array.ndim == 0 or array.size == 0:
        raise ArgumentError("losses", array.shape, "of shape [..., length], none of them 0")
    if not np.isfinite(array).all():
        raise ArgumentError("losses", float(array[~np.isfinite(array)][0]), "finite")
    length = array.shape[-1]
    first, last = whole_number(early), whole_number(late)
    if first is None or not 0 <= first < length - 1:
        raise ArgumentError("early", early, f"a place among {length} losses, from 0 on, and not the last")
    if last is None or not first < last < length:
        raise ArgumentError("late", late, f"a place among {length} losses, from {first + 1} to {length - 1}")
    return float(np.mean(array[..., last] - array[..., first]))


def _tokens_before(tokens: np.ndarray) -> np.ndarray:
    batch, length = tokens.shape
    if length < 2:
        raise ArgumentError("tokens", tokens.shape, "sequences of at least 2 tokens")
    return np.broadcast_to(np.eye(length, k=-1, dtype=bool), (batch, length, length))


def _duplicates(tokens: np.ndarray) -> np.ndarray:
    copies = _earlier_copies(tokens)
    if not copies.any():
        raise ArgumentError("tokens", _shown(tokens), "of sequences in which a token comes back")
    return copies


def _successors(tokens: np.ndarray) -> np.ndarray:
    successors = np.zeros((*tokens.shape, tokens.shape[-1]), bool)
    successors[..., 1:] = _earlier_copies(tokens)[..., :-1]
    successors &= np.tri(tokens.shape[-1], k=-1, dtype=bool)
    if not successors.any():
        allowed = "of sequences in which a token comes back, and not only right after itself"
        raise ArgumentError("tokens", _shown(tokens), allowed)
    return successors


def _earlier_copies(tokens: np.ndarray) -> np.ndarray:
    """Whether x_j = x_i with j < i, [batch, i, j]."""
    return (tokens[:, :, None] == tokens[:, None, :]) & np.tri(tokens.shape[-1], k=-1, dtype=bool)


def _scores(attention: np.ndarray, keys: np.ndarray, strict: bool) -> HeadScores:
    """The mean over positions that have such a key of the attention that they spend on them; keys [batch, i, j]."""
    count = np.count_nonzero(keys.any(axis=-1))
    spent = np.einsum("blhij,bij->lh", attention, keys, dtype=np.float64)
    return HeadScores(spent / count, _chance(keys, strict))


def _factors(keys: np.ndarray, strict: bool) -> SoughtKeys:
    return SoughtKeys(keys / np.count_nonzero(keys.any(axis=-1)), _chance(keys, strict))


def _chance(keys: np.ndarray, strict: bool) -> float:
    """What uniform attention spends on the keys."""
    visible = np.maximum(np.arange(keys.shape[-1]) + (not strict), 1)
    return float((keys.sum(axis=-1) / visible).sum() / np.count_nonzero(keys.any(axis=-1)))


def _checked_attention(attention: ArrayLike, strict: bool) -> np.ndarray:
    """Attention as [batch, layers, heads, length, length], in a floating type of numpy."""
    array = real_array("attention", attention)
    if array.ndim not in (4, 5) or array.shape[-1] != array.shape[-2] or array.size == 0:
        either = "[layers, heads, length, length] or [batch, layers, heads, length, length]"
        raise ArgumentError("attention", array.shape, f"of shape {either}, none of them 0")
    if array.dtype not in (np.float16, np.float32, np.float64):
        array = array.astype(np.float64)
    array = array if array.ndim == 5 else array[None]
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ArgumentError("attention", high if np.isfinite(low) else low, "finite")
    if low < -_HIDDEN:
        raise ArgumentError("attention", low, "at least 0")
    length = array.shape[-1]
    hidden = ~np.tri(length, k=-1 if strict else 0, dtype=bool)
    seen = float(array.max(where=hidden, initial=0.0))
    if seen > _HIDDEN:
        where = "on and above the diagonal, where the strict mask" if strict else "above the diagonal, where the mask"
        raise ArgumentError("attention", seen, f"0 {where} hides keys from a query")
    sums = array.sum(axis=-1, dtype=np.float64)[..., int(strict) :]
    wrong = np.abs(sums - 1) > _ROW_SUM
    if wrong.any():
        _, layer, head, row = place = tuple(np.argwhere(wrong)[0].tolist())
        where = f"here row {row + strict} of layer {layer}, head {head} has another sum"
        raise ArgumentError("attention", float(sums[place]), f"of rows that sum to 1 within {_ROW_SUM:g} ({where})")
    return array


def _checked_tokens(tokens: ArrayLike, attention: np.ndarray, axes: int) -> np.ndarray:
    """Tokens as [batch, length]."""
    array = _array("tokens", tokens)
    if array.dtype.kind not in "iu":
        raise ArgumentError("tokens", str(array.dtype), "whole numbers")
    batch, length = len(attention), attention.shape[-1]
    wanted = (batch, length) if axes == 5 else (length,)
    if array.shape != wanted:
        raise ArgumentError("tokens", array.shape, f"of the shape that fits attention, {wanted}")
    return array.reshape(batch, length)


def real_array(name: str, values: ArrayLike) -> np.ndarray:
    """Real numbers of any floating or integer type as an array of numpy.

    Args:
        name: of the argument.
        values: as given.

    Raises:
        ArgumentError: they are something else.
    """
    array = _array(name, values)
    # bfloat16 and its like are of a kind of their own in numpy
    real = array.dtype.kind in "fiub" or (array.dtype.kind == "V" and "float" in array.dtype.name)
    if not real:
        raise ArgumentError(name, str(array.dtype), "real numbers")
    return array


def _array(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ArgumentError(name, type(values).__name__, f"what numpy makes an array of ({in_words(error)})") from None


def _shown(tokens: np.ndarray) -> str:
    return np.array2string(tokens.ravel(), threshold=8, max_line_width=200)
