"""What training starts from."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import COORDINATES, lift
from induction_dynamics.task import Task
from induction_dynamics.transformer.disentangled import Weights, zero_weights


@dataclasses.dataclass(frozen=True)
class Start:
    r"""Weights at the start of training: given coordinates, and a random part beside them.

        W_0 = sum_k theta_k B_k + X,    entries of X independent Normal(0, scale^2 / D)

    with a scale for each of W1, W2 and W3, so that X has a spectral norm of the order of its scale whatever D is. Of X
    itself a coordinate is of the order of scale / D, since it averages D entries: X lies off the subspace almost
    wholly. By default all is zero.

    Args:
        scale: of the random part: one number for all three matrices, or one for each of W1, W2, W3; at least 0.
        coordinates: theta, by name; those not named are 0.

    Raises:
        ArgumentError: an unknown coordinate, or a value that is not finite, or a negative scale.

    Example:
        >>> import induction_dynamics as idyn
        >>> start = idyn.Start(scale=0.1, coordinates={"gamma_3": 1.0})
        >>> run = idyn.train(idyn.Task(context_length=2), start=start, horizon=1.0, batch_size=16)
        >>> bool(abs(run.coordinates[0, idyn.COORDINATES.index("gamma_3")] - 1) < 0.1), bool(run.off_subspace[0] > 0.1)
        (True, True)
    """

    scale: float | tuple[float, ...] = (0.0, 0.0, 0.0)
    coordinates: Mapping[str, float] | tuple[tuple[str, float], ...] = ()

    def __post_init__(self):
        scale = self.scale if isinstance(self.scale, tuple | list) else (self.scale,) * 3
        if len(scale) == 1:
            scale *= 3
        if len(scale) != 3 or not all(_finite(value) and value >= 0 for value in scale):
            raise ArgumentError("scale", self.scale, "one finite number, at least 0, or one for each of W1, W2 and W3")
        object.__setattr__(self, "scale", tuple(float(value) for value in scale))
        given = self.coordinates.items() if isinstance(self.coordinates, Mapping) else self.coordinates
        names = [name for name, _ in given]
        for name, value in given:
            if name not in COORDINATES or names.count(name) > 1:
                reason = f"of coordinates, each once, which are {', '.join(COORDINATES)}"
                raise ArgumentError("start", name, reason)
            if not _finite(value):
                raise ArgumentError("start", value, "of finite coordinates")
        kept = sorted(((name, float(value)) for name, value in given if value), key=lambda x: COORDINATES.index(x[0]))
        object.__setattr__(self, "coordinates", tuple(kept))

    @property
    def theta(self) -> Float[np.ndarray, "19"]:
        """The coordinates of the part that is not random."""
        given = dict(self.coordinates)
        return np.array([given.get(name, 0.0) for name in COORDINATES])

    @property
    def scales(self) -> tuple[float, float, float]:
        """Those of W1, W2 and W3."""
        assert isinstance(self.scale, tuple)
        return self.scale  # pyright: ignore[reportReturnType]

    @property
    def is_zero(self) -> bool:
        """Whether all weights are zero."""
        return not any(self.scales) and not self.coordinates


def coordinates_of(words: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Names and values, as `Start` takes them, of words NAME=VALUE.

    Args:
        words: one for each coordinate.

    Raises:
        ValueError: a value is no number.

    Example:
        >>> coordinates_of(["gamma_3=0.5", "beta_2=-1"])
        (('gamma_3', 0.5), ('beta_2', -1.0))
    """
    return tuple((name.strip(), float(value)) for name, _, value in (word.partition("=") for word in words))


def starting_weights(start: Start | Weights | None, task: Task, key: PRNGKeyArray, dtype: jnp.dtype | type) -> Weights:
    """The weights that training starts from.

    Args:
        start: what they are; None for zero.
        task: gives D and the rotation.
        key: of the random part.
        dtype: floating type.

    Raises:
        ArgumentError: given weights are of another D, or not finite as numbers of this type.
    """
    zero = zero_weights(task.embedding_dim, dtype)
    if start is None:
        return zero
    if isinstance(start, Weights):
        if start.embedding_dim != task.embedding_dim:
            found = f"D = {start.embedding_dim}"
            raise ArgumentError("start", found, f"weights of the task's width, D = {task.embedding_dim}")
        weights = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), start)
    else:
        weights = jax.tree.map(lambda leaf: leaf.astype(dtype), lift(jnp.asarray(start.theta), task))
        if any(start.scales):
            weights = jax.tree.map(jnp.add, weights, _random(start.scales, zero, key))
    if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(weights)):
        shown = "weights" if isinstance(start, Weights) else max(start.scales + tuple(np.abs(start.theta)))
        raise ArgumentError("start", shown, f"finite as numbers of type {jnp.dtype(dtype).name}")
    return weights


def _random(scales: tuple[float, float, float], like: Weights, key: PRNGKeyArray) -> Weights:
    keys, dim = jax.random.split(key, 3), like.embedding_dim

    def draw(scale: float, leaf: Array, key: Array) -> Array:
        return jnp.asarray(scale / math.sqrt(dim), leaf.dtype) * jax.random.normal(key, leaf.shape, leaf.dtype)

    return Weights(*(draw(*each) for each in zip(scales, (like.W1, like.W2, like.W3), keys, strict=True)))


def _finite(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float | np.number) and math.isfinite(value)
