"""The README keeps its word."""

import json
import math
import re
from pathlib import Path

import induction_dynamics
from experiments.recorder import read_table
from induction_dynamics.cli import COMMANDS
from induction_dynamics.cli.document import fit_rows
from induction_dynamics.scaling.points import Row

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TOLD = " ".join(README.split())


def test_the_python_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    measures = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert measures == ["alpha_3", "beta_2", "gamma_3", "loss"]
    assert sum(bool(line) for line in example.splitlines()) <= 10


def test_files_and_commands_named_exist():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
    used = set(re.findall(r"^induction-dynamics (\w+)", README, re.MULTILINE))
    assert used == set(COMMANDS)
    for name in re.findall(r"idyn\.(\w+)", README):
        assert hasattr(induction_dynamics, name)


def test_the_laws_of_the_demo_are_those_of_the_committed_numbers():
    rows = json.loads((ROOT / "figures" / "context_length_scaling" / "sweep.json").read_text())["rows"]
    _, words, _ = fit_rows([Row(**row) for row in rows])
    assert [line for line in words if line in TOLD] == [
        line for line in words if line.startswith(("query last, circuit, loss", "query uniform, circuit, loss"))
    ]


def test_the_ratios_of_the_demo_are_those_of_the_committed_numbers():
    table = (ROOT / "figures" / "context_length_scaling" / "rows.csv").read_text().splitlines()[1:]
    times = {
        (cells[5], cells[6]): float(cells[8])
        for cells in map(lambda line: line.split(","), table)
        if cells[3] == "uniform" and cells[0] == "8"
    }
    (shown,) = re.findall(r"^ +full/subspace +(.*)$", README, re.MULTILINE)
    ratios = [times["full", name] / times["subspace", name] for name in ("gamma_3", "beta_2", "alpha_3", "loss")]
    assert shown.split() == [f"{ratio:.3f}" for ratio in ratios]


def test_the_rows_of_the_demo_are_the_committed_ones():
    table = (ROOT / "figures" / "context_length_scaling" / "rows.csv").read_text().splitlines()[1:]
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


def test_every_picture_is_shown_with_its_command():
    for folder in (ROOT / "figures").iterdir():
        assert f"`make figures ONLY={folder.name}`" in README
        for picture in folder.glob("*.png"):
            assert f"]({picture.relative_to(ROOT)})" in README


def test_the_times_told_of_the_order_are_those_of_the_table():
    rows = read_table(ROOT / "figures" / "emergence_order" / "crossings.csv")
    times = {(row["inputs"], row["measure"]): f"{row['time']:.1f}" for row in rows}
    orthonormal, isotropic = (
        "{}, {} and {}".format(*(times[inputs, name] for name in ("gamma_3", "beta_2", "alpha_3")))
        for inputs in ("orthonormal", "isotropic")
    )
    assert f"flow times {orthonormal} (orthonormal inputs) and {isotropic} (isotropic)" in TOLD
    assert f"has halved at {times['orthonormal', 'loss']} and {times['isotropic', 'loss']}" in TOLD


