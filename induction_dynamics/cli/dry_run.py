"""What a sweep would do: its points, those that are there already, and about how long the others take."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.document import SCHEMA_VERSION, as_json
from induction_dynamics.cli.refusal import folder_named
from induction_dynamics.cli.sweep_options import SweepOptions
from induction_dynamics.cli.tables import lengths, new_console, new_table, show_table

if TYPE_CHECKING:
    from induction_dynamics.cli.plans import Plan
    from induction_dynamics.scaling.points import Point


def show_dry_run(plan: "Plan", points: "Sequence[Point]", options: SweepOptions) -> None:
    """Print it; nothing is computed or written.

    Raises:
        Refusal: the folder holds a ledger that cannot be read.
        ArgumentError: a measure or a threshold that is none.
    """
    from induction_dynamics.dynamics.emergence import crossing_targets
    from induction_dynamics.scaling.keys import configuration_of, point_order
    from induction_dynamics.scaling.ledger import FILE, read_ledger, read_numbers_of_records
    from induction_dynamics.scaling.plan import estimate, seconds_of
    from induction_dynamics.scaling.study import is_there
    from induction_dynamics.training.pace import duration

    targets = crossing_targets(plan.measures, plan.thresholds, plan.loss_fractions)
    points = sorted(dict.fromkeys(points), key=point_order)
    there: set[Point] = set()
    if options.output is not None and os.path.exists(Path(options.output) / FILE):
        with folder_named(options.output, "--output"):
            entries, kept = read_ledger(options.output), read_numbers_of_records(options.output)
        asked = targets, options.work.records, kept, options.work.retry_failed
        there = {entry.point for entry in entries if is_there(entry, *asked)}
    cost = estimate([point for point in points if point not in there], targets)
    if options.answer.json:
        document = {
            "schema_version": SCHEMA_VERSION,
            "command": "sweep",
            "dry_run": True,
            "config": plan.as_dict(),
            "points": [configuration_of(point) | {"done": point in there} for point in points],
            "estimate": {"seconds_on_one_core": cost.seconds, "seconds_of_compiling": cost.compiling},
        }
        sys.stdout.write(as_json(document))
        return
    table = new_table(("model", "inputs", "query", "points", "N", "about", "done"), ("points", "about", "done"))
    for group in _groups(points).values():
        first, missing = group[0], [point for point in group if point not in there]
        words = lengths([point.task.context_length for point in group])
        about = duration(sum((seconds_of(point, targets) for point in missing), 0.0))
        done = str(len(group) - len(missing))
        model = first.model if first.optimizer is None else f"{first.model}, {first.optimizer.name}"
        table.add_row(model, first.task.inputs, first.task.query, str(len(group)), words, about, done)
    show_table(table, new_console())
    if not options.answer.quiet:
        left = len(points) - len(there & set(points))
        print(
            f"\n{len(points)} points, {left} of them to be computed: about {duration(cost.seconds)} on one core,\n"
            f"and up to {duration(cost.compiling)} of compiling the first time. Right within a factor of some three."
        )


def _groups(points: "Sequence[Point]") -> "dict[Any, list[Point]]":
    found: dict[Any, list[Point]] = {}
    for point in points:
        optimizer = point.optimizer and point.optimizer.name
        found.setdefault((point.model, optimizer, point.task.inputs, point.task.query), []).append(point)
    return found
