"""A sweep into a folder: what its ledger lacks is computed, by this process or by others, and kept point by point."""

import contextlib
import dataclasses
import datetime
import os
import platform
import queue
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any, NamedTuple

import jax

from induction_dynamics import provenance
from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES, Emergence, crossing_targets, crossings_of_all
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling import workers as workplaces
from induction_dynamics.scaling.keys import key_of, point_order
from induction_dynamics.scaling.ledger import NOT_COMPUTED, Entry, Ledger, Records, open_ledger, target_order
from induction_dynamics.scaling.plan import estimate, seconds_of
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.sweep import Progress, batches, describe_batch, run_batch
from induction_dynamics.scaling.workers import threads_here
from induction_dynamics.task import require_float64
from induction_dynamics.training.pace import duration

Target = tuple[str, float]

_PAYS = 60.0  # seconds of work from which on further processes save more than it takes to begin them
_BEAT = 1.0  # seconds between two looks at what is at work
_INHERITED = (
    "jax_enable_x64",
    "jax_platforms",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)
_REASONS = {
    "solver_failed": "the solver gave up before the horizon",
    "nonfinite": "the loss or a coordinate became infinite or NaN",
}


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """What a sweep into a folder was asked for.

    Args:
        entries: of the points asked for, in the order of the ledger's tables.
        targets: measures and thresholds asked for.
        computed: how many of the points were computed now.
        reused: how many were there already.

    Example:
        >>> import jax, tempfile
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = idyn.run_sweep([idyn.Point(idyn.Task(8), "circuit")], folder, measures=["alpha_3", "loss"])
        >>> for row in result.rows():
        ...     print(row["measure"], f"{row['time']:.1f}", row["outcome"])
        alpha_3 233.2 emerged
        loss 316.8 emerged
        >>> result.failed
        []
    """

    entries: list[Entry]
    targets: list[Target]
    computed: int
    reused: int

    @property
    def failed(self) -> list[Entry]:
        """Points whose runs failed, now or earlier."""
        return [entry for entry in self.entries if entry.failed]

    def rows(self) -> list[dict[str, Any]]:
        """The table that was asked for, see `Entry.rows`."""
        targets = set(self.targets)
        return [row for entry in self.entries for row in entry.rows(targets)]


