"""A sweep into a folder: what its ledger lacks is computed, by this process or by others, and kept point by point."""

import contextlib
import dataclasses
import datetime
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any, NamedTuple

import jax

from induction_dynamics import provenance
from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES, Emergence, crossing_targets, crossings_of_all
from induction_dynamics.scaling import workers as workplaces
from induction_dynamics.scaling.ledger import (
    NOT_COMPUTED,
    Entry,
    Ledger,
    Records,
    key_of,
    open_ledger,
    point_order,
    target_order,
)
from induction_dynamics.scaling.plan import duration, estimate, seconds_of
from induction_dynamics.scaling.sweep import Point, Progress, batches, describe_batch, run_batch
from induction_dynamics.task import require_float64

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
    a point, its run is made again and waits for the old ones too.

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
        ValueError: there are reduced flows to run and jax_enable_x64 is off.
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
        ['82.9', '318.4', '1251.5']
    """
    targets = crossing_targets(measures, thresholds, loss_fractions)
    points = sorted(dict.fromkeys(points), key=point_order)
    if any(point.model != "full" for point in points):
        require_float64("Reduced flows need")
    with open_ledger(folder) as ledger:
        known = ledger.entries(points)
        kept = ledger.records() if records else {}

        def there(point: Point) -> bool:
            entry = known.get(point)
            if entry is None or (retry_failed and entry.failed) or not set(targets) <= set(entry.targets):
                return False
            return not records or entry.outcome == NOT_COMPUTED or kept.get(key_of(point), 0) >= records

        asked: dict[tuple[Target, ...], list[Point]] = {}
        for point in points:
            if not there(point):
                wanted = {*targets, *(known[point].targets if point in known else ())}
                asked.setdefault(tuple(sorted(wanted, key=target_order)), []).append(point)
        batches_asked = [
            Batch(tuple(group[place] for place in places), wanted, records)
            for wanted, group in asked.items()
            for places in batches(group)
        ]
        if workers is None:
            work = estimate([point for batch in batches_asked for point in batch.points], targets)
            pays = work.seconds + work.compiling > _PAYS and len(batches_asked) > 1
            workers = max(workplaces.cores() // threads, 1) if pays else 1
        driver = _Driver(ledger, batches_asked, len(points), on_progress)
        driver.compute(workers, threads, executor)
        found = ledger.entries(points)
    computed = sum(len(batch.points) for batch in batches_asked)
    return SweepResult([found[point] for point in points], targets, computed, len(points) - computed)


class Batch(NamedTuple):
    """What is computed at once: points side by side, what is asked of them, and how many records of each are kept."""

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


def compute(batch: Batch, tell: Callable[[str], None] | None = None) -> Finished:
    """Run a batch; what a worker does.

    Args:
        batch: of points that go side by side.
        tell: see `run_batch`.
    """
    started, begun = _now(), time.perf_counter()
    runs = run_batch(batch.points, batch.targets, tell)
    crossings = crossings_of_all(runs, batch.targets)
    kept = [Records.of(run, batch.records) for run in runs] if batch.records else []
    return Finished(crossings, [run.outcome for run in runs], kept, started, time.perf_counter() - begun)


class _Driver:
    """Hands out batches, and writes what comes back."""

    def __init__(self, ledger: Ledger, waiting: Sequence[Batch], points: int, on_progress: Progress | None):
        self._ledger = ledger
        self._waiting = list(waiting)
        self._points = points
        self._tell = on_progress or (lambda done, total, words: None)
        self._left = {id(batch): sum(seconds_of(one, batch.targets) for one in batch.points) for batch in waiting}
        self._cost = sum(self._left.values())
        self._done = points - sum(len(batch.points) for batch in waiting)
        self._begun = time.perf_counter()
        self._beaten = -_BEAT
        self._training = ""
        device = jax.devices()[0].device_kind
        where = {"host": provenance.host_kind(), "device": device}
        self._provenance = {"versions": provenance.versions(), "commit": provenance.commit(), **where}

    def compute(self, workers: int, threads: int, executor: Executor | None) -> None:
        """Compute all batches."""
        if not self._waiting:
            self._tell(self._done, self._points, "")
            return
        started = _now()
        me = {"process": os.getpid(), "host": platform.node(), "started": started}
        self._ledger.tell(driver=me, ended=None, points=self._points, reused=self._done)
        end = "interrupted"
        try:
            if executor is not None:
                self._hand_out(executor, self._waiting)
            elif workers == 1:
                self._provenance["threads"] = int(os.environ.get("NPROC", workplaces.cores()))
                with workplaces.in_process() as one:
                    self._hand_out(one, self._waiting, lambda words: setattr(self, "_training", words))
            else:
                self._with_processes(workers, threads)
            end = "finished"
        finally:
            with contextlib.suppress(OSError):
                self._ledger.tell(ended={"how": end, "at": _now()})

    def _with_processes(self, workers: int, threads: int) -> None:
        self._provenance["threads"] = threads
        settings = {name: getattr(jax.config, name, None) for name in _INHERITED}
        settings = {name: value for name, value in settings.items() if value is not None}
        # the longest first, lest one works while the others have nothing left
        waiting = sorted(self._waiting, key=lambda batch: -self._left[id(batch)])
        while waiting:
            with workplaces.processes(min(workers, len(waiting)), threads, settings) as pool:
                lost = self._hand_out(pool, waiting)
            # Any of those that had been begun may have brought its process down: which one, each shows alone.
            for batch in lost[:workers]:
                with workplaces.processes(1, threads, settings) as pool:
                    if self._hand_out(pool, [batch]):
                        self._failed(batch, "the process that computed it was killed, or out of memory")
            waiting = lost[workers:]

    def _hand_out(
        self, executor: Executor, waiting: Sequence[Batch], tell: Callable[[str], None] | None = None
    ) -> list[Batch]:
        """Compute batches; return those that were lost with the process that computed them."""
        further = () if tell is None else (tell,)
        futures: dict[Future[Finished], Batch] = {executor.submit(compute, each, *further): each for each in waiting}
        lost: list[Batch] = []
        while futures:
            self._beat(next(iter(futures.values())))
            for future in wait(futures, timeout=_BEAT, return_when=FIRST_COMPLETED).done:
                batch = futures.pop(future)
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    lost.append(batch)
                elif error is not None:
                    self._failed(batch, f"{type(error).__name__}: {error}".splitlines()[0])
                else:
                    self._write(batch, future.result())
        return lost

    def _write(self, batch: Batch, finished: Finished) -> None:
        seconds = finished.seconds / len(batch.points)
        kept = finished.records or [None] * len(batch.points)
        for point, crossings, outcome, records in zip(
            batch.points, finished.crossings, finished.outcomes, kept, strict=True
        ):
            about = _REASONS.get(outcome, ""), finished.started, seconds, self._provenance
            self._ledger.put(Entry(point, tuple(crossings), outcome, *about), records, batch.records)
        self._finish(batch)

    def _failed(self, batch: Batch, reason: str) -> None:
        crossings = tuple(Emergence(*target, None, NOT_COMPUTED, None) for target in batch.targets)
        for point in batch.points:
            self._ledger.put(Entry(point, crossings, NOT_COMPUTED, reason, _now(), 0.0, self._provenance))
        self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        self._left.pop(id(batch))
        self._done += len(batch.points)
        self._training = ""
        self._tell(self._done, self._points, describe_batch(batch.points))

    def _beat(self, oldest: Batch) -> None:
        """Say how far it is, here and in the ledger."""
        now = time.perf_counter()
        if now - self._beaten < _BEAT:
            return
        self._beaten = now
        left = sum(self._left.values())
        share = 1 - left / self._cost
        seconds = (now - self._begun) * (1 - share) / share if share > 0 else None
        words = describe_batch(oldest.points) + self._training
        self._ledger.tell(progress={"done": self._done, "words": words, "seconds_left": seconds, "updated": _now()})
        about = "" if seconds is None or seconds < 10 else f", about {duration(seconds)} left"
        self._tell(self._done, self._points, words + about)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
