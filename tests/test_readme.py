"""The README keeps its word."""

import json
import math
import re
from pathlib import Path

import induction_dynamics
from experiments.figures import APART
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
        command = APART.get(folder.name, f"make figures ONLY={folder.name}")
        assert f"`{command}`" in README
        for picture in folder.glob("*.png"):
            assert f"]({picture.relative_to(ROOT)})" in README


GRADES = ("**Holds exactly**", "**Holds if**", "**Holds**", "**Does not hold**")


def test_every_claim_has_a_grade_a_number_and_a_test():
    (body,) = re.findall(r"^\| claim \| grade \|.*\n\|[-|]+\n((?:\|.*\n)+)", README, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body.splitlines()]
    assert len(rows) >= 12 and len({row[0] for row in rows}) == len(rows)
    for claim, grade, measured, checked in rows:
        assert grade.startswith(GRADES), claim
        assert any(letter.isdigit() for letter in measured), claim
        files = re.findall(r"\[(test_\w+\.py)\]\((tests/[\w/]+\.py)\)", checked)
        assert files and all(path.endswith(f"/{name}") and (ROOT / path).exists() for name, path in files), claim


def test_what_is_told_of_the_sixteen_is_in_the_tables():
    folder = ROOT / "figures" / "other_sixteen"
    lengths = {
        (row["query"], row["held"], row["context_length"]): row
        for row in read_table(folder / "lengths.csv")
        if row["inputs"] == "orthonormal"
    }
    last = [f"{lengths['last', 'none', n]['alpha_3']:.3f}" for n in (16, 64, 10**9)]
    assert "at {} (N = 16), {} (64) and {} (10⁹) of its time with three, query last".format(*last) in TOLD
    uniform = [f"{lengths['uniform', 'none', n]['alpha_3']:.2f}" for n in (16, 10**9)]
    assert "and at {} (16) to {} times (10⁹), uniform".format(*uniform) in TOLD
    without = [f"{lengths['last', 'gamma_4', n]['alpha_3']:.2f}" for n in (16, 10**6)]
    assert "Without it `alpha_3` comes {} (N = 16) to {} times (10⁶) later than".format(*without) in TOLD
    both = {
        query: max(
            abs(row[measure] - 1)
            for (asked, held, n), row in lengths.items()
            if (asked, held) == (query, "gamma_2 gamma_4") and n >= first
            for measure in ("beta_2", "alpha_3", "loss")
        )
        for query, first in (("last", 256), ("uniform", 64))
    }
    assert f"within {100 * both['last']:.1f} % from N = 256 on (query last)" in TOLD
    assert f"and {100 * both['uniform']:.1f} % from 64 on (uniform)" in TOLD


def test_what_is_told_of_short_fits_and_thresholds_is_in_the_tables():
    folder = ROOT / "figures" / "asymptotics"
    fits = {(r["model"], r["query"], r["measure"], r["threshold"]): r for r in read_table(folder / "fits.csv")}
    alpha = fits["subspace", "last", "alpha_3", 0.5]
    claimed = f"{alpha['p']:.3f} [{alpha['low']:.3f}, {alpha['high']:.3f}]"
    assert f"any of the {len(fits)} curves: p = {claimed} for `alpha_3`" in TOLD
    assert f"{claimed} for `alpha_3` of nineteen, query last, is {alpha['exponent_at_1e9']:.3f} at 10⁹" in TOLD
    beta = {
        row["threshold"]: f"{row['p']:.3f} at {row['threshold']:g}"
        for row in read_table(ROOT / "figures" / "thresholds" / "exponents.csv")
        if (row["model"], row["query"], row["measure"]) == ("circuit", "last", "beta_2")
    }
    assert f"p = {beta[0.1]} and {beta[0.5]}" in TOLD and f"N = 4..64, {beta[0.1]} and {beta[0.5]} (`beta_2`" in TOLD


