"""`compare`: its document, its tables, its folder, and what it refuses."""

import csv
import json
import math
import statistics

import pytest

from induction_dynamics.cli import main
from induction_dynamics.cli.compare_tables import show_comparison
from induction_dynamics.dynamics.emergence import MEASURES

WORDS = ["compare", "--context-length", "2", "--query", "uniform", "--horizon", "6", "--batch-size", "32"]
FILES = {"compare.json", "deviations.csv", "curves.csv", "config.json", "comparison.png", "comparison.svg"}


def answer(capsys, *more):
    assert main([*WORDS, *more, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} in the document"))


def test_the_document(capsys):
    document = answer(capsys, "--seeds", "3", "5", "3")
    assert list(document) == ["schema_version", "command", "config", "rows", "fits", "notes", "emergence", "curves"]
    config = document["config"]
    assert config["seeds"] == [3, 5] and config["horizon"] == 6 and config["query"] == "uniform"
    assert {"versions", "device_kind", "inputs", "rotation", "batch_size", "step", "samples"} <= set(config)
    assert [row["measure"] for row in document["rows"]] == list(MEASURES)
    curves = document["curves"]
    assert curves["time"][0] == 0 and curves["time"][-1] == 24 and curves["time_unit"] == "flow"
    assert list(curves["measures"]) == [*MEASURES, "off_subspace"]
    for row in document["rows"]:
        curve = curves["measures"][row["measure"]]
        assert set(curve) == {"reduced", "trained_3", "trained_5", "residual", "standard_error"}
        assert {len(values) for values in curve.values()} == {len(curves["time"])}
        assert list(row)[2:4] == ["time", "time_unit"] and row["time_unit"] == "flow"
        at = curves["time"].index(row["time"])
        assert abs(row["residual"]) == max(map(abs, curve["residual"]))
        trained = [curve["trained_3"][at], curve["trained_5"][at]]
        assert statistics.fmean(trained) - curve["reduced"][at] == pytest.approx(row["residual"], abs=1e-12)
        assert statistics.stdev(trained) / math.sqrt(2) == pytest.approx(row["standard_error"], abs=1e-12)


def test_emergence_times_are_those_of_the_other_commands(capsys):
    rows = answer(capsys, "--seeds", "3", "5")["emergence"]
    assert [(row["model"], row["seed"]) for row in rows[::4]] == [("subspace", None), ("full", 3), ("full", 5)]
    task = WORDS[1:7]
    assert main(["simulate", *task, "--json"]) == 0
    simulated = json.loads(capsys.readouterr().out)["rows"]
    assert main(["train", *task, "--batch-size", "32", "--seed", "5", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)["rows"]
    for own, other in zip([*rows[:4], *rows[8:]], [*simulated, *trained], strict=True):
        assert own["measure"] == other["measure"] and own["model"] == other["model"]
        assert (own["time"] is None) == (own["measure"] == "alpha_3")
        # the flow that stops at its crossings takes another last step
        assert own["time"] is other["time"] or own["time"] == pytest.approx(other["time"], rel=1e-7)


def test_tables_for_people(capsys):
    assert main([*WORDS, "--seeds", "0", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and max(map(len, out.splitlines())) <= 80
    assert "N = 2, D = 6, orthonormal inputs, query uniform" in out and "seeds 0, 1, to flow time 24" in out
    lines = out.splitlines()
    top = next(place for place, line in enumerate(lines) if line.startswith("measure  residual"))
    table = [line.split() for line in lines[top + 2 : top + 22]]
    assert {cells[0] for cells in table} == set(MEASURES)
    sizes = [abs(float(cells[1])) for cells in table]
    assert all(a >= 0.99 * b for a, b in zip(sizes, sizes[1:], strict=False)) and sizes[0] > 0.01
    assert "Off-subspace fraction" in out and "+-" in out and "Notes" not in out
    assert lines[top].split()[-1] == "worst" and "\nworst: the largest |trained - reduced| of any seed" in out
    assert "After +- stands\nthe standard error of a mean over the seeds." in out
    assert main([*WORDS, "--seeds", "0", "1", "--quiet"]) == 0
    quiet = capsys.readouterr().out
    assert "worst: " not in quiet and "After +-" not in quiet


DIVERGED = [
    ["--context-length", "2", "--batch-size", "4", "--horizon", "30", "--step", "30", "--seeds", "0", "1"],
    ["--context-length", "2", "--batch-size", "2", "--horizon", "10", "--step", "3", "--seeds", "0", "1", "2"],
]


@pytest.mark.parametrize("words", DIVERGED, ids=["step 30", "step 3"])
def test_no_cell_is_cropped(capsys, words):
    """However large the numbers of a run that diverges are, in lines however long."""
    assert main(["compare", *words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["compare", *words, "--quiet"]) == 0
    check_table(capsys.readouterr().out, document)
    for row in document["rows"]:
        row |= {name: -1.2345678e150 * row[name] for name in QUANTITIES}
    show_comparison(document, quiet=True)
    out = capsys.readouterr().out
    check_table(out, document)
    assert max(map(len, out.splitlines())) > 80


QUANTITIES = ("residual", "standard_error", "time", "reduced", "trained", "largest_of_a_seed")


def check_table(out, document):
    """Every cell of the larger table is a number of the document."""
    lines = out.splitlines()
    top = next(place for place, line in enumerate(lines) if line.split()[:2] == ["measure", "residual"])
    assert lines[top].split() == ["measure", "residual", "error", "T", "reduced", "trained", "worst"]
    table = {cells[0]: cells[1:] for cells in map(str.split, lines[top + 2 : top + 22])}
    for row in document["rows"]:
        for cell, name in zip(table[row["measure"]], QUANTITIES, strict=True):
            # four decimals, or one digit of what is smaller, or four of what is larger
            assert float(cell) == pytest.approx(row[name], abs=6e-5, rel=1e-3)
            assert len(cell) <= len("-1.23457e+100")
    for cells, row in zip(map(str.split, lines[2 : top - 1]), document["emergence"], strict=False):
        assert cells[:2] == [row["measure"], f"{row['threshold']:g}"]


def test_a_step_beyond_the_horizon_compares_nothing(capsys, tmp_path):
    words = ["compare", "--context-length", "2", "--batch-size", "4", "--horizon", "1", "--step", "1e6"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr() == ("", "--step must be a flow time of at most the horizon's 4; got '1e6'.\n")
    assert list(tmp_path.iterdir()) == []


def test_one_seed_says_that_it_has_no_error(capsys):
    assert main([*WORDS, "--seeds", "7"]) == 0
    out, _ = capsys.readouterr()
    assert "One seed gives no standard error" in " ".join(out.split()) and "seed 7," in out
    assert answer(capsys, "--seeds", "7")["rows"][0]["standard_error"] is None


def test_a_run_that_diverges_is_told(capsys):
    words = ["--context-length", "6", "--horizon", "12", "--step", "12", "--batch-size", "8", "--seeds", "0", "1"]
    document = answer(capsys, *words, "--query", "uniform")
    notes = " ".join(document["notes"])
    assert "The trained run of seed 0 ended at t = " in notes and "infinite or NaN" in notes
    assert "The comparison ends with the shortest run" in notes
    assert all(math.isfinite(row["residual"]) for row in document["rows"])
    assert {row["outcome"] for row in document["emergence"] if row["model"] == "full"} <= {"emerged", "nonfinite"}


def test_the_folder(capsys, tmp_path):
    folder = tmp_path / "a folder" / "é"
    words = [*WORDS, "--seeds", "0", "1", "--output", str(folder), "--quiet"]
    assert main(words) == 0
    assert {path.name for path in folder.iterdir()} == FILES
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    document = json.loads(before["compare.json"])
    assert len(before["curves.csv"].splitlines()) == 1 + 21 * len(document["curves"]["time"])
    for name in ("deviations.csv", "curves.csv"):
        with open(folder / name, newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["time_unit"] for row in rows} == {"flow"}
        columns = list(rows[0])
        assert columns.index("time_unit") == columns.index("time") + 1
    assert main(words) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    capsys.readouterr()
    assert main([*words, "--step", "0.5"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "other step" in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_where_it_was_written_is_said_on_one_line(capsys, tmp_path):
    assert main([*WORDS, "--seeds", "0", "--horizon", "1", "--output", str(tmp_path / "a\nb")]) == 0
    assert capsys.readouterr().out.endswith(f"\n\nWritten to {tmp_path}/a\\nb\n")


def test_nothing_is_left_when_it_is_interrupted(capsys, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("induction_dynamics.training.comparison.compare", interrupted)
    assert main([*WORDS, "--output", str(tmp_path / "new" / "out")]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--seeds"], "--seeds must each be a whole number, at least 0; got no value."),
        (["--seeds", "0", "-1"], "--seeds must each be a whole number, at least 0; got '-1'."),
        (["--seeds", "4294967296"], "--seeds must each be a whole number, at most 4294967295; got '4294967296'."),
        (["--horizon", "0"], "--horizon must be a finite flow time in units of N^2, above 0 and at most 1e9; got '0'."),
        (["--model", "circuit"], "'--model' is no option of induction-dynamics compare; "),
        (["--step", "1e-9"], "--step must be a flow time that reaches the horizon within "),
        (["--embedding-dim", "4"], "--embedding-dim must be an even whole number, at least 6 (2N + 2, for N = 2 pairs"),
        (
            ["--context-length", "99999999"],
            "--context-length must be so small that the full model's width (200000000) ",
        ),
    ],
)
def test_what_is_refused(capsys, tmp_path, words, sentence):
    assert main([*WORDS, *words, "--output", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(sentence)
    assert list(tmp_path.iterdir()) == []
