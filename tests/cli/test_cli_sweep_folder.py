"""The folder of a sweep: what is in it, whose it is, and how a sweep goes on after whatever has ended it."""

import csv
import importlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib

import pytest

from induction_dynamics.cli import folder as folders
from induction_dynamics.cli import main
from induction_dynamics.cli.plans import read_plan
from induction_dynamics.scaling import ledger as ledgers
from induction_dynamics.scaling import study
from induction_dynamics.scaling.ledger import FILE, LOCK, NOT_COMPUTED, open_ledger, read_ledger, read_runs
from tests.cli.conftest import pretend_batch

WRITTEN = {"rows.csv", "fits.json", "plan.toml", "emergence_times.png", "emergence_times.svg"}
FILES = WRITTEN | {FILE, LOCK}


def sweep(output, *words, lengths=(4, 8, 16)):
    return main(["sweep", "--context-lengths", *map(str, lengths), "--output", str(output), *words])


def answer(capsys, output, *words, **lengths):
    assert sweep(output, *words, "--json", **lengths) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def refused(capsys, output, *words):
    assert sweep(output, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err.strip()


def contents(folder):
    """All files but the ledger's, whose bytes say nothing."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in (FILE, LOCK)}


def table(folder):
    with open(folder / "rows.csv", newline="") as file:
        return list(csv.DictReader(file))


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_written(capsys, pretended, tmp_path):
    folder = tmp_path / "deep" / "down"
    document = answer(capsys, folder, "--model", "circuit", "full")
    assert {path.name for path in folder.iterdir()} == FILES
    assert json.loads((folder / "fits.json").read_text()) == document["fits"]
    rows = table(folder)
    assert [float(row["time"]) for row in rows] == [row["time"] for row in document["rows"]]
    assert list(rows[0]) == list(document["rows"][0])
    assert rows[0]["seed"] == "" and rows[-1]["seed"] == "0" and rows[-1]["accuracy"] == ""
    assert (folder / "emergence_times.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / "emergence_times.svg").read_bytes()
    plan = tomllib.loads((folder / "plan.toml").read_text())
    assert plan == {name: document["config"][name] for name in ("measures", "thresholds", "loss_fractions", "grid")}
    assert [entry.point for entry in read_ledger(folder)] == [
        point for grid in read_plan(str(folder / "plan.toml")).grids for point in grid.points()
    ]


def test_the_same_again_computes_nothing_and_writes_the_same(capsys, pretended, drawn, tmp_path):
    first = answer(capsys, tmp_path / "out")
    before = contents(tmp_path / "out")
    for name in before:
        (tmp_path / "out" / name).write_text("damaged")
    again = answer(capsys, tmp_path / "out")
    assert again == first | {"computed": 0, "reused": 3} and len(pretended) == 1
    assert contents(tmp_path / "out") == before and before.keys() == WRITTEN


def test_further_values_add_points(capsys, pretended, drawn, tmp_path):
    """The document is of what was asked for, the files are of all."""
    first = answer(capsys, tmp_path, lengths=(4, 16))
    more = answer(capsys, tmp_path, "--model", "circuit", "subspace", lengths=(8, 16))
    assert (more["computed"], more["reused"], more["failed"]) == (3, 1, 0)
    points = [(row["model"], row["context_length"]) for row in more["rows"][::4]]
    assert points == [("circuit", 8), ("circuit", 16), ("subspace", 8), ("subspace", 16)]
    assert more["rows"][12:] == first["rows"][4:]
    rows = table(tmp_path)
    points = [(row["model"], int(row["context_length"])) for row in rows[::4]]
    assert points == [("circuit", 8), ("circuit", 16), ("subspace", 4), ("subspace", 8), ("subspace", 16)]
    (note,) = [note for note in more["notes"] if "folder" in note]
    assert note == ("The folder holds 5 points, 1 of them from earlier sweeps: its files are of all of them.")
    assert {fit["model"] for fit in json.loads((tmp_path / "fits.json").read_text())} == {"subspace"}
    assert more["fits"] == []


def test_new_thresholds_and_records_make_runs_again(capsys, pretended, drawn, tmp_path):
    answer(capsys, tmp_path, lengths=(4, 8))
    levels = answer(capsys, tmp_path, "--thresholds", "0.25", "--measures", "alpha_3", lengths=(8,))
    assert (levels["computed"], [row["threshold"] for row in levels["rows"]]) == (1, [0.25])
    (points, asked) = pretended[-1]
    assert [point.task.context_length for point in points] == [8]
    assert asked["targets"][:2] == [("alpha_3", 0.25), ("alpha_3", 0.5)] and len(asked["targets"]) == 5
    assert [row["threshold"] for row in table(tmp_path)] == ["0.5"] * 4 + ["0.25"] + ["0.5"] * 4
    kept = answer(capsys, tmp_path, "--records", "2", lengths=(4, 8))
    assert (kept["computed"], kept["config"]["records"], len(read_runs(tmp_path))) == (2, 2, 2)
    assert answer(capsys, tmp_path, "--records", "2", lengths=(4, 8))["computed"] == 0


def test_what_is_said(capsys, pretended, drawn, tmp_path):
    assert sweep(tmp_path / "a\nb") == 0
    out, err = capsys.readouterr()
    assert err == "" and out.endswith(f"\n\nPoints: 3 computed, 0 there already\nWritten to {tmp_path}/a\\nb\n")
    assert sweep(tmp_path / "a\nb", "--quiet") == 0
    assert "Points:" not in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted({*WRITTEN, "config.json"}))
def test_files_of_somebody_else_are_kept(capsys, pretended, tmp_path, name):
    (tmp_path / name).write_text("mine")
    assert refused(capsys, tmp_path) == (
        f"--output must be a new folder or one of this command; got '{tmp_path}', which holds {name} without {FILE}."
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"mine"}
    assert pretended == []


def test_other_files_are_no_obstacle(capsys, pretended, drawn, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert answer(capsys, tmp_path)["computed"] == 3
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"notes.txt"}


def of_text(path):
    path.write_text("mine")


def of_another_program(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE points (x)")
    connection.close()


def of_a_later_version(path):
    with open_ledger(path.parent):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def of_a_folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    "make, allowed",
    [
        (of_text, "one whose ledger.sqlite is a whole ledger ("),
        (of_another_program, "one whose ledger.sqlite was written by this package; got "),
        (of_a_later_version, "one whose ledger.sqlite this version can read, of schema 1 at most (it has 99); got "),
        (of_a_folder, "one whose ledger.sqlite is a whole ledger ("),
    ],
)
def test_a_ledger_that_is_none_is_kept(capsys, pretended, tmp_path, make, allowed):
    make(tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes() if make != of_a_folder else b""
    assert refused(capsys, tmp_path).startswith(f"--output must be {allowed}")
    assert {path.name for path in tmp_path.iterdir()} <= {FILE, LOCK}
    assert make == of_a_folder or (tmp_path / FILE).read_bytes() == before
    assert pretended == []


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_file_is_no_folder(capsys, pretended, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    assert refused(capsys, tmp_path / "file" / below).startswith("--output must be ")
    assert contents(tmp_path) == {"file": b"mine"}
    assert pretended == []


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_name_that_is_too_long(capsys, pretended, tmp_path, words):
    path = tmp_path / ("a" * 5000)
    if words:
        assert sweep(path, *words) == 0 and "3 points, 3 of them to be computed" in capsys.readouterr().out
    else:
        assert "one that can be written (File name too long); got '" in refused(capsys, path)
    assert list(tmp_path.iterdir()) == [] and pretended == []


@pytest.mark.parametrize("moment", ["mkdir", "lock", "create"])
def test_a_folder_that_cannot_be_written(capsys, pretended, drawn, tmp_path, monkeypatch, moment):
    def refuse(*args, **kwargs):
        if moment == "create":
            raise sqlite3.OperationalError("disk full")
        raise PermissionError(13, "Permission denied")

    place = {
        "mkdir": (folders.Path, "mkdir"),
        "lock": (ledgers.filelock.FileLock, "acquire"),
        "create": (sqlite3, "connect"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*place[moment], refuse)
        sentence = refused(capsys, tmp_path / "b")
    reason = "disk full" if moment == "create" else "Permission denied"
    assert sentence == f"--output must be one that can be written ({reason}); got '{tmp_path}/b'."
    assert not list(tmp_path.rglob("*.sqlite")) and pretended == []
    assert answer(capsys, tmp_path / "b", "--quiet")["computed"] == 3


def test_one_sweep_at_a_time(capsys, pretended, tmp_path):
    with open_ledger(tmp_path):
        assert refused(capsys, tmp_path).startswith("--output must be one where no other sweep is at work")
    assert pretended == []


@pytest.mark.parametrize("moment", ["while writing", "while drawing"])
def test_a_failure_while_writing_keeps_what_was_there(capsys, pretended, drawn, tmp_path, monkeypatch, moment):
    assert sweep(tmp_path, "--quiet") == 0
    before = contents(tmp_path)
    capsys.readouterr()

    def fail(*arguments):
        arguments[-1].write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if moment == "while drawing":
            patch.setattr(importlib.import_module("induction_dynamics.plotting.style"), "save_figure", fail)
        else:
            patch.setattr(folders.Path, "write_text", lambda path, *args, **kwargs: fail(path))
        assert sweep(tmp_path, "--json", lengths=(32, 64)) == 1
    assert capsys.readouterr() == ("", "Reading or writing failed: No space left on device.\n")
    assert contents(tmp_path) == before
    # the points are there nonetheless
    more = answer(capsys, tmp_path, lengths=(4, 8, 16, 32, 64))
    assert (more["computed"], more["reused"], len(table(tmp_path))) == (0, 5, 20)


def test_a_ledger_that_cannot_be_written_any_more(capsys, pretended, drawn, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(None, "database or disk is full", str(tmp_path / FILE))

    monkeypatch.setattr(ledgers.Ledger, "put", full)
    assert sweep(tmp_path) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"Reading or writing failed: database or disk is full ({tmp_path / FILE}).\n")
    assert contents(tmp_path) == {}


def test_exhausted_memory_is_a_failed_point(capsys, pretended, drawn, tmp_path, monkeypatch):
    """Others are computed, and all is written and printed before the sentence."""

    def fail(batch, tell=None):
        if batch.points[0].model == "full":
            raise MemoryError("Out of memory: 99 GB")
        return pretend_batch(batch)

    with monkeypatch.context() as patch:
        patch.setattr(study, "compute", fail)
        words = ["--model", "circuit", "full", "--seed", "0", "1"]
        assert sweep(tmp_path, *words, "--json") == 1
        out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == (
        "6 of 9 points could not be computed (of the first: MemoryError: Out of memory: 99 GB); "
        "--retry-failed tries them again.\n"
    )
    assert [document[name] for name in ("computed", "reused", "failed")] == [9, 0, 6]
    assert [row["outcome"] for row in document["rows"]] == ["emerged"] * 12 + [NOT_COMPUTED] * 24
    assert contents(tmp_path).keys() == WRITTEN and len(table(tmp_path)) == 36
    assert sweep(tmp_path, *words) == 1
    out, err = capsys.readouterr()
    assert "not computed" in out and err.startswith("6 of 9 points") and pretended == []
    again = answer(capsys, tmp_path, *words, "--retry-failed")
    assert [again[name] for name in ("computed", "reused", "failed")] == [6, 3, 0]


def test_an_interrupted_sweep_goes_on(capsys, pretended, drawn, tmp_path, monkeypatch):
    def interrupt(batch, tell=None):
        if batch.points[0].task.context_length == 8:
            wait_until(lambda: read_ledger(tmp_path))
            os.kill(os.getpid(), signal.SIGINT)  # the process, as Ctrl-C does: a signal to this thread wakes no other
            time.sleep(0.2)
        return pretend_batch(batch)

    words = ["--model", "full", "--workers", "1"]
    # A shell starts what runs in the background with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(study, "compute", interrupt)
            assert sweep(tmp_path, *words, lengths=(4, 8, 16, 32)) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    sentences = "All that was finished is kept: the same command goes on from there.\nInterrupted.\n"
    assert capsys.readouterr() == ("", sentences)
    assert {path.name for path in tmp_path.iterdir()} == {FILE, LOCK}
    assert [entry.point.task.context_length for entry in read_ledger(tmp_path)] == [4]
    assert main(["status", str(tmp_path)]) == 0
    assert "was stopped at" in capsys.readouterr().out
    more = answer(capsys, tmp_path, *words, lengths=(4, 8, 16, 32))
    assert (more["computed"], more["reused"], len(table(tmp_path))) == (3, 1, 16)


def test_a_real_sweep_that_is_terminated_goes_on(capsys, pretended, drawn, tmp_path):
    words = ["--model", "circuit", "full", "--horizon", "1e5", "--measures", "beta_2", "beta_9"]
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "induction_dynamics", "sweep", "--context-lengths", "4", *words]
    command += ["--output", str(folder), "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: process.poll() is not None or ((folder / FILE).exists() and read_ledger(folder)))
            assert main(["status", str(folder)]) == 0
            assert "at work: process" in capsys.readouterr().out
            process.terminate()
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    sentences = "All that was finished is kept: the same command goes on from there.\nTerminated.\n"
    assert (process.returncode, out, err) == (143, "", sentences)
    assert main(["status", str(folder)]) == 0
    assert "nobody is at work" in capsys.readouterr().out
    more = answer(capsys, folder, *words, lengths=(4,))
    assert (more["computed"], more["reused"], len(more["rows"])) == (1, 1, 4)
    assert {path.name for path in folder.iterdir()} == FILES


def test_what_others_leave_does_not_block_the_next(capsys, pretended, drawn, tmp_path):
    """Temporary files and a lock without a ledger, of a process that was killed; a ledger without the other files."""
    for name in (LOCK, ".99.rows.csv", f".99.{FILE}"):
        (tmp_path / name).write_text("")
    assert answer(capsys, tmp_path)["computed"] == 3
    for name in WRITTEN:
        (tmp_path / name).unlink()
    assert answer(capsys, tmp_path)["computed"] == 0
    assert FILES <= {path.name for path in tmp_path.iterdir()}


def test_a_folder_may_be_moved(capsys, pretended, drawn, tmp_path):
    answer(capsys, tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    os.unlink(tmp_path / "b" / LOCK)
    assert answer(capsys, tmp_path / "b")["computed"] == 0


def test_how_the_work_is_done(capsys, pretended, drawn, tmp_path):
    """Is in the configuration; a device of one process takes no other."""
    document = answer(capsys, tmp_path, "--workers", "3", "--threads", "2", "--model", "circuit", "full")
    assert [document["config"][name] for name in ("workers", "threads", "records", "retry_failed")] == [3, 2, 0, False]
    assert {entry.provenance["threads"] for entry in read_ledger(tmp_path)} == {2}
    assert refused(capsys, tmp_path, "--workers", "2", "--device", "gpu") == (
        "--workers must be 1 with --device gpu, which one process has for itself."
    )


def test_a_dry_run(capsys, pretended, drawn, tmp_path):
    """Tells the points and those that are there; needs no folder, makes none, and computes nothing."""
    words = ["--model", "circuit", "full", "--dry-run"]
    assert main(["sweep", "--context-lengths", "4", "8", *words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [point["done"] for point in document["points"]] == [False] * 4 and document["estimate"][
        "seconds_on_one_core"
    ] > 0
    assert sweep(tmp_path / "out", *words) == 0
    out = capsys.readouterr().out
    assert "6 points, 6 of them to be computed" in out and max(map(len, out.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == [] and pretended == []
    answer(capsys, tmp_path / "out")
    before = contents(tmp_path / "out")
    assert sweep(tmp_path / "out", "--dry-run", "--json", "--model", "subspace", lengths=(4, 32)) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(point["context_length"], point["done"]) for point in document["points"]] == [(4, True), (32, False)]
    assert sweep(tmp_path / "out", "--dry-run", "--quiet", "--thresholds", "0.1") == 0
    assert capsys.readouterr().out.split()[-1] == "0"
    assert contents(tmp_path / "out") == before and len(pretended) == 1
