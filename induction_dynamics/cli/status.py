"""`induction-dynamics status`: how far the sweep in a folder is."""

import sys
from typing import Any

from induction_dynamics.cli.document import SCHEMA_VERSION, as_json
from induction_dynamics.cli.folder_options import StatusOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.refusal import folder_named
from induction_dynamics.cli.values import visible

_GO_ON = "the same command goes on with it"


def run(options: StatusOptions) -> None:
    """Print what the folder holds, and what is at work there.

    Raises:
        Refusal: the folder has no ledger that can be read.
    """
    from induction_dynamics.scaling.ledger import is_at_work, read_ledger, read_state

    with folder_named(options.folder):
        running = is_at_work(options.folder)
        entries, state = read_ledger(options.folder), read_state(options.folder)
    reasons = [entry.reason for entry in entries if entry.failed]
    document = _document(running, len(entries), reasons, state)
    if options.json:
        sys.stdout.write(as_json(document))
        return
    print(f"{visible(options.folder)}: {len(entries)} points{_failures(reasons)}")
    for line in _lines(document):
        print(f"  {line}")


def _document(running: bool | None, points: int, reasons: list[str], state: dict[str, Any]) -> dict[str, Any]:
    progress = state.get("progress", {}) if running else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "status",
        "running": running,
        "points": points,
        "failed": len(reasons),
        "asked": state.get("points"),
        "done": progress.get("done"),
        "at_work_on": progress.get("words"),
        "seconds_left": progress.get("seconds_left"),
        "driver": state.get("driver"),
        "ended": None if running else state.get("ended"),
    }


def _failures(reasons: list[str]) -> str:
    return f", {len(reasons)} of them failed (the first: {visible(reasons[0])})" if reasons else ""


def _lines(document: dict[str, Any]) -> list[str]:
    from induction_dynamics.training.pace import duration

    driver, ended = document["driver"], document["ended"]
    if document["running"]:
        lines = ["at work"]
        if driver:
            lines = [f"at work: process {driver['process']} on {driver['host']}, since {driver['started']}"]
        if document["done"] is not None:
            left = document["seconds_left"]
            about = "" if left is None else f", about {duration(left)} left"
            lines.append(f"{document['done']} of {document['asked']} points that were asked for are there{about}")
            lines.append(f"now: {document['at_work_on']}")
        return lines
    if document["running"] is None:
        return ["whether a sweep is at work there cannot be told"]
    if driver is None:
        return ["nothing was begun"]
    if ended is None:
        return [f"nobody is at work: the sweep begun at {driver['started']} was killed", _GO_ON]
    if ended["how"] == "finished":
        return [f"nobody is at work: the last sweep was finished at {ended['at']}"]
    return [f"nobody is at work: the last sweep was stopped at {ended['at']}", _GO_ON]


COMMAND = Command(
    name="status",
    summary="how far the sweep in a folder is",
    description="""\
Tells how many points the folder of a sweep holds, how many of them failed and
why, whether a sweep is at work there, on what, and about how long it still
takes. It may be asked at any time, from any shell, and disturbs nobody.

Example:

  induction-dynamics status out/sweep
  watch -n 10 induction-dynamics status out/sweep""",
    options=StatusOptions,
    run=run,
)
