"""Several devices, and several processes that are one computation."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from induction_dynamics.cli.options import DeviceOptions
from induction_dynamics.cli.refusal import FAILED, Refusal
from induction_dynamics.errors import in_words

_PATIENCE = 60  # seconds in which several processes find each other


def join_processes(options: DeviceOptions) -> None:
    """Make several processes one computation, if there are any.

    Raises:
        Refusal: with status 1, if they do not find each other.
    """
    if options.coordinator is None:
        return
    import jax

    try:
        jax.distributed.initialize(
            options.coordinator, options.processes, options.process, initialization_timeout=_PATIENCE
        )
    except Exception as error:
        where = options.coordinator
        raise Refusal(f"The processes do not find each other at {where}: {in_words(error)}", FAILED) from None


@contextlib.contextmanager
def together(options: DeviceOptions) -> Iterator[None]:
    """Say in a sentence, within the block, that another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if options.coordinator is None:
            raise
        sentence = f"The processes have lost each other, as when one of them ends: {in_words(error)}"
        raise Refusal(sentence, FAILED) from None


@contextlib.contextmanager
def answers_alone(options: DeviceOptions) -> Iterator[None]:
    """Send to standard error what libraries of several processes say on standard output of their connections."""
    if options.coordinator is None:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def devices_of(options: DeviceOptions, kind: str) -> Sequence[Any]:
    """The devices that share each batch; none is as good as one.

    Args:
        options: how many.
        kind: `cpu`, `gpu` or `tpu`.

    Raises:
        Refusal: there are not as many.
    """
    import jax

    if options.devices is None and options.coordinator is None:
        return ()
    found = jax.devices(kind)
    wanted = options.devices or len(found)
    if wanted > len(found):
        words = f"at most the number of devices that jax finds, which is {len(found)}"
        raise Refusal(f"--devices must be {words}; got '{wanted}'.")
    if options.coordinator is not None and wanted < len(found):
        raise Refusal(f"--devices must be all of those of several processes, which are {len(found)}; got '{wanted}'.")
    return found[:wanted]
