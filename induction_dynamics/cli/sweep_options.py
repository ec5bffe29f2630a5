"""The options of `sweep`. Imports nothing that computes.

What a plan says is None here where it is not given, so that nothing that was typed is passed over beside a plan.
"""

import dataclasses
from typing import Annotated

import tyro

from induction_dynamics.cli.options import (
    ACCURACY,
    ANGLE,
    COPIES,
    COUNT,
    DIM,
    FOLDER,
    FRACTION,
    HORIZON,
    LEVEL,
    MEASURE,
    MODELS,
    PAIRS,
    SEED,
    STEP,
    AnswerOptions,
    default,
)
from induction_dynamics.cli.training_kinds import (
    ABOVE_ZERO,
    AT_LEAST_ZERO,
    BELOW_ONE,
    DTYPE,
    HOLDS,
    LEARNING_RATE,
    OPTIMIZER,
    SCHEDULE,
    SEQUENCES,
    SHARED,
    STARTS,
    STEPS,
    WARMUP,
)
from induction_dynamics.cli.values import choice, one, path, several, whole

_PER_DECADE = whole("K", "a whole number of points", 1, 10**4)
_PLAN = path("FILE", "the path of a TOML file")
_WORKERS = whole("K", "a whole number of processes", 1, 1024)
_THREADS = whole("K", "a whole number of threads", 1, 1024)
_RECORDS = whole("K", "a whole number of records", 2, 10**5)


@dataclasses.dataclass(frozen=True)
class SweepTaskOptions:
    """What is learned: N item-label pairs and a query, a sequence of 2N + 1 tokens.

    Args:
        inputs: tokens and positions: orthonormal frames, or isotropic, all independent Gaussian.
        query: the queried item is the last one, or uniform on all N.
        rotation: angles of the rotation M between the positions of an item and its label.
        copies: how often the queried pair stands among the N, at random places; at most the smallest N.
        embedding_dim: D, the width of a token, even; at least 2N + 2 for orthonormal inputs.
    """

    inputs: Annotated[
        tuple[str, ...] | None, several(choice(("orthonormal", "isotropic"), metavar="INPUTS")), default("orthonormal")
    ] = None
    query: Annotated[tuple[str, ...] | None, several(choice(("last", "uniform"), metavar="QUERY")), default("last")] = (
        None
    )
    rotation: Annotated[tuple[float, ...] | None, several(ANGLE), default("90")] = None
    copies: Annotated[tuple[int, ...] | None, several(COPIES), default("1")] = None
    embedding_dim: Annotated[tuple[int, ...] | None, several(DIM), default("2N + 2 orthonormal, 4N isotropic")] = None


@dataclasses.dataclass(frozen=True)
class SweepEmergenceOptions:
    """Which emergence times are asked for.

    Args:
        measures: the coordinates alpha_1 .. alpha_3, beta_1 .. beta_12, gamma_1 .. gamma_4, or loss.
        thresholds: levels at which a coordinate is said to have emerged, above 0.
        loss_fractions: the loss emerges as it falls through these fractions of its start, between 0 and 1.
        horizon: flow time, in units of N^2, at which a run is given up; it stops earlier once all that was asked for
            is beyond its threshold.
    """

    measures: Annotated[tuple[str, ...] | None, several(MEASURE), default("alpha_3 beta_2 gamma_3 loss")] = None
    thresholds: Annotated[tuple[float, ...] | None, several(LEVEL), default("0.5")] = None
    loss_fractions: Annotated[tuple[float, ...] | None, several(FRACTION), default("0.5")] = None
    horizon: Annotated[tuple[float, ...] | None, several(HORIZON), default("12")] = None


@dataclasses.dataclass(frozen=True)
class SweepRunOptions:
    """How each point is run; what does not apply to a model makes no further points of it.

    Args:
        batch_size: sequences per training step (full).
        step: flow time per training step: the learning rate is step x D (full, by gd).
        samples: Gram matrices in the loss (circuit and subspace on isotropic inputs, or with very many placements).
        accuracy: relative error of emergence times that the solver aims at (circuit and subspace).
        seed: seed of all that is random; the same seed gives the same numbers.
    """

    batch_size: Annotated[tuple[int, ...] | None, several(COUNT), default("256")] = None
    step: Annotated[tuple[float, ...] | None, several(STEP), default("0.25")] = None
    samples: Annotated[tuple[int, ...] | None, several(COUNT), default("2048")] = None
    accuracy: Annotated[tuple[float, ...] | None, several(ACCURACY), default("1e-07")] = None
    seed: Annotated[tuple[int, ...] | None, several(SEED), default("0")] = None


