"""A sweep folder as one labelled array: each value at its labels, nothing anywhere else, and who is refused."""

import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.scaling import labelled
from induction_dynamics.scaling.labelled import load_sweep, write_sweep
from induction_dynamics.scaling.ledger import FILE, open_ledger
from induction_dynamics.scaling.points import Point
from induction_dynamics.task import Task
from induction_dynamics.training.starts import Start
from tests.scaling.invented import (
    DIMENSIONS,
    FAILED,
    MIXED,
    TARGETS,
    TRAINING,
    by_steps,
    check_cells,
    circuit,
    entry,
    fill,
    full,
    records,
)


@pytest.fixture
def mixed(tmp_path):
    return fill(tmp_path / "sweep", MIXED)


def test_each_time_is_at_its_labels(mixed):
    ds = load_sweep(mixed)
    assert ds.time.dims == ds.outcome.dims == ds.sustained.dims == DIMENSIONS
    check_cells(ds, MIXED)
    assert ds.model.values.tolist() == ["circuit", "subspace", "full"]
    assert ds.inputs.values.tolist() == ["orthonormal", "isotropic"]
    assert ds["query"].values.tolist() == ["last", "uniform"]
    assert ds.context_length.values.tolist() == [1, 4, 16]
    assert ds.seed.values.tolist() == [-1, 0, 2, 7, 11]
    assert ds.measure.values.tolist() == ["alpha_3", "gamma_3", "loss"]
    assert ds.threshold.values.tolist() == [0.25, 0.5, 3.0]
    assert (ds.time.dtype, ds.sustained.dtype, ds.seed.dtype) == (float, np.int8, int)


def test_options_of_one_value_are_attributes(mixed):
    ds = load_sweep(mixed)
    options = {
        name: ds.attrs.get(name) for name in ("rotation", "batch_size", "step", "samples", "horizon", "accuracy")
    }
    assert options == {
        "rotation": 90.0,
        "batch_size": 32,
        "step": 0.25,
        "samples": 64,
        "horizon": 12.0,
        "accuracy": 1e-7,
    }
    ds = load_sweep(fill(mixed.parent / "reduced", [entry(circuit(4))]))
    assert not {"batch_size", "step", "samples"} & set(ds.attrs) and ds.attrs["failed_points"] == 0
    assert ds.attrs["schema_version"] == 1 and "learning rate x steps / D" in ds.time.attrs["comment"]


def sampled(length, **options):
    return circuit(length, inputs="isotropic", seed=0, **options)


@pytest.mark.parametrize(
    "points, dimension, labels",
    [
        ([circuit(4), circuit(4, rotation=60.0)], "rotation", [60.0, 90.0]),
        ([circuit(4), full(4), full(4, batch_size=8)], "batch_size", [0, 8, 32]),
        ([full(4), full(4, step=0.5)], "step", [0.25, 0.5]),
        ([circuit(4), full(4), full(4, step=0.5)], "step", [0.0, 0.25, 0.5]),
        ([full(4, horizon=3.0), circuit(4, horizon=100.0)], "horizon", [3.0, 100.0]),
        ([full(4), circuit(4), circuit(16, accuracy=1e-9)], "accuracy", [0.0, 1e-9, 1e-7]),
        ([sampled(4, samples=8), sampled(4, samples=9)], "samples", [8, 9]),
        # told apart by nothing else than that it has no value
        ([circuit(4), circuit(4, hold=(Hold("beta_2", 0.0),))], "hold", ["", "beta_2=0.0"]),
        ([circuit(4), circuit(8, hold=(Hold("beta_2", 0.0),))], "hold", ["", "beta_2=0.0"]),
        ([full(4), full(4, start=Start(0.1))], "start", ["", "scale=0.1"]),
        ([full(4), full(8, sequences=64), circuit(4)], "sequences", [0, 64]),
        ([full(4), full(4, dtype="float64")], "training", ["", "dtype=float64"]),
        ([by_steps(4), by_steps(4, "sgd")], "optimizer", ["sgd", "adam"]),
        ([by_steps(4), by_steps(4, learning_rate=0.5)], "learning_rate", [0.01, 0.5]),
        ([by_steps(4), by_steps(4, steps=300)], "steps", [300, 500]),
    ],
)
def test_options_of_several_values_are_dimensions(tmp_path, points, dimension, labels):
    entries = [entry(point) for point in points]
    ds = load_sweep(fill(tmp_path, entries))
    assert ds.time.dims == (*DIMENSIONS[:5], dimension, *DIMENSIONS[5:])
    assert ds[dimension].values.tolist() == labels and dimension not in ds.attrs
    check_cells(ds, entries)


