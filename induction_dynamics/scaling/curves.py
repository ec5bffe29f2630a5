"""From rows of emergence times to curves T(N), and to the laws fitted to them. Needs no JAX."""

import dataclasses
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.laws import LawFit, describe_fits, fit_laws

SERIES = ("model", "inputs", "query", "measure", "threshold")
"""Columns that always tell one curve from another, unless others are asked for."""

LABELS = (
    "study",
    "model",
    "inputs",
    "query",
    "rotation",
    "copies",
    "embedding_dim",
    "measure",
    "threshold",
    "seed",
    "batch_size",
    "step",
    "samples",
    "horizon",
    "accuracy",
    "optimizer",
    "learning_rate",
    "steps",
    "sequences",
    "start",
    "hold",
    "training",
)
"""Columns that can tell one curve from another: all that a row is about but for N."""

_PHRASES = {
    "study": "study {}",
    "model": "{}",
    "inputs": "{} inputs",
    "query": "query {}",
    "rotation": "rotation {:g} degrees",
    "copies": "copies {}",
    "embedding_dim": "D = {}",
    "measure": "{}",
    "threshold": "threshold {:g}",
    "seed": "seed {}",
    "batch_size": "batch size {}",
    "step": "step {:g}",
    "samples": "{} samples",
    "horizon": "horizon {:g} N^2",
    "accuracy": "accuracy {:g}",
    "optimizer": "optimizer {}",
    "learning_rate": "learning rate {:g}",
    "steps": "{} steps",
    "sequences": "{} fixed sequences",
    "start": "start {}",
    "hold": "hold {}",
    "training": "training {}",
}
_NONE = "none"
_PHRASES_OF_NONE = {
    "sequences": "fresh sequences",
    "start": "start zero",
    "hold": "nothing held",
    "training": "training as by default",
}

_MOST_NOTES = 3  # that say the same

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Curve:
    """Emergence times that belong together: those of one curve T(N).

    Args:
        labels: what all of its rows have in common, by the columns that were asked for. `embedding_dim` is `2N + 2` or
            `4N` where D follows N as it does by default, else a number. `start` and `hold`, and of trained models
            `sequences` and `training`, are `none` where there is none.
        rows: one for each point, repeats among them.
    """

    labels: dict[str, Any]
    rows: tuple[Row, ...]

    @property
    def context_lengths(self) -> list[int]:
        """N of each row."""
        return [row["context_length"] for row in self.rows]

    @property
    def times(self) -> list[float | None]:
        """T of each row, None where nothing emerged."""
        return [row["time"] for row in self.rows]

    @property
    def noise_free(self) -> bool:
        """Whether nothing is random: reduced models on orthonormal inputs, whose loss is no mean over samples."""
        return all(
            row["model"] != "full" and row["inputs"] == "orthonormal" and row.get("samples") is None
            for row in self.rows
        )

    @property
    def pooled(self) -> dict[str, list[Any]]:
        """Columns other than the seed that tell no curves apart, yet take several values in this one."""
        names = [name for name in LABELS if name not in (*self.labels, "seed")]
        found = {name: _distinct(value_of(row, name) for row in self.rows) for name in names}
        return {
            name: values
            for name, values in found.items()
            if len(values) > 1 and not all(is_usual(name, value) for value in values)
        }


def value_of(row: Row, name: str) -> Any:
    """A row's value in a column, as `Curve.labels` has it.

    Args:
        row: as `ledger.Entry.rows` gives it.
        name: one of `LABELS`, or `context_length`.
    """
    return _width(row) if name == "embedding_dim" else _value(row, name)


def is_usual(name: str, value: Any) -> bool:
    """Whether a value goes without saying where there is no other.

    Args:
        name: of the column.
        value: as `value_of` gives it.
    """
    if name == "copies":
        return value == 1
    return value is None or (name in _PHRASES_OF_NONE and value == _NONE) or (name == "optimizer" and value == "gd")


def shown(value: Any) -> str:
    """A value as a table shows it, and as `select` tells it from others.

    Args:
        value: None where there is none.
    """
    return _NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def has_failed(row: Row) -> bool:
    """Whether there is no time because the run failed, not because nothing emerged in it.

    Args:
        row: with `time` and `outcome`.
    """
    return row["time"] is None and row["outcome"] not in ("horizon_reached", "stopped")


