"""The options of every command: names, types, defaults and the words of the help. Imports nothing that computes."""

import dataclasses
import math
from typing import Annotated

import tyro

from induction_dynamics.cli.training_kinds import (
    ABOVE_ZERO,
    AT_LEAST_ZERO,
    BELOW_ONE,
    COORDINATE_VALUE,
    DTYPE,
    HOLD_WORD,
    LEARNING_RATE,
    MOST_STEPS,
    OPTIMIZER,
    SCHEDULE,
    SEQUENCES,
    SHARED,
    STEPS,
    WARMUP,
)
from induction_dynamics.cli.values import Kind, choice, one, path, real, several, whole

LARGEST_CONTEXT_LENGTH = 10**12
REDUCED_MODELS = ("circuit", "subspace")
MODELS = (*REDUCED_MODELS, "full")
MEASURES = (
    *(f"alpha_{index}" for index in range(1, 4)),
    *(f"beta_{index}" for index in range(1, 13)),
    *(f"gamma_{index}" for index in range(1, 5)),
    "loss",
)

PAIRS = whole("N", "a whole number of item-label pairs", 1, LARGEST_CONTEXT_LENGTH)
COPIES = whole("M", "a whole number of copies", 1, LARGEST_CONTEXT_LENGTH)
DIM = whole("D", "an even whole number", 2, 10**13)
COUNT = whole("COUNT", "a whole number", 1, 10**9)
SEED = whole("SEED", "a whole number", 0, 2**32 - 1)
ANGLE = real(
    "DEGREES",
    "a finite angle in degrees, at least 0.06 away from any multiple of 180",
    lambda x: abs(math.sin(math.radians(x))) >= 1e-3,
)
STEP = real("TIME", "a finite flow time above 0, at most 1e6", lambda x: 0 < x <= 1e6)
HORIZON = real("TIME", "a finite flow time in units of N^2, above 0 and at most 1e9", lambda x: 0 < x <= 1e9)
ACCURACY = real("X", "a number from 1e-10 to 0.01", lambda x: 1e-10 <= x <= 1e-2)
LEVEL = real("X", "a finite number above 0", lambda x: x > 0)
FRACTION = real("F", "a number strictly between 0 and 1", lambda x: 0 < x < 1)
_TIME = real("T", "a finite flow time, at least 0 and at most 1e100", lambda x: 0 <= x <= 1e100)
FOLDER = path("DIR", "the path of a folder")
_WEIGHTS = path("FILE", "the path of a file of weights, or of a folder of them")
_NEW_FILE = path("FILE", "the path of a new file")
_START_FILE = path("FILE", "the path of a file of weights")
_EVERY = whole("K", "a whole number of steps", 1, MOST_STEPS)
_KEEP = whole("K", "a whole number of states", 1, 10**6)
_DEVICES = whole("K", "a whole number of devices", 1, 10**6)
_PROCESSES = whole("K", "a whole number of processes", 1, 10**6)
_PROCESS = whole("I", "the number of a process, counted from 0", 0, 10**6)
MEASURE = choice(MEASURES, "one of alpha_1 .. alpha_3, beta_1 .. beta_12, gamma_1 .. gamma_4 or loss", "NAME")
_REDUCED = choice(REDUCED_MODELS, "circuit or subspace ('induction-dynamics train' runs the full model)")


def default(words: str) -> object:
    """What the help says of an option's default, where that is not its value."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {words})")


@dataclasses.dataclass(frozen=True)
class TaskOptions:
    """What is learned: N item-label pairs and a query, a sequence of 2N + 1 tokens.

    Args:
        inputs: tokens and positions: orthonormal frames, or all independent Gaussian.
        query: the queried item is the last one, or uniform on all N.
        rotation: angle of the rotation M between the positions of an item and its label.
        copies: how often the queried pair stands among the N, at random places; at most N.
        embedding_dim: D, the width of a token, even; at least 2N + 2 for orthonormal inputs.
    """

    inputs: Annotated[str, one(choice(("orthonormal", "isotropic")))] = "orthonormal"
    query: Annotated[str, one(choice(("last", "uniform")))] = "last"
    rotation: Annotated[float, one(ANGLE)] = 90.0
    copies: Annotated[int, one(COPIES)] = 1
    embedding_dim: Annotated[int | None, one(DIM), default("2N + 2 orthonormal, 4N isotropic")] = None


@dataclasses.dataclass(frozen=True)
class EmergenceOptions:
    """Which emergence times are asked for. Repeated values count once.

    Args:
        measures: the coordinates alpha_1 .. alpha_3, beta_1 .. beta_12, gamma_1 .. gamma_4, or loss.
        thresholds: levels at which a coordinate is said to have emerged, above 0.
        loss_fractions: the loss emerges as it falls through these fractions of its start, between 0 and 1.
        horizon: flow time, in units of N^2, at which a run is given up; it stops earlier once all that was asked for
            is beyond its threshold.
    """

    measures: Annotated[tuple[str, ...], several(MEASURE)] = ("alpha_3", "beta_2", "gamma_3", "loss")
    thresholds: Annotated[tuple[float, ...], several(LEVEL)] = (0.5,)
    loss_fractions: Annotated[tuple[float, ...], several(FRACTION)] = (0.5,)
    horizon: Annotated[float, one(HORIZON)] = 12.0


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How it is run; what does not apply to a model is recorded and has no effect.

    Args:
        batch_size: sequences per training step (full).
        step: flow time per training step: the learning rate is step x D (full).
        samples: Gram matrices in the loss (circuit and subspace on isotropic inputs, or with very many placements).
        accuracy: relative error of emergence times that the solver aims at (circuit and subspace).
    """

    batch_size: Annotated[int, one(COUNT)] = 256
    step: Annotated[float, one(STEP)] = 0.25
    samples: Annotated[int, one(COUNT)] = 2048
    accuracy: Annotated[float, one(ACCURACY)] = 1e-7


