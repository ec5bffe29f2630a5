"""`induction-dynamics train`: the full model, trained at one context length."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from induction_dynamics.cli.options import TrainOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.refusal import FAILED, Refusal
from induction_dynamics.cli.simulate import answer
from induction_dynamics.cli.values import listed, quoted, visible

if TYPE_CHECKING:
    from induction_dynamics.dynamics.trajectory import Trajectory


def run(options: TrainOptions) -> None:
    """Train, save the weights if that is asked for, and print the rows.

    Raises:
        Refusal: the weights cannot be saved there, and nothing was computed or written; or, with status 1 and after the
            rows, they could not be saved in the end.
        ArgumentError: a value that the task or the model does not take.
    """
    typed = options.save_weights
    if typed is None:
        answer("train", options)
        return
    check_new_file(typed)
    saved, failure = False, None

    def keep(run: "Trajectory") -> str:
        from induction_dynamics.weights_files import save_weights

        nonlocal saved, failure
        if run.weights is None:
            return f"No weights were saved: the run stopped being finite after flow time {run.time[-1]:g}."
        try:
            check_new_file(typed)
            save_weights(run.weights, typed, rotation=options.task.rotation)
        except (Refusal, OSError) as error:
            reason = error.sentence if isinstance(error, Refusal) else f"{error.strerror or error}."
            failure = f"The weights could not be saved to {quoted(typed)}: {reason}"
            return failure
        saved = True
        return f"The weights saved are those of the run's last record, at flow time {run.time[-1]:g}."

    answer("train", options, keep)
    if saved and not options.answer.json and not options.answer.quiet:
        print(f"\nWeights written to {visible(typed)}")
    if failure is not None:
        raise Refusal(failure, FAILED)


def check_new_file(typed: str) -> None:
    """Refuse a path at which no new file of weights can be written.

    Args:
        typed: the path as typed.

    Raises:
        Refusal: see above.
    """
    from induction_dynamics.weights_files import SUFFIXES

    path, reason = Path(typed), ""
    if path.suffix in SUFFIXES:
        try:
            path.lstat()
            reason = " (there is one already, which is never overwritten)"
        except FileNotFoundError:
            try:
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=".weights."):
                    return
            except OSError as error:
                reason = f" ({error.strerror or error})"
        except OSError as error:
            reason = f" ({error.strerror or error})"
    raise Refusal(
        f"--save-weights must be a new file ending in {listed(SUFFIXES)}, in a folder that can be written; "
        f"got {quoted(typed)}{reason}."
    )


COMMAND = Command(
    name="train",
    summary="emergence times of the full model, trained at one context length",
    description="""\
Trains the full model by gradient descent from zero on fresh sequences, projects
its weights on the 19 coordinates as it goes, and prints when each coordinate
crosses its threshold and when the loss has fallen to a fraction of its start.

N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time,
the same as for the reduced models: learning rate x steps / D.

Example:

  induction-dynamics train --context-length 4 --query uniform
  induction-dynamics train --context-length 4 --save-weights weights.npz""",
    options=TrainOptions,
    run=run,
)
