"""States of a training in its output folder: options that go together, the folder, and what is said of them."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.folder import claimed
from induction_dynamics.cli.options import CheckpointOptions
from induction_dynamics.cli.refusal import FAILED, Refusal
from induction_dynamics.cli.values import quoted
from induction_dynamics.errors import ArgumentError

if TYPE_CHECKING:
    from induction_dynamics.training.saving import Checkpoints

STATES = "checkpoints"
"""Folder within the output folder for the states that a run goes on from."""


def check_saving(saving: CheckpointOptions) -> None:
    """Refuse options that say nothing without another.

    Args:
        saving: where and how often.

    Raises:
        Refusal: see above.
    """
    if saving.checkpoint_every and not saving.output:
        raise Refusal("--checkpoint-every must come with --output, the folder that states are saved in.")
    if saving.resume and not (saving.output and saving.checkpoint_every):
        raise Refusal("--resume must come with --output and --checkpoint-every, as the run that is to go on did.")


def check_keep(saving: CheckpointOptions) -> None:
    """Refuse a number of states to be kept where none are saved.

    Args:
        saving: where and how often.

    Raises:
        Refusal: see above.
    """
    if saving.keep != CheckpointOptions().keep and not saving.checkpoint_every:
        raise Refusal("--keep must come with --checkpoint-every, which says how often states are saved.")


@contextlib.contextmanager
def claimed_folder(saving: CheckpointOptions, config: dict[str, Any], files: Sequence[str]) -> Iterator[None]:
    """The output folder for as long as the block lasts, if there is to be one.

    Args:
        saving: where and how often.
        config: what the folder is marked with.
        files: names of the files that will be written to it.

    Raises:
        Refusal: no folder can be written there, or it holds another configuration.
    """
    if saving.output is None:
        yield
        return
    with claimed(saving.output, config, (*files, STATES)):
        try:
            yield
        except KeyboardInterrupt:
            states = (Path(saving.output) / STATES / "about").glob("[0-9]*.json")
            if saving.checkpoint_every and any(states):
                print("What was saved is kept: the same command with --resume goes on from there.", file=sys.stderr)
            raise


def checkpoints_of(saving: CheckpointOptions, notes: list[str], quiet: bool) -> "Checkpoints | None":
    """Where and how often the state is saved, if that is asked for.

    Args:
        saving: where and how often.
        notes: told what was found there.
        quiet: whether that is not said at once as well.

    Raises:
        Refusal: orbax is not installed.
    """
    from induction_dynamics.training.saving import Checkpoints

    if saving.output is None or saving.checkpoint_every is None:
        return None

    def tell(sentence: str) -> None:
        notes.append(sentence)
        if not quiet:
            print(sentence, file=sys.stderr)

    folder = Path(saving.output) / STATES
    try:
        return Checkpoints(folder, saving.checkpoint_every, keep=saving.keep, resume=saving.resume, tell=tell)
    except ArgumentError as error:
        raise Refusal(f"--checkpoint-every must be {error.allowed}; got '{saving.checkpoint_every}'.") from None


@contextlib.contextmanager
def saying_states(saving: CheckpointOptions) -> Iterator[None]:
    """Say in a sentence, within the block, that states cannot be read or written.

    Args:
        saving: where and how often.

    Raises:
        Refusal: see above; with status 1 where the disk is full.
    """
    try:
        yield
    except ArgumentError as error:
        if error.argument != "checkpoints":
            raise
        allowed = error.allowed.replace("it is resumed", "--resume is given")
        raise Refusal(f"--output must be {allowed}; got {quoted(str(saving.output))}.") from None
    except OSError as error:
        if saving.checkpoint_every is None:
            raise
        raise Refusal(f"A state could not be saved ({error.strerror or error}).", FAILED) from None
