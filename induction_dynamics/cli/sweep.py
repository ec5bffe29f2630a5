"""`induction-dynamics sweep`: points over any option, kept in a folder, with fitted laws."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from induction_dynamics.cli.compile_cache import keep_programs
from induction_dynamics.cli.computing import enough_memory, use_device
from induction_dynamics.cli.document import as_csv, as_json, build, fit_rows
from induction_dynamics.cli.dry_run import show_dry_run
from induction_dynamics.cli.folder import pictures, text, write_all
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.plans import Plan, as_toml, check_alone, plan_named, plan_of, read_plan
from induction_dynamics.cli.plot import draw
from induction_dynamics.cli.progress import progress
from induction_dynamics.cli.refusal import FAILED, Refusal, folder_named
from induction_dynamics.cli.sweep_options import SweepOptions
from induction_dynamics.cli.tables import show
from induction_dynamics.cli.values import quoted, visible
from induction_dynamics.provenance import versions

if TYPE_CHECKING:
    from induction_dynamics.scaling.study import SweepResult

PLAN = "plan.toml"
PICTURES = ("emergence_times.png", "emergence_times.svg")
FILES = ("rows.csv", "fits.json", PLAN, *PICTURES)


def run(options: SweepOptions) -> None:
    """Compute what the folder lacks of the plan, print what was asked for, and write what the folder holds.

    Raises:
        Refusal: the plan or the folder is refused, and nothing was computed or written; or, with status 1 and after all
            is written and printed, there are points that could not be computed.
        ArgumentError: a value that the task or a model does not take.
    """
    if options.plan is None:
        plan = plan_of(options.points)
    else:
        check_alone(options.points, options.plan)
        plan = read_plan(options.plan)
    with plan_named(options.plan):
        points = [point for grid in plan.grids for point in grid.points()]
    if options.work.dry_run:
        show_dry_run(plan, points, options)
        return
    if options.output is None:
        raise Refusal("--output is missing: it must be the path of a folder.")
    if options.answer.device != "cpu" and (options.work.workers or 1) > 1:
        raise Refusal(f"--workers must be 1 with --device {options.answer.device}, which one process has for itself.")
    check_folder(options.output)
    from induction_dynamics.scaling.study import run_sweep
    from induction_dynamics.scaling.workers import use_threads

    use_threads(options.work.threads)
    device_kind = use_device(options.answer.device)
    keep_programs()
    workers = 1 if options.answer.device != "cpu" else options.work.workers
    asked = {"measures": plan.measures, "thresholds": plan.thresholds, "loss_fractions": plan.loss_fractions}
    with folder_named(options.output, "--output"), enough_memory():
        try:
            with progress(options.answer.quiet) as on_progress:
                result = run_sweep(
                    points,
                    options.output,
                    **asked,
                    workers=workers,
                    threads=options.work.threads,
                    records=options.work.records,
                    retry_failed=options.work.retry_failed,
                    on_progress=on_progress,
                )
        except KeyboardInterrupt:
            print("All that was finished is kept: the same command goes on from there.", file=sys.stderr)
            raise
        rows = result.rows()
        fits, words, notes = fit_rows(rows)
        notes += _of_others(result)
        notes += _write(options.output, plan, options.plan, len(result.entries))
    config = plan.as_dict() | dataclasses.asdict(options.work) | {"device": options.answer.device}
    del config["dry_run"]
    counts = {"computed": result.computed, "reused": result.reused, "failed": len(result.failed)}
    about = config | {"device_kind": device_kind, "versions": versions()}
    document = build("sweep", about, rows, fits, notes, counts)
    if options.answer.json:
        sys.stdout.write(as_json(document))
    else:
        show(document, words, quiet=options.answer.quiet)
        if not options.answer.quiet:
            print(f"\nPoints: {result.computed} computed, {result.reused} there already")
            print(f"Written to {visible(options.output)}")
    _complain(result)


def check_folder(typed: str) -> None:
    """Refuse a folder with results that no ledger stands behind, lest they be written over.

    Args:
        typed: the path as typed.

    Raises:
        Refusal: see above; or it is a file.
    """
    from induction_dynamics.scaling.ledger import FILE

    path = Path(typed)
    if os.path.exists(path) and not os.path.isdir(path):
        raise Refusal(f"--output must be a folder; got {quoted(typed)}, which is a file.")
    others = [name for name in (*FILES, "config.json") if os.path.exists(path / name)]
    if others and not os.path.exists(path / FILE):
        raise Refusal(
            f"--output must be a new folder or one of this command; got {quoted(typed)}, "
            f"which holds {others[0]} without {FILE}."
        )


def _of_others(result: "SweepResult") -> list[str]:
    """A note on points that other versions or another device have computed."""
    from induction_dynamics.scaling.study import provenance_here

    here = provenance_here()
    others = [
        entry
        for entry in result.entries
        if any(entry.provenance.get(name) != here[name] for name in ("versions", "device"))
    ]
    if not others:
        return []
    return [f"{len(others)} of these points were computed earlier, by other versions or on another device."]


def _write(typed: str, plan: Plan, read: str | None, asked: int) -> list[str]:
    """Write everything that the folder holds, in the forms that people use; return notes."""
    from induction_dynamics.scaling.curves import fit_curves, group
    from induction_dynamics.scaling.ledger import read_ledger

    entries = read_ledger(typed)
    rows = [row for entry in entries for row in entry.rows()]
    curves = group(rows)
    fits, _, _ = fit_curves(curves)
    notes = []
    if len(entries) > asked:
        notes.append(
            f"The folder holds {len(entries)} points, {len(entries) - asked} of them from earlier sweeps: "
            "its files are of all of them."
        )
    writers: dict[str, Callable[[Path], object]] = {
        "rows.csv": text(as_csv(rows)),
        "fits.json": text(as_json(fits)),
    }
    if read is None or Path(read).resolve() != (Path(typed) / PLAN).resolve():
        writers[PLAN] = text(as_toml(plan))
    try:
        writers |= pictures("emergence_times", draw(curves, fits))
    except Refusal as refusal:
        notes.append(f"No picture was drawn; 'induction-dynamics plot' would say: {refusal.sentence}")
        for name in PICTURES:  # of fewer points
            (Path(typed) / name).unlink(missing_ok=True)
    write_all(Path(typed), writers)
    return notes


def _complain(result: "SweepResult") -> None:
    """Say that points could not be computed, which is no answer of a model."""
    lost = [entry for entry in result.entries if entry.lacking]
    if lost:
        raise Refusal(
            f"{len(lost)} of {len(result.entries)} points could not be computed (of the first: {lost[0].reason}); "
            "--retry-failed tries them again.",
            FAILED,
        )


COMMAND = Command(
    name="sweep",
    summary="emergence times over any option, kept in a folder, with laws",
    description="""\