def run_sweep(
    points: Iterable[Point],
    folder: str | os.PathLike[str],
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    thresholds: Sequence[float] = (0.5,),
    loss_fractions: Sequence[float] = (0.5,),
    workers: int | None = 1,
    threads: int = 1,
    executor: Executor | None = None,
    records: int = 0,
    retry_failed: bool = False,
    on_progress: Progress | None = None,
) -> SweepResult:
    """Emergence times of all points, of which those that the folder's ledger lacks are computed and written to it.

    Each point is in the ledger as soon as its batch is done: a sweep that is interrupted, or killed, goes on from there
    when it is called again. A point's digits depend neither on the points beside it, nor on the number of workers, nor
    on interruptions; those of a training depend on the number of threads. Where new measures or thresholds are asked of
    a point, its run is made again and waits for the old ones too, with as many records kept as before.

    Args:
        points: what to run.
        folder: where the ledger lies, or will.
        measures: coordinate names or `loss`.
        thresholds: for the coordinates, finite and above 0.
        loss_fractions: for the loss, strictly between 0 and 1.
        workers: number of processes; 1 computes in this one, in as many threads as jax has been given in it, and None
            stands for one process on each core if the work takes more than a minute, else 1.
        threads: of each further process.
        executor: computes instead of `workers`; such as the one of a Dask client, `client.get_executor()`. Its
            processes need float64 (`JAX_ENABLE_X64=1`) for reduced flows.
        records: how many records of each run are kept (`load_sweep`), the first and the last among them; 0 for none.
        retry_failed: compute points again whose runs failed.
        on_progress: see `Progress`.

    Raises:
        ArgumentError: a value out of range, or a folder that is refused (`open_ledger`). A run that fails is no
            exception but the outcome of its rows.
        ValueError: there are reduced flows to run, or trainings in float64, and jax_enable_x64 is off.
        RuntimeError: new processes cannot be begun; nothing was written.
        BrokenExecutor: the executor given broke; what it had computed is there.
        OSError: the ledger cannot be written any more; what was written is there.

    Example:
        >>> import jax, tempfile
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = idyn.run_sweep(idyn.Grid((4, 8), model=("circuit",)).points(), folder)
        ...     more = idyn.run_sweep(idyn.Grid((4, 8, 16), model=("circuit",)).points(), folder, measures=["loss"])
        >>> first.computed, more.computed, more.reused
        (2, 1, 2)
        >>> [f"{row['time']:.1f}" for row in more.rows()]
        ['82.9', '316.8', '1251.5']
    """
    targets = crossing_targets(measures, thresholds, loss_fractions)
    for name, value, low in (("workers", workers, 1), ("threads", threads, 1), ("records", records, 0)):
        if value is not None and value < low:
            raise ArgumentError(name, value, f"a whole number, at least {low}")
    points = sorted(dict.fromkeys(points), key=point_order)
    if any(point.model != "full" or point.dtype == "float64" for point in points):
        require_float64("Reduced flows, and trainings in float64, need")
    with open_ledger(folder) as ledger:
        known = ledger.entries(points)
        kept = ledger.records()
        asked: dict[tuple[tuple[Target, ...], int], list[Point]] = {}
        for point in points:
            if not is_there(known.get(point), targets, records, kept, retry_failed):
                wanted = {*targets, *(known[point].targets if point in known else ())}
                most = max(records, kept.get(key_of(point), 0))
                asked.setdefault((tuple(sorted(wanted, key=target_order)), most), []).append(point)
        batches_asked = [
            Batch(tuple(group[place] for place in places), *wanted)
            for wanted, group in asked.items()
            for places in batches(group)
        ]
        if workers is None:
            work = estimate([point for batch in batches_asked for point in batch.points], targets)
            pays = work.seconds + work.compiling > _PAYS and len(batches_asked) > 1
            workers = max(workplaces.cores() // threads, 1) if pays else 1
        _Driver(ledger, known, batches_asked, len(points), on_progress).run(workers, threads, executor)
        found = ledger.entries(points)
    computed = sum(len(batch.points) for batch in batches_asked)
    return SweepResult([found[point] for point in points], targets, computed, len(points) - computed)


class Batch(NamedTuple):
    """What is computed at once: points together, what is asked of them, and how many records of each are kept."""

    points: tuple[Point, ...]
    targets: tuple[Target, ...]
    records: int


class Finished(NamedTuple):
    """What came of a batch."""

    crossings: list[list[Emergence]]
    outcomes: list[str]
    records: list[Records]
    started: str
    seconds: float
    provenance: dict[str, Any]


def compute(batch: Batch, tell: Callable[[str], None] | None = None) -> Finished:
    """Run a batch; what a worker does.

    Args:
        batch: of points that go together.
        tell: see `run_batch`.
    """
    started, begun = _now(), time.perf_counter()
    runs = run_batch(batch.points, batch.targets, tell)
    crossings = crossings_of_all(runs, batch.targets)
    kept = [Records.of(run, batch.records) for run in runs] if batch.records else []
    outcomes = [run.outcome for run in runs]
    return Finished(crossings, outcomes, kept, started, time.perf_counter() - begun, provenance_here())


def provenance_here() -> dict[str, Any]:
    """Versions, commit, kind of host, device and threads that this process computes with."""
    where = {"host": provenance.host_kind(), "device": jax.devices()[0].device_kind, "threads": threads_here()}
    return {"versions": provenance.versions(), "commit": provenance.commit(), **where}


def is_there(
    entry: Entry | None, targets: Collection[Target], records: int, kept: Mapping[str, int], retry_failed: bool
) -> bool:
    """Whether a ledger holds what is asked of a point.

    Args:
        entry: what it holds of the point.
        targets: measures and thresholds asked for.
        records: how many are asked for.
        kept: numbers of records that are kept, by key (`ledger.read_numbers_of_records`).
        retry_failed: whether what failed is to be computed again.
    """
    if entry is None or (retry_failed and entry.failed) or not set(targets) <= set(entry.targets):
        return False
    return not records or entry.outcome == NOT_COMPUTED or kept.get(key_of(entry.point), 0) >= records


class _Driver:
    """Hands out batches, and writes what comes back."""

    def __init__(
        self,
        ledger: Ledger,
        known: Mapping[Point, Entry],
        waiting: Sequence[Batch],
        points: int,
        on_progress: Progress | None,
    ):
        self._ledger = ledger
        self._known = known
        self._waiting = list(waiting)
        self._points = points
        self._tell = on_progress or (lambda done, total, words: None)
        self._left = {point: seconds_of(point, batch.targets) for batch in waiting for point in batch.points}
        self._cost = sum(self._left.values())
        self._done = points - len(self._left)
        self._begun = time.perf_counter()
        self._beaten = -_BEAT
        self._training = ""

    def run(self, workers: int, threads: int, executor: Executor | None) -> None:
        """Compute all batches."""
        if not self._waiting:
            self._tell(self._done, self._points, "")
            return
        me = {"process": os.getpid(), "host": platform.node(), "started": _now()}
        self._ledger.tell(driver=me, ended=None, points=self._points, reused=self._done)
        end = "interrupted"
        try:
            if executor is not None:
                if self._hand_out(executor, self._waiting):
                    raise BrokenExecutor("The executor broke; what it had computed is kept.")
            elif workers == 1:
                with workplaces.in_process() as one:
                    self._hand_out(one, self._waiting, lambda words: setattr(self, "_training", words))
            else:
                self._with_processes(workers, threads)
            end = "finished"
        finally:
            with contextlib.suppress(OSError):
                self._ledger.tell(ended={"how": end, "at": _now()})

    def _with_processes(self, workers: int, threads: int) -> None:
        # the longest first, lest one works while the others have nothing left
        waiting = sorted(self._waiting, key=lambda batch: -sum(self._left[point] for point in batch.points))
        while waiting:
            lost = self._in_new_processes(waiting, min(workers, len(waiting)), threads)
            # Any of those that had been begun may have brought its process down: which one, each shows alone.
            for batch in lost[:workers]:
                self._alone(batch, threads)
            waiting = lost[workers:]

    def _in_new_processes(self, waiting: Sequence[Batch], count: int, threads: int) -> list[Batch]:
        settings = {name: getattr(jax.config, name, None) for name in _INHERITED}
        settings = {name: value for name, value in settings.items() if value is not None}
        with workplaces.processes(count, threads, settings) as pool:
            try:
                pool.submit(int).result()
            except BrokenExecutor:
                # of no point's making
                raise RuntimeError(
                    "New processes end as they begin: a script that computes with several calls run_sweep below "
                    "if __name__ == '__main__'."
                ) from None
            return self._hand_out(pool, waiting)

    def _alone(self, batch: Batch, threads: int) -> None:
        """Compute a batch in a process of its own; if that dies, its points one by one."""
        if not self._in_new_processes([batch], 1, threads):
            return
        if len(batch.points) == 1:
            self._failed(batch, "the process that computed it was killed, or out of memory")
        else:
            for point in batch.points:
                self._alone(batch._replace(points=(point,)), threads)

    def _hand_out(
        self, executor: Executor, waiting: Sequence[Batch], tell: Callable[[str], None] | None = None
    ) -> list[Batch]:
        """Compute batches; return those that were lost with what computed them, in their order."""
        further = () if tell is None else (tell,)
        done: queue.SimpleQueue[Future[Finished]] = queue.SimpleQueue()
        futures: dict[Future[Finished], Batch] = {}
        lost: list[Batch] = []
        try:
            for batch in waiting:
                try:
                    future = executor.submit(compute, batch, *further)
                except BrokenExecutor:
                    lost.append(batch)
                    continue
                futures[future] = batch
                future.add_done_callback(done.put)
            while futures:
                self._beat(next(iter(futures.values())))
                with contextlib.suppress(queue.Empty):
                    future = done.get(timeout=_BEAT)
                    lost += self._take(future, futures.pop(future))
        except KeyboardInterrupt:
            # first, lest more is begun while what is finished is written
            for future in futures:
                future.cancel()
            while not done.empty():
                future = done.get()
                self._take(future, futures.pop(future))
            raise
        finally:
            for future in futures:
                future.cancel()
        places = set(map(id, lost))
        return [batch for batch in waiting if id(batch) in places]

    def _take(self, future: "Future[Finished]", batch: Batch) -> list[Batch]:
        """Write what came of a batch; return it if it was lost."""
        error = CancelledError() if future.cancelled() else future.exception()
        if isinstance(error, BrokenExecutor | CancelledError):
            return [batch]
        if error is not None:
            self._failed(batch, (f"{type(error).__name__}: {error}".splitlines() or [""])[0])
        else:
            self._write(batch, future.result())
        return []

    def _write(self, batch: Batch, finished: Finished) -> None:
        seconds = finished.seconds / len(batch.points)
        kept = finished.records or [None] * len(batch.points)
        for point, crossings, outcome, records in zip(
            batch.points, finished.crossings, finished.outcomes, kept, strict=True
        ):
            about = _REASONS.get(outcome, ""), finished.started, seconds, finished.provenance
            self._ledger.put(Entry(point, tuple(crossings), outcome, *about), records, batch.records)
        self._finish(batch)

    def _failed(self, batch: Batch, reason: str) -> None:
        """Write that there is nothing, beside what there was."""
        for point in batch.points:
            known = self._known.get(point)
            there = {} if known is None else dict(zip(known.targets, known.crossings, strict=True))
            lacking = {target: Emergence(*target, None, NOT_COMPUTED, None) for target in batch.targets}
            crossings = tuple((lacking | there).values())
            if known is None or known.outcome == NOT_COMPUTED:
                entry = Entry(point, crossings, NOT_COMPUTED, reason, _now(), 0.0, provenance_here())
            else:
                entry = dataclasses.replace(known, crossings=crossings, reason=reason)
            self._ledger.put(entry, keep_run=True)
        self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        for point in batch.points:
            self._left.pop(point)
        self._done += len(batch.points)
        self._training = ""
        self._tell(self._done, self._points, describe_batch(batch.points))

    def _beat(self, oldest: Batch) -> None:
        """Say how far it is, here and in the ledger."""
        now = time.perf_counter()
        if now - self._beaten < _BEAT:
            return
        self._beaten = now
        share = 1 - sum(self._left.values()) / self._cost
        seconds = (now - self._begun) * (1 - share) / share if share > 0 else None
        words = describe_batch(oldest.points) + self._training
        self._ledger.tell(progress={"done": self._done, "words": words, "seconds_left": seconds, "updated": _now()})
        about = "" if seconds is None or seconds < 10 else f", about {duration(seconds)} left"
        self._tell(self._done, self._points, words + about)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
