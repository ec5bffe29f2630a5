"""The README keeps its word."""

import json
import re
from pathlib import Path

import induction_dynamics
from induction_dynamics.cli import COMMANDS
from induction_dynamics.cli.document import fit_rows
from induction_dynamics.scaling.sweep import Row

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    measures = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert measures == ["alpha_3", "beta_2", "gamma_3", "loss"]


def test_files_and_commands_named_exist():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
    used = set(re.findall(r"^induction-dynamics (\w+)", README, re.MULTILINE))
    assert used == set(COMMANDS)
    for name in re.findall(r"idyn\.(\w+)", README):
        assert hasattr(induction_dynamics, name)


def test_the_laws_of_the_demo_are_those_of_the_committed_numbers():
    rows = json.loads((ROOT / "figures" / "emergence_times" / "sweep.json").read_text())["rows"]
    _, words, _ = fit_rows([Row(**row) for row in rows])
    told = " ".join(README.split())
    assert [line for line in words if line in told] == [
        line for line in words if line.startswith(("query last, circuit, loss", "query uniform, circuit, loss"))
    ]


def test_the_ratios_of_the_demo_are_those_of_the_committed_numbers():
    table = (ROOT / "figures" / "emergence_times" / "rows.csv").read_text().splitlines()[1:]
    times = {
        (cells[5], cells[6]): float(cells[8])
        for cells in map(lambda line: line.split(","), table)
        if cells[3] == "uniform" and cells[0] == "8"
    }
    (shown,) = re.findall(r"^ +full/subspace +(.*)$", README, re.MULTILINE)
    ratios = [times["full", name] / times["subspace", name] for name in ("gamma_3", "beta_2", "alpha_3", "loss")]
    assert shown.split() == [f"{ratio:.3f}" for ratio in ratios]


def test_the_rows_of_the_demo_are_the_committed_ones():
    table = (ROOT / "figures" / "emergence_times" / "rows.csv").read_text().splitlines()[1:]
    times: dict[tuple[str, str, str], dict[str, float]] = {}
    for line in table:
        cells = line.split(",")
        times.setdefault((cells[3], cells[5], cells[0]), {})[cells[6]] = float(cells[8])
    shown = re.findall(
        r"^(last|uniform) +(circuit|subspace|full) +(\d+) +(\S+) +(\S+) +(\S+) +(\S+)$", README, re.MULTILINE
    )
    assert len(shown) >= 8
    for query, model, length, *numbers in shown:
        run = times[query, model, length]
        for measure, number in zip(("gamma_3", "beta_2", "alpha_3", "loss"), numbers, strict=True):
            assert abs(float(number) - run[measure]) <= max(0.051, 6e-4 * run[measure])
