"""The file of a sweep folder: the same as the labelled array or the rows, byte for byte, whole or not at all."""

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.labelled import COLUMNS, load_sweep, write_sweep
from induction_dynamics.scaling.ledger import read_ledger
from tests.scaling.invented import FAILED, MIXED, TARGETS, by_steps, check_cells, circuit, entry, fill, records


@pytest.fixture
def mixed(tmp_path):
    return fill(tmp_path / "sweep", MIXED)


@pytest.mark.parametrize("trajectories", [False, True])
def test_netcdf_is_read_back_the_same(tmp_path, trajectories):
    entries = [*MIXED, *FAILED]
    kept = [(one, records(3 + place)) if place % 3 else one for place, one in enumerate(entries)]
    folder = fill(tmp_path / "sweep", kept)
    written = write_sweep(folder, tmp_path / "results.nc", trajectories=trajectories)
    assert written == (len(entries), sum(len(one.crossings) for one in entries), 4)
    with xarray.open_dataset(tmp_path / "results.nc", engine="h5netcdf") as read:
        xarray.testing.assert_identical(read.load(), load_sweep(folder, trajectories=trajectories))
        check_cells(read, entries)
        assert ("run_time" in read) == trajectories
        assert read.sustained.dtype == np.int8 and read.outcome.shape == read.time.shape


def test_words_and_units_are_read_back_the_same(tmp_path):
    held = by_steps(4, "sgd", momentum=0.5, hold=(Hold("beta_2", 0.0), Hold("gamma_4", None, 40.0)))
    entries = [entry(point) for point in (circuit(4), by_steps(4), held)]
    folder = fill(tmp_path / "sweep", entries)
    write_sweep(folder, tmp_path / "results.nc")
    with xarray.open_dataset(tmp_path / "results.nc", engine="h5netcdf") as read:
        xarray.testing.assert_identical(read.load(), load_sweep(folder))
        check_cells(read, entries)
        assert read.time.dims[5:-2] == ("optimizer", "hold", "training")
        assert read.hold.values.tolist() == ["", "beta_2=0.0 gamma_4@40.0"]
        assert read.training.values.tolist() == ["", "momentum=0.5"]


def test_csv_holds_all_rows(tmp_path):
    entries = [*MIXED, *FAILED, entry(by_steps(4, hold=(Hold("beta_2", 0.0),)))]
    folder = fill(tmp_path / "sweep", entries)
    assert write_sweep(folder, tmp_path / "results.csv").failed == 4
    with open(tmp_path / "results.csv", newline="") as file:
        read = list(csv.DictReader(file))
    expected = [row for one in read_ledger(folder) for row in one.rows()]
    assert len(read) == sum(len(one.crossings) for one in entries)
    for found, row in zip(read, expected, strict=True):
        assert tuple(found) == COLUMNS and set(row) == set(COLUMNS)
        for name, value in row.items():
            if value is None or isinstance(value, bool | str):
                assert found[name] == ("" if value is None else str(value))
            else:
                assert type(value)(found[name]) == value  # to the last digit


@pytest.mark.parametrize("name, trajectories", [("results.csv", False), ("results.nc", False), ("results.nc", True)])
def test_the_same_bytes_whatever_came_first(tmp_path, name, trajectories):
    kept = [(one, records(2 + place)) for place, one in enumerate([*MIXED, *FAILED])]
    other = [
        (dataclasses.replace(one, started="2031-01-01", seconds=4.5, provenance={"host": "b"}), run)
        for one, run in reversed(kept)
    ]
    first, second = fill(tmp_path / "a", kept), fill(tmp_path / "b", other[:4], other[2:9], other[9:])
    for folder in (first, second):
        write_sweep(folder, folder / name, trajectories=trajectories)
    assert (first / name).read_bytes() == (second / name).read_bytes()
    fill(second, [entry(circuit(16), TARGETS[:1])])
    write_sweep(second, second / name, trajectories=trajectories)
    assert (first / name).read_bytes() != (second / name).read_bytes()


@pytest.mark.parametrize(
    "name", ["results", "results.txt", "results.nc.gz", ".nc", "results.NC", "folder.nc", "pipe.csv"]
)
def test_other_targets(mixed, tmp_path, name):
    (tmp_path / "folder.nc").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ArgumentError, match="to must be the path of a file that ends in .nc or .csv; got '"):
        write_sweep(mixed, tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"sweep", "folder.nc", "pipe.csv"}


def test_no_records_in_csv(mixed, tmp_path):
    with pytest.raises(ArgumentError, match="a path that ends in .nc where the records of runs are wanted too"):
        write_sweep(mixed, tmp_path / "results.csv", trajectories=True)


@pytest.mark.parametrize("name", ["missing/results.nc", "sweep/ledger.sqlite/results.csv", 255 * "n" + ".nc"])
def test_targets_that_cannot_be_written(mixed, tmp_path, name):
    with pytest.raises(ArgumentError, match=r"to must be the path of a file that can be written \([A-Z][a-z ]+\); got"):
        write_sweep(mixed, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def test_a_full_disk(mixed, tmp_path):
    """The old files stay; in a process of its own, in which no file may be larger than a few bytes."""
    targets = [tmp_path / "results.nc", tmp_path / "results.csv"]
    for target in targets:
        target.write_bytes(b"as it was")
    code = (
        "import resource, sys; from induction_dynamics.scaling import labelled\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))\n"
        "labelled.read_ledger = lambda folder, entries=labelled.read_ledger(sys.argv[1]): entries\n"
        "for to in sys.argv[2:]:\n"
        "    try: labelled.write_sweep(sys.argv[1], to)\n"
        "    except labelled.ArgumentError as error: print(error.allowed)"
    )
    argv = [sys.executable, "-c", code, str(mixed), *map(str, targets)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    assert done.stdout == 2 * "the path of a file that can be written (File too large)\n" and done.stderr == ""
    assert [target.read_bytes() for target in targets] == 2 * [b"as it was"] and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["results.nc", "results.csv"])
@pytest.mark.parametrize("place", ["os.replace", "pathlib.Path.write_bytes"])
def test_cut_short(mixed, tmp_path, monkeypatch, name, place):
    def interrupt(*_):
        raise KeyboardInterrupt

    (tmp_path / name).write_bytes(b"as it was")
    monkeypatch.setattr(place, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_sweep(mixed, tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"as it was" and len(list(tmp_path.iterdir())) == 2


def test_a_file_that_is_there_is_replaced(mixed, tmp_path, monkeypatch):
    """Also through a link, which stays one; a path may be relative, and of any letters."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "größe 1.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "there" / "größe 1.csv")
    monkeypatch.chdir(tmp_path)
    for to in ("link.csv", Path("there/größe 1.csv")):
        write_sweep(Path("sweep"), to)
        assert (tmp_path / "link.csv").is_symlink()
        assert (tmp_path / "there" / "größe 1.csv").read_text().startswith("context_length,")
        (tmp_path / "there" / "größe 1.csv").write_text("old")
