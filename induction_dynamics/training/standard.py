"""Training of the standard transformer by the same engine, with its progress measures and head scores as it goes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from induction_dynamics.errors import ArgumentError, whole_number
from induction_dynamics.heads import KINDS, sought_keys
from induction_dynamics.task import split_seed
from induction_dynamics.token_task import TokenTask, sample_tokens
from induction_dynamics.training.engine import Run, carry_out, first_state, side_by_side
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.saving import Checkpoints, Store
from induction_dynamics.training.settings import DTYPES, MOST_STEPS, check_dtype, check_seed
from induction_dynamics.training.standard_steps import Examination, StandardInputs, StandardRecipe, StandardRecords
from induction_dynamics.transformer.progress import ProgressMeasures, summed
from induction_dynamics.transformer.standard import (
    Architecture,
    StandardWeights,
    initial_weights,
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

    def recipe(self, several: bool = False) -> StandardRecipe:
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
