"""What a point is called in a ledger: all that its numbers depend on, as plain values, their hash, and their order."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.scaling.points import MODELS, Point
from induction_dynamics.task import INPUTS, QUERIES, Task
from induction_dynamics.training.optimizers import OPTIMIZERS, Optimizer
from induction_dynamics.training.starts import Start

SCHEMA_VERSION = 1
"""Of the tables and of what a point's key is made from."""


def point_order(point: Point) -> tuple[Any, ...]:
    """Sorts points by model, then task, optimizer and the rest, then N: the order of every table of a ledger."""
    task, start = point.task, point.start or Start()
    kind = MODELS.index(point.model), INPUTS.index(task.inputs), QUERIES.index(task.query), task.rotation, task.copies
    run = point.horizon or 0.0, point.batch_size or 0, point.step or 0.0, point.samples or 0, point.accuracy
    coordinates = tuple((COORDINATES.index(name), value) for name, value in start.coordinates)
    holds = tuple((COORDINATES.index(one.coordinate), _or_none(one.value), one.since) for one in point.hold or ())
    data = point.sequences or 0, point.shared_frames or 1, point.dtype or ""
    training = *_optimizer_order(point.optimizer or Optimizer()), *run, point.steps or 0, *data
    seed = -1 if point.seed is None else point.seed
    return *kind, *training, start.scales, coordinates, holds, task.context_length, task.embedding_dim, seed


def _optimizer_order(optimizer: Optimizer) -> tuple[Any, ...]:
    options = [_or_none(value) for name, value in vars(optimizer).items() if name != "name"]
    return OPTIMIZERS.index(optimizer.name), *options


def _or_none(value: Any) -> tuple[Any, ...]:
    """Sorts what there is none of before all others."""
    return () if value is None else (value,)


def configuration_of(point: Point) -> dict[str, Any]:
    """All that a point's numbers depend on, without what has no effect on it or is None, as plain values."""
    config = {**vars(point.task), **vars(point), "rotation": float(point.task.rotation)}
    del config["task"]
    if point.task.copies == 1:
        del config["copies"]  # as it was when there were no others
    if point.model == "full":
        del config["accuracy"]
    if point.optimizer is not None:
        config["optimizer"] = {n: _plain(value) for n, value in vars(point.optimizer).items() if value is not None}
    if point.start is not None:
        scale, coordinates = list(map(_plain, point.start.scales)), dict(point.start.coordinates)
        config["start"] = ({"scale": scale} if any(scale) else {}) | (
            {"coordinates": coordinates} if coordinates else {}
        )
    if point.hold is not None:
        config["hold"] = [str(dataclasses.replace(one, value=_plain(one.value))) for one in point.hold]
    return {name: value for name, value in config.items() if value is not None}


def _plain(value: Any) -> Any:
    """Zero without its sign, since what is equal has one key."""
    return value + 0.0 if isinstance(value, float) else value


def point_of(configuration: Mapping[str, Any]) -> Point:
    """The inverse of `configuration_of`."""
    names = [field.name for field in dataclasses.fields(Task)]
    rest = {name: value for name, value in configuration.items() if name not in names}
    if "optimizer" in rest:
        rest["optimizer"] = Optimizer(**rest["optimizer"])
    if "start" in rest:
        start = rest["start"]
        rest["start"] = Start(tuple(start.get("scale", (0.0,))), start.get("coordinates", {}))
    if "hold" in rest:
        rest["hold"] = tuple(map(Hold.read, rest["hold"]))
    return Point(Task(**{name: configuration[name] for name in names if name in configuration}), **rest)


def key_of(point: Point) -> str:
    """The name of a point in the ledger: a hash of its configuration and of the schema version."""
    return hash_of(canonical(configuration_of(point)))


def canonical(configuration: Mapping[str, Any]) -> str:
    """A configuration as text, the same for all that are equal."""
    return json.dumps(configuration, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_of(configuration: str) -> str:
    """SHA-256 of a canonical configuration and of the schema version."""
    return hashlib.sha256(f"{SCHEMA_VERSION}{configuration}".encode()).hexdigest()
