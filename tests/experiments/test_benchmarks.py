"""The benchmarks run, and what is claimed of their committed tables; nothing is timed here."""

import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import __main__ as benchmarks
from experiments.benchmarks import (
    circuit_sweep,
    frame_draws,
    gram_draws,
    kvaerno,
    loss_cost,
    subspace_sweep,
    training_step,
    warm_start,
    workers,
)
from experiments.benchmarks.lsoda import circuit_times, gradient, hessian, loss, plain_circuit_times
from experiments.benchmarks.plain_transformer import plain_loss
from experiments.benchmarks.stopwatch import interleaved
from experiments.recorder import read_table, run_script
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.sweep import sweep
from induction_dynamics.task import Task, sample_sequences
from induction_dynamics.transformer.disentangled import batch_loss, zero_weights

TABLES = Path(benchmarks.__file__).parent / "tables"
TOLD = " ".join((Path(__file__).parents[2] / "README.md").read_text().split())
TOLD_HERE = " ".join((Path(benchmarks.__file__).parent / "README.md").read_text().split())
TIMED = {"seconds", "least", "most", "rounds"}


def column(rows, name, **wanted):
    """A column of the rows that have the wanted values."""
    return [row[name] for row in rows if all(row[key] == value for key, value in wanted.items())]


def only(rows, name, **wanted):
    (value,) = column(rows, name, **wanted)
    return value


@pytest.fixture
def committed():
    return lambda name: read_table(TABLES / f"{name}.csv")


@pytest.fixture
def made(tmp_path):
    """The rows that a benchmark wrote, whose columns are those of the committed table."""

    def read(name):
        assert {file.name for file in tmp_path.iterdir()} == {f"{name}.csv", f"{name}.json"}
        about = json.loads((tmp_path / f"{name}.json").read_text())
        assert about["command"] == f"make benchmarks ONLY={name}" and "output" not in about["config"]
        assert set(about["machine"]) == {"architecture", "cores", "system"}
        rows = read_table(tmp_path / f"{name}.csv")
        assert list(rows[0]) == list(read_table(TABLES / f"{name}.csv")[0])
        for row in rows:
            assert TIMED <= set(row) and 0 < row["least"] <= row["seconds"] <= row["most"]
        return rows

    return read


def test_calls_take_turns():
    turns = []
    calls = {"one": lambda: turns.append(1), "other": lambda: turns.append(2)}
    found = interleaved(calls, 3, warm=False)
    assert turns == [1, 2] * 3 and {name: len(seconds) for name, seconds in found.items()} == {"one": 3, "other": 3}


def test_every_benchmark_has_its_table():
    assert {file.name for file in TABLES.iterdir()} == {
        f"{name}{suffix}" for name in benchmarks.BENCHMARKS for suffix in (".csv", ".json")
    }


def test_a_benchmark_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="only must be one or more of circuit_sweep, .*; got 'other'"):
        benchmarks.main(benchmarks.BenchmarksConfig(tmp_path, only=("gram_draws", "other")))
    assert list(tmp_path.iterdir()) == []


def test_a_script_refuses_in_a_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["script", "--output", str(tmp_path), "--lengths", "3"])
    with pytest.raises(SystemExit) as exit:
        run_script(circuit_sweep.main, circuit_sweep.CircuitSweepConfig, circuit_sweep.__doc__)
    assert exit.value.code == 2
    assert "lengths must be from 4 to" in " ".join(capsys.readouterr().err.replace("│", " ").split())


# The rivals are worthy: they solve the same equations, and their times are right.


@jax.jit
def of_the_package(task_loss, three):
    """Loss of the circuit with its gradient and Hessian by the three."""
    places = jnp.asarray([COORDINATES.index(name) for name in CIRCUIT])

    def value(three):
        return task_loss(jnp.zeros(len(COORDINATES)).at[places].set(three))

    return value(three), jax.grad(value)(three), jax.hessian(value)(three)


@pytest.mark.parametrize("length", [2, 5, 1000])
@pytest.mark.parametrize("theta", [[0.0, 0.0, 0.0], [0.3, 0.8, 0.6], [4.0, 9.0, 1.0]])
def test_the_equations_of_the_rival_are_those_of_the_package(length, theta):
    ours = of_the_package(reduced_loss(Task(length), "circuit"), jnp.asarray(theta))
    theirs = (equation(theta, length) for equation in (loss, gradient, hessian))
    for one, other in zip(theirs, ours, strict=True):
        # differences of numbers of the order of 1
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("times", [circuit_times, plain_circuit_times])
def test_the_times_of_the_rival_are_right(times):
    for row in sweep([Point(Task(length), "circuit") for length in (8, 4096)]):
        assert times(row.context_length, 1e-9)[row.measure] == pytest.approx(row.time, rel=1e-7)