def phrase(name: str, value: Any) -> str:
    """A column's value in words.

    Args:
        name: of the column, one of `LABELS`.
        value: its value, not None.

    Example:
        >>> phrase("query", "last"), phrase("embedding_dim", "2N + 2"), phrase("rotation", 60.0)
        ('query last', 'D = 2N + 2', 'rotation 60 degrees')
    """
    return _PHRASES_OF_NONE[name] if value == _NONE and name in _PHRASES_OF_NONE else _PHRASES[name].format(value)


def select(rows: Sequence[Row], where: Mapping[str, Collection[Any]]) -> list[Row]:
    """The rows in which every column has one of the values wanted of it.

    Args:
        rows: as `ledger.Entry.rows` gives them, with or without `study`.
        where: column to values. Numbers count as equal if they are when shown with six digits, so that what a table
            shows finds its rows; `2N + 2` or `4N` finds the rows whose D is that.
    """
    wanted = {name: {shown(value) for value in values} for name, values in where.items()}
    return [
        row for row in rows if all({shown(row.get(name)), shown(value_of(row, name))} & wanted[name] for name in wanted)
    ]


def group(rows: Sequence[Row], by: Collection[str] | None = None) -> list[Curve]:
    """The curves in some rows: those equal in some columns make one curve, whatever else they differ in.

    Args:
        rows: as `ledger.Entry.rows` gives them, with or without `study`.
        by: columns, of `LABELS`; by default `SERIES`, and of the others but the seed those that differ between rows
            that are alike in `SERIES`. A row whose D is both its default and that of a curve of one fixed D is on that
            curve, and on the one of the default too if that has rows of its own.

    Returns:
        The curves, in the order of their first rows; those that differ in nothing but their study stand together.

    Raises:
        ArgumentError: there is no such column, or with these columns a curve would have flow times and steps.

    Example:
        >>> common = {"model": "full", "inputs": "orthonormal", "query": "last", "measure": "loss", "threshold": 0.5}
        >>> rows = [
        ...     common | {"context_length": n, "embedding_dim": 2 * n + 2, "batch_size": size, "time": n**1.5 * size}
        ...     for size in (1, 8)
        ...     for n in (4, 16, 64)
        ... ]
        >>> [(curve.labels["batch_size"], curve.times) for curve in group(rows)]
        [(1, [8.0, 64.0, 512.0]), (8, [64.0, 512.0, 4096.0])]
    """
    wanted = _telling(rows) if by is None else set(by)
    if unknown := sorted(wanted.difference(LABELS)):
        raise ArgumentError("by", unknown[0], f"columns out of {', '.join(LABELS)}")
    names = [name for name in LABELS if name in wanted]
    plain = [name for name in names if name != "embedding_dim"]
    found: list[tuple[int, Curve]] = []
    for key, places in _alike(rows, plain).items():
        widths = {None: places} if plain == names else _by_width(rows, places)
        for width, own in widths.items():
            labels = dict(zip(plain, key, strict=True)) | {"embedding_dim": width}
            found.append((own[0], Curve({name: labels[name] for name in names}, tuple(rows[place] for place in own))))
    found.sort(key=lambda pair: pair[0])
    together: dict[Hashable, list[Curve]] = {}
    for _, curve in found:
        if len({row.get("time_unit") for row in curve.rows}) > 1:
            allowed = "columns that tell flow times from steps, such as optimizer"
            raise ArgumentError("by", " ".join(names), allowed)
        together.setdefault(tuple(curve.labels[name] for name in names if name != "study"), []).append(curve)
    return [curve for curves in together.values() for curve in curves]


