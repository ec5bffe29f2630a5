"""A sweep into a folder: what is computed, what is kept, and that the digits do not depend on how it went."""

import dataclasses
import os
import re
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor

import numpy as np
import pytest

from induction_dynamics.dynamics.emergence import crossing_targets, crossings_of_all
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling import study as module
from induction_dynamics.scaling.keys import key_of
from induction_dynamics.scaling.ledger import NOT_COMPUTED, open_ledger, read_ledger, read_runs, read_state
from induction_dynamics.scaling.plan import Grid
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.scaling.sweep import batches, run_batch, sweep
from induction_dynamics.task import Task

QUICK = Grid((4, 8, 16, 100), model=("circuit",)).points()


def full(seed=0, pairs=2, **options):
    return Point(Task(pairs), "full", seed=seed, **{"batch_size": 16, "step": 0.25, "horizon": 3.0} | options)


@pytest.fixture
def computed(monkeypatch):
    """The batches that are computed, by the real function."""
    found = []
    real = module.compute

    def compute(batch, tell=None):
        found.append(batch)
        return real(batch, tell)

    monkeypatch.setattr(module, "compute", compute)
    return found


def test_the_rows_are_those_of_a_sweep_in_memory(tmp_path):
    points = [*QUICK, full(), full(3)]
    asked = {"measures": ("beta_2", "loss"), "thresholds": (0.9, 0.1)}
    result = run_sweep(points, tmp_path, **asked)
    assert (result.computed, result.reused, result.failed) == (6, 0, [])
    expected = [vars(row) for row in sweep(points, **asked)]
    for row in expected:
        assert row in result.rows()
    assert len(result.rows()) == len(expected) == 6 * 3
    assert [entry.point for entry in result.entries] == points
    assert [row for entry in read_ledger(tmp_path) for row in entry.rows()] == result.rows()


def test_only_what_is_missing_is_computed(tmp_path, computed):
    first = run_sweep(QUICK[:2], tmp_path)
    again = run_sweep(QUICK[:2], tmp_path)
    more = run_sweep([*reversed(QUICK), full()], tmp_path)
    assert [(result.computed, result.reused) for result in (first, again, more)] == [(2, 0), (0, 2), (3, 2)]
    assert [[point.task.context_length for point in batch.points] for batch in computed] == [[4, 8], [16, 100], [2]]
    assert again.rows() == first.rows() == more.rows()[:8]
    other = run_sweep(QUICK[2:3], tmp_path)
    assert (other.computed, other.reused, len(other.rows())) == (0, 1, 4)
    assert len(read_ledger(tmp_path)) == 5


def test_new_thresholds_are_asked_beside_the_old(tmp_path, computed):
    run_sweep(QUICK[:1], tmp_path, thresholds=(0.5,))
    result = run_sweep(QUICK[:1], tmp_path, measures=("alpha_3",), thresholds=(0.1,))
    assert [(row["measure"], row["threshold"]) for row in result.rows()] == [("alpha_3", 0.1)]
    (entry,) = read_ledger(tmp_path)
    assert entry.targets == [("alpha_3", 0.1), ("alpha_3", 0.5), ("beta_2", 0.5), ("gamma_3", 0.5), ("loss", 0.5)]
    result = run_sweep(QUICK[:1], tmp_path)
    assert (result.computed, result.reused, len(computed)) == (0, 1, 2)


def test_provenance(tmp_path):
    run_sweep([QUICK[0], full()], tmp_path)
    for entry in read_ledger(tmp_path):
        assert entry.seconds > 0 and entry.started.endswith("+00:00")
        about = entry.provenance
        assert {"versions", "commit", "host", "device", "threads"} == set(about)
        assert about["versions"]["jax"] and about["threads"] >= 1 and "cores" in about["host"]


def test_records_are_kept_on_request(tmp_path, computed):
    run_sweep(QUICK[:2], tmp_path)
    assert read_runs(tmp_path) == {}
    assert run_sweep([*QUICK[:2], full()], tmp_path, records=8).computed == 3
    kept = read_runs(tmp_path)
    assert {len(run.time) for run in kept.values()} == {8}
    for point, run in kept.items():
        (expected,) = run_batch([point], crossing_targets(("alpha_3", "beta_2", "gamma_3", "loss"), (0.5,), (0.5,)))
        assert (run.time[0], run.time[-1]) == (0, expected.time[-1])
        np.testing.assert_array_equal(run.coordinates[-1], expected.coordinates[-1])
    assert run_sweep(QUICK[:2], tmp_path, records=4).computed == 0
    assert run_sweep(QUICK[:2], tmp_path, records=9).computed == 2
    assert set(read_runs(tmp_path)) == set(kept)


