"""`induction-dynamics train`: the full model, trained at one context length."""

from induction_dynamics.cli.options import TrainOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.simulate import answer

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

  induction-dynamics train --context-length 4 --query uniform""",
    options=TrainOptions,
    run=lambda options: answer("train", options),
)
