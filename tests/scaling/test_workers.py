"""Processes that share the work: the same digits, every point once, and none left behind."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from induction_dynamics.scaling import study as module
from induction_dynamics.scaling import workers
from induction_dynamics.scaling.ledger import NOT_COMPUTED, read_ledger
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.task import Task


def full(seed, pairs=2, **options):
    return Point(Task(pairs), "full", seed=seed, **{"batch_size": 16, "step": 0.25, "horizon": 3.0} | options)


# Enough for a kill in the midst of it: some seconds for each of two processes, most of them compiling.
POINTS = [*(full(seed, 3, batch_size=256) for seed in range(8)), *(Point(Task(n), "circuit") for n in (4, 8))]

ALONE = """
import sys
from induction_dynamics.scaling.workers import use_threads
use_threads(1)
import jax
jax.config.update("jax_enable_x64", True)
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.scaling.points import Point
from induction_dynamics.task import Task
points = [Point(Task(3), "full", seed=seed, batch_size=256, step=0.25, horizon=3.0) for seed in range(8)]
run_sweep([*points, *(Point(Task(n), "circuit") for n in (4, 8))], sys.argv[1])
"""


def rows(folder):
    return [row for entry in read_ledger(folder) for row in entry.rows()]


@pytest.mark.slow
def test_digits_do_not_depend_on_the_number_of_processes_nor_on_one_that_is_killed(tmp_path):
    """One thread of one process, and two processes of one thread, of which one is killed at work."""
    subprocess.run([sys.executable, "-c", ALONE, tmp_path / "alone"], check=True, timeout=300)
    killed: list[int] = []

    def kill():
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and not killed:
            time.sleep(0.05)
            with contextlib.suppress(Exception):
                done = len(read_ledger(tmp_path / "several"))
                spawned = [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]
                if 2 <= done < len(POINTS) - 2 and spawned:
                    spawned[0].kill()
                    killed.append(done)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = run_sweep(POINTS, tmp_path / "several", workers=2, threads=1)
    killer.join(1)
    assert killed, "the sweep was done before a process could be killed"
    assert (result.computed, result.failed) == (len(POINTS), [])
    assert rows(tmp_path / "several") == rows(tmp_path / "alone")
    assert {entry.provenance["threads"] for entry in result.entries} == {1}
    assert not [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]


class Pool(Executor):
    """Computes at once, but breaks at some batches, and then at all that is waiting."""

    def __init__(self, breaks, sizes):
        self._breaks, self._sizes, self._broken, self._count = breaks, sizes, False, 0

    def submit(self, fn, /, *args, **kwargs):
        if fn is int:  # whether a process can be begun at all
            future: Future = Future()
            future.set_result(0)
            return future
        (batch,) = args
        future = Future()
        self._broken |= self._breaks(batch)
        if self._broken:
            future.set_exception(BrokenProcessPool("killed"))
        else:
            future.set_result(fn(batch, **kwargs))
        self._count += 1
        self._sizes.append(self._count)
        return future


def test_a_batch_that_always_kills_its_process_fails_and_no_other(tmp_path, monkeypatch):
    sizes: list[int] = []
    poison = full(2)

    @contextlib.contextmanager
    def processes(count, threads, settings):
        assert (threads, settings["jax_enable_x64"]) == (3, True)
        yield Pool(lambda batch: poison in batch.points, sizes)

    monkeypatch.setattr(workers, "processes", processes)
    points = [full(seed) for seed in range(5)]
    result = run_sweep(points, tmp_path, workers=2, threads=3)
    outcomes = {entry.point.seed: entry.outcome for entry in result.entries}
    assert outcomes.pop(2) == NOT_COMPUTED and NOT_COMPUTED not in outcomes.values()
    assert [entry.reason for entry in result.failed] == ["the process that computed it was killed, or out of memory"]
    assert max(sizes) == 5 and sizes.count(1) >= 2  # and then alone


def test_several_processes_where_it_pays(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module._Driver, "run", lambda self, count, *rest: asked.append(count))
    monkeypatch.setattr(workers, "cores", lambda: 6)
    long = [full(seed, 16, horizon=12.0, batch_size=256) for seed in range(3)]
    for points, threads in (([full(0)], 1), (long, 1), (long, 4), (long[:1], 1), ([], 1)):
        with contextlib.suppress(KeyError):
            run_sweep(points, tmp_path, workers=None, threads=threads)
    assert asked == [1, 6, 1, 1, 1]


KILLED = """
import os, sys, time
from induction_dynamics.scaling.workers import processes
if __name__ == "__main__":
    with processes(2, 1) as pool:
        print(*{pool.submit(os.getpid).result() for _ in range(8)}, flush=True)
        for _ in range(2):
            pool.submit(time.sleep, 600)
        time.sleep(0.5)
        os.kill(os.getpid(), 9)
"""


def test_processes_end_with_the_one_that_began_them(tmp_path):
    (tmp_path / "script.py").write_text(KILLED)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=100)
    assert done.returncode == -9
    begun = [int(word) for word in done.stdout.split()]
    assert begun
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(number) for number in begun):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_threads_are_set_where_jax_reads_them(monkeypatch):
    for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    workers.use_threads(3)
    assert os.environ["NPROC"] == os.environ["OMP_NUM_THREADS"] == "3"
    assert 1 <= workers.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_waited_for_after_a_failure(error):
    started = time.monotonic()
    with pytest.raises(error):
        with workers.processes(1, 1) as pool:
            pool.submit(time.sleep, 600)
            time.sleep(0.2)
            raise error
    assert time.monotonic() - started < 60
