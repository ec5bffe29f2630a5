"""States on disk: a training goes on to the same numbers, bit for bit, and tells what it cannot go on from."""

import os
import re
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.errors import ArgumentError
from induction_dynamics.task import Task
from induction_dynamics.training import saving
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.saving import Checkpoints
from induction_dynamics.training.starts import Start
from induction_dynamics.training.train import train, train_seeds

TASK = Task(2, 6, query="uniform")
OPTIONS: dict[str, Any] = {"horizon": 6.0, "batch_size": 16}  # 97 records


class Stopped(Exception):
    pass


def until(step):
    """An interruption once so many steps have been made."""

    def look(done, most, loss):
        if done >= step:
            raise Stopped

    return look


def numbers(run):
    return run.time, run.coordinates, run.loss, run.off_subspace, *jax.tree.leaves(run.weights)


def same(one, other):
    assert (one.outcome, one.time_unit) == (other.outcome, other.time_unit)
    for a, b in zip(numbers(one), numbers(other), strict=True):
        np.testing.assert_array_equal(a, b)


def states(folder):
    return sorted(int(path.name) for path in (Path(folder) / "states").iterdir())


def interrupted(folder, step=70, every=30, options=None, **more):
    with pytest.raises(Stopped):
        train(TASK, **(options or OPTIONS), checkpoints=Checkpoints(folder, every, **more), on_progress=until(step))


def resumed(folder, every=30, options=None, **more):
    said = []
    saved = Checkpoints(folder, every, resume=True, tell=said.append, **more)
    return train(TASK, **(options or OPTIONS), checkpoints=saved), said


@pytest.fixture(scope="module")
def whole():
    return train(TASK, **OPTIONS)


def test_saving_changes_nothing(whole, tmp_path):
    same(train(TASK, **OPTIONS, checkpoints=Checkpoints(tmp_path / "new" / "folder", 7)), whole)
    assert states(tmp_path / "new" / "folder") == [91, 97]


def test_it_goes_on_to_the_same_numbers(whole, tmp_path):
    interrupted(tmp_path, 40, every=30)
    assert states(tmp_path) == [30]
    run, said = resumed(tmp_path)
    assert said == ["The training goes on from step 30."]
    same(run, whole)
    # and again, when there is nothing left to do
    run, said = resumed(tmp_path)
    assert said == ["The training had ended."]
    same(run, whole)


def test_it_goes_on_many_times_saving_at_other_steps(whole, tmp_path):
    for every, step in ((7, 20), (10, 30), (3, 31), (50, 60)):
        with pytest.raises(Stopped):
            saved = Checkpoints(tmp_path, every, resume=True)
            train(TASK, **OPTIONS, checkpoints=saved, on_progress=until(step))
    run, said = resumed(tmp_path, every=1000)
    assert said == ["The training goes on from step 50."]
    same(run, whole)


def test_nothing_saved_yet(whole, tmp_path):
    run, said = resumed(tmp_path / "new")
    assert said == ["Nothing was saved yet: the training starts afresh."]
    same(run, whole)
    interrupted(tmp_path / "early", 10)
    run, said = resumed(tmp_path / "early")
    assert said == ["Nothing was saved yet: the training starts afresh."]
    same(run, whole)


@pytest.mark.parametrize(
    "options",
    [
        {
            "optimizer": Optimizer("adam", 0.01, schedule="cosine", warmup=10, clip=1.0),
            "steps": 96,
            "start": Start(0.3, {"gamma_3": 0.5}),
            "record_every": 4,
            "sequences": 40,
        },
        {"horizon": 6.0, "hold": (Hold("beta_2", since=9.0), Hold("gamma_2", 0.1)), "dtype": "float64"},
    ],
    ids=["adam", "holds"],
)
def test_all_that_a_training_remembers_is_saved(options, tmp_path):
    options = {"batch_size": 16, **options}
    alone = train(TASK, **options)
    interrupted(tmp_path, options=options)
    run, said = resumed(tmp_path, options=options)
    assert said == ["The training goes on from step 60."]
    same(run, alone)


def test_seeds_that_have_ended_stay_ended(tmp_path):
    """One has emerged, with its weights of then, while the others go on."""
    options: Any = {"horizon": 100.0, "step": 0.6, "batch_size": 4, "stop": (("gamma_3", 1.2),)}
    seeds = (0, 1, 2, 3)
    alone = train_seeds(TASK, seeds, **options)
    ends = sorted({len(run.time) for run in alone})
    assert len(ends) > 1
    with pytest.raises(Stopped):
        saved = Checkpoints(tmp_path, ends[0])
        train_seeds(TASK, seeds, **options, checkpoints=saved, on_progress=until(ends[0] + 1))
    for run, other in zip(
        train_seeds(TASK, seeds, **options, checkpoints=Checkpoints(tmp_path, ends[0], resume=True)), alone, strict=True
    ):
        same(run, other)


def test_a_run_that_diverged_stays_so(tmp_path):
    options: dict[str, Any] = OPTIONS | {"horizon": 1000.0, "step": 50.0}
    alone = train(TASK, **options)
    saved = Checkpoints(tmp_path, 5, resume=True)
    for _ in range(2):
        run = train(TASK, **options, checkpoints=saved)
        assert (run.outcome, run.weights) == ("nonfinite", None)
        np.testing.assert_array_equal(run.coordinates, alone.coordinates)


def refused(folder, message, **options):
    with pytest.raises(ArgumentError, match=re.escape(message)) as found:
        train(TASK, **(OPTIONS | options), checkpoints=Checkpoints(folder, 30, resume=True))
    return str(found.value)


