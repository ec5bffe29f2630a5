"""`induction-dynamics simulate`: one reduced model at one context length."""

import sys

from induction_dynamics.cli.computing import compute, make_points, use_device
from induction_dynamics.cli.document import as_json, build, configuration
from induction_dynamics.cli.options import SimulateOptions, TrainOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.tables import show


def answer(name: str, options: SimulateOptions | TrainOptions) -> None:
    """Compute one point and print its rows.

    Args:
        name: the command, for the document.
        options: its options.
    """
    points = make_points([options.context_length], [options.model], options)
    device_kind = use_device(options.run.device)
    rows = compute(points, options)
    document = build(name, configuration(options, [], device_kind), rows)
    if options.run.json:
        sys.stdout.write(as_json(document))
    else:
        show(document, quiet=options.run.quiet)


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

  induction-dynamics simulate --context-length 8 --model circuit""",
    options=SimulateOptions,
    run=lambda options: answer("simulate", options),
)
