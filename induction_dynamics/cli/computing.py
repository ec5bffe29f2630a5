"""From options to rows: the device, the points, and the sweep over them with its progress."""

import contextlib
import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.compile_cache import keep_programs
from induction_dynamics.cli.options import (
    InterventionOptions,
    Options,
    RunOptions,
    TaskOptions,
    TrainOptions,
    TrainStartOptions,
)
from induction_dynamics.cli.progress import progress
from induction_dynamics.cli.refusal import FAILED, Refusal
from induction_dynamics.errors import ArgumentError

if TYPE_CHECKING:
    from induction_dynamics.dynamics.trajectory import Trajectory
    from induction_dynamics.scaling.points import Point, Row
    from induction_dynamics.task import Task

# A GPU's platform is called cuda or rocm, so jax has to look for it by itself.
_PLATFORMS = {"cpu": "cpu", "gpu": "", "tpu": "tpu,cpu"}


def refuse_faulty_jax() -> None:
    """Refuse the versions of jax that compute wrong numbers; does not import jax.

    Raises:
        Refusal: jax 0.10.* is installed.
    """
    version = importlib.metadata.version("jax")
    if version.split(".")[:2] == ["0", "10"]:
        raise Refusal(
            f"jax {version} computes wrong numbers (jax-ml/jax#39103): install a version that is not 0.10.*, "
            "such as 0.9.2."
        )


def use_device(name: str) -> str:
    """Turn on float64 and compute on a device from here on.

    Args:
        name: `cpu`, `gpu` or `tpu`.

    Returns:
        What the device calls itself.

    Raises:
        Refusal: there is no such device.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    before = getattr(jax.config, "jax_platforms", None)
    jax.config.update("jax_platforms", _PLATFORMS[name])
    # What jax has to say about missing backends is said in one sentence here.
    logger = logging.getLogger("jax")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        devices = jax.devices(name)
    except RuntimeError:
        jax.config.update("jax_platforms", before)
        raise Refusal(f"--device must be one that jax finds on this machine; got '{name}'.") from None
    finally:
        logger.setLevel(level)
    if jax.default_backend() != name:
        jax.config.update("jax_default_device", devices[0])
    return devices[0].device_kind


def make_task(context_length: int, options: TaskOptions) -> "Task":
    """The task at one context length.

    Raises:
        ArgumentError: a value that the task does not take.
    """
    from induction_dynamics.task import Task

    dim = options.embedding_dim or 0
    return Task(context_length, dim, options.inputs, options.query, options.rotation, options.copies)


def make_points(context_lengths: Sequence[int], models: Sequence[str], options: Options) -> "list[Point]":
    """Every model at every context length, checked by `Task`.

    Raises:
        ArgumentError: a value that the task does not take.
    """
    run = options.run
    tasks = [make_task(length, options.task) for length in context_lengths]
    more = intervention(options.intervention)
    if isinstance(options, TrainOptions):
        more |= training(options)
    return [
        make_point(task, model, options.emergence.horizon, run, run.seed, **more) for model in models for task in tasks
    ]


def make_point(task: "Task", model: str, horizon: float, run: RunOptions, seed: int, **more: Any) -> "Point":
    """One run, with those options alone that bear on its model.

    Raises:
        ArgumentError: a value that the model does not take.
    """
    from induction_dynamics.scaling.points import Point

    return Point(task, model, horizon, seed, run.batch_size, run.step, run.samples, run.accuracy, **more)


def intervention(options: InterventionOptions) -> dict[str, Any]:
    """Where a run starts and what is held, as `Point` takes it.

    Raises:
        ArgumentError: a coordinate is named twice.
    """
    from induction_dynamics.dynamics.holds import Hold
    from induction_dynamics.training.starts import Start, coordinates_of

    scale: Any = 0.0
    if isinstance(options, TrainStartOptions) and options.start_scale:
        scale = options.start_scale
        if len(scale) not in (1, 3):
            raise ArgumentError("start_scale", " ".join(f"{x:g}" for x in scale), "one number, or three")
    start = Start(scale, coordinates_of(options.start))
    return {"start": start, "hold": tuple(map(Hold.read, options.hold))}


def training(options: TrainOptions) -> dict[str, Any]:
    """How the full model is trained, as `Point` takes it.

    Raises:
        ArgumentError: an option that the optimizer does not take, or lacks.
    """
    from induction_dynamics.training.optimizers import Optimizer

    given = {name: value for name, value in vars(options.optimizer).items() if name not in ("optimizer", "steps")}
    given["nesterov"] = given["nesterov"] or None
    data = options.data
    return {
        "optimizer": Optimizer(options.optimizer.optimizer, **given),
        "steps": options.optimizer.steps,
        "sequences": data.sequences or None,
        "shared_frames": data.shared_frames,
        "dtype": data.dtype,
    }


def compute(
    points: "Sequence[Point]",
    options: Options,
    on_run: "Callable[[Trajectory], None] | None" = None,
    **more: Any,
) -> "list[Row]":
    """Emergence times of all points, with a progress bar where somebody can see it.

    Args:
        points: what to run.
        options: what is asked of it.
        on_run: called with each run as it is done.
        **more: further arguments of `sweep`.

    Raises:
        ArgumentError: a value that a model does not take.
        Refusal: with status 1, when memory runs out.
    """
    from induction_dynamics.scaling.sweep import sweep

    keep_programs()
    asked = options.emergence
    with progress(options.answer.quiet) as on_progress, enough_memory():
        return sweep(
            points,
            measures=asked.measures,
            thresholds=asked.thresholds,
            loss_fractions=asked.loss_fractions,
            on_progress=on_progress,
            on_run=on_run,
            **more,
        )


@contextlib.contextmanager
def enough_memory() -> Iterator[None]:
    """Say in a sentence that memory has run out.

    Raises:
        Refusal: with status 1, when it does within the block.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # jax reports exhausted memory as a RuntimeError of its own, under one of two names.
        exhausted = any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory"))
        if not isinstance(error, MemoryError) and not exhausted:
            raise
        raise Refusal("There is not enough memory for this run; take smaller values.", FAILED) from None
