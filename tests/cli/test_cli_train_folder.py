"""`train --output`: what is in the folder, states to go on from, and options that do not go together."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from induction_dynamics.cli import main
from induction_dynamics.cli.train import FILES
from induction_dynamics.pseudo_parameters import COORDINATES, project
from induction_dynamics.training import engine as module
from induction_dynamics.weights_files import load_weights, save_weights

BASE = ("train", "--context-length", "2", "--query", "uniform", "--batch-size", "16", "--horizon", "5")


def run(*words):
    return main([*BASE, *map(str, words)])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train") / "out"
    assert run("--output", folder, "--checkpoint-every", 30, "--quiet") == 0
    return folder


def test_what_is_in_the_folder(written):
    names = sorted(os.listdir(written))
    assert names == sorted([*FILES, "config.json", "checkpoints"])
    document = json.loads((written / "train.json").read_text())
    assert document["command"] == "train"
    assert document["config"] == json.loads((written / "config.json").read_text())
    assert document["config"]["seed"] == 0 and document["config"]["versions"]["jax"]
    assert not {"output", "resume", "checkpoint_every"} & document["config"].keys()
    with np.load(written / "records.npz", allow_pickle=False) as records:
        assert str(records["time_unit"]) == "flow"
        assert records["names"].tolist() == list(COORDINATES)
        assert records["coordinates"].shape == (len(records["time"]), 19) == (len(records["loss"]), 19)
        last = records["coordinates"][-1]
    np.testing.assert_allclose(project(load_weights(written / "weights.npz")).coordinates, last, atol=1e-6)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in ("train.json", "rows.csv", "records.npz", "weights.npz")}


def test_an_interrupted_run_goes_on_to_the_same_files(written, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    take, calls = module.Run.take, []

    def interrupt(self, *arguments):
        take(self, *arguments)
        calls.append(self.done)
        if self.done >= 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.Run, "take", interrupt)
    assert run("--output", out, "--checkpoint-every", 30) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert "What was saved is kept: the same command with --resume goes on from there." in said.err
    assert sorted(os.listdir(out)) == ["checkpoints", "config.json"]
    monkeypatch.undo()
    # without being told to go on it does not
    assert run("--output", out, "--checkpoint-every", 30) == 2
    sentence = capsys.readouterr().err
    assert sentence == (
        "--output must be one without states of a training (here up to step 30), unless --resume is given; "
        f"got '{out}'.\n"
    )
    assert run("--output", out, "--checkpoint-every", 30, "--resume") == 0
    assert "The training goes on from step 30." in capsys.readouterr().err
    found, expected = contents(out), contents(written)
    document = json.loads(found.pop("train.json"))
    assert document["notes"] == ["The training goes on from step 30."]
    assert document["rows"] == json.loads(expected.pop("train.json"))["rows"]
    assert found == expected


def test_nothing_saved_yet_is_said(tmp_path, capsys):
    assert run("--output", tmp_path / "new", "--checkpoint-every", 30, "--resume", "--json") == 0
    said = capsys.readouterr()
    assert said.err == "Nothing was saved yet: the training starts afresh.\n"
    assert json.loads(said.out)["notes"] == ["Nothing was saved yet: the training starts afresh."]


def test_an_interruption_before_anything_was_saved_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "advance", interrupt)
    assert run("--output", tmp_path / "new") == 130
    assert not (tmp_path / "new").exists()
    assert run("--output", tmp_path / "states", "--checkpoint-every", 30) == 130
    assert "What was saved" not in capsys.readouterr().err


def test_another_training_is_refused(written, capsys):
    before = contents(written)
    assert run("--output", written, "--checkpoint-every", 30, "--resume", "--step", "0.5") == 2
    assert "whose config.json is another (other step)." in capsys.readouterr().err
    assert contents(written) == before


def test_two_at_once(tmp_path, monkeypatch, capsys):
    begun, end, advance = threading.Event(), threading.Event(), module.advance
    codes = []

    def wait(*arguments, **options):
        begun.set()
        end.wait(60)
        return advance(*arguments, **options)

    monkeypatch.setattr(module, "advance", wait)
    words = ("--output", tmp_path / "out", "--checkpoint-every", 30, "--quiet")
    first = threading.Thread(target=lambda: codes.append(run(*words)))
    first.start()
    try:
        assert begun.wait(60)
        assert run(*words) == 2
        assert "must be a folder at which no other training is at work" in capsys.readouterr().err
    finally:
        end.set()
        first.join()
    assert codes == [0]
    assert set(FILES) < set(os.listdir(tmp_path / "out"))


def test_a_damaged_folder(written, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(written, out)
    for path in (out / "checkpoints" / "about").iterdir():
        path.write_text("{")
    assert run("--output", out, "--checkpoint-every", 30, "--resume") == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("--output must be one whose states can be read (step 81: about/81.json: ")
    assert sentence.count("\n") == 1


def test_a_state_that_cannot_be_saved(tmp_path, monkeypatch, capsys):
    """The run ends with a sentence; what was saved before is there."""
    from induction_dynamics.training import saving

    leaves, calls = saving._leaves, []

    def fill_up(saved):
        calls.append(saved.done)
        if len(calls) > 2:
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device")
        return leaves(saved)

    monkeypatch.setattr(saving, "_leaves", fill_up)
    out = tmp_path / "out"
    assert run("--output", out, "--checkpoint-every", 30) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "A state could not be saved (RESOURCE_EXHAUSTED: No space left on device).\n"
    monkeypatch.undo()
    assert run("--output", out, "--checkpoint-every", 30, "--resume", "--quiet") == 0
    assert "goes on from step 60" in (out / "train.json").read_text()


def test_a_start_from_weights(written, tmp_path, capsys):
    weights = written / "weights.npz"
    assert run("--start-weights", weights, "--horizon", "0.5", "--json", "--thresholds", "0.1") == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["start"] for row in document["rows"]} == {"weights weights.npz"}
    # it has emerged before
    assert {row["time"] for row in document["rows"] if row["measure"] == "gamma_3"} == {0.0}
    save_weights(load_weights(weights), tmp_path / "turned.npz", rotation=60.0)
    assert run("--start-weights", tmp_path / "turned.npz") == 2
    assert capsys.readouterr().err.startswith("--start-weights must be ")
    (tmp_path / "no.npz").write_text("no weights")
    assert run("--start-weights", tmp_path / "no.npz") == 2
    assert capsys.readouterr().err.startswith("--start-weights must be ")
    assert run("--start-weights", weights, "--context-length", "3") == 2
    assert capsys.readouterr().err == (
        f"--start-weights must be weights of the task's width, D = 8; got '{weights}'.\n"
    )


def test_other_optimizers_are_told_in_steps(tmp_path, capsys):
    words = ("--optimizer", "adam", "--learning-rate", "0.01", "--steps", "20", "--thresholds", "0.01")
    assert main([*BASE[:-2], *words, "--output", str(tmp_path / "out")]) == 0
    assert "T: training steps at emergence" in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "train.json").read_text())
    assert {row["time_unit"] for row in document["rows"]} == {"steps"}
    assert {(row["optimizer"], row["learning_rate"], row["horizon"], row["step"]) for row in document["rows"]} == {
        ("adam", 0.01, None, None)
    }
    text = (tmp_path / "out" / "train.svg").read_text()
    assert "flow time" not in text


def test_holds_and_starts_are_in_the_rows(capsys):
    words = ("--hold", "beta_2=0", "gamma_4@3", "--start", "gamma_3=0.25", "--start-scale", "0.1", "0", "0")
    assert run(*words, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {(row["hold"], row["start"]) for row in rows} == {("beta_2=0.0 gamma_4@3.0", "scale=0.1,0,0 gamma_3=0.25")}
    assert {row["outcome"] for row in rows if row["measure"] == "beta_2"} == {"horizon_reached"}


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--checkpoint-every", "5"], "--checkpoint-every must come with --output"),
        (["--keep", "3"], "--keep must come with --checkpoint-every"),
        (["--inputs", "isotropic", "--shared-frames", "2"], "--shared-frames must be left out with isotropic inputs"),
        (
            ["--optimizer", "adam", "--learning-rate", "1", "--steps", "3"],
            "--horizon must be left out with the optimizer adam, which has no flow time and takes --steps.",
        ),
        (["--hold", "beta_2=1e39"], "--hold must be at a value that is finite in float32; got 'beta_2=1e"),
        (["--start", "beta_2=1e39"], "--start must be finite as numbers of type float32; got "),
        (["--resume"], "--resume must come with --output and --checkpoint-every"),
        (["--resume", "--output", "x"], "--resume must come with --output and --checkpoint-every"),
        (["--start-weights", "w.npz", "--start", "gamma_3=1"], "--start-weights and --start exclude each other"),
        (["--start-weights", "w.npz", "--start-scale", "1"], "--start-weights and --start-scale exclude each other"),
        (["--start-weights", "w.npz"], "--start-weights must be "),
        (["--start-scale", "1", "2"], "--start-scale must be one number, or three; got "),
        (["--start", "gamma_5=1"], "--start must each be a coordinate and its value, NAME=VALUE"),
        (["--start", "gamma_3=1", "gamma_3=2"], "--start must be of coordinates, each once"),
        (["--hold", "gamma_3=x"], "--hold must each be a coordinate, NAME[=VALUE][@TIME]"),
        (["--hold", "gamma_3=1", "gamma_3=2"], "--hold must be of each coordinate at most once; got 'gamma_3"),
        (["--optimizer", "adam"], "--learning-rate is missing: the optimizer adam takes it."),
        (["--optimizer", "sgd", "--learning-rate", "1"], "--steps is missing: the optimizer sgd takes it."),
        (["--optimizer", "lion"], "--optimizer must be gd, sgd, adam or adamw; got 'lion'."),
        (["--learning-rate", "1"], "--learning-rate must be left out with the optimizer gd"),
        (["--steps", "10"], "--steps must be left out with the optimizer gd"),
        (["--sequences", "8"], "--batch-size must be at most the number of sequences in the fixed set, which is 8"),
        (["--dtype", "float16"], "--dtype must be float32 or float64; got 'float16'."),
        (["--devices", "4"], "--devices must be at most the number of devices that jax finds, which is 1; got '4'."),
        (["--process", "0"], "--coordinator is missing: several processes take all of"),
        (["--coordinator", "nowhere", "--process", "0", "--processes", "2"], "--coordinator must be an address"),
        (["--coordinator", "a:1", "--process", "2", "--processes", "2"], "--process must be below --processes"),
    ],
)
def test_refuses(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(sentence) and said.err.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_without_orbax(monkeypatch, capsys, tmp_path):
    from induction_dynamics.training import saving

    monkeypatch.setattr(saving.importlib.util, "find_spec", lambda name: None)
    assert run("--output", tmp_path / "out", "--checkpoint-every", "5") == 2
    assert "pip install 'induction-dynamics[checkpoints]'" in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()