def test_flow_times_and_steps_are_told_apart(tmp_path):
    entries = [entry(circuit(4)), *(entry(by_steps(n)) for n in (4, 16))]
    kept = [(one, records(3)) for one in entries]
    ds = load_sweep(fill(tmp_path / "both", kept), trajectories=True)
    check_cells(ds, entries)
    assert ds.time.dims == (*DIMENSIONS[:5], "optimizer", *DIMENSIONS[5:])
    assert ds.optimizer.values.tolist() == ["", "adam"] and ds.time_unit.values.tolist() == ["flow", "steps"]
    assert "time_unit" not in ds.attrs
    for name in ("time", "run_time"):
        assert "units" not in ds[name].attrs and "see time_unit" in ds[name].attrs["comment"]
    for folder, some, unit in (("flow", entries[:1], "flow time"), ("steps", entries[1:], "steps")):
        ds = load_sweep(fill(tmp_path / folder, some))
        check_cells(ds, some)
        assert (ds.time.units, ds.attrs["time_unit"]) == (unit, folder) and "time_unit" not in ds.coords
    assert {name: ds.attrs[name] for name in ("optimizer", "learning_rate", "steps")} == {
        **{"optimizer": "adam", "learning_rate": 0.01, "steps": 500},
    }
    assert not {"horizon", "sequences", "start", "hold", "training"} & set(ds.attrs)


def test_several_options_at_once(tmp_path):
    points = [full(4), full(4, batch_size=8), full(4, step=0.5, horizon=3.0), circuit(4, rotation=30.0)]
    entries = [entry(point) for point in points]
    ds = load_sweep(fill(tmp_path, entries))
    assert ds.time.dims[5:-2] == ("rotation", "batch_size", "step", "horizon")
    check_cells(ds, entries)


def test_embedding_dim_lies_along_what_it_depends_on(tmp_path):
    points = [circuit(1), circuit(4, embedding_dim=64), Point(Task(4, inputs="isotropic"), "full", **TRAINING)]
    ds = load_sweep(fill(tmp_path, map(entry, points)))
    assert ds.embedding_dim.dims == ("inputs", "context_length")
    assert ds.embedding_dim.values.tolist() == [[4, 64], [0, 16]]
    assert "embedding_dim" not in ds.attrs
    assert ds.time.sel(inputs="isotropic", context_length=4, model="full").embedding_dim == 16


def test_embedding_dim_is_a_dimension_where_it_must(tmp_path):
    entries = [entry(point) for point in (circuit(4), circuit(4, embedding_dim=64), circuit(16))]
    ds = load_sweep(fill(tmp_path, entries))
    assert ds.time.dims == (*DIMENSIONS[:5], "embedding_dim", *DIMENSIONS[5:])
    assert ds.embedding_dim.values.tolist() == [10, 34, 64]
    check_cells(ds, entries)


def test_not_asked_is_not_unreached(mixed):
    ds = load_sweep(mixed).sel(model="circuit", inputs="orthonormal", query="last", context_length=1, seed=-1)
    cells = {(m, t): ds.sel(measure=m, threshold=t) for m in ("alpha_3", "loss") for t in (0.5, 3.0)}
    outcomes = {place: (cell.outcome.item(), cell.sustained.item()) for place, cell in cells.items()}
    assert outcomes == {
        ("alpha_3", 0.5): ("emerged", 1),
        ("alpha_3", 3.0): ("horizon_reached", -1),
        ("loss", 0.5): ("", -2),
        ("loss", 3.0): ("", -2),
    }


def test_failed_points(tmp_path):
    ds = load_sweep(fill(tmp_path, [*MIXED, *FAILED]))
    check_cells(ds, [*MIXED, *FAILED])
    assert ds.attrs["failed_points"] == 4
    assert ds.attrs["failed_reasons"] == (
        "2 x nonfinite; 1 x not_computed not enough memory; 1 x solver_failed its step became 0"
    )
    assert "failed_reasons" not in load_sweep(fill(tmp_path / "sound", MIXED)).attrs
    # however many and long they are
    many = [entry(circuit(n), run="solver_failed", reason=f"at {n} " + 500 * "long ") for n in range(1, 21)]
    reasons = load_sweep(fill(tmp_path / "many", many)).attrs["failed_reasons"]
    assert reasons.endswith("15 other reasons") and len(reasons) < 1200


def test_records_of_unequal_length(tmp_path):
    lengths = {1: 2, 4: 5, 16: None}
    runs = {n: None if length is None else records(length, start=n) for n, length in lengths.items()}
    ds = load_sweep(fill(tmp_path, [(entry(circuit(n)), run) for n, run in runs.items()]), trajectories=True)
    assert ds.run_time.dims == ds.run_loss.dims == ds.run_off_subspace.dims == (*DIMENSIONS[:5], "record")
    assert ds.run_coordinates.dims == (*ds.run_time.dims, "coordinate") and ds.sizes["record"] == 5
    assert ds.coordinate.values.tolist() == list(COORDINATES)
    for n, run in runs.items():
        here = ds.sel(context_length=n).squeeze()
        for name in ("time", "loss", "off_subspace", "coordinates"):
            array, length = here[f"run_{name}"].values, lengths[n] or 0
            assert np.isnan(array[length:]).all()
            if run is not None:
                np.testing.assert_array_equal(array[:length], getattr(run, name))
    picked = ds.run_coordinates.sel(context_length=4, coordinate="beta_2").squeeze().values
    assert picked.tolist() == [COORDINATES.index("beta_2") * (4.0 + k**2) for k in range(5)]
    assert "run_time" not in load_sweep(tmp_path)