Emergence times of one or more models over many context lengths, and over any
other option of the task, the model and the training; and three laws fitted to
each curve: T = c N^p, T = N^2 (c + d/N) and T = N^2 / (a ln N + b).

N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time:
for gradient descent, learning rate x steps / D; for other optimizers, steps.

Each point is kept in the folder's ledger.sqlite as soon as it is done: a sweep
that was stopped or killed goes on where it was, and one with further values
adds its points to those that are there. 'induction-dynamics status DIR' tells
how far it is; 'export', 'fit' and 'plot' make use of the folder. Writes
rows.csv, fits.json and emergence_times.png and .svg of all that the folder
holds, and plan.toml, which --plan takes. A plan has options by their names, and
further tables [[grid]] if one grid is not enough:

  context_lengths = [4, 8, 16]
  query = ["last", "uniform"]
  [[grid]]
  model = "subspace"
  [[grid]]
  model = "full"
  batch_size = [64, 256]
  seed = [0, 1, 2]

Example:

  induction-dynamics sweep --context-lengths 4 8 16 32 64 --output out/sweep
  induction-dynamics sweep --from 4 --to 4096 --per-decade 3 --model circuit \\
    --query last uniform --output out/circuit
  induction-dynamics sweep --plan plan.toml --dry-run""",
    options=SweepOptions,
    run=run,
)
