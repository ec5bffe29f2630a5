import numpy as np
import pytest

from experiments import standard_runs
from induction_dynamics.token_task import TokenTask
from induction_dynamics.training.standard import StandardSettings
from induction_dynamics.transformer.standard import Architecture

TASK = TokenTask(context_length=2, vocabulary=4)
SETTINGS = StandardSettings(
    Architecture(4, TASK.sequence_length, 8), TASK, steps=4, batch_size=4, record_every=2, evaluation=8
)


def numbers(run):
    weights = [x for x in vars(run.weights).values() if x is not None]
    return [*run.progress, *run.spread, run.loss, run.batch_loss, *run.head_scores.values(), run.summed, *weights]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    return folder, standard_runs.trained(folder, SETTINGS, (0, 1))


def test_what_is_kept_is_what_was_trained(ledger, monkeypatch):
    folder, runs = ledger
    monkeypatch.setattr(standard_runs, "train_standard_seeds", None)  # nothing is trained again
    for one, other in zip(runs, standard_runs.trained(folder, SETTINGS, (0, 1)), strict=True):
        assert one.outcome == other.outcome == "horizon_reached"
        for values, kept in zip(numbers(one), numbers(other), strict=True):
            np.testing.assert_array_equal(values, kept)


def test_what_is_missing_or_damaged_is_trained(ledger):
    folder, runs = ledger
    path = standard_runs._path(folder, SETTINGS, 1)
    path.write_bytes(path.read_bytes()[:500])
    again = standard_runs.trained(folder, SETTINGS, (1, 0))
    np.testing.assert_array_equal(again[0].batch_loss, runs[1].batch_loss)
    np.testing.assert_array_equal(again[1].batch_loss, runs[0].batch_loss)
    assert len(list(folder.glob("*.npz"))) == 2