@dataclasses.dataclass(frozen=True)
class SweepTrainingOptions:
    """How the full model is trained; what an optimizer does not take makes no further points.

    Start and hold are for reduced flows too.

    Args:
        optimizer: gd is gradient descent, the only one that has flow time; the others are told in steps.
        learning_rate: largest learning rate (all but gd, which need it).
        momentum: of sgd.
        b1: decay of the mean of the gradient (adam, adamw).
        b2: decay of the mean of its square (adam, adamw).
        eps: added to the root of that mean (adam, adamw).
        weight_decay: of the weights (all but gd).
        clip: largest norm of the gradient, to which a larger one is scaled (all but gd).
        schedule: of the learning rate after its warmup (all but gd).
        warmup: steps in which the learning rate rises from 0 (all but gd).
        steps: number after which a run is given up (all but gd, which need it).
        start_scale: scale of random weights at the start.
        start: coordinates at the start: NAME=VALUE, several joined by commas, or none.
        sequences: number of sequences in a fixed set that batches are drawn from; 0 for fresh ones at every step.
        shared_frames: sequences of a batch that share tokens and positions.
        dtype: floating type of the training.
        hold: coordinates held at a value from a time on: NAME[=VALUE][@TIME], several joined by commas, or none.
    """

    optimizer: Annotated[tuple[str, ...] | None, several(OPTIMIZER), default("gd")] = None
    learning_rate: Annotated[tuple[float, ...] | None, several(LEARNING_RATE), default("none")] = None
    momentum: Annotated[tuple[float, ...] | None, several(BELOW_ONE), default("0.9")] = None
    b1: Annotated[tuple[float, ...] | None, several(BELOW_ONE), default("0.9")] = None
    b2: Annotated[tuple[float, ...] | None, several(BELOW_ONE), default("0.999")] = None
    eps: Annotated[tuple[float, ...] | None, several(ABOVE_ZERO), default("1e-08")] = None
    weight_decay: Annotated[tuple[float, ...] | None, several(AT_LEAST_ZERO), default("0, of adamw 0.0001")] = None
    clip: Annotated[tuple[float, ...] | None, several(ABOVE_ZERO), default("none")] = None
    schedule: Annotated[tuple[str, ...] | None, several(SCHEDULE), default("constant")] = None
    warmup: Annotated[tuple[int, ...] | None, several(WARMUP), default("0")] = None
    steps: Annotated[tuple[int, ...] | None, several(STEPS), default("none")] = None
    start_scale: Annotated[tuple[float, ...] | None, several(AT_LEAST_ZERO), default("0")] = None
    start: Annotated[tuple[str, ...] | None, several(STARTS), default("none")] = None
    sequences: Annotated[tuple[int, ...] | None, several(SEQUENCES), default("0")] = None
    shared_frames: Annotated[tuple[int, ...] | None, several(SHARED), default("1")] = None
    dtype: Annotated[tuple[str, ...] | None, several(DTYPE), default("float32")] = None
    hold: Annotated[tuple[str, ...] | None, several(HOLDS), default("none")] = None


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """Which points. All combinations of the values given below; repeated values count once.

    Args:
        context_lengths: numbers N of item-label pairs (2N + 1 tokens each). Either these or a range.
        first: smallest N of a range, which takes all of --from, --to and --per-decade.
        last: largest N of a range.
        per_decade: points per decade of the range, evenly spaced in log N and rounded to whole numbers; both
            ends are included.
        model: one or more of circuit (three coordinates), subspace (all nineteen) and full (trained).
    """

    context_lengths: Annotated[tuple[int, ...] | None, several(PAIRS), default("none")] = None
    first: Annotated[int | None, one(PAIRS), tyro.conf.arg(name="from", help_behavior_hint="(default: none)")] = None
    last: Annotated[int | None, one(PAIRS), tyro.conf.arg(name="to", help_behavior_hint="(default: none)")] = None
    per_decade: Annotated[int | None, one(_PER_DECADE), default("none")] = None
    model: Annotated[tuple[str, ...] | None, several(choice(MODELS, metavar="MODEL")), default("subspace")] = None
    task: SweepTaskOptions = SweepTaskOptions()
    emergence: SweepEmergenceOptions = SweepEmergenceOptions()
    run: SweepRunOptions = SweepRunOptions()
    training: SweepTrainingOptions = SweepTrainingOptions()


@dataclasses.dataclass(frozen=True)
class WorkOptions:
    """How the work is done. None of it but the threads of a training bears on the numbers.

    Args:
        dry_run: print the points and about how long they take; compute and write nothing.
        workers: processes that share the work; by default one for each core if it takes more than a minute.
        threads: threads of each; the last digits of a training depend on their number.
        records: records of each run to keep, with its first and last; 'export --trajectories' gives them.
        retry_failed: compute points again whose runs failed.
    """

    dry_run: bool = False
    workers: Annotated[int | None, one(_WORKERS), default("as many as pay")] = None
    threads: Annotated[int, one(_THREADS)] = 1
    records: Annotated[int, one(_RECORDS)] = 0
    retry_failed: bool = False


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Options of `sweep`.

    Args:
        output: folder of the sweep, new or of an earlier one, whose points are kept. Needed but for --dry-run.
        plan: TOML file that says which points, in the place of the options that do.
    """

    output: Annotated[str | None, one(FOLDER), default("none")] = None
    plan: Annotated[str | None, one(_PLAN), default("none")] = None
    points: PlanOptions = PlanOptions()
    work: WorkOptions = WorkOptions()
    answer: AnswerOptions = AnswerOptions()
