"""The results of a sweep folder as one labelled array, and as a file of it for others: netCDF or CSV.

Nothing is in either that differs between two runs of the same sweep, such as a date or how long it took: the file of a
sweep that was interrupted and resumed is that of one that was not, byte for byte.
"""

import collections
import csv
import dataclasses
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from induction_dynamics import __version__
from induction_dynamics.dynamics.emergence import LOSS, MEASURES
from induction_dynamics.errors import ArgumentError
from induction_dynamics.files import written_whole
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.scaling.ledger import Entry, read_ledger, read_runs
from induction_dynamics.scaling.points import MODELS, Row, columns_of
from induction_dynamics.task import INPUTS, QUERIES
from induction_dynamics.training.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    import xarray

SCHEMA_VERSION = 1
"""Of the dataset: its dimensions, variables and attributes."""

COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
"""Of the CSV file."""

SUFFIXES = (".nc", ".csv")
NOTHING_RANDOM = -1
NOT_ASKED = -2
MOST_CELLS = 10_000_000
MOST_CELLS_PER_VALUE = 100
MOST_REASONS = 5
LONGEST_REASON = 200

_ORDERS: dict[str, tuple[str, ...]] = {
    "model": MODELS,
    "inputs": INPUTS,
    "query": QUERIES,
    "measure": MEASURES,
    "optimizer": ("", *OPTIMIZERS),
}
_ALWAYS = ("model", "inputs", "query", "context_length", "seed")
_NUMBERS = ("rotation", "copies", "embedding_dim", "batch_size", "step", "samples", "horizon", "accuracy")
_OPTIONS = (*_NUMBERS, "optimizer", "learning_rate", "steps", "sequences", "start", "hold", "training")
_WORDS = ("optimizer", "start", "hold", "training")
_UNITS = {
    "flow": {"units": "flow time", "comment": "of gradient descent: learning rate x steps / D"},
    "steps": {"units": "steps", "comment": "of an optimizer that has no flow time"},
}
_SEVERAL_UNITS = {"comment": "in flow time (of gradient descent: learning rate x steps / D) or in steps: see time_unit"}
_NO_EFFECT = "0 where it has no effect"
_NO_WORDS = "an empty word where it has no effect"
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "model": {"long_name": "model", "comment": "circuit and subspace are reduced flows, full is trained"},
    "inputs": {"long_name": "law of tokens and position vectors"},
    "query": {"long_name": "which item is queried"},
    "context_length": {"long_name": "N, item-label pairs", "comment": "the sequence has 2N + 1 tokens"},
    "seed": {"long_name": "seed of whatever is random", "comment": f"{NOTHING_RANDOM} where nothing is"},
    "rotation": {"long_name": "angle of M, which turns an item's position into its label's", "units": "degrees"},
    "copies": {"long_name": "how often the queried pair stands in the context"},
    "embedding_dim": {"long_name": "D, width of a token", "comment": "0 where nothing was run"},
    "batch_size": {"long_name": "sequences per training step", "comment": _NO_EFFECT},
    "step": {"long_name": "flow time per training step", "units": "flow time", "comment": _NO_EFFECT},
    "samples": {"long_name": "Gram matrices in the loss of a reduced flow", "comment": _NO_EFFECT},
    "horizon": {
        "long_name": "flow time at which a run is given up",
        "units": "N^2 of flow time",
        "comment": "0 where a run is given up after steps",
    },
    "accuracy": {"long_name": "relative error of times that the solver aims at", "comment": _NO_EFFECT},
    "optimizer": {"long_name": "optimizer of the training", "comment": _NO_WORDS},
    "learning_rate": {"long_name": "largest learning rate of the training", "comment": _NO_EFFECT},
    "steps": {"long_name": "steps after which a training is given up", "comment": "0 where it is after flow time"},
    "sequences": {"long_name": "number of sequences in a fixed set", "comment": "0 where all are fresh"},
    "start": {"long_name": "what the run starts from", "comment": "an empty word for zero"},
    "hold": {"long_name": "coordinates that are held", "comment": "an empty word for none"},
    "training": {"long_name": "further options of the training", "comment": "an empty word for their defaults"},
    "time_unit": {"long_name": "what times are counted in"},
    "measure": {"long_name": "what emerges", "comment": f"a coordinate, or {LOSS}"},
    "threshold": {
        "long_name": f"value that a coordinate rises through; fraction of its start that {LOSS} falls through"
    },
    "coordinate": {"long_name": "coordinate of the weights in the invariant subspace"},
    "time": {"long_name": "emergence time, of the first crossing"},
    "outcome": {
        "long_name": "emerged, or why there is no time",
        "comment": "an empty word where nothing was run, or the measure and threshold were not asked for",
    },
    "sustained": {
        "long_name": "whether the measure stayed beyond the threshold for the next 1 % of the run",
        "flag_values": np.array([1, 0, -1, NOT_ASKED], np.int8),
        "flag_meanings": "yes no unknown not_asked",
    },
    "run_time": {"long_name": "records of a run: time"},
    "run_loss": {"long_name": "records of a run: loss"},
    "run_off_subspace": {"long_name": "records of a run: fraction of the norm of the weights outside of the subspace"},
    "run_coordinates": {"long_name": "records of a run: coordinates"},
}