def test_what_is_told_of_long_contexts_is_in_the_tables():
    folder = ROOT / "figures" / "asymptotics"
    series = ("model", "query", "measure", "threshold")
    last = {tuple(row[name] for name in series): row for row in read_table(folder / "times.csv")}
    laws = {tuple(row[name] for name in series): row for row in read_table(folder / "laws.csv")}
    # rows are in the order of N: what remains is the last one of each series
    slopes = {tuple(row[name] for name in series): row for row in read_table(folder / "slopes.csv")}
    assert {row["context_length"] for row in last.values()} == {10**9}
    below = {key: 1 - row["slope_per_limit"] for key, row in slopes.items()}
    loss, beta = (100 * below.pop(("subspace", "last", measure, 0.5)) for measure in ("loss", "beta_2"))
    assert f"but for the loss ({loss:.1f} % below) and `beta_2` ({beta:.1f} % below) of the nineteen" in TOLD
    furthest = math.ceil(1000 * max(abs(x) for x in below.values())) / 10
    assert f"the slopes are within {furthest:g} % of the predicted ones" in TOLD
    away = [100 * abs(laws[key]["time_per_law"] - 1) for key in slopes]
    assert f"T itself is then still {math.floor(min(away))} to {math.ceil(max(away))} % from its law" in TOLD
    reached = [row["time_per_law"] for key, row in laws.items() if key[:2] == ("circuit", "last")]
    assert max(abs(ratio - 1) for ratio in reached) < 1e-7 and "within 10⁻⁷ of its limits" in TOLD
    three, nineteen = (last[model, "last", "alpha_3", 0.5]["time"] for model in ("circuit", "subspace"))
    assert f"comes {three / nineteen:.1f} times earlier at N = 10⁹" in TOLD
    assert f"T/N tends to {laws['subspace', 'uniform', 'gamma_3', 0.4]['constant']:.4f} at threshold 0.4" in TOLD
    per_length = {
        row["context_length"]: row["time_per_length"]
        for row in read_table(folder / "times.csv")
        if tuple(row[name] for name in series) == ("subspace", "uniform", "gamma_3", 0.5)
    }
    grown = per_length[10**9] - per_length[10**8]
    assert f"it grows by {grown:.1f} per decade, and is {per_length[10**9]:.0f} at N = 10⁹" in TOLD


def test_the_deviations_told_are_those_of_the_table():
    ends, largest = {}, 0.0
    for inputs in ("orthonormal", "isotropic"):
        rows = read_table(ROOT / "figures" / "reduced_vs_full" / f"{inputs}_curves.csv")
        off = [row for row in rows if row["measure"] == "off_subspace"]
        ends[inputs] = f"{100 * off[-1]['residual']:.1f} %"
        largest = max(
            largest, *(abs(row["residual"]) for row in rows if row["measure"] in induction_dynamics.COORDINATES)
        )
        assert off[1]["residual"] > 0.5  # most of the norm after the first steps
    assert f"ever further than {math.ceil(100 * largest) / 100:g} from the flow" in TOLD
    assert f"{ends['orthonormal']} of the trained weights' norm" in TOLD
    assert f"(orthonormal) and {ends['isotropic']} (isotropic)" in TOLD


def test_the_ratios_told_of_the_late_coordinates_are_those_of_the_table():
    rows = read_table(ROOT / "figures" / "coordinates_at_rest" / "coordinates.csv")
    ratios = {}
    for row in rows:
        sizes = {name: abs(row[name]) for name in induction_dynamics.COORDINATES}
        three = min(sizes.pop(name) for name in ("alpha_3", "beta_2", "gamma_3"))
        ratios[row["query"], row["context_length"]] = three / max(sizes.values())
    assert f"others, and {ratios['last', 64]:.1f} times (query last)" in TOLD
    assert f"and {ratios['uniform', 64]:.1f} times (uniform) at N = 64" in TOLD
    least = min(ratio for (_, length), ratio in ratios.items() if length >= 4)
    assert f"at least {math.floor(10 * least) / 10:g} times the largest of the sixteen" in TOLD


def test_what_is_told_of_the_circuit_is_in_the_tables():
    folder = ROOT / "figures" / "circuit_picture"
    after = [row for row in read_table(folder / "attention.csv") if row["stage"] == "after"]
    items = [
        r["attention"]
        for r in after
        if r["layer"] == 1 and r["attending"] % 2 == 0 and r["attended"] == r["attending"] - 1
    ]
    assert f"more than {math.floor(10 * min(items)) * 10} % of its attention to its own item" in TOLD
    right = max(row["attention"] for row in after if row["layer"] == 2)
    assert f"gives {100 * right:.0f} % of its to the right label" in TOLD
    off = next(row for row in read_table(folder / "coordinates.csv") if row["stage"] == "after")["off_subspace"]
    assert f"explain all but {100 * off:.1f} % of their norm" in TOLD
