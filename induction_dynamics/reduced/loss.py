"""Which reduced loss stands for a model on a task."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from induction_dynamics.errors import ArgumentError
from induction_dynamics.gram_matrices import sample_gram_matrices
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.circuit import CircuitLoss
from induction_dynamics.reduced.gram import GramLoss, orthonormal_gram_loss
from induction_dynamics.reduced.mesh import mesh_of, places_of
from induction_dynamics.reduced.subspace import SubspaceLoss
from induction_dynamics.task import Task, require_float64, split_seed

ACTIVE: dict[str, tuple[str, ...]] = {"circuit": CIRCUIT, "subspace": COORDINATES}
"""The reduced models, and the coordinates that move in each; the others are held."""

_LONGEST = 1 << 6  # N of a loss that costs N^3: beyond, a run takes hours


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
    """Whether the model's loss on this task is a closed form, on a mesh that lets tasks of several N go side by side.

    Args:
        task: which task.
        model: `circuit` or `subspace`.
    """
    return task.inputs == "orthonormal" and (model == "circuit" or task.right_angled)


def number_of_places(task: Task, model: str) -> int:
    """Number of places that a closed form is evaluated at: tasks that are alike in it go side by side.

    Args:
        task: which task.
        model: `circuit` or `subspace`.
    """
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
    if not has_closed_form(task, model) and task.context_length > _LONGEST:
        form = f"{model}, query {task.query}, {task.inputs} inputs at {task.rotation:g} degrees"
        raise ArgumentError("context_length", task.context_length, f"at most {_LONGEST} for {form}")


def reduced_loss(task: Task, model: str, *, samples: int = 2048, seed: int = 0) -> ReducedLoss:
    """The population loss of a reduced model.

    Exact for orthonormal inputs. For isotropic inputs it is the mean over `samples` Gram matrices, drawn once.

    Args:
        task: which task.
        model: `circuit` (alpha_3, beta_2, gamma_3; closed form for orthonormal inputs) or `subspace` (all nineteen).
        samples: number of Gram matrices (isotropic inputs only).
        seed: of the Gram matrices (isotropic inputs only).

    Raises:
        ArgumentError: an unknown model, or a context length beyond what this form of the loss can do.
        ValueError: jax_enable_x64 is off.
    """
    require_float64("Reduced losses need")
    check_length(task, model)
    pairs = task.context_length
    if task.inputs == "isotropic":
        if samples < 1:
            raise ArgumentError("samples", samples, "at least 1")
        key = jax.random.fold_in(split_seed(seed).evaluation, pairs)
        return GramLoss(sample_gram_matrices(task, key, samples), task.query)
    if not has_closed_form(task, model):
        return orthonormal_gram_loss(task)
    if model == "subspace":
        return SubspaceLoss(mesh_of(pairs), task.query)
    mesh = mesh_of(pairs) if task.query == "uniform" else None
    return CircuitLoss(jnp.asarray(pairs, jnp.float64), task.query, mesh)