_Axes = dict[str, list[Any]]
_Places = dict[str, np.ndarray]


class Written(NamedTuple):
    """What has been written.

    Args:
        points: number of points, with those that failed.
        rows: number of emergence times, with those that there were none of.
        failed: number of points whose runs failed.
    """

    points: int
    rows: int
    failed: int


def load_sweep(folder: str | os.PathLike[str], *, trajectories: bool = False) -> "xarray.Dataset":
    """The results of a sweep folder as one labelled dataset; a sweep may be at work there.

    Its dimensions are model, inputs, query, context_length, seed, measure and threshold, each with the values that
    occur: names in the package's order, numbers ascending. An option of the points of which several values occur
    (rotation in degrees, copies, batch_size, step in flow time, samples, horizon in N^2 of flow time, accuracy,
    optimizer, learning_rate, steps, sequences, start, hold, training) is a dimension before measure, with 0 or an empty
    word where it has no effect; one of which a single value occurs is an attribute of the dataset. The embedding_dim D
    lies along inputs and context_length, and is a dimension only if it is not given by these. What times are counted
    in, `flow` or `steps`, is the attribute time_unit; where there are both, optimizer is a dimension and time_unit lies
    along it.

    Its variables are `time` (in that unit; NaN where there is none), `outcome` (`emerged` or why there is none; empty
    where nothing was asked) and `sustained` (1 yes, 0 no, -1 unknown, -2 not asked). The seed is -1 where nothing is
    random. Points that failed are counted in the attribute `failed_points`.

    Args:
        folder: folder of a sweep.
        trajectories: also the records of the runs that were kept, NaN beyond the last of each: `run_time` (in the unit
            of `time`), `run_loss` and `run_off_subspace` of shape [point dimensions.., record], `run_coordinates` of
            shape [point dimensions.., record, 19].

    Raises:
        ArgumentError: there is no ledger in the folder, it is damaged or foreign, or it holds no results; records are
            wanted and were not kept; or the points are so scattered that the array would be all but empty.

    Example:
        >>> import tempfile
        >>> from induction_dynamics import Emergence, Point, Task
        >>> from induction_dynamics.scaling.ledger import Entry, open_ledger
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_ledger(folder) as ledger:
        ...         for n, time in ((16, 1051.4), (64, 15206.6)):
        ...             found = Emergence("alpha_3", 0.5, time, "emerged", sustained=True)
        ...             ledger.put(Entry(Point(Task(n), "circuit"), (found,), "emerged"))
        ...     ds = load_sweep(folder)
        >>> curve = ds.time.sel(model="circuit", measure="alpha_3", threshold=0.5).squeeze(drop=True)
        >>> curve.context_length.values.tolist(), curve.values.tolist()
        ([16, 64], [1051.4, 15206.6])
    """
    return _labelled(folder, read_ledger(folder), trajectories)


def write_sweep(folder: str | os.PathLike[str], to: str | os.PathLike[str], *, trajectories: bool = False) -> Written:
    """Write the results of a sweep folder to a file, which is there whole or not at all; one that is there is replaced.

    Args:
        folder: folder of a sweep, which may be at work there.
        to: path that ends in .nc (the dataset of `load_sweep` as netCDF 4) or .csv (a line for each emergence time
            with all `COLUMNS`, empty where there is no value, and numbers with all their digits).
        trajectories: also the records of the runs (.nc only).

    Raises:
        ArgumentError: the file cannot be written there, or see `load_sweep`; of these CSV takes scattered points.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from induction_dynamics import Emergence, Point, Task
        >>> from induction_dynamics.scaling.ledger import Entry, open_ledger
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with open_ledger(folder) as ledger:
        ...         found = Emergence("alpha_3", 0.5, 1051.4, "emerged", sustained=True)
        ...         ledger.put(Entry(Point(Task(16), "circuit"), (found,), "emerged"))
        ...     print(write_sweep(folder, Path(folder) / "results.csv"))
        ...     print((Path(folder) / "results.csv").read_text().splitlines()[1])
        Written(points=1, rows=1, failed=0)
        16,34,orthonormal,last,90.0,circuit,alpha_3,0.5,1051.4,flow,emerged,True,,,,,12.0,1e-07,1,,,,,,,
    """
    target = _target(to, trajectories)
    entries = read_ledger(folder)
    if Path(to).suffix == ".csv":
        _check_results(folder, entries)
        content = _as_csv(entries)
    else:
        content = _as_netcdf(_labelled(folder, entries, trajectories))
    _write(target, to, content)
    return Written(len(entries), sum(len(entry.crossings) for entry in entries), sum(entry.failed for entry in entries))