@dataclasses.dataclass(frozen=True)
class SeededRunOptions(RunOptions):
    """How it is run; what does not apply to a model is recorded and has no effect.

    Args:
        seed: seed of all that is random; the same seed gives the same document.
    """

    seed: Annotated[int, one(SEED)] = 0


@dataclasses.dataclass(frozen=True)
class InterventionOptions:
    """Where a run starts, and what is held.

    Args:
        start: coordinates that do not start from 0, such as gamma_3=0.5.
        hold: coordinates that are held from a flow time on, NAME[=VALUE][@TIME]: by default at the value that they
            have then, and from the start on. In steps where there is no flow time.
    """

    start: Annotated[tuple[str, ...], several(COORDINATE_VALUE, repeats=True), default("all 0")] = ()
    hold: Annotated[tuple[str, ...], several(HOLD_WORD, repeats=True), default("none")] = ()


@dataclasses.dataclass(frozen=True)
class TrainStartOptions(InterventionOptions):
    """Where training starts, and what is held.

    Args:
        start_scale: of a random part of the weights, whose entries have the standard deviation SCALE / sqrt(D); one
            for all, or one for each of W1, W2 and W3.
        start_weights: .npz or .safetensors file of the weights to start from, in the place of the other two.
    """

    start_scale: Annotated[tuple[float, ...], several(AT_LEAST_ZERO, repeats=True), default("0")] = ()
    start_weights: Annotated[str | None, one(_START_FILE), default("none")] = None


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """How gradients become updates. All but gd, gradient descent, have no flow time: their times are steps.

    Args:
        optimizer: gd takes none of the options that follow, and the others --learning-rate and --steps at least.
        learning_rate: the largest of the run, of the full weights.
        steps: after which the run is given up; --horizon is of gd.
        momentum: of sgd.
        nesterov: momentum that looks ahead (sgd).
        b1: of adam and adamw, as are the next two.
        b2: decay of the mean of squares.
        eps: added to its root.
        weight_decay: times the weights: decoupled for adamw, else added to the gradient.
        clip: largest norm of the gradient, to which a larger one is scaled.
        schedule: of the learning rate after the warmup; cosine and linear fall to 0 at the run's end.
        warmup: steps in which the learning rate rises from 0.
    """

    optimizer: Annotated[str, one(OPTIMIZER)] = "gd"
    learning_rate: Annotated[float | None, one(LEARNING_RATE), default("none")] = None
    steps: Annotated[int | None, one(STEPS), default("none")] = None
    momentum: Annotated[float | None, one(BELOW_ONE), default("0.9")] = None
    nesterov: bool = False
    b1: Annotated[float | None, one(BELOW_ONE), default("0.9")] = None
    b2: Annotated[float | None, one(BELOW_ONE), default("0.999")] = None
    eps: Annotated[float | None, one(ABOVE_ZERO), default("1e-08")] = None
    weight_decay: Annotated[float | None, one(AT_LEAST_ZERO), default("0, adamw: 0.0001")] = None
    clip: Annotated[float | None, one(ABOVE_ZERO), default("none")] = None
    schedule: Annotated[str | None, one(SCHEDULE), default("constant")] = None
    warmup: Annotated[int | None, one(WARMUP), default("0")] = None


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """What each step sees.

    Args:
        sequences: size of a fixed set, of which each step takes --batch-size distinct ones; 0 for fresh ones.
        shared_frames: sequences that share one random frame of orthonormal inputs, rows permuted and signed: faster,
            and noisier.
        dtype: of weights and data.
        record_every: steps between two records; emergence is found by straight lines between them.
    """

    sequences: Annotated[int, one(SEQUENCES)] = 0
    shared_frames: Annotated[int, one(SHARED)] = 1
    dtype: Annotated[str, one(DTYPE)] = "float32"
    record_every: Annotated[int, one(_EVERY)] = 1


@dataclasses.dataclass(frozen=True)
class CheckpointOptions:
    """What is kept of the run, and going on after an interruption.

    Args:
        output: folder for train.json, rows.csv, records.npz, weights.npz, config.json and a figure.
        checkpoint_every: steps between two savings of the state, in --output; it takes the extra 'checkpoints'.
        keep: how many of the latest states are kept.
        resume: go on from the latest state in --output, to the same numbers.
    """

    output: Annotated[str | None, one(FOLDER), default("none")] = None
    checkpoint_every: Annotated[int | None, one(_EVERY), default("never")] = None
    keep: Annotated[int, one(_KEEP)] = 2
    resume: bool = False


