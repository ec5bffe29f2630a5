"""The document that every command answers with, as plain dictionaries, JSON and CSV."""

import csv
import dataclasses
import importlib.metadata
import io
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from induction_dynamics import __version__
from induction_dynamics.cli.options import REDUCED_MODELS, AnyOptions

if TYPE_CHECKING:
    from induction_dynamics.scaling.laws import LawFit
    from induction_dynamics.scaling.sweep import Row

SCHEMA_VERSION = 1
GROUP: tuple[str, ...] = ("model", "inputs", "query", "measure", "threshold")

# Where an answer goes and how it is shown is not part of what was computed; a range is kept as its context lengths.
_LEFT_OUT = ("output", "save_weights", "json", "quiet", "first", "last", "per_decade")
_LIBRARIES = ("jax", "jaxlib", "diffrax", "optax", "numpy", "scipy")


def configuration(options: AnyOptions, device_kind: str, context_lengths: Sequence[int] = ()) -> dict[str, Any]:
    """Every option that bears on the numbers, as used, with the versions and the device that computed them.

    Args:
        options: the options of a command.
        device_kind: what the device calls itself.
        context_lengths: what they came to, for a sweep.
    """
    config = _flat(options)
    if "context_lengths" in config:
        config["context_lengths"] = list(context_lengths)
    return config | {"device_kind": device_kind, "versions": versions()}


def versions() -> dict[str, str]:
    """Versions of everything that the numbers depend on."""
    own = {"induction-dynamics": __version__, "python": platform.python_version()}
    return own | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def same_options(config: Any, other: Any) -> bool:
    """Whether two configurations ask for the same, whatever computed them."""
    return isinstance(other, dict) and all(
        config.get(name) == other.get(name)
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


def fit_rows(rows: "Sequence[Row]") -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Laws fitted to every curve of a sweep.

    Returns:
        The fits; a line of words for every curve; and a note for every curve that could not be fitted.
    """
    from induction_dynamics.errors import ArgumentError
    from induction_dynamics.scaling.laws import describe_fits, fit_laws

    curves: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        curves.setdefault(tuple(getattr(row, name) for name in GROUP), []).append(row)
    fits, words, notes = [], [], []
    for key, curve in curves.items():
        group = dict(zip(GROUP, key, strict=True))
        noise_free = group["model"] in REDUCED_MODELS and group["inputs"] == "orthonormal"
        title = f"{group['model']}, {group['measure']} at {group['threshold']:g}"
        if len({row.query for row in rows}) > 1:
            title = f"query {group['query']}, {title}"
        lengths, times = [row.context_length for row in curve], [row.time for row in curve]
        try:
            found = fit_laws(lengths, times, noise_free=noise_free)
        except ArgumentError as error:
            notes.append(f"{title}: no law fitted, which takes {error.allowed}.")
            continue
        fits += [_fit(group, fit) for fit in found]
        words.append(f"{title}: {describe_fits(found, noise_free=noise_free)}")
    return fits, words, notes


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


def _fit(group: dict[str, Any], fit: "LawFit") -> dict[str, Any]:
    return group | {
        "law": fit.law,
        "parameters": {name: dataclasses.asdict(interval) for name, interval in fit.parameters.items()},
        "confidence": fit.confidence,
        "points": fit.points,
        "censored": fit.censored,
        "aicc": fit.aicc,
        "preferred": fit.preferred,
    }


def _flat(options: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            found |= _flat(value)
        elif field.name not in _LEFT_OUT:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found
