"""The ledger: what is written comes back, whoever is killed; what is no sound ledger of ours is refused untouched."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from induction_dynamics.dynamics.emergence import Emergence
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.scaling.keys import SCHEMA_VERSION, configuration_of, key_of, point_of, point_order
from induction_dynamics.scaling.ledger import (
    FILE,
    LOCK,
    Entry,
    Records,
    is_at_work,
    open_ledger,
    read_ledger,
    read_runs,
    read_state,
)
from induction_dynamics.scaling.points import Point, columns_of
from induction_dynamics.task import Task
from induction_dynamics.training.optimizers import OPTIMIZERS, Optimizer, takes
from induction_dynamics.training.starts import Start

THIRD = Emergence("alpha_3", 0.5, 1 / 3, "emerged", True)
NEVER = Emergence("loss", 0.1, None, "horizon_reached", None)
POINTS = (
    Point(Task(4), "circuit"),
    Point(Task(10**9, query="uniform"), "subspace", accuracy=1e-9),
    Point(Task(3, rotation=60.0), "subspace", horizon=3.5),
    Point(Task(3, 24, inputs="isotropic"), "subspace", seed=0, samples=64),
    Point(Task(3), "full", seed=7, batch_size=32, step=0.1),
    Point(Task(3), "full", seed=0, batch_size=32, step=0.1),
)


def entry(point, *crossings, outcome="emerged", **about):
    return Entry(point, crossings or (THIRD, NEVER), outcome, **about)


@pytest.fixture
def filled(tmp_path):
    with open_ledger(tmp_path) as ledger:
        for point in POINTS:
            ledger.put(entry(point))
    return tmp_path


def test_what_is_written_comes_back(tmp_path):
    told = {"started": "2026-01-01T00:00:00+00:00", "seconds": 0.1, "provenance": {"commit": None, "threads": 2}}
    written = [entry(point, outcome="nonfinite", reason="why", **told) for point in POINTS]
    with open_ledger(tmp_path / "näme with spaces" / "deep") as ledger:
        for one in written:
            ledger.put(one)
        assert ledger.entries(POINTS[:2]) == dict(zip(POINTS[:2], written[:2], strict=True))
    found = read_ledger(tmp_path / "näme with spaces" / "deep")
    assert found == sorted(written, key=lambda one: point_order(one.point))
    assert [one.point.model for one in found] == ["circuit"] + ["subspace"] * 3 + ["full"] * 2
    assert [one.point.seed for one in found[-2:]] == [0, 7]


SEVERAL = Point(Task(9, query="uniform", copies=3), "circuit")


@pytest.mark.parametrize("point", (*POINTS, SEVERAL))
def test_a_point_and_its_configuration_are_one(point):
    configuration = json.loads(json.dumps(configuration_of(point)))
    assert point_of(configuration) == point
    assert None not in configuration.values()


def test_keys_tell_points_apart_and_nothing_else():
    assert len({key_of(point) for point in POINTS}) == len(POINTS)
    assert key_of(Point(Task(4, 10, rotation=90.0), "circuit", horizon=12.0)) == key_of(POINTS[0])
    # what has no effect on a point is no part of it
    assert key_of(dataclasses.replace(POINTS[4], accuracy=1e-3)) == key_of(POINTS[4])
    assert key_of(dataclasses.replace(POINTS[0], accuracy=1e-3)) != key_of(POINTS[0])


def test_keys_stay_what_they_are():
    """Ledgers on disk are found again by later versions, unless they raise SCHEMA_VERSION."""
    assert SCHEMA_VERSION == 1
    assert key_of(POINTS[0]) == KEY


KEY = "e6342cb085b1c1b3cb1cb1ae0c677202790bda98633dfe51566322dcf3b6deaa"


def test_what_is_as_it_always_was_is_not_told():
    """A training by gradient descent from zero has the configuration that it had before there was another."""
    assert configuration_of(POINTS[4]) == {
        **{"context_length": 3, "embedding_dim": 8, "inputs": "orthonormal", "query": "last", "rotation": 90.0},
        **{"model": "full", "horizon": 12.0, "seed": 7, "batch_size": 32, "step": 0.1},
    }
    spelt_out = {"optimizer": Optimizer(), "start": Start(), "shared_frames": 1, "dtype": "float32", "hold": ()}
    assert dataclasses.replace(POINTS[4], **spelt_out) == POINTS[4]


def test_how_a_point_is_trained_is_told_in_plain_values():
    point = Point(
        Task(3),
        "full",
        seed=0,
        batch_size=4,
        optimizer=Optimizer("sgd", learning_rate=1.0, momentum=0.5),
        steps=9,
        start=Start(0.1, {"gamma_3": 1.0, "alpha_1": -2.5}),
        sequences=8,
        dtype="float64",
        hold=(Hold("gamma_4", -0.0), Hold("alpha_3", None, 4.0)),
    )
    told = configuration_of(point)
    assert json.loads(json.dumps(told)) == told
    assert {name: told[name] for name in list(told)[5:]} == {
        **{"model": "full", "seed": 0, "batch_size": 4, "steps": 9, "sequences": 8, "dtype": "float64"},
        "optimizer": {
            **{"name": "sgd", "learning_rate": 1.0, "momentum": 0.5, "nesterov": False},
            **{"weight_decay": 0.0, "schedule": "constant", "warmup": 0},
        },
        "start": {"scale": [0.1, 0.1, 0.1], "coordinates": {"alpha_1": -2.5, "gamma_3": 1.0}},
        "hold": ["alpha_3@4.0", "gamma_4=0.0"],
    }
    assert point.horizon is None and point.step is None
    (row,) = entry(point, THIRD).rows()
    assert (row["time_unit"], row["optimizer"], row["learning_rate"], row["steps"]) == ("steps", "sgd", 1.0, 9)
    assert row["start"] == "scale=0.1 alpha_1=-2.5 gamma_3=1" and row["sequences"] == 8
    assert row["training"] == "dtype=float64 momentum=0.5" and row["hold"].split()[0] == "alpha_3@4.0"


UP = st.sampled_from([0.1, 1 / 3, 1 / 3 + 1e-9])
VALUES = {
    "learning_rate": UP,
    **dict.fromkeys(("momentum", "b1", "b2", "weight_decay"), st.one_of(st.just(0.0), UP)),
    **dict.fromkeys(("eps", "clip"), UP),
    "nesterov": st.booleans(),
    "schedule": st.sampled_from(["constant", "cosine", "linear"]),
    "warmup": st.integers(0, 2),
}
TAKEN = {name: takes(name) for name in OPTIMIZERS}
SIGNED = st.sampled_from([-1.0, -0.0, 0.0, 1 / 3, 1 / 3 + 1e-9])


@st.composite
def described(draw):
    """What a point is made of, in plain values."""
    model = draw(st.sampled_from(["circuit", "subspace", "full"]))
    names = ("alpha_3", "beta_2", "gamma_3") if model == "circuit" else COORDINATES
    optimizer = draw(st.sampled_from(OPTIMIZERS))
    taken = [option for option in TAKEN[optimizer] if option == "learning_rate" or draw(st.booleans())]
    since = st.sampled_from([0.0, 40.0, 1 / 3])
    return {
        "task": (draw(st.integers(2, 3)), draw(st.sampled_from(["last", "uniform"]))),
        "optimizer": {"name": optimizer} | {option: draw(VALUES[option]) for option in taken},
        "start": (
            draw(st.sampled_from([0.0, 0.1, (0.1, 0.0, 0.2)])),
            draw(st.dictionaries(st.sampled_from(names), SIGNED, max_size=2)),
        ),
        "hold": [
            (name, draw(st.one_of(st.none(), SIGNED)), draw(since))
            for name in draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
        ],
        "model": model,
        "seed": draw(st.integers(0, 1)),
        "batch_size": draw(st.integers(1, 2)),
        "steps": None if optimizer == "gd" else draw(st.integers(3, 4)),
        "sequences": draw(st.sampled_from([None, 2, 3])),
        "shared_frames": draw(st.sampled_from([1, 2])),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
    }


def made(task, model, optimizer, start, hold, **plain):
    length, query = task
    training = {"optimizer": Optimizer(**optimizer), "start": Start(*start), "hold": tuple(Hold(*one) for one in hold)}
    return Point(Task(length, query=query), model, step=0.25, samples=1, **training, **plain)


@given(st.lists(described(), min_size=2, max_size=8))
def test_keys_orders_and_columns_tell_the_same_points_apart(descriptions):
    """And every point comes back from what is written of it."""
    found = [made(**one) for one in descriptions]
    for point in found:
        assert point_of(json.loads(json.dumps(configuration_of(point)))) == point
    for told in (key_of, point_order, lambda point: json.dumps(columns_of(point)).replace("-0.0", "0.0")):
        assert len({told(point) for point in found}) == len(set(found))
    assert sorted(found, key=point_order) == sorted(reversed(found), key=point_order)


def test_a_point_is_replaced_by_what_is_known_of_it_later(filled):
    with open_ledger(filled) as ledger:
        ledger.put(entry(POINTS[0], NEVER, outcome="horizon_reached"))
    found = {one.point: one for one in read_ledger(filled)}
    assert len(found) == len(POINTS)
    assert found[POINTS[0]].crossings == (NEVER,)


def test_rows_come_in_one_order():
    asked = [(measure, level) for measure in ("loss", "alpha_3") for level in (0.9, 0.1)]
    crossings = [Emergence(*target, 1.0, "emerged", None) for target in asked]
    rows = entry(POINTS[0], *crossings).rows()
    assert [(row["measure"], row["threshold"]) for row in rows] == [
        ("alpha_3", 0.1),
        ("alpha_3", 0.9),
        ("loss", 0.1),
        ("loss", 0.9),
    ]
    assert rows == entry(POINTS[0], *reversed(crossings)).rows()
    assert entry(POINTS[0], *crossings).rows({("loss", 0.9)}) == rows[3:]


def test_records_of_runs_are_kept(tmp_path):
    time = np.linspace(0, 1, 22)
    run = Trajectory(time, time[:, None] * np.ones(19), 1 - time, 0 * time, "horizon_reached", degree=7)
    records = Records.of(run, 4)
    np.testing.assert_array_equal(records.time, time[[0, 7, 14, 21]])
    assert len(Records.of(run, 1000).time) == 22
    with open_ledger(tmp_path) as ledger:
        ledger.put(entry(POINTS[0]), records, 4)
        ledger.put(entry(POINTS[1]))
        assert ledger.records() == {key_of(POINTS[0]): 4}
    kept = read_runs(tmp_path)
    assert set(kept) == {POINTS[0]}
    for name, values in vars(records).items():
        np.testing.assert_array_equal(getattr(kept[POINTS[0]], name), values)


def test_what_is_written_is_one_plain_file(filled):
    assert sorted(path.name for path in filled.iterdir()) == [LOCK, FILE]
    elsewhere = filled / "copy"
    elsewhere.mkdir()
    shutil.copy(filled / FILE, elsewhere)
    assert read_ledger(elsewhere) == read_ledger(filled)


def test_others_read_while_one_writes(tmp_path):
    with open_ledger(tmp_path) as ledger:
        ledger.tell(progress={"done": 0})
        for done, point in enumerate(POINTS):
            assert len(read_ledger(tmp_path)) == done
            ledger.put(entry(point))
        assert read_state(tmp_path) == {"progress": {"done": 0}}
        assert is_at_work(tmp_path)
    assert not is_at_work(tmp_path)
    assert not is_at_work(tmp_path / "nothing")


def test_a_ledger_is_read_where_nothing_can_be_written(filled, monkeypatch):
    """Also one whose writer was killed: its last points are in a second file."""
    with open_ledger(filled) as ledger:
        ledger.put(entry(Point(Task(5), "circuit")))
        killed = filled / "killed"
        killed.mkdir()
        for path in filled.glob(f"{FILE}*"):
            shutil.copy(path, killed)
    assert (killed / f"{FILE}-wal").exists()
    before = {path.name: path.read_bytes() for path in killed.iterdir()}
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert len(read_ledger(killed)) == len(POINTS) + 1
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == before


HOLDER = """
import sys, time
from induction_dynamics.scaling.ledger import Entry, open_ledger
from induction_dynamics.scaling.points import Point
from induction_dynamics.dynamics.emergence import Emergence
from induction_dynamics.task import Task
with open_ledger(sys.argv[1]) as ledger:
    ledger.tell(driver={"process": 1234, "host": "here", "started": "then"})
    ledger.put(Entry(Point(Task(4), "circuit"), (Emergence("alpha_3", 0.5, 1.0, "emerged", True),), "emerged"))
    print("there", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_leaves_and_one_after_a_kill_does_not(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "there\n"
        with pytest.raises(ArgumentError, match=r"no other sweep is at work \(process 1234 on here is, since then\)"):
            with open_ledger(tmp_path):
                pass
        assert is_at_work(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not is_at_work(tmp_path)
    with open_ledger(tmp_path) as ledger:
        ledger.put(entry(POINTS[1]))
    assert {one.point for one in read_ledger(tmp_path)} == set(POINTS[:2])


def truncated(path):
    path.write_bytes(path.read_bytes()[:5000])


def empty(path):
    path.write_bytes(b"")


def words(path):
    path.write_text("no ledger\n" * 1000)


def overwritten(path):
    content = bytearray(path.read_bytes())
    content[4096:4196] = b"\xff" * 100
    path.write_bytes(content)


def foreign(path):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE points (key TEXT)")


def later(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


@pytest.mark.parametrize(
    "column, value",
    [("crossings", "[1, 2"), ("crossings", "[1]"), ("provenance", "no JSON"), ("configuration", '{"model": "other"}')],
)
def test_a_point_that_makes_no_sense_is_a_sentence(filled, column, value):
    with contextlib.closing(sqlite3.connect(filled / FILE)) as connection, connection:
        connection.execute(f"UPDATE points SET {column} = ?", (value,))
    with pytest.raises(ArgumentError, match="a whole ledger .the point .* cannot be read"):
        read_ledger(filled)
    with pytest.raises(OSError, match="cannot be read"), open_ledger(filled) as ledger:
        ledger.entries(POINTS)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (truncated, "a whole ledger"),
        (empty, "was written by this package"),
        (words, "a whole ledger"),
        (overwritten, "a whole ledger"),
        (foreign, "was written by this package"),
        (later, "of schema 1 at most \\(it has 2\\)"),
    ],
)
def test_what_is_no_sound_ledger_is_refused_and_stays(filled, spoil, message):
    path = filled / FILE
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(ArgumentError, match=message) as raised, open_ledger(filled):
        pass
    assert raised.value.argument == "folder" and raised.value.value == str(filled)
    for read in (read_ledger, read_runs, read_state):
        with pytest.raises(ArgumentError, match=message):
            read(filled)
    assert path.read_bytes() == before


def test_where_no_ledger_is(tmp_path):
    for read in (read_ledger, read_runs, read_state):
        with pytest.raises(ArgumentError, match=re.escape("a folder that 'sweep' has written, with its ledger.sqlite")):
            read(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="one that can be written"), open_ledger(tmp_path / "file"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced"])
def test_a_folder_that_vanishes_loses_nothing(tmp_path, how):
    folder = tmp_path / "sweep"
    with pytest.raises(OSError, match="has vanished; all that it held has been put back as"):
        with open_ledger(folder) as ledger:
            ledger.put(entry(POINTS[0]))
            if how == "renamed":
                folder.rename(tmp_path / "other")
            else:
                shutil.rmtree(folder)
            if how == "replaced":
                with open_ledger(folder) as other:
                    other.put(entry(POINTS[2]))
            ledger.put(entry(POINTS[1]))
    if how == "replaced":
        assert {one.point for one in read_ledger(folder)} == {POINTS[2]}
        (rescued,) = folder.glob("rescued-*.sqlite")
        os.replace(rescued, folder / FILE)
    assert {one.point for one in read_ledger(folder)} == set(POINTS[:2])


def test_a_full_disk_is_an_error_of_writing(filled):
    before = read_ledger(filled)
    with pytest.raises(OSError, match="full") as raised, open_ledger(filled) as ledger:
        ledger._connection.execute("PRAGMA max_page_count = 1")
        for length in range(5, 500):
            ledger.put(entry(Point(Task(length), "circuit")))
    assert raised.value.filename == str(filled / FILE)
    assert [one for one in read_ledger(filled) if one in before] == before
