"""Results of a sweep on disk: an SQLite file with a row for each finished point, written by one process at a time.

Each point is written in a transaction of its own, so that a process killed at any moment loses nothing but the points
that it was at work on. While a sweep runs the file is in write-ahead mode, so that others read it meanwhile; once the
sweep has ended it is one plain file again, which can be copied, or read where nothing can be written.
"""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import sqlite3
import tempfile
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from induction_dynamics.dynamics.emergence import MEASURES, Emergence
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.keys import (
    SCHEMA_VERSION,
    canonical,
    configuration_of,
    hash_of,
    key_of,
    point_of,
    point_order,
)
from induction_dynamics.scaling.points import Point, Row

FILE = "ledger.sqlite"
LOCK = "ledger.lock"

NOT_COMPUTED = "not_computed"
"""Outcome of a point whose run could not be made, such as for want of memory."""

_FAILED = ("solver_failed", "nonfinite", NOT_COMPUTED)
"""Outcomes of runs that are computed again when that is asked for."""

_APPLICATION = 0x1D9C0DE5  # tells an SQLite file of ours from any other
_TABLES = """
CREATE TABLE points (
    key TEXT PRIMARY KEY,      -- SHA-256 of the configuration and of the schema version
    configuration TEXT NOT NULL,
    crossings TEXT NOT NULL,   -- [[measure, threshold, time, outcome, sustained], ...]
    outcome TEXT NOT NULL,     -- of the run
    reason TEXT NOT NULL,      -- in words, of a run that failed
    started TEXT NOT NULL,     -- UTC
    seconds REAL NOT NULL,     -- a run's share of its batch's time
    provenance TEXT NOT NULL   -- versions, commit, kind of host, device, threads
) WITHOUT ROWID;
CREATE TABLE runs (
    key TEXT PRIMARY KEY,
    records INTEGER NOT NULL,  -- how many were asked for; a run may have had fewer
    arrays BLOB NOT NULL       -- .npz
) WITHOUT ROWID;
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclasses.dataclass(frozen=True)
class Records:
    """Some of a run's records, the first and the last among them, evenly by their number.

    Args:
        time: t, flow time or steps, as in `Trajectory`.
        coordinates: theta, a row of 19 for each time.
        loss: as in `Trajectory`.
        off_subspace: as in `Trajectory`.
    """

    time: np.ndarray
    coordinates: np.ndarray
    loss: np.ndarray
    off_subspace: np.ndarray

    @classmethod
    def of(cls, run: Trajectory, most: int) -> "Records":
        """At most so many records of a run."""
        places = np.unique(np.linspace(0, len(run.time) - 1, most).round().astype(int))
        return cls(run.time[places], run.coordinates[places], run.loss[places], run.off_subspace[places])


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a ledger holds of one point.

    Args:
        point: what was run.
        crossings: emergence times of all measures and thresholds that were ever asked of this point.
        outcome: how the run ended, a key of `trajectory.OUTCOMES` or `not_computed`.
        reason: why it failed, in words; else empty.
        started: when, UTC.
        seconds: the run's share of the time that its batch took.
        provenance: versions, commit, kind of host, device and threads that computed it.
    """

    point: Point
    crossings: tuple[Emergence, ...]
    outcome: str
    reason: str = ""
    started: str = ""
    seconds: float = 0.0
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the run failed, or one that was to add to it: computed again when that is asked for."""
        return self.outcome in _FAILED or self.lacking

    @property
    def lacking(self) -> bool:
        """Whether something that was asked for could not be computed."""
        return any(crossing.outcome == NOT_COMPUTED for crossing in self.crossings)

    @property
    def targets(self) -> list[tuple[str, float]]:
        """Measures and thresholds of the crossings."""
        return [(crossing.measure, crossing.threshold) for crossing in self.crossings]

    def rows(self, targets: Collection[tuple[str, float]] | None = None) -> list[dict[str, Any]]:
        """Rows of the table, in an order that does not depend on how the ledger came to be.

        Args:
            targets: measures and thresholds; by default all.

        Returns:
            For each the fields of `Row`.
        """
        wanted = [one for one in self.crossings if targets is None or (one.measure, one.threshold) in targets]
        wanted.sort(key=lambda one: target_order((one.measure, one.threshold)))
        return list(map(vars, Row.of(self.point, wanted)))


def target_order(target: tuple[str, float]) -> tuple[int, float]:
    """Sorts measures as in `emergence.MEASURES`, and their thresholds by size."""
    return MEASURES.index(target[0]), target[1]


class Ledger:
    """A ledger that is open for writing; made by `open_ledger`."""

    def __init__(self, path: Path, connection: sqlite3.Connection):
        self._path = path
        self._connection = connection
        self._file = os.stat(path)

    def entries(self, points: Sequence[Point]) -> dict[Point, Entry]:
        """What is there of these points."""
        with self._complaining():
            found = dict(_entries(self._connection))
        keys = {point: key_of(point) for point in points}
        return {point: found[key] for point, key in keys.items() if key in found}

    def records(self) -> dict[str, int]:
        """The keys of all runs that are kept, and how many records of each were asked for."""
        with self._complaining():
            return _numbers_of_records(self._connection)

    def put(self, entry: Entry, run: Records | None = None, records: int = 0, *, keep_run: bool = False) -> None:
        """Write a point, in the place of what was known of it, in one transaction.

        Args:
            entry: the point.
            run: its records, if they are kept.
            records: how many were asked for.
            keep_run: keep what there is of records; else those of an earlier run go with it.

        Raises:
            OSError: it cannot be written; all that was written before is there. If the file has vanished meanwhile,
                all that it held has been written anew to where it was.
        """
        configuration = canonical(configuration_of(entry.point))
        key = hash_of(configuration)
        crossings = json.dumps([list(vars(one).values()) for one in entry.crossings], allow_nan=False)
        written = (key, configuration, crossings, entry.outcome, entry.reason, entry.started, entry.seconds)
        with self._complaining():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute(
                    "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (*written, json.dumps(entry.provenance)),
                )
                if not keep_run:
                    self._connection.execute("DELETE FROM runs WHERE key = ?", (key,))
                if run is not None:
                    arrays = io.BytesIO()
                    np.savez_compressed(arrays, **vars(run))
                    self._connection.execute(
                        "INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", (key, records, arrays.getvalue())
                    )
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        self._must_be_there()

    def tell(self, **state: Any) -> None:
        """Write what others may want to know of the sweep at work (`read_state`)."""
        with self._complaining():
            self._connection.executemany(
                "INSERT OR REPLACE INTO state VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in state.items()],
            )

    def _must_be_there(self) -> None:
        """SQLite goes on writing to a file that has been removed or renamed."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), self._file):
                return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        place = self._path if not self._path.exists() else self._path.with_name(f"rescued-{os.getpid()}-{FILE}")
        with contextlib.closing(sqlite3.connect(place)) as copy, self._complaining():
            self._connection.backup(copy)
        raise OSError(None, f"the ledger has vanished; all that it held has been put back as {place.name}", self._path)

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OSError(None, str(error), str(self._path)) from None