def test_a_folder_with_states_is_not_begun_again(tmp_path):
    interrupted(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArgumentError, match=r"checkpoints must be one without states .*up to step 60.*unless it is"):
        train(TASK, **OPTIONS, checkpoints=Checkpoints(tmp_path, 30))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "options, names",
    [
        ({"step": 0.125}, "step"),
        ({"seed": 1}, "seeds"),
        ({"stop": (("loss", 0.5),)}, "stop"),
        ({"batch_size": 8, "horizon": 5.0}, "horizon, batch_size"),
        ({"start": Start(0.1)}, "start"),
    ],
)
def test_another_training_is_refused(options, names, tmp_path):
    interrupted(tmp_path)
    kept = states(tmp_path)
    refused(tmp_path, f"one of the same training (its states have another {names})", **options)
    assert states(tmp_path) == kept


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        for place in range(len(content) // 3, len(content) // 3 + 8):
            content[place] ^= 0x10
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "gone"])
def test_a_damaged_state_is_passed_over(how, whole, tmp_path):
    interrupted(tmp_path)
    assert states(tmp_path) == [30, 60]
    damaged = largest_file(tmp_path / "states" / "60")
    if how == "gone":
        damaged.unlink()
    else:
        damage(damaged, how)
    run, said = resumed(tmp_path)
    assert said[0].startswith("A state cannot be read (step 60: ") and "\n" not in said[0]
    assert said[1] == "The training goes on from step 30."
    same(run, whole)


def test_a_state_that_is_not_whole_is_passed_over(whole, tmp_path):
    """As a kill leaves it after the state and before what says what it is."""
    interrupted(tmp_path)
    (tmp_path / "about" / "60.json").unlink()
    run, said = resumed(tmp_path)
    assert said == ["The training goes on from step 30."]
    same(run, whole)


def test_nor_is_a_first_one(whole, tmp_path):
    interrupted(tmp_path, 40)
    (tmp_path / "about" / "30.json").unlink()
    run, said = resumed(tmp_path)
    assert said == ["Nothing was saved yet: the training starts afresh."]
    same(run, whole)


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_damaged_records_too(how, whole, tmp_path):
    interrupted(tmp_path)
    last = tmp_path / "records" / "0000000030-0000000060.npz"
    last.unlink() if how == "gone" else damage(last, how)
    run, said = resumed(tmp_path)
    assert said[-1] == "The training goes on from step 30."
    same(run, whole)


def test_when_no_state_can_be_read(tmp_path):
    interrupted(tmp_path)
    for step in (30, 60):
        damage(tmp_path / "about" / f"{step}.json", "cut")
    sentence = refused(tmp_path, "checkpoints must be one whose states can be read (step 60: ")
    assert "\n" not in sentence and "step 30: " in sentence
    assert states(tmp_path) == [30, 60]


def test_no_pickle_is_read(tmp_path):
    interrupted(tmp_path)
    first = tmp_path / "records" / "0000000000-0000000030.npz"
    np.savez(first, coordinates=np.array([print], dtype=object), loss=np.zeros(2), off_subspace=np.zeros(2))
    assert "pickle" in refused(tmp_path, "one whose states can be read")


def test_one_at_a_time(tmp_path):
    begun, end = threading.Event(), threading.Event()

    def wait(done, most, loss):
        begun.set()
        end.wait(60)

    first = threading.Thread(
        target=train, args=(TASK,), kwargs=OPTIONS | {"checkpoints": Checkpoints(tmp_path, 30), "on_progress": wait}
    )
    first.start()
    try:
        assert begun.wait(60)
        refused(tmp_path, "a folder at which no other training is at work")
    finally:
        end.set()
        first.join()
    assert states(tmp_path) == [90, 97]


def test_a_kill_between_a_state_and_what_is_said_of_it(whole, tmp_path, monkeypatch):
    """With a single state kept, too: the one before goes last."""
    write, calls = saving._write, []

    def die(path, how):
        if path.suffix == ".json":
            calls.append(path)
            if len(calls) == 3:
                raise Stopped
        write(path, how)

    monkeypatch.setattr(saving, "_write", die)
    with pytest.raises(Stopped):
        train(TASK, **OPTIONS, checkpoints=Checkpoints(tmp_path, 20, keep=1))
    monkeypatch.undo()
    run, said = resumed(tmp_path, every=20, keep=1)
    assert said == ["The training goes on from step 40."]
    same(run, whole)
    assert states(tmp_path) == [97] and [path.name for path in (tmp_path / "about").iterdir()] == ["97.json"]


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "a folder that can be written")
    refused(tmp_path / "file" / "below", "a folder that can be written")


def test_how_many_are_kept(tmp_path):
    train(TASK, **OPTIONS, checkpoints=Checkpoints(tmp_path, 10, keep=4))
    assert states(tmp_path) == [70, 80, 90, 97]
    # and of what is not whole, nothing
    assert not [name for name in os.listdir(tmp_path / "records") if not name.endswith(".npz")]


@pytest.mark.parametrize("options", [{"every": 0}, {"every": True}, {"every": 5, "keep": 0}])
def test_numbers_out_of_range(options, tmp_path):
    with pytest.raises(ArgumentError, match="must be a whole number, at least 1"):
        Checkpoints(tmp_path, **options)


def test_without_orbax(tmp_path, monkeypatch):
    monkeypatch.setattr(saving.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=re.escape("pip install 'induction-dynamics[checkpoints]'")):
        Checkpoints(tmp_path, 5)