@pytest.mark.parametrize("solver", ["LSODA", "Radau"])
def test_rivals_of_the_subspace_are_right_and_can_be_given_up(solver):
    rows = sweep([Point(Task(6), "subspace")])
    times = subspace_sweep.rival_times(Task(6), solver, 1e-8)
    for row in rows:
        assert times[row.measure] == pytest.approx(row.time, rel=1e-6)
    assert all(map(math.isnan, subspace_sweep.rival_times(Task(6), solver, 1e-8, patience=0.0).values()))


@pytest.mark.parametrize("task", [Task(1, 4), Task(3, 8, "isotropic", "uniform", 40.0)], ids=str)
def test_the_plain_transformer_has_the_same_loss(task, key):
    sequences = sample_sequences(task, key, 3, jnp.float64)
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), zero_weights(task.embedding_dim))
    both = (jax.jit(jax.value_and_grad(function))(weights, sequences) for function in (plain_loss, batch_loss))
    for theirs, ours in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12 * np.max(np.abs(ours)))


@pytest.mark.slow
def test_kvaerno_is_right(capsys):
    answer = kvaerno.main(kvaerno.KvaernoConfig(6, tolerance=1e-7))
    assert json.loads(capsys.readouterr().out) == answer
    for row in sweep([Point(Task(6), "subspace")]):
        assert answer["times"][row.measure] == pytest.approx(row.time, rel=1e-6)


# The scripts run.


def test_circuit_sweep_runs(tmp_path, made):
    config = circuit_sweep.CircuitSweepConfig(
        tmp_path, lengths=5, longest=50, rival_lengths=2, rival_longest=50, rounds=1, commands=1
    )
    circuit_sweep.main(config)
    rows = made("circuit_sweep")
    assert column(rows, "what") == ["sweep", "solve_flows", "LSODA", "solve_ivp", "command"]
    assert column(rows, "lengths") == [5, 5, 2, 2, 5]
    assert only(rows, "over_sweep", what="sweep") == 1
    assert all(row["largest_error"] < 1e-6 for row in rows)


@pytest.mark.parametrize("count, last", [(4, 7), (10, 50), (500, 10**9)])
def test_lengths_are_distinct(count, last):
    lengths = circuit_sweep.distinct_lengths(4, last, count)
    assert len(set(lengths)) == count and lengths == sorted(lengths) and (lengths[0], lengths[-1]) == (4, last)


def test_loss_cost_runs(tmp_path, made):
    config = loss_cost.LossCostConfig(
        tmp_path, queries=("last",), linear=(600,), logarithmic=(600,), hessian=(), compared=600, starts=2, rounds=1
    )
    loss_cost.main(config)
    rows = made("loss_cost")
    assert column(rows, "form") == ["linear", "logarithmic"] and column(rows, "places") == [600, 512]
    assert all(row["transcendentals"] >= row["places"] for row in rows)
    assert rows[0]["error"] is None and rows[1]["error"] < 1e-11


@pytest.mark.slow
def test_workers_runs(tmp_path, made):
    config = workers.WorkersConfig(tmp_path, context_lengths=(2,), points=3, batch_size=8, steps=8, rounds=1)
    workers.main(config)
    rows = made("workers")
    assert column(rows, "workers") == [1, 2] and column(rows, "points") == [3, 3]
    assert rows[0]["gain"] == 1 and rows[1]["gain"] == pytest.approx(rows[0]["seconds"] / rows[1]["seconds"], rel=1e-2)


def test_subspace_sweep_runs(tmp_path, made):
    config = subspace_sweep.SubspaceSweepConfig(
        tmp_path, queries=("last",), lengths=0, single=(6,), rival=(6,), kvaerno=(), rounds=1
    )
    subspace_sweep.main(config)
    rows = made("subspace_sweep")
    assert column(rows, "what") == ["sweep", "LSODA", "Radau"]
    assert all(row["error"] <= 1e-7 for row in rows)


def test_warm_start_runs(tmp_path, made):
    config = warm_start.WarmStartConfig(
        tmp_path, context_length=4, models=("circuit",), queries=("last",), first=1, second=1
    )
    warm_start.main(config)
    assert column(made("warm_start"), "start") == ["first", "second"]


