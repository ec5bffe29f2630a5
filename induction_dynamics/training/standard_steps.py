"""A step of training of a standard transformer, and what it records: pure functions (see `engine`)."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from induction_dynamics.heads import KINDS
from induction_dynamics.token_task import TokenSequences, TokenTask, sample_tokens
from induction_dynamics.training.engine import State
from induction_dynamics.training.optimizers import Optimizer, mixing_dtypes, transformation
from induction_dynamics.transformer.progress import chance_spread, progress_measures
from induction_dynamics.transformer.standard import StandardWeights, standard_forward


class Examination(NamedTuple):
    """What the model is examined by as it trains: sequences, and how their attention is scored.

    Args:
        sequences: of the evaluation batch.
        functionals: of each kind of score, what attention is multiplied with and summed to have it.
        chance: of each kind, what uniform attention scores.
    """

    sequences: TokenSequences
    functionals: Float[Array, "kinds batch length length"]
    chance: Float[Array, " kinds"]


class StandardInputs(NamedTuple):
    """What a step reads and never changes.

    Args:
        data: key of the data; step s draws from it folded with s.
        learning_rate: eta.
        last: number of the run's last step, of which everything is recorded.
        fixed: the weights that are not trained.
        examination: of the model.
    """

    data: PRNGKeyArray
    learning_rate: Float[Array, ""]
    last: Int[Array, ""]
    fixed: PyTree[Array]
    examination: Examination


class StandardRecords(NamedTuple):
    """What is recorded before each step; all but the first two now and then only, NaN elsewhere."""

    loss: Float[Array | np.ndarray, "*seeds step"]
    accuracy: Float[Array | np.ndarray, "*seeds step"]
    evaluation_loss: Float[Array | np.ndarray, "*seeds step"]
    evaluation_accuracy: Float[Array | np.ndarray, "*seeds step"]
    alpha_3: Float[Array | np.ndarray, "*seeds step two layers heads"]
    beta_2: Float[Array | np.ndarray, "*seeds step two layers heads layers heads"]
    gamma_3: Float[Array | np.ndarray, "*seeds step two layers heads"]
    head_scores: Float[Array | np.ndarray, "*seeds step kinds layers heads"]


@dataclasses.dataclass(frozen=True)
class StandardRecipe:
    """All of a training that its compiled program depends on; see `StandardSettings`.

    Several seeds take their steps one after the other, so that each run is that of its seed alone to the last bit.
    """

    task: TokenTask
    scaled: bool
    batch_size: int
    optimizer: Optimizer
    steps: int
    record_every: int
    several: bool

    one_by_one = True  # its products of many small matrices take twice as long on a CPU when those of all seeds are one
    rare = StandardRecords._fields[2:]

    @property
    def axes(self) -> StandardInputs:
        """Of the inputs, which have an axis for the seeds."""
        return StandardInputs(data=0, learning_rate=None, last=None, fixed=0, examination=0)  # pyright: ignore[reportArgumentType]

    def transformation(self, inputs: StandardInputs) -> optax.GradientTransformation:
        """From gradients to updates."""
        return transformation(self.optimizer, inputs.learning_rate, self.steps)

    def blank(self, weights: StandardWeights) -> StandardRecords:
        """A record of nothing."""
        layers, heads = weights.query.shape[:2]
        number, of_heads = (), (layers, heads)
        of_all = (2, *of_heads), (2, *of_heads, *of_heads), (2, *of_heads), (len(KINDS), *of_heads)
        return StandardRecords(*(jnp.full(shape, jnp.nan, weights.query.dtype) for shape in (*4 * [number], *of_all)))

    def one_step(
        self,
        state: State,
        inputs: StandardInputs,
        number: Int[Array, ""],
        optimizer: optax.GradientTransformation,
        mesh: Any,
    ) -> tuple[State, StandardRecords]:
        """Step s draws its batch from the key folded with s."""
        trained = jax.tree.map(jnp.add, state.weights, state.update)
        sequences = sample_tokens(self.task, jax.random.fold_in(inputs.data, number), self.batch_size)

        def loss_of(trained: StandardWeights) -> tuple[Float[Array, ""], Float[Array, ""]]:
            return self._answers(eqx.combine(trained, inputs.fixed), sequences)

        (loss, accuracy), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained)
        update: Any
        with mixing_dtypes():
            update, memory = optimizer.update(gradient, state.memory, trained)  # pyright: ignore[reportArgumentType]

        def look() -> StandardRecords:
            return self._examined(eqx.combine(trained, inputs.fixed), inputs.examination, loss, accuracy)

        def pass_by() -> StandardRecords:
            return self.blank(trained)._replace(loss=loss, accuracy=accuracy)

        due = (number % self.record_every == 0) | (number == inputs.last)
        record = jax.lax.cond(due, look, pass_by)
        return State(trained, update, memory), record

    def _answers(
        self, weights: StandardWeights, sequences: TokenSequences
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        last_only = self.task.counts_last_only
        logits = standard_forward(weights, sequences.tokens, self.scaled, last_only=last_only).logits
        taken = slice(-1, None) if last_only else slice(None)
        return token_loss(logits, sequences.answers[:, taken], sequences.counted[:, taken])

    def _examined(
        self, weights: StandardWeights, by: Examination, loss: Float[Array, ""], accuracy: Float[Array, ""]
    ) -> StandardRecords:
        output = standard_forward(weights, by.sequences.tokens, self.scaled)
        evaluation = token_loss(output.logits, by.sequences.answers, by.sequences.counted)
        scores = jnp.einsum("blhij,sbij->slh", output.attention, by.functionals) - by.chance[:, None, None]
        measures = progress_measures(weights, self.task.second_positions, self.scaled)
        spread = chance_spread(weights, self.task.second_positions, self.scaled)
        alpha_3, beta_2, gamma_3 = (jnp.stack(pair) for pair in zip(measures, spread, strict=True))
        return StandardRecords(loss, accuracy, *evaluation, alpha_3, beta_2, gamma_3, scores)


def token_loss(
    logits: Float[Array, "batch length vocabulary"],
    answers: Int[Array, "batch length"],
    counted: Array,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean cross-entropy of the answers that count, in nats, and the share of them that has the largest logit.

    Args:
        logits: of the next token.
        answers: the next tokens.
        counted: which count, True and False.
    """
    weights = counted.astype(logits.dtype) / jnp.sum(counted).astype(logits.dtype)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, answers)
    right = (jnp.argmax(logits, axis=-1).astype(answers.dtype) == answers) & counted
    return jnp.sum(losses * weights), jnp.sum(right).astype(logits.dtype) / jnp.sum(counted).astype(logits.dtype)
