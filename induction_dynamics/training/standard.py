"""Training of the standard transformer by the same engine, with its progress measures and head scores as it goes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from induction_dynamics.errors import ArgumentError, whole_number
from induction_dynamics.heads import KINDS, sought_keys
from induction_dynamics.task import split_seed
from induction_dynamics.token_task import TokenSequences, TokenTask, sample_tokens
from induction_dynamics.training.engine import Run, State, carry_out, first_state, side_by_side
from induction_dynamics.training.optimizers import Optimizer, mixing_dtypes, transformation
from induction_dynamics.training.saving import Checkpoints, Store
from induction_dynamics.training.settings import DTYPES, MOST_STEPS, check_dtype, check_seed
from induction_dynamics.transformer.progress import ProgressMeasures, chance_spread, progress_measures, summed
from induction_dynamics.transformer.standard import (
    Architecture,
    StandardWeights,
    initial_weights,
    standard_forward,
    trained_part,
)

_LARGEST_BATCH = 2**20


@dataclasses.dataclass(frozen=True)
class StandardRun:
    """A training of a standard transformer: R records, S layers of H heads.

    Args:
        steps: at which a record was made, before that step's update: every so many, and the last.
        progress: each with a leading axis for the records.
        spread: their standard deviations at random weights of the same size (`chance_spread`).
        head_scores: of `heads.KINDS`, above chance, on the evaluation batch: `previous_token` at second positions,
            `duplicate_token` and `induction` where answers count.
        loss: on the evaluation batch, in nats a token.
        accuracy: likewise, from 0 to 1.
        batch_loss: on each step's own batch, before its update.
        batch_accuracy: likewise.
        outcome: `horizon_reached`, or `nonfinite` if anything overflowed: records then end before that.
        weights: of the last step; None if they overflowed.

    Example:
        >>> import induction_dynamics as idyn
        >>> task = idyn.TokenTask(context_length=2, vocabulary=4)
        >>> architecture = idyn.Architecture(vocabulary=4, length=task.sequence_length, embedding_dim=16)
        >>> run = idyn.train_standard(architecture, task, steps=20, batch_size=16, evaluation=64)
        >>> run.steps.tolist(), len(run.batch_loss), run.progress.alpha_3.shape
        ([0, 10, 20], 21, (3, 2, 1))
    """

    steps: Int[np.ndarray, " records"]
    progress: ProgressMeasures
    spread: ProgressMeasures
    head_scores: dict[str, Float[np.ndarray, "records layers heads"]]
    loss: Float[np.ndarray, " records"]
    accuracy: Float[np.ndarray, " records"]
    batch_loss: Float[np.ndarray, " steps"]
    batch_accuracy: Float[np.ndarray, " steps"]
    outcome: str
    weights: StandardWeights | None

    @property
    def summed(self) -> Float[np.ndarray, "records 3"]:
        """The circuit's three, in the order of `CIRCUIT`, summed over heads (see `transformer.progress.summed`)."""
        return np.asarray(summed(self.progress))

    @property
    def deviations(self) -> Float[np.ndarray, "records 3"]:
        """The same in standard deviations of chance; 0 for beta_2~ of a single layer, which has none."""
        spread = np.asarray(summed(self.spread, squares=True))
        return self.summed / np.where(spread > 0, spread, 1.0)


