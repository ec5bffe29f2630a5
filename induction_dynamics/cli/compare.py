"""`induction-dynamics compare`: the trained full model laid over the reduced flow."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.compare_tables import show_comparison
from induction_dynamics.cli.compile_cache import keep_programs
from induction_dynamics.cli.computing import enough_memory, intervention, make_point, make_task, use_device
from induction_dynamics.cli.document import as_csv, as_json, build, configuration
from induction_dynamics.cli.folder import CONFIG, claimed, pictures, text, write_all
from induction_dynamics.cli.options import CompareOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.progress import progress
from induction_dynamics.cli.values import visible

if TYPE_CHECKING:
    from induction_dynamics.training.comparison import Comparison

FILES = ("compare.json", "deviations.csv", "curves.csv", "comparison.png", "comparison.svg")


def run(options: CompareOptions) -> None:
    """Run both models for every seed, print how far they are apart, and write the folder if one is given.

    Raises:
        Refusal: the folder is refused; nothing was computed or written.
        ArgumentError: a value that the task or a model does not take.
    """
    from induction_dynamics.training.comparison import compare

    task = make_task(options.context_length, options.task)
    device_kind = use_device(options.answer.device)
    keep_programs()
    config = configuration(options, device_kind)
    with claimed(options.output, config, FILES) if options.output else nullcontext() as folder:
        with progress(options.answer.quiet) as on_progress, enough_memory():
            comparison = compare(
                task,
                seeds=options.seeds,
                horizon=options.horizon,
                batch_size=options.run.batch_size,
                step=options.run.step,
                samples=options.run.samples,
                accuracy=options.run.accuracy,
                **intervention(options.intervention),
                on_progress=on_progress,
            )
        document = _document(comparison, options, config)
        if folder is not None:
            write_all(folder, _writers(comparison, document))
    if options.answer.json:
        sys.stdout.write(as_json(document))
        return
    show_comparison(document, quiet=options.answer.quiet)
    if options.output and not options.answer.quiet:
        print(f"\nWritten to {visible(options.output)}")


def _document(comparison: "Comparison", options: CompareOptions, config: dict[str, Any]) -> dict[str, Any]:
    rows = [dataclasses.asdict(deviation) for deviation in comparison.largest_deviations()]
    more = {"emergence": _emergence(comparison, options), "curves": _curves(comparison)}
    return build("compare", config, rows, notes=_notes(comparison), more=more)


def _emergence(comparison: "Comparison", options: CompareOptions) -> list[dict[str, Any]]:
    """Emergence times of every run, in the rows that the other commands answer with."""
    from induction_dynamics.dynamics.emergence import emergence_times
    from induction_dynamics.scaling.points import Row

    runs: dict[Any, Any] = {}
    more = intervention(options.intervention)
    for model, trajectories in (("subspace", comparison.reduced), ("full", comparison.trained)):
        for seed, trajectory in zip(comparison.seeds, trajectories, strict=True):
            # where nothing is random, the points of all seeds are one
            point = make_point(comparison.task, model, options.horizon, options.run, seed, **more)
            runs.setdefault(point, trajectory)
    rows = [row for point, run in runs.items() for row in Row.of(point, emergence_times(run))]
    return [dataclasses.asdict(row) for row in rows]


def _curves(comparison: "Comparison") -> dict[str, Any]:
    """A list over the times for each measure: the columns of curves.csv."""
    columns: dict[str, Any] = {"time": comparison.time.tolist(), "time_unit": "flow", "measures": {}}
    for row in comparison.curves():
        measure = columns["measures"].setdefault(row["measure"], {})
        for name, value in row.items():
            if name not in ("time", "time_unit", "measure"):
                measure.setdefault(name, []).append(value)
    return columns


def _notes(comparison: "Comparison") -> list[str]:
    from induction_dynamics.dynamics.trajectory import OUTCOMES

    few = ["One seed gives no standard error; --seeds takes several."] if len(comparison.seeds) == 1 else []
    early = [
        f"The {name} run of seed {seed} ended at t = {run.time[-1]:g}: {OUTCOMES[run.outcome]}."
        for name, runs in (("reduced", comparison.reduced), ("trained", comparison.trained))
        for seed, run in zip(comparison.seeds, runs, strict=True)
        if run.outcome != "horizon_reached"
    ]
    end = [f"The comparison ends with the shortest run, at t = {comparison.time[-1]:g}."] if early else []
    return few + early + end


def _writers(comparison: "Comparison", document: Mapping[str, Any]) -> dict[str, Callable[[Path], object]]:
    from induction_dynamics.plotting.comparison import plot_comparison

    return {
        CONFIG: text(as_json(document["config"])),
        "compare.json": text(as_json(document)),
        "deviations.csv": text(as_csv(document["rows"])),
        "curves.csv": text(as_csv(comparison.curves())),
        **pictures("comparison", plot_comparison(comparison)),
    }


COMMAND = Command(
    name="compare",
    summary="the trained full model beside the reduced flow, with residual",
    description="""\
Follows the gradient flow of all 19 coordinates and trains the full model by
gradient descent from zero, for each seed, on one time axis; prints emergence
times of both and, for every coordinate and the loss, where the trained model
is furthest from the flow: the residual (trained minus reduced, mean over the
seeds) with its standard error.

N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time:
for gradient descent, learning rate x steps / D. With --output writes
compare.json, deviations.csv, curves.csv, config.json and comparison.png and
.svg to a folder. On isotropic inputs the reduced loss is sampled anew for each
seed.

Example:

  induction-dynamics compare --context-length 4 --query uniform --seeds 0 1 2""",
    options=CompareOptions,
    run=run,
)