def test_training_step_runs(tmp_path, made):
    config = training_step.TrainingStepConfig(tmp_path, sizes=((2, 6, 8),), product=64, rounds=2)
    training_step.main(config)
    rows = made("training_step")
    assert column(rows, "what") == ["product", "step", "plain", "sampling"]
    assert only(rows, "operations", what="step") == training_step.operations(2, 6, 8)
    assert only(rows, "fraction", what="product") == only(rows, "over_step", what="step") == 1
    assert only(rows, "fraction", what="sampling") is None


def test_operations_of_a_step():
    # N = 1, D = 2 by hand: K = 2 keys of E = 4 numbers, 3 scores, weights 4 x 4, 8 x 8 and 2 x 16
    forward = 2 * 2 * 16 + 2 * 3 * 4 + 2 * 64 + 2 * 32 + 5 * 2 * 2 * 4 + 2 * 2 * 1
    back = 2 * 2 * 16 + 2 * 3 * 4 + 4 * 64 + 4 * 32 + 5 * 2 * 2 * 4 + 2 * 2 * 1
    assert training_step.operations(1, 2, 3) == 3 * (forward + back) + 2 * (16 + 64 + 32)


def test_gram_draws_runs(tmp_path, made):
    config = gram_draws.GramDrawsConfig(
        tmp_path, context_lengths=(2,), samples=70, widths=(8, 1_000), vector_widths=(8,), rounds=1, vector_rounds=1
    )
    gram_draws.main(config)
    rows = made("gram_draws")
    assert column(rows, "embedding_dim") == [8, 1_000, 8] and column(rows, "how") == ["law", "law", "vectors"]


def test_explicit_vectors_give_as_many_gram_matrices_as_asked_for(key):
    drawn = gram_draws.explicit_gram_matrices(Task(2, 8, "isotropic"), key, 70)
    assert drawn.tokens.shape == (70, 4, 4) and drawn.rotated.shape == (70, 5, 5)
    assert len(np.unique(np.asarray(drawn.tokens)[:, 0, 1])) == 70


# What the README says is in the committed tables: a bound that holds, and is not far from what was measured.


def told(sentence, text=TOLD):
    """The numbers that stand in the README in the places of `#`."""
    (found,) = re.findall(re.escape(sentence).replace(r"\#", r"([0-9.]+)"), text)
    return [float(number) for number in ([found] if isinstance(found, str) else found)]


def assert_below(value, bound):
    assert value < bound < 3 * value


def assert_above(value, bound):
    assert bound < value < 3 * bound


def test_claims_of_the_circuit(committed):
    rows = committed("circuit_sweep")
    assert only(rows, "lengths", what="sweep") == 10_000 and only(rows, "longest", what="sweep") == 10**9
    warm, cold = told(
        "each solved on its own, take less than # s, "
        "and the whole `sweep` from an empty cache to its figure less than # s"
    )
    assert_below(only(rows, "seconds", what="sweep"), warm)
    assert_below(only(rows, "seconds", what="command"), cold)
    tuned, usual = told(
        "takes more than # times as long for each length; as it is usually written, with `solve_ivp`, more than # times"
    )
    assert_above(only(rows, "over_sweep", what="LSODA"), tuned)
    assert_above(only(rows, "over_sweep", what="solve_ivp"), usual)
    ours = only(rows, "largest_error", what="sweep")
    assert ours < 1e-7
    # no rival is asked for more than it needs
    assert ours / 4 < only(rows, "largest_error", what="LSODA") <= ours
    assert only(rows, "largest_error", what="solve_ivp") > ours / 4


def test_claims_of_the_loss(committed):
    rows = committed("loss_cost")
    (milliseconds, over) = told(
        "takes less than # ms at N = 10⁹ (query uniform), and never more than # times what it takes at N = 10³"
    )
    gradient = {"form": "logarithmic", "what": "gradient"}
    assert_below(1e3 * only(rows, "seconds", query="uniform", context_length=10**9, **gradient), milliseconds)
    assert max(column(rows, "over_first", **gradient)) <= over
    assert min(column(rows, "context_length", **gradient)) == 10**3
    assert max(column(rows, "over_first", form="logarithmic")) <= 4
    for query in ("last", "uniform"):
        half, whole = (only(rows, "seconds", query=query, form="linear", context_length=n) for n in (400_000, 800_000))
        assert whole / half <= 2.3
    errors = [row["error"] for row in rows if row["error"] is not None]
    assert errors and max(errors) < 1e-10


