"""The document: its schema, what is computed for it, determinism, and the tables for people."""

import itertools
import json
import math
import subprocess
import sys

import pytest

from induction_dynamics import __version__
from induction_dynamics.cli import main
from induction_dynamics.cli.document import as_csv, as_json, build
from induction_dynamics.cli.options import MEASURES
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.scaling.curves import LABELS
from induction_dynamics.scaling.plan import log_spaced
from induction_dynamics.training.optimizers import OPTIMIZERS

NUMBER = (int, float)
NONE = type(None)
ROW = {
    "context_length": int,
    "embedding_dim": int,
    "inputs": str,
    "query": str,
    "rotation": NUMBER,
    "model": str,
    "measure": str,
    "threshold": NUMBER,
    "time": (*NUMBER, NONE),
    "time_unit": str,
    "outcome": str,
    "sustained": (bool, NONE),
    "seed": (int, NONE),
    "batch_size": (int, NONE),
    "step": (*NUMBER, NONE),
    "samples": (int, NONE),
    "horizon": (*NUMBER, NONE),
    "accuracy": (*NUMBER, NONE),
    "copies": int,
    "optimizer": (str, NONE),
    "learning_rate": (*NUMBER, NONE),
    "steps": (int, NONE),
    "sequences": (int, NONE),
    "start": (str, NONE),
    "hold": (str, NONE),
    "training": (str, NONE),
}
FIT = {
    "model": str,
    "inputs": str,
    "query": str,
    "measure": str,
    "threshold": NUMBER,
    "time_unit": str,
    "law": str,
    "parameters": dict,
    "confidence": NUMBER,
    "points": int,
    "censored": int,
    "aicc": (*NUMBER, NONE),
    "preferred": bool,
}
ASKED = {"measures", "thresholds", "loss_fractions"}
OPTIONS = {
    "model": str,
    "inputs": str,
    "query": str,
    "rotation": NUMBER,
    "copies": int,
    "embedding_dim": int,
    "horizon": NUMBER,
    "batch_size": int,
    "step": NUMBER,
    "samples": int,
    "accuracy": NUMBER,
    "seed": int,
}
OF_GRID = {
    "optimizer": str,
    "start_scale": NUMBER,
    "start": str,
    "sequences": int,
    "shared_frames": int,
    "dtype": str,
    "hold": str,
}
OF_OPTIMIZERS = {
    "learning_rate": NUMBER,
    "momentum": NUMBER,
    "b1": NUMBER,
    "b2": NUMBER,
    "eps": NUMBER,
    "weight_decay": NUMBER,
    "clip": NUMBER,
    "schedule": str,
    "warmup": int,
    "steps": int,
}
MACHINE = {"device", "device_kind", "versions"}
OF_TRAIN = {"nesterov", "start_weights", "record_every", "devices"}
CONFIG = {
    "simulate": {"context_length", "start", "hold", *OPTIONS, *ASKED, *MACHINE},
    "train": {"context_length", *OPTIONS, *OF_GRID, *OF_OPTIMIZERS, *OF_TRAIN, *ASKED, *MACHINE},
    "sweep": {"grid", "workers", "threads", "records", "retry_failed", *ASKED, *MACHINE},
}
COUNTS = {"computed", "reused", "failed"}
OF_CROSSING = ("measure", "threshold", "time", "outcome", "sustained")
FAILED = ("solver_failed", "nonfinite", "not_computed")
PARAMETERS = {"power": {"c", "p"}, "quadratic": {"c", "d"}, "quadratic_log": {"a", "b"}}


def fields(mapping, types):
    assert set(mapping) == set(types)
    for name, kinds in types.items():
        value = mapping[name]
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        assert isinstance(value, kinds), (name, value)
        assert isinstance(value, bool) <= (bool in kinds), (name, value)