def _labelled(folder: str | os.PathLike[str], entries: Sequence[Entry], trajectories: bool) -> "xarray.Dataset":
    import xarray

    _check_results(folder, entries)
    labels = [_labels(entry) for entry in entries]
    names = _dimensions(labels)
    found = [(place, one) for place, entry in enumerate(entries) for one in entry.crossings]
    axes, places = _axes({name: [_filled(name, label[name]) for label in labels] for name in names})
    own_axes, own_places = _axes({name: [getattr(one, name) for _, one in found] for name in ("measure", "threshold")})
    shape = (*map(len, axes.values()), *map(len, own_axes.values()))
    _check_dense(folder, math.prod(shape), len(found))

    point = np.array([place for place, _ in found])
    cells = (*(index[point] for index in places.values()), *own_places.values())
    time, outcome, sustained = np.full(shape, np.nan), np.full(shape, "", object), np.full(shape, NOT_ASKED, np.int8)
    time[cells] = [np.nan if one.time is None else one.time for _, one in found]
    outcome[cells] = [one.outcome for _, one in found]
    sustained[cells] = [-1 if one.sustained is None else int(one.sustained) for _, one in found]
    values = {"time": time, "outcome": outcome, "sustained": sustained}

    units = {label["optimizer"]: label["time_unit"] for label in labels}
    unit = _UNITS[labels[0]["time_unit"]] if len(set(units.values())) == 1 else _SEVERAL_UNITS
    variables = {name: ((*axes, *own_axes), array, _ATTRIBUTES[name]) for name, array in values.items()}
    coordinates: dict[str, Any] = {name: (name, axis, _ATTRIBUTES[name]) for name, axis in (axes | own_axes).items()}
    if "embedding_dim" not in axes:
        along = ("inputs", "context_length")
        widths = np.zeros([len(axes[name]) for name in along], int)
        widths[tuple(places[name] for name in along)] = [label["embedding_dim"] for label in labels]
        coordinates["embedding_dim"] = along, widths, _ATTRIBUTES["embedding_dim"]
    if unit is _SEVERAL_UNITS:
        told = [units[label or None] for label in axes["optimizer"]]
        coordinates["time_unit"] = "optimizer", told, _ATTRIBUTES["time_unit"]
    if trajectories:
        variables |= _records(folder, entries, axes, places)
        coordinates["coordinate"] = "coordinate", list(COORDINATES), _ATTRIBUTES["coordinate"]
    for name in {"time", "run_time"} & set(variables):
        dims, array, attributes = variables[name]
        variables[name] = dims, array, attributes | unit
    return xarray.Dataset(variables, coordinates, _about(entries, labels, names))


def _labels(entry: Entry) -> dict[str, Any]:
    """The value of each option of a point, and its unit of time; None where an option has no effect."""
    found = columns_of(entry.point)
    if found["seed"] is None:
        found["seed"] = NOTHING_RANDOM
    # without any of these a run is another one
    told = ("start", "hold", *(("sequences", "training") if found["model"] == "full" else ()))
    found |= {name: _filled(name, found.get(name)) for name in told}
    return {name: found.get(name) for name in (*_ALWAYS, *_OPTIONS, "time_unit")}


def _filled(name: str, value: Any) -> Any:
    """A value, or what stands in the place of none."""
    return value if value is not None else "" if name in _WORDS else 0


def _dimensions(labels: Sequence[Mapping[str, Any]]) -> list[str]:
    """The dimensions of points: those that are always there, and options of which several values occur."""

    def values(*names: str) -> set[tuple[Any, ...]]:
        return {tuple(one[name] for name in names) for one in labels}

    given = len(values("inputs", "context_length", "embedding_dim")) == len(values("inputs", "context_length"))
    options = [name for name in _OPTIONS if name != "embedding_dim" or not given]
    several_units = {"optimizer"} if len(values("time_unit")) > 1 else set()
    # That an option has no effect on some points is told by their model, but for a few odd ones.
    for nothing in ({(None,)}, set()):
        names = [*_ALWAYS, *(name for name in options if len(values(name) - nothing) > 1 or name in several_units)]
        if len(values(*names)) == len(labels):
            break
    return names


def _axes(values: Mapping[str, Sequence[Any]]) -> tuple[_Axes, _Places]:
    """Of each dimension the labels in their order, and the place of each value among them."""
    axes: _Axes = {}
    places: _Places = {}
    for name, column in values.items():
        order = _ORDERS.get(name)
        axes[name] = sorted(set(column), key=order.index if order else None)
        numbers = {label: number for number, label in enumerate(axes[name])}
        places[name] = np.array([numbers[value] for value in column], int)
    return axes, places


