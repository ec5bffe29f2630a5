"""Sweeps over how the full model is trained: options and plans, and what is made of their folders."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tomli_w
import xarray

from induction_dynamics.cli import main, training_kinds
from induction_dynamics.cli.plans import as_toml, read_plan
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.scaling.ledger import read_ledger
from induction_dynamics.scaling.points import Point
from induction_dynamics.task import Task
from induction_dynamics.training.optimizers import OPTIMIZERS, SCHEDULES, Optimizer
from induction_dynamics.training.settings import DTYPES, MOST_STEPS
from induction_dynamics.training.starts import Start, coordinates_of
from tests.scaling.invented import by_steps, circuit, entry, fill, full

SWEEP = ["sweep", "--context-lengths", "2", "--model", "full"]
ADAM = ["--optimizer", "adam", "--learning-rate", "0.01", "--steps", "300"]


def answer(capsys, *words):
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def printed(capsys, *words):
    assert main([*words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *words):
    assert main([*words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err.strip()


def points_of(capsys, *words):
    return answer(capsys, *words, "--dry-run")["points"]


def test_alternatives_make_points(capsys):
    words = ["--hold", "none", "gamma_4=0", "gamma_4=0,beta_2=0@40", "--start", "none", "gamma_3=-1", "--seed", "3"]
    found = points_of(capsys, *SWEEP, *words)
    holds = [None, ["gamma_4=0.0"], ["beta_2=0.0@40.0", "gamma_4=0.0"]]
    assert [point.get("hold") for point in found if "start" not in point] == [holds[0], holds[2], holds[1]]
    assert [point["start"] for point in found if "start" in point] == [{"coordinates": {"gamma_3": -1.0}}] * 3
    assert {point["seed"] for point in found} == {3}
    assert all("optimizer" not in point and point["horizon"] == 12.0 for point in found)


def test_every_option_reaches_the_points(capsys, pretended, drawn, tmp_path):
    words = ["--optimizer", "sgd", "adamw", "--learning-rate", "0.01", "--steps", "300", "--momentum", "0.5"]
    words += ["--b1", "0.8", "--b2", "0.9", "--eps", "1e-6", "--weight-decay", "0.1", "--clip", "2", "--warmup", "7"]
    words += ["--schedule", "cosine", "--start-scale", "0.1", "--start", "gamma_3=1", "--sequences", "512"]
    words += ["--shared-frames", "4", "--dtype", "float64", "--hold", "alpha_3@9"]
    answer(capsys, *SWEEP, *words, "--output", str(tmp_path / "out"))
    given = {"learning_rate": 0.01, "weight_decay": 0.1, "clip": 2.0, "warmup": 7, "schedule": "cosine"}
    made = {
        Optimizer("sgd", momentum=0.5, **given),
        Optimizer("adamw", b1=0.8, b2=0.9, eps=1e-6, **given),
    }
    rest = {"seed": 0, "batch_size": 256, "steps": 300, "sequences": 512, "shared_frames": 4, "dtype": "float64"}
    rest |= {"start": Start(0.1, {"gamma_3": 1.0}), "hold": (Hold("alpha_3", None, 9.0),)}
    assert {point for points, _ in pretended for point in points} == {
        Point(Task(2), "full", optimizer=optimizer, **rest) for optimizer in made
    }


def test_a_plan_says_the_same_as_the_options(capsys, tmp_path):
    words = [*ADAM, "--start-scale", "0", "0.1", "--hold", "none", "gamma_4=-1@5", "--warmup", "0", "20"]
    typed = points_of(capsys, *SWEEP, *words)
    table = {"context_lengths": 2, "model": "full", "optimizer": "adam", "learning_rate": 0.01, "steps": 300}
    table |= {"start_scale": [0, 0.1], "hold": ["none", "gamma_4=-1@5"], "warmup": [0, 20]}
    file = tmp_path / "plan.toml"
    file.write_text(tomli_w.dumps(table))
    assert points_of(capsys, "sweep", "--plan", str(file)) == typed and len(typed) == 8
    plan = read_plan(str(file))
    file.write_text(as_toml(plan))
    assert read_plan(str(file)) == plan and "momentum" not in file.read_text()
    sentence = f"--plan and --hold exclude each other: the plan '{file}' says which points."
    assert refused(capsys, "sweep", "--plan", str(file), "--hold", "none", "--dry-run") == sentence


HOLD = "none, or a coordinate, NAME[=VALUE][@TIME], such as beta_2=0 or alpha_3=1.5@40 or gamma_4@100"
MORE = ", or several of different coordinates joined by commas"
START = "none, or a coordinate and its value, NAME=VALUE, such as gamma_3=0.5"


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--optimizer", "lion"], "--optimizer must each be gd, sgd, adam or adamw; got 'lion'."),
        (["--learning-rate", "0"], "--learning-rate must each be a finite number above 0; got '0'."),
        (["--momentum", "1"], "--momentum must each be a number from 0 to below 1; got '1'."),
        (["--clip", "nan"], "--clip must each be a finite number above 0; got 'nan'."),
        (["--weight-decay", "-1"], "--weight-decay must each be a finite number, at least 0; got '-1'."),
        (["--warmup", "1.5"], "--warmup must each be a whole number of steps, at least 0; got '1.5'."),
        (["--steps", "0"], "--steps must each be a whole number of steps, at least 1; got '0'."),
        (
            ["--steps", "3000000000"],
            "--steps must each be a whole number of steps, at most 2147418112; got '3000000000'.",
        ),
        (["--schedule", "step"], "--schedule must each be constant, cosine or linear; got 'step'."),
        (["--dtype", "bfloat16"], "--dtype must each be float32 or float64; got 'bfloat16'."),
        (["--sequences", "-1"], "--sequences must each be a whole number of sequences, at least 0; got '-1'."),
        (["--shared-frames", "0"], "--shared-frames must each be a whole number of sequences, at least 1; got '0'."),
        (["--start-scale", "inf"], "--start-scale must each be a finite number, at least 0; got 'inf'."),
        (["--hold", "gamma_5=0"], f"--hold must each be {HOLD}{MORE}; got 'gamma_5=0'."),
        (["--hold", "gamma_4=0@-1"], f"--hold must each be {HOLD}{MORE}; got 'gamma_4=0@-1'."),
        (["--hold", "gamma_4=0,gamma_4"], f"--hold must each be {HOLD}{MORE}; got 'gamma_4=0,gamma_4'."),
        (["--hold", "none,gamma_4"], f"--hold must each be {HOLD}{MORE}; got 'none,gamma_4'."),
        (["--start", "gamma_4"], f"--start must each be {START}{MORE}; got 'gamma_4'."),
        (["--start", "gamma_4=1e999"], f"--start must each be {START}{MORE}; got 'gamma_4=1e999'."),
        (["--clip", "1"], "--clip must be left out with the optimizer gd (it is of sgd, adam, adamw); got '1'."),
        (
            [*ADAM, "--momentum", "0.5"],
            "--momentum must be left out with the optimizer adam (it is of sgd); got '0.5'.",
        ),
        (ADAM[:2], "--learning-rate is missing: the optimizer adam takes it."),
        (ADAM[:4], "--steps is missing: the optimizer adam takes it."),
        (
            [*ADAM, "--warmup", "0", "300"],
            "--warmup must be less than the number of steps, which is 300; got '300'.",
        ),
        (
            ["--sequences", "0", "64"],
            "--batch-size must be at most the number of sequences in the fixed set, which is 64; got 256.",
        ),
        (
            ["--model", "circuit", "--hold", "gamma_4"],
            "--hold must be of alpha_3, beta_2, gamma_3 for this model; got 'gamma_4'.",
        ),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_is_no_training_is_refused(capsys, tmp_path, words, sentence):
    assert refused(capsys, *SWEEP, *words, "--output", str(tmp_path / "out")) == sentence
    assert not (tmp_path / "out").exists()
    if "--model" in words or any(word[0] == "-" for word in words if not word.startswith("--")):
        return
    # the same of a plan, by the names that stand there
    table, flag = {"context_lengths": [2], "model": ["full"]}, ""
    for word in words:
        if word.startswith("--"):
            flag = word[2:].replace("-", "_")
        else:
            table.setdefault(flag, []).append(word)
    (tmp_path / "plan.toml").write_text(tomli_w.dumps(table))
    found = refused(capsys, "sweep", "--plan", str(tmp_path / "plan.toml"), "--dry-run")
    names = re.sub("--([a-z-]+)", lambda typed: typed[1].replace("-", "_"), sentence)
    assert found.partition("; got")[0] == f"The plan '{tmp_path}/plan.toml': " + names.partition("; got")[0]


def test_kinds_know_what_the_library_knows():
    """Which they cannot look up, as it computes."""
    assert training_kinds.OPTIMIZER.allowed == "gd, sgd, adam or adamw" and OPTIMIZERS == ("gd", "sgd", "adam", "adamw")
    assert training_kinds.SCHEDULE.allowed == "constant, cosine or linear" and SCHEDULES == (
        "constant",
        "cosine",
        "linear",
    )
    assert training_kinds.DTYPE.allowed == "float32 or float64" and DTYPES == ("float32", "float64")
    assert training_kinds.STEPS.read(str(MOST_STEPS)) == MOST_STEPS
    for name in COORDINATES:
        for word in (name, f"{name}=-1.5e-3", f"{name}=1@40", f"{name}@.5"):
            assert training_kinds.HOLD_WORD.read(word) == word
            assert training_kinds.HELD.read(word) == str(Hold.read(word))
        assert coordinates_of([training_kinds.COORDINATE_VALUE.read(f"{name}=2")]) == ((name, 2.0),)
    assert training_kinds.HELD.read("gamma_4=0 beta_12,alpha_3@0") == "alpha_3 beta_12 gamma_4=0.0"
    for word in (
        "alpha_4",
        "beta_0",
        "beta_13",
        "gamma_1=",
        "gamma_1=0@",
        "gamma_1=0=0",
        "Gamma_1",
        "loss",
        " gamma_1",
    ):
        for kind in (training_kinds.HOLD_WORD, training_kinds.HOLDS, training_kinds.COORDINATE_VALUE):
            with pytest.raises(ValueError, match="a coordinate"):
                kind.read(word)


@pytest.fixture
def steps(tmp_path):
    """A folder of trainings without flow time, some with something held."""
    holds = (Hold("beta_2", 0.0, 40.0), Hold("gamma_4", -1.0))
    entries = [
        entry(point)
        for n in (4, 8, 16, 32)
        for point in (by_steps(n), by_steps(n, hold=holds), by_steps(n, learning_rate=0.5))
    ]
    return str(fill(tmp_path / "steps", entries))


@pytest.fixture
def both(tmp_path):
    """A folder with flow times and steps."""
    entries = [entry(make(n)) for n in (4, 8, 16, 32) for make in (circuit, full, by_steps)]
    return str(fill(tmp_path / "both", entries))


@pytest.mark.parametrize(
    "typed, count",
    [
        ("hold=gamma_4=-1,beta_2=0@40", 4),
        ("hold=beta_2=0.0@40.0 gamma_4=-1.0", 4),
        ("hold=none", 8),
        ("optimizer=adam", 12),
        ("learning-rate=0.01", 8),
        ("steps=500", 12),
        ("horizon=none", 12),
        ("sequences=none", 12),
    ],
)
def test_conditions(capsys, steps, typed, count):
    rows = answer(capsys, "fit", steps, "--where", typed, "measure=loss")["rows"]
    assert len(rows) == count


@pytest.mark.parametrize(
    "words, part",
    [
        (["--where", "optimizer=lion"], "with optimizer gd, sgd, adam or adamw, or none where there is none; got"),
        (["--where", "hold=zeta"], "with hold coordinates that are held, such as gamma_4=0 or beta_2=0@40, or none"),
        (["--where", "hold=gamma_4=1"], "what is there (hold=none, hold=beta_2=0.0@40.0 gamma_4=-1.0, "),
        (["--where", "steps=x"], "with steps a whole number, at least 0, or none where there is none; got 'steps=x'."),
        (["--by", "optimiser"], "(did you mean optimizer?); got 'optimiser'."),
    ],
)
def test_conditions_that_are_none(capsys, steps, words, part):
    assert part.removesuffix(", ") in refused(capsys, "fit", steps, *words)


def test_laws_of_steps_are_of_steps(capsys, steps, both):
    out = printed(capsys, "fit", steps, "--where", "measure=loss")
    assert "T: training steps at emergence" in out and "flow time" not in out
    assert "optimizer adam" in out and "500 steps" in out and "nothing held" in out
    out = printed(capsys, "fit", both)
    assert "or training steps where the optimizer is not gd" in out
    fits = answer(capsys, "fit", both)["fits"]
    assert {(fit["model"], fit["optimizer"]) for fit in fits} == {("circuit", None), ("full", "gd"), ("full", "adam")}
    sentence = "--by must be columns that tell flow times from steps, such as optimizer; got 'measure'."
    assert refused(capsys, "fit", both, "--by", "measure") == sentence
    assert answer(capsys, "fit", both, "--by", "measure", "--where", "optimizer=adam")["fits"]


def test_pictures_have_one_unit(capsys, both, tmp_path):
    to = tmp_path / "a.svg"
    sentence = "--where must leave times in one unit; got some in flow time and some in steps (optimizer adam)."
    assert refused(capsys, "plot", both, "--to", str(to)) == sentence and not to.exists()
    printed(capsys, "plot", both, "--to", str(to), "--where", "optimizer=adam")
    assert to.exists()


def test_exports_tell_units_apart(capsys, both, tmp_path):
    for name in ("a.nc", "a.csv"):
        assert main(["export", both, "--to", str(tmp_path / name), "--quiet"]) == 0
    with xarray.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as ds:
        steps = ds.time.sel(optimizer="adam")
        assert np.isfinite(steps).any() and steps.time_unit.item() == "steps"
    with open(tmp_path / "a.csv", newline="") as file:
        units = {(row["optimizer"], row["time_unit"]) for row in csv.DictReader(file)}
    assert units == {("", "flow"), ("gd", "flow"), ("adam", "steps")}


def test_a_table_of_steps(capsys, pretended, drawn, tmp_path):
    words = ["--measures", "alpha_3", "beta_1", "--hold", "none", "gamma_4=0", "--output", str(tmp_path / "out")]
    out = printed(capsys, *SWEEP, *ADAM, *words)
    lines = out.splitlines()
    assert lines[0] == "orthonormal inputs, query last, rotation 90 degrees, optimizer adam,"
    assert lines[1] == "learning rate 0.01, 300 steps"
    assert "T: training steps at emergence" in out and "T/N^2" not in out
    assert lines[4].split() == ["N", "model", "hold", "measure", "level", "T", "outcome"]
    assert "2  full   gamma_4=0.0  beta_1     0.5        -  not by 300 steps" in out
    assert "full, hold gamma_4=0.0 at 0.5, N = 2: alpha_3; never beta_1" in out
    dry = printed(capsys, *SWEEP, *ADAM, *words, "--dry-run")
    assert "full, adam" in dry and "2 points, 0 of them to be computed" in dry


def test_no_cell_of_a_wide_table_is_lost(capsys, pretended, drawn, tmp_path):
    """Beyond the width of the console, where rich would give narrow columns none."""
    words = ["--hold", "none", "alpha_3=0.123456789@12.3456789,beta_2=0.123456789@12.3456789", "--start", "none"]
    words += ["alpha_3=0.123456789,beta_2=0.123456789", "--seed", "7", "8", "--output", str(tmp_path / "out")]
    out = printed(capsys, *SWEEP, *words, "--measures", "alpha_3", "--quiet")
    heading, _, *lines = (line.split() for line in out.splitlines() if line.strip())
    assert heading == ["N", "model", "start", "hold", "seed", "measure", "level", "T", "outcome"]
    assert len(lines) == 8 and {line[0] for line in lines} == {"2"} and {line[-3] for line in lines} == {"0.5"}


def test_a_real_sweep_over_optimizers(tmp_path):
    """In a process of its own, and what of it is there already is not computed again."""
    words = [*SWEEP, "--optimizer", "adam", "gd", "--learning-rate", "0.05", "--steps", "12", "--batch-size", "8"]
    words += ["--horizon", "0.75", "--hold", "gamma_3=0", "--measures", "alpha_3", "--quiet", "--output", "out"]
    argv = [sys.executable, "-m", "induction_dynamics", *words, "--json"]
    first, again = (subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=300) for _ in range(2))
    assert [(one.returncode, one.stderr) for one in (first, again)] == [(0, "")] * 2
    document = json.loads(again.stdout)
    assert (document["computed"], document["reused"], document["failed"]) == (0, 2, 0)
    assert [(row["optimizer"], row["time_unit"], row["outcome"]) for row in document["rows"]] == [
        ("gd", "flow", "horizon_reached"),
        ("adam", "steps", "horizon_reached"),
    ]
    (note,) = [note for note in document["notes"] if "picture" in note]
    assert "--where must leave times in one unit" in note
    assert [one.point.hold for one in read_ledger(tmp_path / "out")] == [(Hold("gamma_3", 0.0),)] * 2
