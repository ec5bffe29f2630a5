"""The document that every command answers with, as plain dictionaries, JSON and CSV."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.options import AnyOptions
from induction_dynamics.provenance import versions

if TYPE_CHECKING:
    from induction_dynamics.scaling.points import Row

SCHEMA_VERSION = 1

# Where an answer goes and how it is shown is not part of what was computed, nor is how often it was interrupted.
_LEFT_OUT = ("output", "save_weights", "json", "quiet", "checkpoint_every", "keep", "resume")
_LEFT_OUT += ("coordinator", "processes", "process")


def configuration(options: AnyOptions, device_kind: str) -> dict[str, Any]:
    """Every option that bears on the numbers, as used, with the versions and the device that computed them.

    Args:
        options: the options of a command.
        device_kind: what the device calls itself.
    """
    return _flat(options) | {"device_kind": device_kind, "versions": versions()}


_BEFORE = {"copies": 1}
"""Options that there were not always, and what held then."""


def same_options(config: Any, other: Any) -> bool:
    """Whether two configurations ask for the same, whatever computed them."""
    return isinstance(other, dict) and all(
        config.get(name, _BEFORE.get(name)) == other.get(name, _BEFORE.get(name))
        for name in config.keys() | other.keys()
        if not name.startswith(("versions", "device"))
    )


def build(
    command: str,
    config: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    fits: Sequence[dict[str, Any]] = (),
    notes: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The document, with more that is the command's own; numbers that are not finite become null."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "config": config,
        "rows": list(rows),
        "fits": list(fits),
        "notes": list(notes),
        **(more or {}),
    }
    return _finite(document)


def fit_rows(rows: "Sequence[Row | Mapping[str, Any]]") -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Laws fitted to every curve of a sweep, curves being told apart as `curves.group` does by default.

    Returns:
        The fits; a line of words for every curve; and a note for every curve that could not be fitted.
    """
    from induction_dynamics.scaling.curves import fit_curves, group

    return fit_curves(group([row if isinstance(row, Mapping) else vars(row) for row in rows]))


def as_json(value: Any) -> str:
    """JSON without NaN or Infinity, ending in a line break."""
    return json.dumps(value, allow_nan=False, indent=2) + "\n"


def as_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Rows with a header; null is empty."""
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _finite(value: Any) -> Any:
    """The value with null in the place of every number in it that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(options: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            found |= _flat(value)
        elif field.name not in _LEFT_OUT:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found
