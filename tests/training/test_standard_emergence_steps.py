import dataclasses

import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.training.standard import StandardRun
from induction_dynamics.training.standard_emergence import emergence_steps, lasting_rise
from induction_dynamics.transformer.progress import ProgressMeasures

STEPS = np.array([0, 10, 20, 30])


def measures(alpha_3, beta_2, gamma_3):
    """Of two layers of one head; in the first layer no gamma, in the last no alpha."""
    number = len(alpha_3)
    alpha, gamma, beta = np.zeros((number, 2, 1)), np.zeros((number, 2, 1)), np.zeros((number, 2, 1, 2, 1))
    alpha[:, 0, 0], gamma[:, 1, 0], beta[:, 0, 0, 1, 0] = alpha_3, gamma_3, beta_2
    return ProgressMeasures(alpha, beta, gamma)


def run_of(alpha_3, beta_2, gamma_3, loss, accuracy, spread=0.1):
    values = [np.array(x, float) for x in (alpha_3, beta_2, gamma_3, loss, accuracy)]
    return StandardRun(
        steps=STEPS,
        progress=measures(*values[:3]),
        spread=measures(*3 * [np.full(4, spread)]),
        head_scores={},
        loss=values[3],
        accuracy=values[4],
        batch_loss=values[3],
        batch_accuracy=values[4],
        outcome="horizon_reached",
        weights=None,
    )


RUN = run_of([0, -2, 0, 1], [0, 1, 0, 2], [0, 1, 2, 4], [3, 3, 2, 1], [0, 0, 0.4, 0.8])


def test_above_chance_for_good():
    """Half of 0.1 is 5 spreads; beta_2 is above it, falls back, and rises again."""
    found = emergence_steps(RUN, deviations=5.0)
    assert found == pytest.approx({"alpha_3": 25.0, "beta_2": 22.5, "gamma_3": 5.0, "loss": 25.0, "accuracy": 22.5})
    np.testing.assert_allclose(RUN.deviations[-1], [10, 20, 40])


def test_as_a_fraction_of_the_end():
    found = emergence_steps(RUN, deviations=None, fraction=0.5)
    assert (found["alpha_3"], found["beta_2"], found["gamma_3"]) == pytest.approx((25.0, 25.0, 20.0))


def test_what_does_not_emerge():
    run = run_of([0, 1, 1, 0.4], [0, -1, -2, -3], [0, 1, 1, 1], [3, 3, 3, 2], [0.5, 0.4, 0.3, 0.2])
    found = emergence_steps(run)
    assert [found[name] for name in ("alpha_3", "beta_2", "loss", "accuracy")] == [None] * 4
    assert found["gamma_3"] == pytest.approx(5.0)
    assert emergence_steps(run, deviations=None, fraction=0.5)["beta_2"] is None


def test_one_layer_has_no_beta():
    """Its spread is 0 as well."""
    one = ProgressMeasures(np.ones((4, 1, 1)), np.zeros((4, 1, 1, 1, 1)), np.ones((4, 1, 1)))
    run = dataclasses.replace(RUN, progress=one, spread=one)
    assert np.isfinite(run.deviations).all()
    assert emergence_steps(run)["beta_2"] is None


def test_a_run_without_a_record_has_no_emergence():
    run = dataclasses.replace(
        RUN,
        steps=STEPS[:0],
        progress=ProgressMeasures(*(x[:0] for x in RUN.progress)),
        spread=ProgressMeasures(*(x[:0] for x in RUN.spread)),
        loss=RUN.loss[:0],
        accuracy=RUN.accuracy[:0],
    )
    for options in ({}, {"deviations": None, "fraction": 0.5}):
        assert set(emergence_steps(run, **options).values()) == {None}


def test_lasting_rise():
    assert lasting_rise(STEPS, np.full(4, np.nan), 1.0) is None
    assert lasting_rise(STEPS, np.array([1.0, 2.0, 3.0, 4.0]), 1.0) == 0.0
    assert lasting_rise(STEPS, np.array([1.0, 2.0, 3.0, 0.0]), 1.0) is None
    assert lasting_rise(STEPS, np.array([2.0, 0.0, 2.0, 4.0]), 1.0) == 15.0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"deviations": 0.0}, "deviations must be above 0, finite; got 0.0."),
        ({"deviations": float("nan")}, "deviations must be above 0, finite; got nan."),
        ({"deviations": None, "fraction": 1.0}, "fraction must be above 0 and below 1; got 1.0."),
        ({"deviations": None}, "fraction must be None unless deviations is"),
        ({"fraction": 0.5}, "fraction must be None unless deviations is"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ArgumentError) as refused:
        emergence_steps(RUN, **options)
    assert str(refused.value).startswith(message)