def fit_curves(curves: Sequence[Curve], confidence: float = 0.95) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Laws fitted to every curve.

    Args:
        curves: as `group` gives them.
        confidence: coverage of the intervals, between 0 and 1.

    Returns:
        The fits, one for each law of each curve that could be fitted: its labels and the fields of `LawFit`; a line of
        words for each of these curves; and notes on curves that could not be fitted, more than three with one reason in
        one note, and on what was pooled.

    Raises:
        ArgumentError: `confidence` is out of range.
    """
    fits, words = [], []
    unfitted: dict[str, list[str]] = {}
    varying = {name for name in LABELS if len(_distinct(curve.labels.get(name) for curve in curves)) > 1}
    for curve in curves:
        title = _title(curve.labels, varying)
        try:
            found = fit_laws(curve.context_lengths, curve.times, noise_free=curve.noise_free, confidence=confidence)
        except ArgumentError as error:
            if error.argument == "confidence":
                raise
            without = curve.times.count(None)
            told = f" Without a time: {without} of {len(curve.rows)} points." if without else ""
            reason = f"no law fitted, which takes {error.allowed}.{told}{_failures(curve)}"
            unfitted.setdefault(reason, []).append(title)
            continue
        unit = {"time_unit": curve.rows[0].get("time_unit", "flow")}
        fits += [curve.labels | unit | _fields(fit) for fit in found]
        words.append(f"{title}: {describe_fits(found)}{_failures(curve)}")
    return fits, words, [*_notes(unfitted), *describe_pooled(curves)]


def _notes(unfitted: Mapping[str, Sequence[str]]) -> list[str]:
    """A note for each title, but of many with one reason a single one."""
    notes = []
    for reason, titles in unfitted.items():
        if len(titles) > _MOST_NOTES:
            notes.append(f"{len(titles)} curves (the first: {titles[0]}): {reason}")
        else:
            notes += [f"{title}: {reason}" for title in titles]
    return notes


def describe_pooled(curves: Sequence[Curve]) -> list[str]:
    """A sentence on the columns that take several values within a curve; nothing where there are none.

    Args:
        curves: as `group` gives them.
    """
    found: dict[str, list[Any]] = {}
    for curve in curves:
        for name, values in curve.pooled.items():
            found[name] = _distinct([*found.get(name, []), *values])
    told = [f"{name} ({', '.join(shown(value) for value in values)})" for name, values in found.items()]
    return [f"Pooled, each curve over several values: {', '.join(told)}."] if told else []


def _telling(rows: Sequence[Row]) -> set[str]:
    """The columns that tell curves apart by default."""
    found: set[str] = set(SERIES)
    others = [name for name in LABELS if name not in (*SERIES, "seed", "embedding_dim")]
    for places in _alike(rows, SERIES).values():
        found |= {name for name in others if name not in found and len({rows[place].get(name) for place in places}) > 1}
        if len(_by_width(rows, places)) > 1:
            found.add("embedding_dim")
    return found


def _alike(rows: Sequence[Row], names: Sequence[str]) -> dict[tuple[Any, ...], list[int]]:
    """Places of rows that agree in these columns."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault(tuple(_value(row, name) for name in names), []).append(place)
    return found


def _value(row: Row, name: str) -> Any:
    value = row.get(name)
    if value is None and name in _PHRASES_OF_NONE and (name in ("start", "hold") or row.get("model") == "full"):
        return _NONE
    return value


def _by_width(rows: Sequence[Row], places: Sequence[int]) -> dict[str | int, list[int]]:
    """Places by D: by its words where it follows N, by its number where it does not; a place may be in two."""
    found: dict[str | int, list[int]] = {}
    for place in places:
        found.setdefault(_width(rows[place]), []).append(place)
    for words in [width for width in found if isinstance(width, str)]:
        shared = [place for place in found[words] if rows[place]["embedding_dim"] in found]
        for place in shared:
            found[rows[place]["embedding_dim"]].append(place)
        if len(shared) == len(found[words]):
            del found[words]
    return {width: sorted(own) for width, own in found.items()}


def _width(row: Row) -> str | int:
    n = row["context_length"]
    words, usual = ("2N + 2", 2 * n + 2) if row["inputs"] == "orthonormal" else ("4N", 4 * n)
    return words if row["embedding_dim"] == usual else row["embedding_dim"]


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _title(labels: Mapping[str, Any], varying: Collection[str]) -> str:
    """What tells a curve from the others, and always its model, measure and threshold."""
    first = [
        phrase(name, value)
        for name, value in labels.items()
        if name in varying and name not in ("model", "measure", "threshold") and value is not None
    ]
    last = [phrase(name, labels[name]) for name in ("model", "measure", "threshold") if name in labels]
    return ", ".join([*first, *last]).replace(", threshold", " at") or "all rows"


def _failures(curve: Curve) -> str:
    failed = sum(map(has_failed, curve.rows))
    return f" Failed: {failed} of {len(curve.rows)} runs." if failed else ""


def _fields(fit: LawFit) -> dict[str, Any]:
    return {
        "law": fit.law,
        "parameters": {name: dataclasses.asdict(interval) for name, interval in fit.parameters.items()},
        "confidence": fit.confidence,
        "points": fit.points,
        "censored": fit.censored,
        "aicc": fit.aicc,
        "preferred": fit.preferred,
    }
