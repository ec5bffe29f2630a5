"""The rows of one or more folders of sweeps, each with the name of its study."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.folder_options import CurveOptions
from induction_dynamics.cli.refusal import Refusal, folder_named
from induction_dynamics.cli.values import quoted, visible

if TYPE_CHECKING:
    from induction_dynamics.scaling.curves import Curve

_MOST = 8


def read_curves(folders: Sequence[str], options: CurveOptions) -> "tuple[list[dict[str, Any]], list[Curve]]":
    """The rows that are asked for, of one folder after the other, and the curves that they make.

    Args:
        folders: as typed; one that is typed in two ways counts once.
        options: which rows, and what tells curves apart.

    Returns:
        `ledger.Entry.rows` of all entries, with `study`; and the curves of `curves.group`.

    Raises:
        Refusal: a folder has no ledger that can be read, or nothing in it, or there is nothing of what is asked for.
    """
    from induction_dynamics.scaling.curves import group, select, shown, value_of
    from induction_dynamics.scaling.ledger import read_ledger

    rows = []
    for typed, study in study_names(folders).items():
        with folder_named(typed):
            found = [{"study": study} | row for entry in read_ledger(typed) for row in entry.rows()]
        if not found:
            raise Refusal(f"DIR must be a folder with results; got {quoted(typed)}, whose sweep has none yet.")
        rows += found
    wanted: dict[str, list[Any]] = {}
    for condition in (one for several in options.where for one in several):
        name = condition.column
        wanted.setdefault(name, []).append(condition.value)
        if not select(rows, {name: [condition.value]}):
            there = list(dict.fromkeys(shown(value_of(row, name)) for row in rows))
            raise Refusal(f"--where must be of what is there ({_some(name, there)}); got {quoted(condition.typed)}.")
    picked = [dict(row) for row in select(rows, wanted)]
    if not picked:
        typed = " ".join(condition.typed for several in options.where for condition in several)
        raise Refusal(f"--where must leave a row, which takes all columns together; got {quoted(typed)}.")
    return picked, group(picked, [name for names in options.by for name in names] or None)


def _some(name: str, values: Sequence[str]) -> str:
    shortened = [f"{name}={visible(value)}" for value in values[:_MOST]]
    return ", ".join(shortened + ["..."] * (len(values) > _MOST))


def study_names(folders: Sequence[str]) -> dict[str, str]:
    """Each folder as typed, and the name of its study: its last part, or all of it if others end in the same.

    Args:
        folders: as typed; of those that are one folder only the first is kept.

    Example:
        >>> study_names(["runs/a", "runs/b"]), study_names(["old/a/", "new/a"])
        ({'runs/a': 'a', 'runs/b': 'b'}, {'old/a/': 'old/a/', 'new/a': 'new/a'})
    """
    places: dict[str, str] = {}
    for typed in folders:
        places.setdefault(os.path.realpath(typed), typed)
    names = [Path(typed).name for typed in places.values()]
    return {
        typed: visible(name if name and names.count(name) == 1 else typed)
        for typed, name in zip(places.values(), names, strict=True)
    }
