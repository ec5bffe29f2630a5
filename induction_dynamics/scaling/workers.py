"""Where the batches of a sweep are computed: in this process, or by several that share the cores.

Nothing here imports jax before it is known how many threads it may use.
"""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.connection import wait
from typing import Any

_THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def use_threads(threads: int) -> None:
    """Have jax compute in so many threads, if it has not been used in this process yet.

    The digits of a training depend on their number, since sums over a batch are split among them.

    Args:
        threads: how many, at least 1.
    """
    for name in _THREADS:
        os.environ[name] = str(threads)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_here() -> int:
    """How many threads jax computes in, in this process, once it has begun."""
    given = os.environ.get("NPROC", "")
    return int(given) if given.isdecimal() and int(given) > 0 else cores()


@contextlib.contextmanager
def in_process() -> Iterator[Executor]:
    """One thread of this process, so that the one that waits for it can be interrupted at any moment."""
    executor = ThreadPoolExecutor(1)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def processes(workers: int, threads: int, settings: Mapping[str, Any] | None = None) -> Iterator[Executor]:
    """New processes that end with this one, however it ends.

    Args:
        workers: how many processes.
        threads: how many threads each of them computes in.
        settings: of jax in each (`jax.config`).
    """
    # never forked: jax has threads of its own, which a fork loses
    context = multiprocessing.get_context("spawn")
    end, lifeline = context.Pipe(duplex=False)
    arguments: tuple[Any, ...] = end, threads, dict(settings or {})
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=arguments)
    try:
        yield executor
    except BaseException:
        lifeline.close()  # the processes end now: what they have begun shall not be waited for
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        lifeline.close()
        end.close()


def _begin(end: Any, threads: int, settings: Mapping[str, Any]) -> None:
    """Prepare a new process."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the process that began this one ends it
    threading.Thread(target=_end_with, args=(end,), daemon=True).start()
    use_threads(threads)
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # which jax sets it to
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import jax

    for name, value in settings.items():
        jax.config.update(name, value)


def _end_with(end: Any) -> None:
    """End this process, whatever it is at, once the other end of the pipe is closed, be it by a kill."""
    wait([end])
    os._exit(1)