def _address(word: str) -> str:
    host, colon, port = word.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise ValueError(_ADDRESS.allowed)
    return word


_ADDRESS = Kind("HOST:PORT", _address, "an address, HOST:PORT")


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """Several devices, among which each batch is shared: the same run to rounding.

    Args:
        devices: how many.
        coordinator: address of process 0, where the same command runs in several processes, alike but for --process.
        processes: how many they are.
        process: which of them this one is; process 0 answers and writes.
    """

    devices: Annotated[int | None, one(_DEVICES), default("1, or all that the processes have")] = None
    coordinator: Annotated[str | None, one(_ADDRESS), default("none")] = None
    processes: Annotated[int | None, one(_PROCESSES), default("none")] = None
    process: Annotated[int | None, one(_PROCESS), default("none")] = None


@dataclasses.dataclass(frozen=True)
class AnswerOptions:
    """Where it is computed, and how it is answered.

    Args:
        device: where to compute.
        json: print one JSON document to standard output, and nothing else there.
        quiet: no progress and no remarks, only the result.
    """

    device: Annotated[str, one(choice(("cpu", "gpu", "tpu")))] = "cpu"
    json: bool = False
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class SimulateOptions:
    """Options of `simulate`.

    Args:
        context_length: N, the number of item-label pairs; the sequence has 2N + 1 tokens.
        model: three coordinates (circuit) or all nineteen (subspace).
    """

    context_length: Annotated[int, one(PAIRS)]
    model: Annotated[str, one(_REDUCED)] = "subspace"
    task: TaskOptions = TaskOptions()
    emergence: EmergenceOptions = EmergenceOptions()
    intervention: InterventionOptions = InterventionOptions()
    run: SeededRunOptions = SeededRunOptions()
    answer: AnswerOptions = AnswerOptions()


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Options of `train`.

    Args:
        context_length: N, the number of item-label pairs; the sequence has 2N + 1 tokens.
        model: only the full model is trained.
        save_weights: new .npz or .safetensors file for the weights of the run's last record.
    """

    context_length: Annotated[int, one(PAIRS)]
    model: Annotated[str, one(choice(("full",), "full ('induction-dynamics simulate' runs the others)"))] = "full"
    save_weights: Annotated[str | None, one(_NEW_FILE), default("none")] = None
    task: TaskOptions = TaskOptions()
    emergence: EmergenceOptions = EmergenceOptions()
    run: SeededRunOptions = SeededRunOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    data: DataOptions = DataOptions()
    intervention: TrainStartOptions = TrainStartOptions()
    checkpoints: CheckpointOptions = CheckpointOptions()
    devices: DeviceOptions = DeviceOptions()
    answer: AnswerOptions = AnswerOptions()


@dataclasses.dataclass(frozen=True)
class ProjectOptions:
    """Options of `project`.

    Args:
        files: .npz or .safetensors files with arrays W1 (2D x 2D), W2 (4D x 4D) and W3 (D x 8D): one, several in
            order, or a folder with such files, taken in the order of the numbers in their names.
        rotation: angle of the rotation M of the task that the weights were trained on; a file that states its own
            takes no other.
        times: flow time of each file, increasing; without it files are counted from 0.
        thresholds: levels at which a coordinate of a series is said to have emerged, above 0.
        output: folder for project.json, rows.csv, config.json and, of a series, a figure.
    """

    files: Annotated[
        tuple[str, ...],
        several(_WEIGHTS, repeats=True),
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FILE [FILE ...]", help_behavior_hint="(required)"),
    ]
    rotation: Annotated[float | None, one(ANGLE), default("the file's own, else 90")] = None
    times: Annotated[tuple[float, ...], several(_TIME, repeats=True), default("none")] = ()
    thresholds: Annotated[tuple[float, ...], several(LEVEL)] = (0.5,)
    output: Annotated[str | None, one(FOLDER), default("none")] = None
    answer: AnswerOptions = AnswerOptions()


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Options of `compare`.

    Args:
        context_length: N, the number of item-label pairs; the sequence has 2N + 1 tokens.
        seeds: one or more, a pair of runs for each; repeated values count once. Two or more give a standard error.
        horizon: flow time, in units of N^2, to which all run.
        output: folder for compare.json, deviations.csv, curves.csv, config.json and a figure.
    """

    context_length: Annotated[int, one(PAIRS)]
    seeds: Annotated[tuple[int, ...], several(SEED)] = (0, 1, 2)
    horizon: Annotated[float, one(HORIZON)] = 5.0
    output: Annotated[str | None, one(FOLDER), default("none")] = None
    task: TaskOptions = TaskOptions()
    run: RunOptions = RunOptions()
    intervention: InterventionOptions = InterventionOptions()
    answer: AnswerOptions = AnswerOptions()


Options = SimulateOptions | TrainOptions
AnyOptions = Options | ProjectOptions | CompareOptions