def test_what_is_told_of_the_noise_is_in_the_tables():
    ends: dict[int, list[float]] = {}
    for row in read_table(ROOT / "figures" / "off_subspace" / "ends.csv"):
        kind = row["inputs"], row["context_length"], row["embedding_dim"], row["step"]
        if kind == ("orthonormal", 4, 10, 0.25):
            ends.setdefault(row["batch_size"], []).append(row["off_subspace"])
    small, large = (100 * sum(ends[size]) / len(ends[size]) for size in (256, 4096))
    assert f"at t = 4 N² {small:.1f} % of their norm (N = 4, batch 256) and {large:.1f} % (batch 4,096)" in TOLD
    assert f"(N = 4) {small:.1f} % of the weights' norm at batch 256 and {large:.1f} % at 4,096" in TOLD


def test_what_is_told_of_random_starts_is_in_the_tables():
    folder = ROOT / "figures" / "off_subspace"
    limits = [
        row["scale"]
        for row in read_table(folder / "limits.csv")
        if row["embedding_dim"] == 10
        and row["prediction"] == "per_flow_from_projection"
        and row["measure"] != "loss_of_start"
    ]
    assert f"is off by a tenth from {min(limits):.2f} to {max(limits):.2f} on" in TOLD
    assert f"at scales from {min(limits):.2f} to {max(limits):.2f} (D = 10)" in TOLD
    captured = [
        100 * row["captured_of_movement"]
        for row in read_table(folder / "starts.csv")
        if (row["embedding_dim"], row["matrices"], row["scale"]) == (10, "all", 1.0)
    ]
    assert f"{min(captured):.0f} to {max(captured):.0f} % of the movement" in TOLD
    times = read_table(folder / "times.csv")
    small = [
        abs(row["per_flow_from_zero"] - 1) for row in times if row["matrices"] == "all" and 0 < row["scale"] <= 0.1
    ]
    assert f"within {math.ceil(100 * max(small))} % of the flow from zero" in TOLD
    emerged = {row["measure"] for row in times if row["scale"] == 3.0 and row["time"] is not None}
    assert emerged - {"loss_of_start"} == {"beta_2"}  # half of a large start's loss is soon forgotten


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
    ends, largest = {}, {}
    for inputs in ("orthonormal", "isotropic"):
        for query in ("last", "uniform"):
            rows = read_table(ROOT / "figures" / "reduced_vs_full" / f"{inputs}_{query}_curves.csv")
            trained = [sum(row[f"trained_{seed}"] for seed in (0, 1, 2)) / 3 for row in rows]
            off = [mean for row, mean in zip(rows, trained, strict=True) if row["measure"] == "off_subspace"]
            ends[inputs, query] = f"{100 * off[-1]:.1f}"
            away = [
                abs(mean - row["reduced"])
                for row, mean in zip(rows, trained, strict=True)
                if row["measure"] in induction_dynamics.COORDINATES
            ]
            largest[inputs] = max(largest.get(inputs, 0.0), *away)
    assert 0.02 < largest["orthonormal"] < 0.025 and "further than 0.025 (orthonormal)" in TOLD
    assert 0.03 < largest["isotropic"] < 0.04 and "and 0.04 (isotropic) from the flow" in TOLD
    told = "Off the subspace are {} and {} % (orthonormal; last, uniform) and {} and {} % (isotropic)"
    assert told.format(*ends.values()) in TOLD


def test_the_orders_told_are_those_of_the_table():
    rows = read_table(ROOT / "figures" / "convergence_orders" / "slopes.csv")
    weights = [row for row in rows if (row["law"], row["distance"]) == ("batch_size", "weights")]
    told = [f"{row['slope']:.2f} [{row['low']:.2f}, {row['high']:.2f}]".replace("-", "−") for row in weights]
    assert len(told) == 3 and "{}, {}, and {} with isotropic inputs".format(*told) in TOLD


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
