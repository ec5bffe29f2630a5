"""Which reduced loss stands for a model on a task."""

import math
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from induction_dynamics.errors import ArgumentError
from induction_dynamics.gram_matrices import sample_gram_matrices, with_copies
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.circuit import CircuitLoss
from induction_dynamics.reduced.copies import CopiesLoss
from induction_dynamics.reduced.gram import GramLoss, gram_loss_of_copies, orthonormal_gram_loss
from induction_dynamics.reduced.mesh import mesh_of, places_of
from induction_dynamics.reduced.subspace import SubspaceLoss
from induction_dynamics.task import Task, number_of_placements, require_float64, sample_placements, split_seed

ACTIVE: dict[str, tuple[str, ...]] = {"circuit": CIRCUIT, "subspace": COORDINATES}
"""The reduced models, and the coordinates that move in each; the others are held."""

_LONGEST = 1 << 6  # N of a loss that costs N^3: beyond, a run takes hours
_LONGEST_OF_COPIES = 1 << 10  # N of the circuit with several copies, whose loss costs N m
_MOST_PLACEMENTS = 1 << 11  # of several copies, up to which every one of them is counted


@runtime_checkable
class ReducedLoss(Protocol):
    """A loss written in the pseudo-parameters: a pytree that maps coordinates theta [19] to a number."""

    @property
    def combinations(self) -> Float[np.ndarray, "combinations 19"]:
        """Combinations of the coordinates that the loss is a function of; each coordinate in one row at most."""
        ...

    def __call__(self, coordinates: Float[Array, "19"]) -> Float[Array, ""]:
        """The loss at theta."""
        ...


def has_closed_form(task: Task, model: str) -> bool:
    """Whether the model's loss on this task is a closed form, in arrays of few shapes whatever N is.

    Args:
        task: which task.
        model: `circuit` or `subspace`.
    """
    return task.inputs == "orthonormal" and (model == "circuit" or (task.right_angled and task.copies == 1))


def is_sampled(task: Task, model: str) -> bool:
    """Whether the model's loss on this task is a mean over samples, so that its numbers depend on a seed.

    Args:
        task: which task.
        model: `circuit` or `subspace`.
    """
    if task.inputs == "isotropic":
        return True
    return not has_closed_form(task, model) and number_of_placements(task) > _MOST_PLACEMENTS and task.copies > 1


def number_of_places(task: Task, model: str) -> int:
    """Number of places that a closed form is evaluated at: tasks that are alike in it share a compiled program.

    Args:
        task: which task.
        model: `circuit` or `subspace`.
    """
    if task.copies > 1:
        return 1 << (task.context_length - 1).bit_length()
    return 1 if model == "circuit" and task.query == "last" else places_of(task.context_length)


def check_length(task: Task, model: str) -> None:
    """Refuse a model that does not exist, or a task too long for it.

    Args:
        task: which task.
        model: `circuit` or `subspace`.

    Raises:
        ArgumentError: an unknown model, or a context length beyond what this form of the loss can do.
    """
    if model not in ACTIVE:
        raise ArgumentError("model", model, f"one of {', '.join(ACTIVE)}")
    longest = _LONGEST if not has_closed_form(task, model) else _LONGEST_OF_COPIES if task.copies > 1 else math.inf
    if task.context_length > longest:
        form = f"{model}, query {task.query}, {task.inputs} inputs at {task.rotation:g} degrees"
        form += f", {task.copies} copies" if task.copies > 1 else ""
        raise ArgumentError("context_length", task.context_length, f"at most {longest} for {form}")


def reduced_loss(task: Task, model: str, *, samples: int = 2048, seed: int = 0) -> ReducedLoss:
    """The population loss of a reduced model.

    Exact for orthonormal inputs, but for all nineteen coordinates with more than some 2,000 placements of several
    copies. Otherwise, and for isotropic inputs, it is the mean over `samples` Gram matrices, drawn once.

    Args:
        task: which task.
        model: `circuit` (alpha_3, beta_2, gamma_3; closed form for orthonormal inputs) or `subspace` (all nineteen).
        samples: number of Gram matrices (where `is_sampled`).
        seed: of the Gram matrices (where `is_sampled`).

    Raises:
        ArgumentError: an unknown model, or a context length beyond what this form of the loss can do.
        ValueError: jax_enable_x64 is off.
    """
    require_float64("Reduced losses need")
    check_length(task, model)
    pairs = task.context_length
    if is_sampled(task, model):
        return _sampled_loss(task, samples, jax.random.fold_in(split_seed(seed).evaluation, pairs))
    if not has_closed_form(task, model):
        return orthonormal_gram_loss(task)
    if task.copies > 1:
        places, states = number_of_places(task, model), 1 << (task.copies - 1).bit_length()
        return CopiesLoss(
            jnp.asarray(pairs, jnp.float64),
            jnp.asarray(task.copies, jnp.float64),
            jnp.arange(1.0, places + 1),
            jnp.arange(states + 1.0),
            task.query,
        )
    if model == "subspace":
        return SubspaceLoss(mesh_of(pairs), task.query)
    mesh = mesh_of(pairs) if task.query == "uniform" else None
    return CircuitLoss(jnp.asarray(pairs, jnp.float64), task.query, mesh)


def _sampled_loss(task: Task, samples: int, key: PRNGKeyArray) -> GramLoss:
    """The mean over Gram matrices, drawn once."""
    if samples < 1:
        raise ArgumentError("samples", samples, "at least 1")
    if task.copies == 1:
        return GramLoss(sample_gram_matrices(task, key, samples), task.query)
    placements = sample_placements(task, jax.random.fold_in(key, 1), samples)
    if task.inputs == "orthonormal":
        return gram_loss_of_copies(task, placements)
    return GramLoss(with_copies(sample_gram_matrices(task, key, samples), placements), task.query, placements.query)