def scattered(count=70):
    return [entry(full(n, seed=n, batch_size=n, step=n / 8), TARGETS[:1]) for n in range(1, count)]


def test_scattered_points(tmp_path):
    folder = fill(tmp_path / "sweep", scattered())
    sentence = r"a labelled array better \(2e\+07 cells for 69 values\): a .csv file takes scattered ones; got "
    for use in (load_sweep, lambda folder: write_sweep(folder, tmp_path / "results.nc")):
        with pytest.raises(ArgumentError, match=sentence) as refused:
            use(folder)
        assert refused.value.argument == "folder"
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]
    assert write_sweep(folder, tmp_path / "results.csv") == (69, 69, 0)


def test_few_or_well_filled_cells_are_taken(tmp_path, monkeypatch):
    folder = fill(tmp_path, scattered(4))
    cells, values = 3**4, 3
    monkeypatch.setattr(labelled, "MOST_CELLS", cells - 1)
    monkeypatch.setattr(labelled, "MOST_CELLS_PER_VALUE", cells // values)
    assert load_sweep(folder).time.size == cells
    monkeypatch.setattr(labelled, "MOST_CELLS_PER_VALUE", cells // values - 1)
    with pytest.raises(ArgumentError):
        load_sweep(folder)
    monkeypatch.setattr(labelled, "MOST_CELLS", cells)
    assert load_sweep(folder).time.size == cells


def test_scattered_records(tmp_path, monkeypatch):
    folder = fill(tmp_path, [(entry(circuit(n)), records(50 if n == 1 else 1)) for n in range(1, 6)])
    monkeypatch.setattr(labelled, "MOST_CELLS", 1000)
    monkeypatch.setattr(labelled, "MOST_CELLS_PER_VALUE", 4)
    load_sweep(folder)
    with pytest.raises(ArgumentError, match="5e.03 cells for 1026 values"):
        load_sweep(folder, trajectories=True)


def test_a_sweep_at_work_is_read(tmp_path):
    with open_ledger(tmp_path / "sweep") as ledger:
        ledger.put(entry(circuit(4)))
        assert load_sweep(tmp_path / "sweep").context_length.values.tolist() == [4]
        ledger.put(entry(circuit(8)))
        assert write_sweep(tmp_path / "sweep", str(tmp_path / "results.nc")).points == 2


def damage(folder, kind):
    path = folder / FILE
    whole = path.read_bytes()
    if kind == "gone":
        path.unlink()
    elif kind == "cut short":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "cut to a page":
        path.write_bytes(whole[:4096])
    elif kind == "no database":
        path.write_bytes(b"results\n" * 1000)
    elif kind == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE points (key TEXT)")
        connection.close()


DAMAGES = {
    "gone": f"a folder that 'sweep' has written, with its {FILE}",
    "cut short": f"one whose {FILE} is a whole ledger",
    "cut to a page": f"one whose {FILE} is a whole ledger",
    "no database": f"one whose {FILE} is a whole ledger",
    "emptied": f"one whose {FILE} was written by this package",
    "foreign": f"one whose {FILE} was written by this package",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_ledgers(tmp_path, mixed, kind):
    damage(mixed, kind)
    before = (tmp_path / "results.nc", b"as it was")
    before[0].write_bytes(before[1])
    for use in (load_sweep, lambda folder: write_sweep(folder, before[0])):
        with pytest.raises(ArgumentError) as refused:
            use(mixed)
        assert refused.value.argument == "folder" and refused.value.allowed.startswith(DAMAGES[kind])
        assert refused.value.value == str(mixed)
    assert before[0].read_bytes() == before[1] and len(list(tmp_path.iterdir())) == 2


def test_no_results_yet(tmp_path):
    folder = fill(tmp_path / "sweep", [], FAILED[-1:])
    for use in (load_sweep, lambda folder: write_sweep(folder, tmp_path / "results.csv")):
        with pytest.raises(ArgumentError, match="one whose sweep has run a point already"):
            use(folder)


def test_no_records(mixed, tmp_path):
    for use in (load_sweep, lambda folder, **asked: write_sweep(folder, tmp_path / "results.nc", **asked)):
        with pytest.raises(
            ArgumentError, match=r"folder must be one whose sweep kept records of its runs \(--records\)"
        ):
            use(mixed, trajectories=True)


def test_importing_is_cheap():
    code = (
        "import sys, induction_dynamics.scaling.labelled; print([name in sys.modules for name in ('xarray', 'h5py')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[False, False]\n", done.stderr