@contextlib.contextmanager
def open_ledger(folder: str | os.PathLike[str]) -> Iterator[Ledger]:
    """Open the ledger of a folder for writing; both are made if need be.

    Args:
        folder: where.

    Raises:
        ArgumentError: another process is at work there; there is a file that is no ledger, a damaged one, or one of a
            later version, and nothing was changed; or nothing can be written there.
    """
    folder = Path(folder)
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK)
        lock.acquire(timeout=0.5)  # `is_at_work` may be looking
    except filelock.Timeout:
        raise ArgumentError("folder", str(folder), f"one where no other sweep is at work{_by_whom(path)}") from None
    except OSError as error:
        raise ArgumentError("folder", str(folder), f"one that can be written ({error.strerror or error})") from None
    try:
        if not os.path.lexists(path):
            _create(path)
        with _sound(path) as connection:
            # A writer's process may be killed at any moment and nothing is lost; after a power failure the last few
            # points may be missing.
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
            except sqlite3.Error as error:
                raise ArgumentError("folder", str(folder), f"one whose {FILE} can be written ({error})") from None
            try:
                yield Ledger(path, connection)
            finally:
                _make_plain(connection)
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            os.unlink(folder / LOCK) if not path.exists() else None


def _make_plain(connection: sqlite3.Connection) -> None:
    """One file again, unless somebody goes on reading."""
    for _ in range(10):
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA journal_mode = DELETE")
            return
        time.sleep(0.1)


def read_ledger(folder: str | os.PathLike[str]) -> list[Entry]:
    """All points of a ledger, in the order of `point_order`; a sweep may be at work there.

    Args:
        folder: where it lies.

    Raises:
        ArgumentError: there is no ledger, or it is damaged, foreign or of a later version.
    """
    with _readable(folder) as connection:
        entries = [entry for _, entry in _entries(connection)]
    return sorted(entries, key=lambda entry: point_order(entry.point))