# Instances of every kind of batch that holds several points, or could.
KINDS = {
    "circuit, last": [Point(Task(n), "circuit") for n in (2, 3, 5, 300, 10**6)],
    "circuit, one pair": [Point(Task(1, dim), "circuit") for dim in (4, 6)],
    "circuit, uniform": [Point(Task(n, query="uniform"), "circuit") for n in (2, 3, 5, 7, 11, 13, 16)],
    "subspace, last": [Point(Task(n), "subspace") for n in (1, 2, 3, 5, 7, 16)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_digits_do_not_depend_on_companions(kind):
    """Each point alone, in all together, and at another place: the same to the last bit."""
    points = KINDS[kind]
    targets = crossing_targets(("alpha_3", "beta_2", "gamma_3", "loss"), (0.1, 0.5), (0.5,))

    def times(chosen):
        found = {}
        for places in batches(chosen):
            batch = [chosen[place] for place in places]
            for point, crossings in zip(batch, crossings_of_all(run_batch(batch, targets), targets), strict=True):
                found[point] = [crossing.time for crossing in crossings]
        return found

    together = times(points)
    for point in points:
        assert times([point])[point] == together[point]
    several = points[1:]
    assert times(several) == {point: together[point] for point in several}


def test_a_failure_is_kept_with_its_reason_and_retried_on_request(tmp_path, monkeypatch):
    def fail(batch, tell=None):
        if batch.points[0].model == "full":
            raise MemoryError("out of memory\nand more")
        return real(batch, tell)

    real = module.compute
    points = [QUICK[0], full()]
    with monkeypatch.context() as patch:
        patch.setattr(module, "compute", fail)
        result = run_sweep(points, tmp_path)
        assert [entry.outcome for entry in result.entries] == ["emerged", NOT_COMPUTED]
        assert [entry.reason for entry in result.failed] == ["MemoryError: out of memory"]
        assert {(row["time"], row["outcome"]) for row in result.rows()[4:]} == {(None, NOT_COMPUTED)}
    assert run_sweep(points, tmp_path).computed == 0
    assert run_sweep(points, tmp_path, records=3).computed == 1  # of the other
    again = run_sweep(points, tmp_path, retry_failed=True)
    assert (again.computed, again.failed) == (1, [])


def test_a_run_that_fails_is_an_outcome(tmp_path):
    point = full(step=80.0, horizon=2000.0)
    result = run_sweep([point], tmp_path, measures=("alpha_3",), thresholds=(1e6,))
    assert result.entries[0].outcome == "nonfinite"
    assert result.entries[0].reason == "the loss or a coordinate became infinite or NaN"
    asked = {"measures": ("alpha_3",), "thresholds": (1e6,)}
    assert run_sweep([point], tmp_path, **asked).computed == 0
    assert run_sweep([point], tmp_path, **asked, retry_failed=True).computed == 1


def test_progress_goes_from_what_is_there_to_all(tmp_path):
    run_sweep(QUICK[:1], tmp_path)
    told = []
    run_sweep([*QUICK, full(), full(1)], tmp_path, on_progress=lambda *words: told.append(words))
    done, totals, words = zip(*told, strict=True)
    assert list(done) == sorted(done) and (done[0], done[-1], set(totals)) == (1, 6, {6})
    assert words[0].startswith("circuit, query last, N = 8 to 100")


def test_an_interrupted_sweep_keeps_what_is_finished_and_goes_on(tmp_path, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    real = module.compute

    def compute(batch, tell=None):
        if batch.points[0].model == "full":
            begun.set()
            go.wait(60)
        return real(batch, tell)

    def interrupt():
        begun.wait(60)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(module, "compute", compute)
            threading.Thread(target=interrupt, daemon=True).start()
            started = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                run_sweep([*QUICK, full()], tmp_path)
            assert time.monotonic() - started < 30  # and not when the run is done
    finally:
        go.set()
        signal.signal(signal.SIGINT, before)
    assert len(read_ledger(tmp_path)) == len(QUICK)
    assert read_state(tmp_path)["ended"]["how"] == "interrupted"
    result = run_sweep([*QUICK, full()], tmp_path)
    assert (result.computed, result.reused) == (1, 4)
    assert read_state(tmp_path)["ended"]["how"] == "finished"


def test_an_executor_of_ones_own(tmp_path, computed):
    with ThreadPoolExecutor(3) as executor:
        result = run_sweep([*QUICK, full(), full(1)], tmp_path, executor=executor)
        assert executor.submit(int).result() == 0  # it is still its owner's
    assert result.computed == 6
    assert sorted(len(batch.points) for batch in computed) == [1, 1, 4]


def test_bad_arguments_leave_nothing(tmp_path):
    folder = tmp_path / "sweep"
    with pytest.raises(ArgumentError, match="thresholds must be"):
        run_sweep(QUICK, folder, thresholds=(-1.0,))
    assert not folder.exists()
    result = run_sweep([], folder)
    assert (result.computed, result.reused, result.rows()) == (0, 0, [])


def test_points_that_differ_in_nothing_that_matters_are_one(tmp_path, computed):
    points = [full(), dataclasses.replace(full(), accuracy=1e-3), dataclasses.replace(full(), samples=7)]
    flows = [QUICK[0], dataclasses.replace(QUICK[0], seed=3, batch_size=2, step=0.5, samples=9)]
    assert len(set(points)) == len(set(flows)) == 1
    assert run_sweep([*points, *flows], tmp_path).computed == 2
    assert len({key_of(point) for point in (*points, *flows)}) == len(read_ledger(tmp_path)) == 2


class Failing(Executor):
    """Of which every run fails in one way."""

    def __init__(self, error=None):
        self._error, self.futures = error, []

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        self.futures.append(future)
        if self._error is not None:
            future.set_exception(self._error)
        return future


def test_a_run_that_cannot_be_made_anew_leaves_what_there_was(tmp_path):
    before = run_sweep(QUICK[:1], tmp_path, records=4).entries[0]
    kept = read_runs(tmp_path)
    result = run_sweep(QUICK[:1], tmp_path, thresholds=(0.9,), executor=Failing(MemoryError("none")))
    (entry,) = read_ledger(tmp_path)
    assert entry.failed and entry.lacking and entry.reason == "MemoryError: none"
    assert (entry.outcome, entry.seconds) == (before.outcome, before.seconds)
    assert {(row["threshold"], row["outcome"]) for row in result.rows()} == {(0.9, NOT_COMPUTED), (0.5, "emerged")}
    assert [one for one in entry.crossings if one.threshold == 0.5] == list(before.crossings)
    assert read_runs(tmp_path).keys() == kept.keys()
    again = run_sweep(QUICK[:1], tmp_path, thresholds=(0.9,), retry_failed=True)
    assert (again.computed, again.failed) == (1, [])
    assert [one for one in again.entries[0].crossings if one.threshold == 0.5] == list(before.crossings)


def test_records_are_those_of_the_last_run(tmp_path):
    run_sweep(QUICK[3:], tmp_path, measures=("gamma_3",), thresholds=(0.1,), records=4)
    (short,) = read_runs(tmp_path).values()
    run_sweep(QUICK[3:], tmp_path, measures=("gamma_3",), thresholds=(0.1, 0.9))
    (long,) = read_runs(tmp_path).values()
    assert len(long.time) == 4 and long.time[-1] > short.time[-1]
    assert run_sweep(QUICK[3:], tmp_path, measures=("gamma_3",), thresholds=(0.1,), records=4).computed == 0


@pytest.mark.parametrize("error", [BrokenExecutor("gone"), CancelledError()])
def test_an_executor_that_breaks_is_no_failure_of_points(tmp_path, error):
    with pytest.raises(BrokenExecutor, match="The executor broke; what it had computed is kept."):
        run_sweep(QUICK, tmp_path, executor=Failing(error))
    assert read_ledger(tmp_path) == []
    assert read_state(tmp_path)["ended"]["how"] == "interrupted"


def test_what_waits_is_cancelled_when_the_driver_fails(tmp_path):
    def fail(*words):
        raise OSError("no terminal")

    executor = Failing()
    with pytest.raises(OSError, match="no terminal"):
        run_sweep([full(), full(1)], tmp_path, executor=executor, on_progress=fail)
    assert len(executor.futures) == 2 and all(future.cancelled() for future in executor.futures)


def test_lost_batches_come_back_in_their_order(tmp_path):
    waiting = [module.Batch((full(seed),), (("alpha_3", 0.5),), 0) for seed in range(40)]
    with open_ledger(tmp_path) as ledger:
        driver = module._Driver(ledger, {}, waiting, 40, None)
        assert driver._hand_out(Failing(BrokenExecutor("gone")), waiting) == waiting


@pytest.mark.parametrize(
    "options, message",
    [
        ({"workers": 0}, "workers must be a whole number, at least 1; got 0."),
        ({"threads": 0}, "threads must be a whole number, at least 1; got 0."),
        ({"records": -1}, "records must be a whole number, at least 0; got -1."),
    ],
)
def test_bad_options_leave_nothing(tmp_path, options, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        run_sweep(QUICK, tmp_path / "sweep", **options)
    assert list(tmp_path.iterdir()) == []
