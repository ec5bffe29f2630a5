"""`export`: a sweep folder as one file, and one sentence for whatever cannot be one."""

import csv
import json
import os
import sqlite3

import pytest
import xarray

from induction_dynamics.cli import main
from induction_dynamics.cli.export import COMMAND
from induction_dynamics.cli.parsing import flags
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling import labelled
from induction_dynamics.scaling.labelled import load_sweep
from induction_dynamics.scaling.ledger import FILE, open_ledger
from tests.scaling.invented import FAILED, MIXED, circuit, entry, fill, records

ROWS = sum(len(one.crossings) for one in MIXED)


@pytest.fixture
def sweep(tmp_path):
    return fill(tmp_path / "ein Lauf, größer als 10⁶", [(one, records(place + 1)) for place, one in enumerate(MIXED)])


def answer(capsys, *words):
    assert main(["export", *map(str, words)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *words):
    """The sentence, after checking that there is nothing else."""
    status = main(["export", *map(str, words)])
    out, err = capsys.readouterr()
    assert (status, out) == (2, ""), err
    assert err.endswith(".\n") and err.count("\n") == 1, err
    return err.strip()


@pytest.mark.parametrize("words", [[], ["--trajectories"]])
def test_netcdf(capsys, sweep, tmp_path, words):
    to = tmp_path / "alle Ergebnisse.nc"
    assert answer(capsys, sweep, "--to", to, *words) == f"Written to {to}: points: {len(MIXED)}, rows: {ROWS}\n"
    with xarray.open_dataset(to, engine="h5netcdf") as read:
        xarray.testing.assert_identical(read.load(), load_sweep(sweep, trajectories=bool(words)))


def test_csv(capsys, sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert answer(capsys, sweep.name, "--to", "results.csv", "--quiet") == ""
    with open(tmp_path / "results.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == ROWS and read[0]["model"] == "circuit" and read[0]["seed"] == ""


def test_json_and_failed_points(capsys, tmp_path):
    sweep, to = fill(tmp_path / "sweep", FAILED), tmp_path / "results.csv"
    counts = {"points": 4, "rows": 12, "failed": 4}
    document = json.loads(answer(capsys, sweep, "--to", to, "--json", "--quiet"))
    assert document == {"schema_version": 1, "command": "export", **counts, "written": str(to)}
    assert answer(capsys, sweep, "--to", to) == f"Written to {to}: points: 4 (4 failed), rows: 12\n"


def test_a_sweep_at_work(capsys, tmp_path):
    with open_ledger(tmp_path) as ledger:
        ledger.put(entry(circuit(4)))
        assert "points: 1," in answer(capsys, tmp_path, "--to", tmp_path / "results.nc")


def gone(folder):
    os.unlink(folder / FILE)


def cut_short(folder):
    os.truncate(folder / FILE, 5000)


def foreign(folder):
    gone(folder)
    connection = sqlite3.connect(folder / FILE)
    connection.execute("CREATE TABLE points (key TEXT)")
    connection.commit()
    connection.close()


def later(folder):
    connection = sqlite3.connect(folder / FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def emptied(folder):
    gone(folder)
    with open_ledger(folder):
        pass


FOLDERS = {
    gone: f"a folder that 'sweep' has written, with its {FILE}; got ",
    cut_short: f"one whose {FILE} is a whole ledger (",
    foreign: f"one whose {FILE} was written by this package; got ",
    later: f"one whose {FILE} this version can read, of schema 1 at most (it has 99); got ",
    emptied: "one whose sweep has run a point already; got ",
}


@pytest.mark.parametrize("change", FOLDERS)
def test_other_folders(capsys, sweep, tmp_path, change):
    change(sweep)
    for name in ("results.nc", "results.csv"):
        sentence = refused(capsys, sweep, "--to", tmp_path / name)
        assert sentence.startswith(f"DIR must be {FOLDERS[change]}") and sentence.endswith(f"; got '{sweep}'.")
    assert list(tmp_path.iterdir()) == [sweep]


@pytest.mark.parametrize("name", ["vanished", "file", "file/sweep", 300 * "n", "zwei\nZeilen"])
def test_no_folder(capsys, tmp_path, name):
    (tmp_path / "file").write_text("")
    sentence = refused(capsys, tmp_path / name, "--to", tmp_path / "results.nc")
    shown = name.replace("\n", "\\n")
    assert sentence == f"DIR must be {FOLDERS[gone]}'{tmp_path}/{shown}'."


def test_no_records(capsys, tmp_path):
    sweep = fill(tmp_path, MIXED)
    sentence = refused(capsys, sweep, "--to", tmp_path / "results.nc", "--trajectories")
    assert sentence == f"DIR must be one whose sweep kept records of its runs (--records); got '{sweep}'."


def test_scattered_points(capsys, sweep, tmp_path, monkeypatch):
    monkeypatch.setattr(labelled, "MOST_CELLS", 10)
    monkeypatch.setattr(labelled, "MOST_CELLS_PER_VALUE", 1)
    sentence = refused(capsys, sweep, "--to", tmp_path / "results.nc")
    assert sentence.startswith("DIR must be one whose points fill a labelled array better (")
    assert sentence.endswith(f": a .csv file takes scattered ones; got '{sweep}'.")
    answer(capsys, sweep, "--to", tmp_path / "results.csv")


def test_other_targets(capsys, sweep, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name in ("results", "results.xlsx", "folder.csv", ""):
        to = str(tmp_path / name) if name else ""
        sentence = f"--to must be the path of a file that ends in .nc or .csv; got '{to}'."
        assert refused(capsys, sweep, "--to", to) == sentence
        assert refused(capsys, sweep, f"--to={to}") == sentence
    to = tmp_path / "missing" / "results.nc"
    reason = "the path of a file that can be written (No such file or directory)"
    assert refused(capsys, sweep, "--to", to) == f"--to must be {reason}; got '{to}'."
    to = tmp_path / "results.csv"
    sentence = refused(capsys, sweep, "--to", to, "--trajectories")
    assert sentence == f"--to must be a path that ends in .nc where the records of runs are wanted too; got '{to}'."
    assert {path.name for path in tmp_path.iterdir()} == {sweep.name, "folder.csv"}


def test_words_that_are_missing_or_too_many(capsys, sweep):
    assert refused(capsys, sweep) == "--to is missing: it must be the path of a file that ends in .nc or .csv."
    assert refused(capsys, "--to", "x.nc").startswith("DIR is missing: it must be the path of a folder")
    assert main(["export", str(sweep), "--to", "x.nc", "--trajectory"]) == 2
    assert capsys.readouterr().err.endswith("did you mean --trajectories?\n")


def test_other_refusals_pass(monkeypatch, capsys, sweep):
    """Only those of the folder are turned into DIR."""

    def refuse(*_, **__):
        raise ArgumentError("to", "x.nc", "another")

    monkeypatch.setattr(labelled, "write_sweep", refuse)
    assert refused(capsys, sweep, "--to", "x.nc") == "--to must be another; got 'x.nc'."


@pytest.mark.parametrize("name", ["results.nc", "results.csv"])
def test_interrupted(capsys, sweep, tmp_path, monkeypatch, name):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    assert main(["export", str(sweep), "--to", str(tmp_path / name)]) == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")
    assert list(tmp_path.iterdir()) == [sweep]


def test_no_memory(capsys, sweep, tmp_path, monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(labelled, "write_sweep", exhausted)
    assert main(["export", str(sweep), "--to", str(tmp_path / "x.nc")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("There is not enough memory") and err.count("\n") == 1


def test_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = answer(capsys, "--help")
    assert max(map(len, out.splitlines())) <= 80
    assert set(flags(COMMAND.options)) == {"--to", "--trajectories", "--json", "--quiet"}
    assert 'xarray.open_dataset("results.nc", engine="h5netcdf")' in out
    assert "2N + 1 tokens" in out and "learning rate x steps / D" in out and "Example:" in out
