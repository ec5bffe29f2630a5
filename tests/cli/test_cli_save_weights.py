"""`train --save-weights`: the weights of the run's last record, in a new file, whole or not at all."""

import importlib
import json

import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics import weights_files
from induction_dynamics.cli import main
from induction_dynamics.dynamics.emergence import crossing_targets
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.task import Task
from induction_dynamics.training.train import train
from induction_dynamics.transformer.disentangled import Weights
from induction_dynamics.weights_files import load_weights

TRAIN = ["train", "--context-length", "2"]
SMALL = [*TRAIN, "--batch-size", "16", "--horizon", "4"]
FILE = "a new file ending in .npz or .safetensors, in a folder that can be written"
WEIGHTS = Weights(jnp.full((4, 4), 1.0), jnp.full((8, 8), 2.0), jnp.full((2, 16), 3.0))


@pytest.fixture
def trained(pretended, monkeypatch):
    """Runs that the sweep pretends to have made, the last of which counts."""
    module = importlib.import_module("induction_dynamics.scaling.sweep")
    sweep = module.sweep
    time = np.arange(3) / 4
    runs = [Trajectory(time, np.zeros((3, 19)), np.ones(3), np.zeros(3), "horizon_reached", weights=WEIGHTS)]

    def with_run(points, on_run=None, **asked):
        rows = sweep(points, **asked)
        if on_run is not None:
            on_run(runs[-1])
        return rows

    monkeypatch.setattr(module, "sweep", with_run)
    return runs


