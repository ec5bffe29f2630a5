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

from induction_dynamics.dynamics.emergence import Emergence
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.ledger import (
    FILE,
    LOCK,
    SCHEMA_VERSION,
    Entry,
    Records,
    configuration_of,
    is_at_work,
    key_of,
    open_ledger,
    point_of,
    point_order,
    read_ledger,
    read_runs,
    read_state,
)
from induction_dynamics.scaling.sweep import Point
from induction_dynamics.task import Task

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


@pytest.mark.parametrize("point", POINTS)
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
from induction_dynamics.scaling.sweep import Point
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
