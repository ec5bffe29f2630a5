"""Which reduced loss stands for a model on a task."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.circuit import CircuitLoss
from induction_dynamics.reduced.gram import GramLoss, orthonormal_gram_loss
from induction_dynamics.reduced.subspace import SubspaceLoss
from induction_dynamics.task import Task, require_float64, sample_gram_matrices, split_seed

ACTIVE: dict[str, tuple[str, ...]] = {"circuit": CIRCUIT, "subspace": COORDINATES}
"""The reduced models, and the coordinates that move in each; the others are held."""

# Largest N of each form by query: beyond, a run takes hours or more memory than a workstation has.
_LONGEST = {
    "circuit": {"last": None, "uniform": 1 << 20},
    "subspace": {"last": 1 << 12, "uniform": 1 << 7},
    "gram": {"last": 1 << 6, "uniform": 1 << 6},
}


@runtime_checkable
class ReducedLoss(Protocol):
    """A loss written in the pseudo-parameters: a pytree that maps coordinates theta [19] to a number."""

    def __call__(self, coordinates: Float[Array, "19"]) -> Float[Array, ""]:
        """The loss at theta."""
        ...


def has_closed_form(task: Task, model: str) -> bool:
    """Whether the model's loss on this task is a closed form, padded so that tasks of several N go side by side.

    Args:
        task: which task.
        model: `circuit` or `subspace`.
    """
    return task.inputs == "orthonormal" and (model == "circuit" or task.right_angled)


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
    longest = _LONGEST[model if has_closed_form(task, model) else "gram"][task.query]
    if longest is not None and task.context_length > longest:
        form = f"{model}, query {task.query}, {task.inputs} inputs at {task.rotation:g} degrees"
        raise ArgumentError("context_length", task.context_length, f"at most {longest} for {form}")


def reduced_loss(
    task: Task, model: str, *, samples: int = 2048, seed: int = 0, padded_length: int | None = None
) -> ReducedLoss:
    """The population loss of a reduced model.

    Exact for orthonormal inputs. For isotropic inputs it is the mean over `samples` Gram matrices, drawn once.

    Args:
        task: which task.
        model: `circuit` (alpha_3, beta_2, gamma_3; closed form for orthonormal inputs) or `subspace` (all nineteen).
        samples: number of Gram matrices (isotropic inputs only).
        seed: of the Gram matrices (isotropic inputs only).
        padded_length: number of pairs to pad arrays to, by default N.

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
    number = jnp.asarray(pairs, jnp.float64)
    if model == "subspace":
        return SubspaceLoss(number, task.query, padded_length or pairs)
    return CircuitLoss(number, task.query, 1 if task.query == "last" else padded_length or pairs)