def _records(folder: str | os.PathLike[str], entries: Sequence[Entry], axes: _Axes, places: _Places) -> dict[str, Any]:
    """The variables of the runs that were kept."""
    runs = read_runs(folder)
    kept = [(place, runs[entry.point]) for place, entry in enumerate(entries) if entry.point in runs]
    if not kept:
        raise ArgumentError("folder", str(folder), "one whose sweep kept records of its runs (--records)")
    longest, held = max(len(run.time) for _, run in kept), sum(len(run.time) for _, run in kept)
    shape = (*map(len, axes.values()), longest)
    _check_dense(folder, math.prod(shape) * len(COORDINATES), held * len(COORDINATES))
    variables = {}
    for name in ("time", "loss", "off_subspace", "coordinates"):
        more = ("coordinate",) if name == "coordinates" else ()
        array = np.full((*shape, *[len(COORDINATES)] * len(more)), np.nan)
        for place, run in kept:
            array[(*(index[place] for index in places.values()), slice(len(run.time)))] = getattr(run, name)
        variables[f"run_{name}"] = ((*axes, "record", *more), array, _ATTRIBUTES[f"run_{name}"])
    return variables


def _about(entries: Sequence[Entry], labels: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Attributes of the dataset, among them the options that are no dimension."""
    rest = [name for name in _OPTIONS if name not in names and name != "embedding_dim"]
    found = {name: {label[name] for label in labels} - {None, "", 0} for name in (*rest, "time_unit")}
    single = {name: value for name, values in found.items() if len(values) == 1 for value in values}
    failed = [shorten(f"{one.outcome} {one.reason}", LONGEST_REASON) for one in entries if one.failed]
    kinds = sorted(collections.Counter(failed).items(), key=lambda kind: (-kind[1], kind[0]))
    told = [f"{count} x {words}" for words, count in kinds[:MOST_REASONS]]
    more = [f"{len(kinds) - MOST_REASONS} other reasons"] if len(kinds) > MOST_REASONS else []
    return {
        "title": "Emergence of an induction head: when each coordinate of the weights crosses each threshold",
        "source": f"induction-dynamics {__version__}",
        "schema_version": SCHEMA_VERSION,
        "references": "arXiv:2511.01033; the README of induction-dynamics defines all names",
        "comment": "Flow time is, of gradient descent, learning rate x steps / D.",
        "failed_points": len(failed),
        **({"failed_reasons": "; ".join(told + more)} if failed else {}),
        **single,
    }


def _check_results(folder: str | os.PathLike[str], entries: Sequence[Entry]) -> None:
    if not any(entry.crossings for entry in entries):
        raise ArgumentError("folder", str(folder), "one whose sweep has run a point already")


def _check_dense(folder: str | os.PathLike[str], cells: int, values: int) -> None:
    if cells > MOST_CELLS and cells > MOST_CELLS_PER_VALUE * values:
        allowed = f"one whose points fill a labelled array better ({cells:.1g} cells for {values} values)"
        raise ArgumentError("folder", str(folder), f"{allowed}: a .csv file takes scattered ones")


def _as_csv(entries: Sequence[Entry]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        writer.writerows(entry.rows())
    return text.getvalue().encode()


def _as_netcdf(dataset: "xarray.Dataset") -> bytes:
    packed = {"zlib": True, "complevel": 4}
    # Words as arrays of characters: HDF5 compresses no words of any length, and keeps each by itself.
    encoding = {name: packed | ({"dtype": "S1"} if name == "outcome" else {}) for name in dataset.data_vars}
    # In memory, as HDF5 brings the process down if the disk is full when it lets go of a file.
    file = io.BytesIO()
    dataset.to_netcdf(file, engine="h5netcdf", encoding=encoding)
    return file.getvalue()


def _target(to: str | os.PathLike[str], trajectories: bool) -> Path:
    """Where to write; through a link to what it stands for."""
    target, suffix = Path(os.path.realpath(to)), Path(to).suffix
    if suffix not in SUFFIXES or (os.path.exists(target) and not os.path.isfile(target)):
        raise ArgumentError("to", os.fspath(to), f"the path of a file that ends in {' or '.join(SUFFIXES)}")
    if trajectories and suffix != ".nc":
        raise ArgumentError("to", os.fspath(to), "a path that ends in .nc where the records of runs are wanted too")
    return target


def _write(target: Path, to: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under another name first, so that under its own it is whole also if this is cut short."""
    try:
        with written_whole(target) as new:
            new.write_bytes(content)
    except OSError as error:
        allowed = f"the path of a file that can be written ({error.strerror or error})"
        raise ArgumentError("to", os.fspath(to), allowed) from None