def validate(text):
    """The document in a text, checked strictly against schema version 1."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    document = json.loads(text, parse_constant=refuse)
    command = document["command"]
    counts = COUNTS if command == "sweep" else set()
    assert set(document) == {"schema_version", "command", "config", "rows", "fits", "notes"} | counts
    assert document["schema_version"] == 1
    config = document["config"]
    assert set(config) == CONFIG[command]
    assert set(config["versions"]) == {
        "induction-dynamics",
        "python",
        "jax",
        "jaxlib",
        "diffrax",
        "optax",
        "numpy",
        "scipy",
    }
    if command == "sweep":
        check_grids(config["grid"])
        runs = {tuple(row[name] for name in ROW if name not in OF_CROSSING): row["outcome"] for row in document["rows"]}
        assert document["computed"] + document["reused"] == len(runs)
        assert document["failed"] == sum(outcome in FAILED for outcome in runs.values())
        check_order(document)
    for row in document["rows"]:
        fields(row, ROW)
        assert row["time_unit"] == ("flow" if row["optimizer"] in (None, "gd") else "steps")
        assert (row["horizon"] is None) == (row["steps"] is not None) == (row["time_unit"] == "steps")
        assert row["outcome"] in ("emerged", "horizon_reached", *FAILED)
        assert (row["time"] is not None) == (row["outcome"] == "emerged")
        assert row["measure"] in MEASURES
        assert row["model"] in {"simulate": ("circuit", "subspace"), "train": ("full",)}.get(command, row["model"])
        full, sampled = row["model"] == "full", row["model"] != "full" and row["inputs"] == "isotropic"
        assert (row["seed"] is not None) == (full or sampled)
        assert (row["batch_size"] is not None) == (row["optimizer"] is not None) == full
        assert (row["step"] is not None) == (row["optimizer"] == "gd")
        assert (row["learning_rate"] is None) == (row["optimizer"] in (None, "gd"))
        assert (row["samples"] is not None) == sampled
        assert (row["accuracy"] is None) == full
    groups = {}
    for fit in document["fits"]:
        fields(fit, FIT | {name: ROW[name] for name in LABELS if name in fit and name not in FIT})
        assert set(fit["parameters"]) == PARAMETERS[fit["law"]]
        for interval in fit["parameters"].values():
            fields(interval, dict.fromkeys(("value", "low", "high"), (*NUMBER, NONE)))
        key = tuple(fit.get(name) for name in LABELS)
        groups.setdefault(key, []).append(fit)
    for laws in groups.values():
        assert [fit["law"] for fit in laws] == list(PARAMETERS)
        assert sum(fit["preferred"] for fit in laws) <= 1
    assert command == "sweep" or not document["fits"]
    assert all(isinstance(note, str) for note in document["notes"])
    return document


def check_grids(grids):
    """Every option of every grid, each with a list of its values; D and those of optimizers only where given."""
    always = OPTIONS | OF_GRID | {"context_lengths": int}
    known = always | OF_OPTIMIZERS
    for grid in grids:
        assert always.keys() - {"embedding_dim"} <= grid.keys() <= known.keys()
        for name, values in grid.items():
            kind = known[name]
            assert isinstance(values, list) and values, name
            assert all(isinstance(value, kind) and not isinstance(value, bool) for value in values), name


def check_order(document):
    """Rows stand in one order, whatever was typed: see `ledger.point_order`."""
    words = [("circuit", "subspace", "full"), ("orthonormal", "isotropic"), ("last", "uniform"), MEASURES]
    places = []
    for row in document["rows"]:
        optimizer = [OPTIMIZERS.index(row["optimizer"] or "gd"), row["learning_rate"] or 0]
        run = [row[name] or 0 for name in ("horizon", "batch_size", "step", "samples", "accuracy", "steps")]
        run = [row["rotation"], *optimizer, *run]
        task = [row["context_length"], row["embedding_dim"], -1 if row["seed"] is None else row["seed"]]
        model, inputs, query, measure = map(
            tuple.index, words, (row[name] for name in ("model", "inputs", "query", "measure"))
        )
        places.append((model, inputs, query, *run, *task, measure, row["threshold"]))
    assert places == sorted(set(places))


def answer(capsys, *argv):
    """The validated document that a command prints."""
    assert main([*argv, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return validate(out)


def test_measures_are_the_coordinates_and_the_loss():
    assert MEASURES == (*COORDINATES, "loss")


def test_simulate(capsys, pretended):
    document = answer(capsys, "simulate", "--context-length", "4", "--thresholds", "0.5", "2", "0.5", "--seed", "3")
    assert document["command"] == "simulate"
    assert document["config"]["context_length"] == 4
    assert document["config"]["model"] == "subspace"
    assert document["config"]["thresholds"] == [0.5, 2]
    assert document["config"]["seed"] == 3
    assert [(row["measure"], row["threshold"]) for row in document["rows"]] == [
        ("alpha_3", 0.5),
        ("alpha_3", 2),
        ("beta_2", 0.5),
        ("beta_2", 2),
        ("gamma_3", 0.5),
        ("gamma_3", 2),
        ("loss", 0.5),
    ]
    ((points, asked),) = pretended
    assert len(points) == 1 and points[0].task.embedding_dim == 10 and points[0].seed is None
    assert asked["on_progress"] is None


def test_train(capsys, pretended):
    document = answer(capsys, "train", "--context-length", "4", "--batch-size", "8", "--step", ".5", "--samples", "9")
    assert document["command"] == "train"
    assert {row["model"] for row in document["rows"]} == {"full"}
    assert {(row["batch_size"], row["step"], row["seed"]) for row in document["rows"]} == {(8, 0.5, 0)}
    assert document["config"]["samples"] == 9


def test_isotropic_inputs_have_seed_and_samples(capsys, pretended):
    words = ("--inputs", "isotropic", "--embedding-dim", "6", "--rotation", "-60", "--query", "uniform")
    document = answer(capsys, "simulate", "--context-length", "4", "--model", "circuit", *words)
    (((point,), _),) = pretended
    assert (point.seed, point.samples, point.batch_size, point.step) == (0, 2048, None, None)
    assert (point.task.embedding_dim, point.task.rotation, point.task.query) == (6, -60.0, "uniform")
    assert document["config"]["embedding_dim"] == 6


def test_sweep(capsys, pretended, drawn, tmp_path):
    lengths = ["8", "4", "16", "32", "64", "128", "4"]
    models = ["--model", "full", "circuit", "full"]
    words = ["--thresholds", "2", "0.5", "--measures", "loss", "beta_2"]
    document = answer(
        capsys, "sweep", "--context-lengths", *lengths, *models, *words, "--output", str(tmp_path / "out")
    )
    (grid,) = document["config"]["grid"]
    assert grid["context_lengths"] == [8, 4, 16, 32, 64, 128] and grid["model"] == ["full", "circuit"]
    assert grid["query"] == ["last"] and grid["seed"] == [0] and "embedding_dim" not in grid
    assert document["config"]["measures"] == ["loss", "beta_2"] and document["config"]["thresholds"] == [2, 0.5]
    points = [(point.model, point.task.context_length) for points, _ in pretended for point in points]
    assert sorted(points) == sorted((model, n) for model in ("circuit", "full") for n in (4, 8, 16, 32, 64, 128))
    assert [
        tuple(row[name] for name in ("model", "context_length", "measure", "threshold")) for row in document["rows"]
    ] == [
        (model, n, *target)
        for model in ("circuit", "full")
        for n in (4, 8, 16, 32, 64, 128)
        for target in (("beta_2", 0.5), ("beta_2", 2), ("loss", 0.5))
    ]
    assert (document["computed"], document["reused"], document["failed"]) == (12, 0, 0)
    assert len(document["fits"]) == 2 * 3 * 3
    assert {fit["law"] for fit in document["fits"] if fit["preferred"]} == {"quadratic_log"}
    assert document["notes"] == []


def test_a_sweep_over_any_option(capsys, pretended, drawn, tmp_path):
    """Every combination, each point once: what has no effect on a model makes no further points of it."""
    words = ["--query", "uniform", "last", "--batch-size", "64", "256", "--step", ".5", "--seed", "3", "2"]
    words += ["--accuracy", "1e-5", "1e-6", "--rotation", "60", "--horizon", "3", "6"]
    models = ["--model", "full", "circuit", "subspace"]
    lengths = ["--context-lengths", "4", "8", "16"]
    document = answer(capsys, "sweep", *lengths, *models, *words, "--output", str(tmp_path / "out"))
    (grid,) = document["config"]["grid"]
    assert grid["batch_size"] == [64, 256] and grid["seed"] == [3, 2] and grid["accuracy"] == [1e-5, 1e-6]
    runs = {}
    for row in document["rows"]:
        run = tuple(row[name] for name in ("context_length", "query", "batch_size", "step", "seed", "accuracy"))
        runs.setdefault(row["model"], []).append((*run, row["horizon"]))
    expected = {
        "full": itertools.product((4, 8, 16), ("last", "uniform"), (64, 256), (0.5,), (2, 3), (None,), (3, 6)),
        "circuit": itertools.product((4, 8, 16), ("last", "uniform"), (None,), (None,), (None,), (1e-5, 1e-6), (3, 6)),
    }
    expected["subspace"] = expected["circuit"] = list(expected["circuit"])
    assert {model: sorted(found[::4], key=str) for model, found in runs.items()} == {
        model: sorted(found, key=str) for model, found in expected.items()
    }
    assert document["computed"] == 3 * 2 * (2 * 2 * 2 + 2 * 2 * 2)
    # rows that differ in more than N and the seed are of several curves
    curves = {
        (fit["model"], fit["query"], fit["measure"], fit["batch_size"], fit["accuracy"], fit["horizon"])
        for fit in document["fits"]
    }
    assert len(curves) == len(document["fits"]) / 3 == 2 * 4 * (2 * 2 + 2 * 2 * 2)


def test_sweep_with_too_few_points_has_no_fit_and_a_word_why(capsys, pretended, drawn, tmp_path):
    words = ("--measures", "alpha_3", "beta_1", "--output", str(tmp_path / "out"))
    document = answer(capsys, "sweep", "--context-lengths", "4", "8", *words)
    assert document["fits"] == []
    assert len(document["notes"]) == 2
    assert all("no law fitted" in note and "at least 3" in note for note in document["notes"])


def test_range_form_is_the_list_form(capsys, pretended, drawn, tmp_path):
    span = answer(capsys, "sweep", "--from", "4", "--to", "400", "--per-decade", "2", "--output", str(tmp_path / "a"))
    listed = ("--context-lengths", "4", "13", "40", "126", "400", "--output", str(tmp_path / "b"))
    assert span == answer(capsys, "sweep", *listed)


@pytest.mark.parametrize(("first", "last", "per_decade"), [(1, 1, 5), (1, 10, 1000), (3, 10**12, 3), (4, 5, 1)])
def test_log_spaced(first, last, per_decade):
    lengths = log_spaced(first, last, per_decade)
    assert lengths[0] == first and lengths[-1] == last
    assert lengths == sorted(set(lengths))
    assert len(lengths) <= math.log10(last / first) * per_decade + 2


@pytest.mark.parametrize("command", ["simulate", "train"])
def test_same_words_same_document(capsys, pretended, command):
    texts = []
    for seed in ("7", "7", "8"):
        assert main([command, "--context-length", "5", "--seed", seed, "--json"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_same_words_same_document_of_a_sweep(capsys, pretended, drawn, tmp_path):
    """In whatever order they stand; in the same folder nothing is computed again."""
    words = ["sweep", "--model", "subspace", "full", "--json", "--quiet", "--output"]
    texts = []
    for folder, lengths in [("a", "456"), ("b", "456"), ("c", "6454"), ("a", "456")]:
        assert main([*words, str(tmp_path / folder), "--context-lengths", *lengths]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    first, _, other, again = map(json.loads, texts)
    assert other.pop("config") != first["config"] and other == {name: first[name] for name in other}
    assert (first["computed"], first["reused"], again["computed"], again["reused"]) == (6, 0, 0, 6)
    assert again | {"computed": 6, "reused": 0} == first
    assert sum(len(points) for points, _ in pretended) == 3 * 6


def test_numbers_that_are_not_finite_become_null():
    document = build("sweep", {"x": math.nan}, [], [{"aicc": math.inf, "list": [1.0, -math.inf]}])
    assert json.loads(as_json(document))["fits"] == [{"aicc": None, "list": [1.0, None]}]
    assert document["config"] == {"x": None}


def test_csv_of_no_rows_is_empty():
    assert as_csv([]).strip() == ""


def test_tables_for_people(capsys, pretended, drawn, tmp_path):
    words = ["--measures", "alpha_3", "beta_2", "beta_1", "loss", "--thresholds", "0.5", "20", "--horizon", "3"]
    argv = ["sweep", "--context-lengths", "4", "8", "16", "32", "64", "--output", str(tmp_path / "out"), *words]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    for part in (
        "2N + 1",
        "flow time",
        "T/N^2",
        "not by 3 N^2",
        "; never",
        "beta_2 = loss to 0.5, alpha_3",
        "p = ",
    ):
        assert part in out, part
    assert "no law fitted" in out and "Written to" in out
    assert main([*argv, "--quiet"]) == 0
    quiet = capsys.readouterr().out
    assert "T/N^2" in quiet and "Order" not in quiet and "p = " not in quiet


def test_a_table_holds_large_numbers_whole(capsys, pretended):
    levels = ["1.23456e-250", "1.23456e+250"]
    words = ["--context-length", "999999999999", "--thresholds", *levels, "--horizon", "1.23456e-101", "--quiet"]
    assert main(["simulate", "--model", "circuit", *words]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()][2:]
    assert [cells[:4] for cells in lines[:6]] == [
        ["999999999999", "circuit", measure, level] for measure in ("alpha_3", "beta_2", "gamma_3") for level in levels
    ]
    never = ["-", "-", "not", "by", "1.23456e-101", "N^2"]
    assert [cells[4:] for cells in lines[1:6:2]] == [never] * 3
    assert all(cells[4].endswith("e-228") and cells[5].endswith("e-252") for cells in lines[0:6:2])
    assert {cells[6] for cells in lines[0:6:2]} == {"emerged"}


@pytest.mark.parametrize("thresholds", [("0.5",), ("0.5", "20")])
def test_a_long_table_is_laid_out_as_a_short_one(capsys, monkeypatch, pretended, drawn, tmp_path, thresholds):
    argv = ["sweep", "--context-lengths", "4", "800", "16", "--thresholds", *thresholds, "--output", str(tmp_path)]
    printed = []
    for long in (1000, 2):
        monkeypatch.setattr("induction_dynamics.cli.tables._LONG", long)
        assert main([*argv, "--quiet"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and len(printed[0].splitlines()) >= 13


def test_no_order_of_a_single_measure(capsys, pretended):
    assert main(["simulate", "--context-length", "4", "--measures", "loss"]) == 0
    assert "Order" not in capsys.readouterr().out


@pytest.mark.parametrize(("command", "model"), [("simulate", "circuit"), ("train", "full")])
def test_the_real_thing_in_a_process_of_its_own(tmp_path, command, model):
    words = ["--context-length", "2", "--model", model, "--batch-size", "16", "--horizon", "2"]
    argv = [sys.executable, "-m", "induction_dynamics", command, *words, "--json"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    document = validate(done.stdout)
    assert len(document["rows"]) == 4
    assert document["config"]["versions"]["induction-dynamics"] == __version__
    assert list(tmp_path.iterdir()) == []
    if command == "simulate":
        assert subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True).stdout == done.stdout