def test_claims_of_the_subspace(committed):
    rows = committed("subspace_sweep")
    bounds = told("takes less than # s (query last) and # s (query uniform), from an empty cache")
    for query, bound in zip(("last", "uniform"), bounds, strict=True):
        assert_below(only(rows, "seconds", what="command", query=query), bound)
    assert column(rows, "points", what="command") == [60] * len(column(rows, "points", what="command"))
    lsoda, stock = told("takes more than # times as long, and diffrax's Kvaerno5 more than # times")
    at = {"context_length": 64, "start": "warm"}
    assert_above(min(column(rows, "over_sweep", what="LSODA", **at)), lsoda)
    assert_above(min(column(rows, "over_sweep", what="Kvaerno5", **at)), stock)
    (plateau,) = told("is right to 1e-8 at N = 10⁶ and to #e-5 at N = 10⁹")
    for row in rows:
        if row["what"] in ("sweep", "LSODA", "Radau"):
            # gamma_3 reaches 0.5 on its plateau
            loose = (row["query"], row["context_length"]) == ("uniform", 10**9)
            assert row["error"] <= (plateau * 1e-5 if loose else 1e-7)


def test_claims_of_starting(committed):
    rows = committed("warm_start")
    (seconds,) = told("answers in less than # s the second time, imports included")
    assert_below(max(column(rows, "seconds", start="second")), seconds)
    for row in rows:
        assert row["share_of_imports"] <= 1


def test_claims_of_a_training_step(committed):
    rows = committed("training_step")
    sizes = [(row["context_length"], row["embedding_dim"], row["batch_size"]) for row in rows if row["what"] == "step"]
    assert sizes == list(training_step.TrainingStepConfig.sizes)
    bounds = told("more than #, # and # of the rate of a large matrix product", TOLD_HERE)
    assert told("runs at more than #, # and # of the machine's rate of float32 matrix products") == bounds
    for (pairs, dim, batch), fraction, bound in zip(sizes, column(rows, "fraction", what="step"), bounds, strict=True):
        assert_above(fraction, bound)
        needed = {training_step.operations(pairs, dim, batch)}
        assert set(column(rows, "operations", what="step", embedding_dim=dim)) == needed
    (over,) = told("The plain one takes more than # times as long", TOLD_HERE)
    assert_above(min(column(rows, "over_step", what="plain")), over)


def test_claims_of_several_processes(committed):
    rows = committed("workers")
    (gain,) = told("by two processes of one thread is more than # times as fast as by one")
    assert_above(min(column(rows, "gain", workers=2)), gain)
    assert set(column(rows, "threads")) == {1} and min(column(rows, "cores")) >= 2
    assert column(rows, "gain", workers=1) == [1.0] * len(column(rows, "gain", workers=1))


def test_claims_of_the_draws(committed):
    rows = committed("gram_draws")
    (over,) = told("takes at most # times as long at D = 1,000,000 as at D = 64")
    assert max(column(rows, "over_narrowest", how="law", embedding_dim=1_000_000)) <= over
    assert set(column(rows, "samples")) == {2048}
    (vectors,) = told("explicit vectors it takes more than # times as long already at D = 4,096")
    assert_above(min(column(rows, "over_narrowest", how="vectors", embedding_dim=4_096)), vectors)


def test_frame_draws_runs(tmp_path, made):
    config = frame_draws.FrameDrawsConfig(
        tmp_path, sizes=((1, 4, 6), (2, 6, 5)), shared=(1, 3), batches=64, noisy=1, rounds=1
    )
    frame_draws.main(config)
    rows = made("frame_draws")
    assert column(rows, "how") == ["frames", "frames", "qr", "step"] * 2
    assert column(rows, "over_step", how="step") == [1, 1]
    assert column(rows, "noise_zero", how="frames", shared=1) == [1, None]
    found = only(rows, "noise_anywhere", how="frames", shared=3, context_length=1)
    assert abs(found - 1) < 0.5


def test_sharing_frames_is_cheap_and_adds_little_noise(committed):
    rows = committed("frame_draws")
    large = [row for row in rows if row["context_length"] >= 16 and row["how"] == "frames" and row["shared"] == 16]
    assert large and max(row["over_step"] for row in large) < 0.2
    assert "with 16 sequences to a frame it is less than a fifth of a step" in TOLD
    for name in ("zero", "halfway", "anywhere"):
        assert only(rows, f"noise_{name}", context_length=8, how="frames", shared=16) < 1.05
