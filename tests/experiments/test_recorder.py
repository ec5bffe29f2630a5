"""What an experiment leaves behind, and that figures/ holds it for every experiment."""

import dataclasses
import json
from pathlib import Path

import pytest

from experiments import (
    circuit_picture,
    context_length_scaling,
    coordinates_at_rest,
    demo,
    emergence_order,
    figures,
    reduced_vs_full,
)
from experiments.recorder import read_table, record, rounded, run_script
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.style import new_figure

FIGURES = Path(__file__).parents[2] / "figures"


@dataclasses.dataclass(frozen=True)
class Config:
    output: Path
    lengths: tuple[int, ...] = (2, 4)


def test_numbers_come_back_with_ten_digits(tmp_path):
    rows = [
        {"name": "a", "value": 1 / 3, "count": 7, "missing": None, "held": True},
        {"name": "b", "value": -2.5e-300, "count": -1, "missing": 1e22, "held": False},
    ]
    record(tmp_path / "new", config=Config(tmp_path), command="make it", figures={}, tables={"rows": rows})
    assert read_table(tmp_path / "new" / "rows.csv") == rounded(rows)
    assert rounded(1 / 3) == 0.3333333333 and rounded([{"x": (2 / 3,)}]) == [{"x": [0.6666666667]}]


def test_configuration_and_command_lie_beside(tmp_path):
    record(tmp_path, config=Config(tmp_path), command="make it", figures={}, tables={}, documents={"d": {"x": 0.1}})
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["command"] == "make it" and about["config"] == {"lengths": [2, 4]}
    assert {"induction-dynamics", "jax", "numpy", "python"} <= set(about["versions"])
    assert json.loads((tmp_path / "d.json").read_text()) == {"x": 0.1}


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for folder in ("one", "other"):
        figure = new_figure(2.0, 2.0)
        figure.subplots().plot([0, 1], [1, 0])
        record(tmp_path / folder, config=Config(tmp_path), command="", figures={"f": figure}, tables={})
    for name in ("f.png", "f.svg", "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_failure_leaves_what_was_there(tmp_path):
    rows = [{"x": 1}]
    record(tmp_path, config=Config(tmp_path), command="first", figures={}, tables={"rows": rows})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="Out of range float"):
        broken = {"x": float("nan")}
        record(tmp_path, config=Config(tmp_path), command="", figures={}, tables={}, documents={"rows": broken})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_an_earlier_run_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "mine.csv").write_text("mine")
    for names in (("one", "other"), ("one",)):
        tables = {name: [{"x": 1}] for name in names}
        record(tmp_path, config=Config(tmp_path), command="", figures={}, tables=tables)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "one.csv", "mine.csv"}
    (tmp_path / "config.json").write_text('{"files": ["../mine.csv", 7]}')
    record(tmp_path, config=Config(tmp_path), command="", figures={}, tables={})
    assert (tmp_path / "mine.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "script, config, words, sentence",
    [
        (circuit_picture, "CircuitConfig", "--shown 5", "shown must be from 1 to 4"),
        (circuit_picture, "CircuitConfig", "--during 50", "during must be above 0 and below 40"),
        (
            coordinates_at_rest,
            "RestConfig",
            "--context-lengths 4 2",
            "context_lengths must be at least one, increasing",
        ),
        (reduced_vs_full, "OverlayConfig", "--cases", "cases must be at least one kind"),
        (emergence_order, "OrderConfig", "--times 1", "times must be at least 2"),
        (
            context_length_scaling,
            "ScalingConfig",
            "--circuit-lengths 0",
            "context_length must be a whole number of pairs",
        ),
        (demo, "DemoConfig", "--full-lengths 0", "context_length must be a whole number of pairs"),
        (figures, "FiguresConfig", "--only nothing", "only must be one or more of emergence_order, "),
    ],
)
def test_a_script_refuses_in_a_sentence(capsys, monkeypatch, tmp_path, script, config, words, sentence):
    monkeypatch.setattr("sys.argv", ["script", "--output", str(tmp_path / "out"), *words.split()])
    with pytest.raises(SystemExit) as exit:
        run_script(script.main, getattr(script, config), script.__doc__)
    assert exit.value.code == 2
    err = capsys.readouterr().err
    assert sentence in " ".join(err.replace("│", " ").split()) and "Traceback" not in err


def test_every_experiment_has_its_folder_and_every_folder_its_experiment():
    assert {folder.name for folder in FIGURES.iterdir()} == {*figures.EXPERIMENTS, *figures.APART}


def test_an_experiment_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="only must be one or more of emergence_order, .*; got 'other'"):
        figures.main(figures.FiguresConfig(tmp_path, only=("emergence_order", "other")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*figures.EXPERIMENTS, *figures.APART])
def test_beside_each_picture_lie_its_numbers_and_its_command(name):
    files = {file.name for file in (FIGURES / name).iterdir()}
    command = figures.APART.get(name, f"make figures ONLY={name}")
    assert json.loads((FIGURES / name / "config.json").read_text())["command"] == command
    pictures = {file.removesuffix(".png") for file in files if file.endswith(".png")}
    assert pictures and pictures == {file.removesuffix(".svg") for file in files if file.endswith(".svg")}
    assert any(file.endswith(".csv") for file in files)
