"""A series of weights on disk as a run: its records, its times, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.checkpoints import check_files, project_files
from induction_dynamics.dynamics.emergence import emergence_times
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import lift
from induction_dynamics.task import Task
from induction_dynamics.weights_files import project_file, save_weights


@pytest.fixture
def paths(tmp_path):
    """Three files, with all coordinates 0, 1 and 3, of the rotation 40."""
    task = Task(1, rotation=40.0)
    return [
        save_weights(lift(jnp.full(19, value), task), tmp_path / f"{value:g}.npz", rotation=40.0)
        for value in (0.0, 1.0, 3.0)
    ]


def test_the_records_are_the_projections(paths):
    run = project_files(paths)
    assert run.time.tolist() == [0, 1, 2] and run.outcome == "horizon_reached" and run.degree == 1
    for place, path in enumerate(paths):
        found = project_file(path)
        np.testing.assert_array_equal(run.coordinates[place], found.coordinates)
        assert run.off_subspace[place] == float(found.off_subspace.total)
    np.testing.assert_allclose(run.coordinates, np.outer([0, 1, 3], np.ones(19)), rtol=1e-12)
    other = project_files(paths, rotation=400.0)  # the same angle
    np.testing.assert_allclose(other.coordinates, run.coordinates, rtol=1e-12)


def test_times_are_those_given(paths):
    run = project_files(paths, times=(2.0, 4.0, 10.0))
    assert [found.time for found in emergence_times(run, measures=["alpha_3"], thresholds=[0.5, 2.0])] == pytest.approx(
        [3.0, 7.0]
    )


def test_the_loss_is_unknown_and_says_so(paths):
    run = project_files(paths)
    assert np.all(np.isnan(run.loss))
    (found,) = emergence_times(run, measures=["loss"])
    assert (found.time, found.sustained) == (None, None)
    coordinates, _ = run.at(np.array([0.0, 0.5, 2.0]))
    np.testing.assert_allclose(coordinates[:, 0], [0, 0.5, 3], atol=1e-15)


@pytest.mark.parametrize(
    ("times", "part"),
    [
        ((), r"times must be as many as files, which are 3 \(here 0\); got \(\)"),
        ((1.0, 2.0), r"\(here 2\); got \(1.0, 2.0\)"),
        ((1.0, 1.0, 2.0), "times must be increasing from file to file, here above 1; got 1.0"),
        ((float("nan"), 1.0, 2.0), "times must be finite; got nan"),
        ((0.0, 1.0, float("inf")), "times must be finite; got inf"),
    ],
)
def test_times_that_are_refused(paths, times, part):
    with pytest.raises(ArgumentError, match=part):
        project_files(paths, times=times)


def test_a_series_is_of_one_kind(paths, tmp_path):
    assert check_files(paths) == (4, 40.0)
    with pytest.raises(ArgumentError, match="paths must be at least one file"):
        project_files([])
    wide = save_weights(lift(jnp.ones(19), Task(3, rotation=40.0)), tmp_path / "wide.npz", rotation=40.0)
    with pytest.raises(
        ArgumentError, match=r"paths must be files of one D, which is 4 in .* \(here it is 8\); got .*wide"
    ):
        project_files([*paths, wide])
    other = save_weights(lift(jnp.ones(19), Task(1)), tmp_path / "other.npz")
    with pytest.raises(ArgumentError, match=r"files of one rotation, which is 40 in .* \(here it is 90\); got .*other"):
        project_files([*paths, other])
    with pytest.raises(ArgumentError, match="rotation must be the file's own, which is 40 in "):
        project_files(paths, rotation=90.0)