@dataclasses.dataclass(frozen=True)
class StandardSettings:
    """A training of a standard transformer but for its seed; the arguments are those of `train_standard`.

    Raises:
        ArgumentError: a value out of range, or a task that does not fit the architecture.
    """

    architecture: Architecture
    task: TokenTask
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer("adam", learning_rate=1e-3))
    steps: int = 1000
    batch_size: int = 128
    scale: float = 0.5
    record_every: int = 10
    evaluation: int = 256
    dtype: str = "float32"

    def __post_init__(self):
        if not isinstance(self.architecture, Architecture):
            raise ArgumentError("architecture", self.architecture, "an Architecture")
        if not isinstance(self.task, TokenTask):
            raise ArgumentError("task", self.task, "a TokenTask")
        if not isinstance(self.optimizer, Optimizer) or self.optimizer.has_flow_time:
            name = self.optimizer.name if isinstance(self.optimizer, Optimizer) else self.optimizer
            raise ArgumentError("optimizer", name, "an Optimizer with a learning rate: sgd, adam or adamw")
        if self.architecture.vocabulary < self.task.vocabulary:
            allowed = f"at least that of the task, {self.task.vocabulary}"
            raise ArgumentError("vocabulary", self.architecture.vocabulary, allowed)
        if self.architecture.length < self.task.sequence_length:
            allowed = f"at least the task's number of tokens, {self.task.sequence_length}"
            raise ArgumentError("length", self.architecture.length, allowed)
        most = {"steps": MOST_STEPS, "batch_size": _LARGEST_BATCH, "record_every": MOST_STEPS}
        for name, largest in (most | {"evaluation": _LARGEST_BATCH}).items():
            number = whole_number(getattr(self, name))
            if number is None or not 1 <= number <= largest:
                raise ArgumentError(name, getattr(self, name), f"a whole number from 1 to {largest}")
            object.__setattr__(self, name, number)
        if self.optimizer.warmup and self.optimizer.warmup >= self.steps:
            allowed = f"less than the number of steps, which is {self.steps}"
            raise ArgumentError("warmup", self.optimizer.warmup, allowed)
        if self.dtype not in DTYPES:
            raise ArgumentError("dtype", self.dtype, f"one of {', '.join(DTYPES)}")

    @property
    def most(self) -> int:
        """Records of a run that goes on to its end: one at its start, and one after each step."""
        return self.steps + 1

    def recipe(self, several: bool = False) -> "StandardRecipe":
        """What the compiled program depends on.

        Args:
            several: whether several seeds run side by side.
        """
        scheduled = self.optimizer.schedule != "constant"
        return StandardRecipe(
            task=self.task,
            scaled=self.architecture.scaled,
            batch_size=self.batch_size,
            optimizer=dataclasses.replace(self.optimizer, learning_rate=1.0),
            steps=self.steps if scheduled else 0,
            record_every=self.record_every,
            several=several,
        )


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


def train_standard(
    architecture: Architecture,
    task: TokenTask,
    *,
    seed: int = 0,
    checkpoints: Checkpoints | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
    **options: Any,
) -> StandardRun:
    r"""Train a standard transformer on fresh sequences at each step, by the cross-entropy of the next token.

    Args:
        architecture: sizes, and which embeddings are learned.
        task: what is learned.
        seed: of all that is random: the start, the data and the evaluation batch.
        checkpoints: where the state is saved now and then, to go on after an interruption.
        on_progress: called from the host now and then with steps done, steps at most, and the last loss.
        **options: `optimizer` (an `Optimizer`; by default adam with learning rate 0.001), `steps` (1000), `batch_size`
            (B, 128), `scale` (of the random start, see `initial_weights`; 0.5), `record_every` (steps between two
            records; 10), `evaluation` (sequences of the evaluation batch; 256), `dtype` (`float32` or `float64`).

    Returns:
        The run.

    Raises:
        ArgumentError: a value out of range, or a task that does not fit the architecture.
        ValueError: float64 is asked for and jax_enable_x64 is off.

    Example:
        >>> import induction_dynamics as idyn
        >>> task = idyn.TokenTask(context_length=2, vocabulary=4)
        >>> architecture = idyn.Architecture(vocabulary=4, length=task.sequence_length, embedding_dim=16)
        >>> run = idyn.train_standard(architecture, task, steps=20, batch_size=16, evaluation=64)
        >>> run.steps.tolist(), run.summed.shape, run.head_scores["induction"].shape, run.outcome
        ([0, 10, 20], (3, 3), (3, 2, 1), 'horizon_reached')
    """
    return train_standard_seeds(
        architecture, task, (seed,), checkpoints=checkpoints, on_progress=on_progress, **options
    )[0]