def read_runs(folder: str | os.PathLike[str]) -> dict[Point, Records]:
    """The records of all points of which some were kept.

    Args:
        folder: where the ledger lies.

    Raises:
        ArgumentError: see `read_ledger`.
    """
    with _readable(folder) as connection:
        found = connection.execute("SELECT configuration, arrays FROM points JOIN runs USING (key)").fetchall()
        runs = {}
        for configuration, arrays in found:
            try:
                with np.load(io.BytesIO(arrays), allow_pickle=False) as kept:
                    runs[point_of(json.loads(configuration))] = Records(**kept)
            except (ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
                raise sqlite3.DatabaseError(f"the records of {configuration} cannot be read: {error}") from None
    return runs


def read_numbers_of_records(folder: str | os.PathLike[str]) -> dict[str, int]:
    """The keys of all runs that are kept, and how many records of each were asked for.

    Args:
        folder: where the ledger lies.

    Raises:
        ArgumentError: see `read_ledger`.
    """
    with _readable(folder) as connection:
        return _numbers_of_records(connection)


def read_state(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What the sweep at work in a folder, or the last one there, has told of itself (`Ledger.tell`).

    Args:
        folder: where the ledger lies.

    Raises:
        ArgumentError: see `read_ledger`.
    """
    with _readable(folder) as connection:
        return {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM state")}


def is_at_work(folder: str | os.PathLike[str]) -> bool | None:
    """Whether a sweep is at work in a folder at this moment; None where that cannot be told.

    Args:
        folder: where the ledger lies.
    """
    path = Path(folder) / LOCK
    if not os.path.exists(path):
        return False
    try:
        import fcntl

        with open(path) as file:
            # shared, so that those who look do not see each other
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return None


def _by_whom(path: Path) -> str:
    with contextlib.suppress(ArgumentError, OSError):
        driver = read_state(path.parent).get("driver", {})
        if driver:
            return f" (process {driver['process']} on {driver['host']} is, since {driver['started']})"
    return ""


def _create(path: Path) -> None:
    """Make an empty ledger, under its name only when it is whole."""
    new = path.with_name(f".{os.getpid()}.{path.name}")
    new.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
            ours = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {SCHEMA_VERSION};"
            connection.executescript(f"BEGIN; {ours} {_TABLES} COMMIT;")
        os.replace(new, path)
    except sqlite3.Error as error:
        raise ArgumentError("folder", str(path.parent), f"one that can be written ({error})") from None
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def _readable(folder: str | os.PathLike[str]) -> Iterator[sqlite3.Connection]:
    path = Path(folder) / FILE
    if not os.path.isfile(path):
        raise ArgumentError("folder", str(folder), f"a folder that 'sweep' has written, with its {FILE}")
    with contextlib.ExitStack() as stack:
        if not os.access(path.parent, os.W_OK):
            # SQLite cannot read a ledger whose writer was killed without writing beside it
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for file in (path, path.with_name(f"{FILE}-wal")):
                if file.exists():
                    shutil.copyfile(file, copy / file.name)
            path = copy / FILE
        connection = stack.enter_context(_sound(path, str(folder)))
        connection.execute("PRAGMA query_only = 1")
        try:
            yield connection
        except (sqlite3.Error, json.JSONDecodeError, zipfile.BadZipFile) as error:
            raise ArgumentError("folder", str(folder), f"one whose {FILE} is a whole ledger ({error})") from None


@contextlib.contextmanager
def _sound(path: Path, shown: str = "") -> Iterator[sqlite3.Connection]:
    """A connection to a ledger that is one of ours, whole, and of a version that we know."""
    shown = shown or str(path.parent)
    with contextlib.ExitStack() as stack:
        try:
            uri = f"{path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30, check_same_thread=False)
            stack.enter_context(contextlib.closing(connection))
            application, version, words = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version", "quick_check")
            )
        except sqlite3.Error as error:
            raise ArgumentError("folder", shown, f"one whose {FILE} is a whole ledger ({error})") from None
        if application != _APPLICATION:
            raise ArgumentError("folder", shown, f"one whose {FILE} was written by this package")
        if version > SCHEMA_VERSION:
            allowed = f"one whose {FILE} this version can read, of schema {SCHEMA_VERSION} at most (it has {version})"
            raise ArgumentError("folder", shown, allowed)
        if words != "ok":
            raise ArgumentError("folder", shown, f"one whose {FILE} is a whole ledger ({words.splitlines()[0]})")
        yield connection


def _numbers_of_records(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT key, records FROM runs"))


def _entries(connection: sqlite3.Connection) -> Iterator[tuple[str, Entry]]:
    for row in connection.execute("SELECT * FROM points"):
        key, configuration, crossings, outcome, reason, started, seconds, provenance = row
        try:
            found = tuple(Emergence(*crossing) for crossing in json.loads(crossings))
            point, about = point_of(json.loads(configuration)), json.loads(provenance)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise sqlite3.DatabaseError(f"the point {key} cannot be read: {error}") from None
        yield key, Entry(point, found, outcome, reason, started, seconds, about)
