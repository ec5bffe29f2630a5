"""When the circuit of a standard transformer emerges, in steps: against chance, and against where it ends."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.training.standard import StandardRun

DEVIATIONS = 5.0
"""Standard deviations of chance beyond which a measure has emerged, unless told otherwise."""


def emergence_steps(
    run: StandardRun, *, deviations: float | None = DEVIATIONS, fraction: float | None = None
) -> dict[str, float | None]:
    """The step from which on each measure is above its level to the end of the run, between records by straight lines.

    The level of alpha_3~, beta_2~ and gamma_3~, summed over heads, is so many standard deviations of chance, that is of
    random weights of the same size as those of that step (`chance_spread`); or instead a fraction of the value that
    each ends at, which is another question, and may have another answer. The loss is timed where it is half of what it
    is at the start, the accuracy at 1/2, at either level.

    Args:
        run: a training.
        deviations: of chance, above 0; None for a fraction.
        fraction: of the end, above 0 and below 1, in the place of `deviations`, which must be None then.

    Returns:
        A step for each of the three, `loss` and `accuracy`; None where a measure is not beyond its level at the end.

    Raises:
        ArgumentError: a level out of range, or not exactly one of the two.

    Example:
        >>> import induction_dynamics as idyn
        >>> task = idyn.TokenTask(context_length=2, vocabulary=4)
        >>> architecture = idyn.Architecture(vocabulary=4, length=task.sequence_length, embedding_dim=32)
        >>> run = idyn.train_standard(architecture, task, steps=60, batch_size=32, evaluation=64, record_every=1)
        >>> found = idyn.emergence_steps(run, deviations=3.0)
        >>> list(found), found["gamma_3"] < 60
        (['alpha_3', 'beta_2', 'gamma_3', 'loss', 'accuracy'], True)
    """
    if (deviations is None) == (fraction is None):
        raise ArgumentError("fraction", fraction, "None unless deviations is, and the other way round")
    _check("deviations", deviations, math.inf)
    _check("fraction", fraction, 1.0)
    found: dict[str, float | None] = {}
    for place, name in enumerate(CIRCUIT):
        values = run.deviations[:, place] if fraction is None else run.summed[:, place]
        # a measure that ends below 0 has no fraction to rise to
        level = deviations if fraction is None else fraction * max(values[-1:], default=0.0)
        found[name] = lasting_rise(run.steps, values, level) if level is not None and level > 0 else None
    found["loss"] = lasting_rise(run.steps, -run.loss, -0.5 * run.loss[0]) if len(run.loss) else None
    found["accuracy"] = lasting_rise(run.steps, run.accuracy, 0.5)
    return found


def lasting_rise(
    steps: Int[np.ndarray, " records"], values: Float[np.ndarray, " records"], level: float
) -> float | None:
    """The step from which on values are at least a level, between records by straight lines; None if the last is not.

    Args:
        steps: of the records, increasing.
        values: at them.
        level: to be reached for good.

    Example:
        >>> import numpy as np
        >>> lasting_rise(np.array([0, 10, 20, 30]), np.array([2.0, 0.0, 0.5, 1.5]), level=1.0)
        25.0
    """
    below = np.flatnonzero(~(values >= level))
    if not len(values):
        return None
    if not len(below):
        return float(steps[0])
    last = int(below[-1])
    if last == len(values) - 1:
        return None
    part = (level - values[last]) / (values[last + 1] - values[last])
    return float(steps[last] + part * (steps[last + 1] - steps[last]))


def _check(name: str, value: Any, largest: float) -> None:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (real and 0 < value < largest):
        raise ArgumentError(name, value, "above 0" + (f" and below {largest:g}" if largest < math.inf else ", finite"))