def refused(capsys, path):
    """The sentence; nothing was computed or written."""
    assert main([*TRAIN, "--save-weights", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err.strip()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_weights_of_the_last_record(capsys, tmp_path, suffix):
    """Projected from the file they are the last record of the same run in Python."""
    path = tmp_path / f"weights{suffix}"
    assert main([*SMALL, "--seed", "3", "--save-weights", str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    stop = crossing_targets(("alpha_3", "beta_2", "gamma_3", "loss"), (0.5,), (0.5,))
    run = train(Task(2), horizon=4.0, batch_size=16, seed=3, stop=stop)
    assert document["notes"] == ["The weights saved are those of the run's last record, at flow time 16."]
    assert run.time[-1] == 16 and run.weights is not None
    for name in ("W1", "W2", "W3"):
        np.testing.assert_array_equal(getattr(load_weights(path), name), getattr(run.weights, name))
    assert "save_weights" not in document["config"] and str(path) not in out
    assert main(["project", str(path), "--json"]) == 0
    projected = json.loads(capsys.readouterr().out)
    # recorded in float32, projected in float64
    np.testing.assert_allclose([row["value"] for row in projected["rows"]], run.coordinates[-1], rtol=1e-5, atol=1e-7)
    assert projected["off_subspace"]["total"] == pytest.approx(run.off_subspace[-1], rel=1e-5)
    assert projected["embedding_dim"] == 6
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert main([*SMALL, "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document | {"notes": []}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_rotation_goes_with_the_weights(capsys, tmp_path, suffix):
    """Read again without a word they have the coordinates that they were trained in; with another rotation, none."""
    path = tmp_path / f"weights{suffix}"
    assert main([*SMALL, "--rotation", "40", "--save-weights", str(path), "--json"]) == 0
    assert main(["project", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out.partition("\n}\n")[2])
    assert document["config"]["rotation"] == 40
    stop = crossing_targets(("alpha_3", "beta_2", "gamma_3", "loss"), (0.5,), (0.5,))
    run = train(Task(2, rotation=40.0), horizon=4.0, batch_size=16, stop=stop)
    np.testing.assert_allclose([row["value"] for row in document["rows"]], run.coordinates[-1], rtol=1e-5, atol=1e-7)
    assert main(["project", str(path), "--rotation", "90"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"--rotation must be the file's own, which is 40 in '{path}'; got '90'.\n")


def test_a_run_that_diverges_saves_nothing(capsys, tmp_path):
    argv = [*SMALL, "--step", "1000000", "--horizon", "1e9", "--save-weights", str(tmp_path / "weights.npz")]
    assert main([*argv, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["outcome"] for row in document["rows"]} <= {"nonfinite", "emerged"}
    (note,) = document["notes"]
    assert note.startswith("No weights were saved: the run stopped being finite after flow time ")
    assert list(tmp_path.iterdir()) == []
    assert main(argv) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert note in out and "written" not in out
    assert list(tmp_path.iterdir()) == []


def test_where_it_was_written_is_said(capsys, trained, tmp_path):
    path = tmp_path / "weights.npz"
    assert main([*TRAIN, "--save-weights", str(path)]) == 0
    out = capsys.readouterr().out
    assert "at flow time 0.5." in out and out.endswith(f"\n\nWeights written to {path}\n")
    np.testing.assert_array_equal(load_weights(path).W3, WEIGHTS.W3)
    path.unlink()
    odd = tmp_path / "a\nb.npz"
    assert main([*TRAIN, "--save-weights", str(odd)]) == 0
    assert capsys.readouterr().out.endswith(f"\n\nWeights written to {tmp_path}/a\\nb.npz\n")
    assert main([*TRAIN, "--save-weights", str(path), "--quiet"]) == 0
    assert "written" not in capsys.readouterr().out and path.exists()


def test_files_that_are_refused(capsys, trained, pretended, tmp_path, monkeypatch):
    mine = tmp_path / "mine.npz"
    mine.write_text("mine")
    (tmp_path / "link.npz").symlink_to(tmp_path / "none")
    before = sorted(tmp_path.iterdir())
    there = " (there is one already, which is never overwritten)"
    for path, why in (
        (mine, there),
        (tmp_path / "link.npz", there),
        (tmp_path / "none" / "x.npz", " (No such file or directory)"),
        (mine / "x.npz", " (Not a directory)"),
        (tmp_path / ("a" * 300 + ".npz"), " (File name too long)"),
        (tmp_path / "x.pt", ""),
        (tmp_path / "x", ""),
        (tmp_path, ""),
    ):
        assert refused(capsys, path) == f"--save-weights must be {FILE}; got '{path}'{why}."

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    assert refused(capsys, tmp_path / "x.npz").endswith("x.npz' (Permission denied).")
    assert main(["simulate", *TRAIN[1:], "--save-weights", "x.npz"]) == 2
    assert "'--save-weights' is no option of induction-dynamics simulate" in capsys.readouterr().err
    assert pretended == [] and sorted(tmp_path.iterdir()) == before and mine.read_text() == "mine"


def test_a_file_that_came_in_the_meantime_is_left_alone(capsys, trained, tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    module = importlib.import_module("induction_dynamics.scaling.sweep")
    sweep = module.sweep

    def slow(points, **asked):
        path.write_text("of somebody else")
        return sweep(points, **asked)

    monkeypatch.setattr(module, "sweep", slow)
    assert main([*TRAIN, "--save-weights", str(path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert len(json.loads(out)["rows"]) == 4 and err.count("\n") == 1
    assert "there is one already" in err and "there is one already" in json.loads(out)["notes"][0]
    assert path.read_text() == "of somebody else"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", ["savez", "replace"])
def test_a_write_that_fails_leaves_nothing_and_loses_no_row(capsys, trained, tmp_path, monkeypatch, moment, error):
    def fail(*arguments, **options):
        if moment == "savez":
            arguments[0].write_bytes(b"half")
        raise error

    monkeypatch.setattr(*(weights_files.np, "savez") if moment == "savez" else (weights_files.os, "replace"), fail)
    path = tmp_path / "weights.npz"
    status = main([*TRAIN, "--save-weights", str(path), "--json"])
    out, err = capsys.readouterr()
    if isinstance(error, KeyboardInterrupt):
        assert (status, out, err) == (130, "", "Interrupted.\n")
    else:
        assert (status, err) == (1, f"The weights could not be saved to '{path}': No space left on device.\n")
        assert len(json.loads(out)["rows"]) == 4 and json.loads(out)["notes"] == [err.strip()]
    assert list(tmp_path.iterdir()) == []
