"""`induction-dynamics simulate`: one reduced model at one context length."""

import dataclasses
import sys

from induction_dynamics.cli.computing import compute, make_points, use_device
from induction_dynamics.cli.document import as_json, build, configuration
from induction_dynamics.cli.options import SimulateOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.tables import show


def run(options: SimulateOptions) -> None:
    """Compute one point and print its rows.

    Raises:
        ArgumentError: a value that the task or the model does not take.
    """
    points = make_points([options.context_length], [options.model], options)
    device_kind = use_device(options.answer.device)
    rows = compute(points, options)
    document = build("simulate", configuration(options, device_kind), list(map(dataclasses.asdict, rows)))
    if options.answer.json:
        sys.stdout.write(as_json(document))
    else:
        show(document, quiet=options.answer.quiet)


COMMAND = Command(
    name="simulate",
    summary="emergence times of a reduced model at one context length",
    description="""\
When does an induction head emerge? Follows the gradient flow of a reduced model
of 3 or 19 coordinates from zero, and prints when each coordinate crosses its
threshold and when the loss has fallen to a fraction of its start.

N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time:
for gradient descent, learning rate x steps / D.

Example:

  induction-dynamics simulate --context-length 8 --model circuit
  induction-dynamics simulate --context-length 8 --hold gamma_4=0""",
    options=SimulateOptions,
    run=run,
)
