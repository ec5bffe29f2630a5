"""Several copies of the queried pair, from the words of the command line to folders and fits."""

import json

import pytest

from induction_dynamics.cli import main
from induction_dynamics.cli.document import same_options
from induction_dynamics.scaling.ledger import read_ledger
from induction_dynamics.scaling.points import Point
from induction_dynamics.task import Task

ONE, TWO = (Task(4, query="uniform", copies=copies) for copies in (1, 2))


def answer(capsys, *words):
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_copies_reach_the_run(capsys):
    words = ["simulate", "--context-length", "4", "--model", "circuit", "--query", "uniform", "--measures", "beta_2"]
    single, several = (answer(capsys, *words, *more)["rows"][0] for more in ([], ["--copies", "2"]))
    assert (single["copies"], several["copies"]) == (1, 2)
    assert several["time"] < 0.7 * single["time"]
    assert main([*words, "--copies", "2"]) == 0
    assert "copies 2" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("copies", "sentence"),
    [
        ("5", "--copies must be a whole number, at least 1 and at most the number of pairs, 4; got '5'."),
        ("0", "--copies must be a whole number of copies, at least 1; got '0'."),
        ("two", "--copies must be a whole number of copies, at least 1; got 'two'."),
    ],
)
def test_copies_without_a_place_are_refused(capsys, copies, sentence):
    assert main(["simulate", "--context-length", "4", "--copies", copies]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.strip() == sentence


def test_a_sweep_keeps_copies_apart(capsys, tmp_path, pretended, drawn):
    folder = str(tmp_path / "sweep")
    words = ["--context-lengths", "4", "8", "16", "--model", "circuit", "--query", "uniform", "--copies", "1", "2"]
    document = answer(capsys, "sweep", *words, "--output", folder)
    assert document["config"]["grid"][0]["copies"] == [1, 2]
    points = [entry.point for entry in read_ledger(folder)]
    assert Point(ONE, "circuit") in points and Point(TWO, "circuit") in points and len(points) == 6
    fits = answer(capsys, "fit", folder, "--where", "measure=beta_2")["fits"]
    assert [fit["copies"] for fit in fits if fit["law"] == "power"] == [1, 2]
    (alone,) = {fit.get("copies") for fit in answer(capsys, "fit", folder, "--where", "copies=2")["fits"]}
    assert alone is None
    again = answer(capsys, "sweep", "--plan", f"{folder}/plan.toml", "--output", folder)
    assert again["reused"] == 6 and again["computed"] == 0


def test_a_folder_of_before_there_were_copies_has_one():
    before, now = {"context_length": 4}, {"context_length": 4, "copies": 1}
    assert same_options(now, before) and same_options(before, now)
    assert not same_options({"context_length": 4, "copies": 2}, before)