def train_standard_seeds(
    architecture: Architecture,
    task: TokenTask,
    seeds: Sequence[int],
    *,
    checkpoints: Checkpoints | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
    **options: Any,
) -> list[StandardRun]:
    """`train_standard` for several seeds, in one program.

    Args:
        architecture: see `train_standard`, as for all that follow.
        task: see there.
        seeds: one for each run.
        checkpoints: of all seeds together.
        on_progress: told the mean of the seeds' losses.
        **options: see there.

    Returns:
        The runs, in the order of the seeds; each is that of `train_standard` with its seed.

    Raises:
        ArgumentError: no seeds; or see `train_standard`.
        ValueError: see there.

    Example:
        >>> import induction_dynamics as idyn
        >>> task = idyn.TokenTask(context_length=2, vocabulary=4)
        >>> architecture = idyn.Architecture(vocabulary=4, length=task.sequence_length, embedding_dim=16)
        >>> runs = idyn.train_standard_seeds(architecture, task, (0, 1), steps=20, batch_size=16, evaluation=64)
        >>> [run.loss.shape for run in runs]
        [(3,), (3,)]
    """
    if not len(seeds):
        raise ArgumentError("seeds", tuple(seeds), "at least one seed")
    seeds = [check_seed(seed) for seed in seeds]
    settings = StandardSettings(architecture, task, **options)
    check_dtype(settings.dtype)
    several = len(seeds) > 1
    dtype = jnp.dtype(settings.dtype)
    recipe = settings.recipe(several)
    streams = [split_seed(seed) for seed in seeds]
    parts = [
        trained_part(architecture, initial_weights(architecture, stream.initialisation, settings.scale, dtype))
        for stream in streams
    ]
    examinations = [_examination(task, stream.evaluation, settings.evaluation, dtype) for stream in streams]
    inputs = StandardInputs(
        data=side_by_side([stream.data for stream in streams], several),
        learning_rate=jnp.asarray(settings.optimizer.learning_rate, dtype),
        last=jnp.asarray(settings.steps, jnp.int32),
        fixed=side_by_side([fixed for _, fixed in parts], several),
        examination=side_by_side(examinations, several),
    )
    optimizer = recipe.transformation(inputs)
    state = side_by_side([first_state(trained, optimizer) for trained, _ in parts], several)
    run = _Run(settings, recipe, len(seeds), state)
    store = None if checkpoints is None else Store(checkpoints, settings, tuple(seeds), (), StandardRecords)
    carry_out(run, recipe, inputs, store, None, on_progress)
    return [_standard_run(run, seed, fixed) for seed, (_, fixed) in enumerate(parts)]


class _Run(Run):
    """A training whose last step is recorded, whatever its number."""

    def recorded(self, first: int, last: int) -> np.ndarray:
        return super().recorded(first, last) | (np.arange(first, last) == self.settings.most - 1)


def _examination(task: TokenTask, key: PRNGKeyArray, number: int, dtype: jnp.dtype) -> Examination:
    sequences = sample_tokens(task, key, number)
    jax.block_until_ready(sequences)  # so that too little memory is told as such
    counted, second = np.asarray(sequences.counted), np.zeros(task.sequence_length, bool)
    second[list(task.second_positions)] = True
    positions = {"previous_token": second, "duplicate_token": counted, "induction": counted}
    found = sought_keys(np.asarray(sequences.tokens), positions=positions)
    functionals = jnp.stack([jnp.asarray(found[kind].factors, dtype) for kind in KINDS])
    chance = jnp.asarray([found[kind].chance for kind in KINDS], dtype)
    return Examination(sequences, functionals, chance)


def _standard_run(run: Run, seed: int, fixed: PyTree[Array]) -> StandardRun:
    """A seed's part of a run, up to the first record that is not finite."""
    ended = run.end_of(seed)
    columns = zip(*run.records, strict=True)
    parts = [np.concatenate([np.asarray(part[seed]) for part in column])[: ended.done] for column in columns]
    records = dict(zip(StandardRecords._fields, parts, strict=True))
    due = run.recorded(0, ended.done)
    good = np.ones(ended.done, bool)
    for name, values in records.items():
        finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        good &= finite | ~due if name in StandardRecipe.rare else finite
    last = ended.done if good.all() else int(np.argmin(good))
    steps = np.flatnonzero(due[:last])
    pairs = [records[name][steps] for name in ProgressMeasures._fields]
    return StandardRun(
        steps=steps,
        progress=ProgressMeasures(*(pair[:, 0] for pair in pairs)),
        spread=ProgressMeasures(*(pair[:, 1] for pair in pairs)),
        head_scores={kind: records["head_scores"][steps][:, place] for place, kind in enumerate(KINDS)},
        loss=records["evaluation_loss"][steps],
        accuracy=records["evaluation_accuracy"][steps],
        batch_loss=records["loss"][:last],
        batch_accuracy=records["accuracy"][:last],
        outcome=ended.outcome,
        weights=None if ended.weights is None else eqx.combine(ended.weights, fixed),
    )
