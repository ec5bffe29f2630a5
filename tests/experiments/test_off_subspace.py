"""The claims of figures/off_subspace, and that the experiment makes its numbers."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import off_subspace, random_starts
from experiments.off_subspace import OffSubspaceConfig, fraction_after_one_step, main
from experiments.random_starts import scale_of_limit
from experiments.recorder import read_table
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import PLACES, project
from induction_dynamics.task import Task, sample_sequences
from induction_dynamics.transformer.disentangled import batch_loss, zero_weights

TASKS = (("orthonormal", 4, 10), ("isotropic", 4, 16), ("orthonormal", 6, 14))
UNIFORM, LAST, WIDE = STARTS = ((4, 10, "uniform"), (4, 10, "last"), (4, 40, "uniform"))
FOUR = ("gamma_3", "beta_2", "alpha_3", "loss")


def task_of(row):
    return row["inputs"], row["context_length"], row["embedding_dim"]


def start_of(row):
    return row["context_length"], row["embedding_dim"], row["query"]


@pytest.fixture(scope="module")
def fits(table):
    return {(task_of(row), row["fitted"]): row for row in table("off_subspace", "fits")}


@pytest.fixture(scope="module")
def ends(table):
    return table("off_subspace", "ends")


@pytest.fixture(scope="module")
def starts(table):
    return table("off_subspace", "starts")


@pytest.fixture(scope="module")
def times(table):
    """Ratios to the flow from zero and to that from the projection, by start, matrices, scale and measure."""
    found: dict[tuple[object, ...], list[tuple[float | None, float | None]]] = {}
    for row in table("off_subspace", "times"):
        key = (start_of(row), row["matrices"], row["scale"], row["measure"])
        found.setdefault(key, []).append((row["per_flow_from_zero"], row["per_flow_from_projection"]))
    return found


def of_scale(starts, start, scale, name, matrices="all"):
    """One column of the runs of a start at one scale, over the seeds."""
    found = [row[name] for row in starts if (start_of(row), row["matrices"], row["scale"]) == (start, matrices, scale)]
    assert len(found) == 3
    return found


def delays(times, start, scale, measure, matrices="all", prediction=0):
    """How much later than predicted a measure emerges, relatively, for each seed."""
    return np.array([pair[prediction] for pair in times[start, matrices, scale, measure]], float) - 1


def test_the_fraction_falls_as_the_root_of_the_batch_once_it_is_small(fits):
    """Over all batches a little faster, and the intervals say so; between the two largest by the root."""
    for task, expected in zip(TASKS, (-0.53, -0.54, -0.57), strict=True):
        exponent = fits[task, "batch_exponent"]
        assert exponent["value"] == pytest.approx(expected, abs=0.005) and exponent["high"] < -0.5
    largest = [fits[task, "batch_exponent_of_the_largest_two"] for task in TASKS]
    assert [round(fit["value"], 2) for fit in largest] == [-0.50, -0.51, -0.52]
    assert all(fit["low"] < -0.5 < fit["high"] for fit in largest[:2])
    # N = 6 has no batch beyond 256
    assert largest[2]["high"] == pytest.approx(-0.502, abs=1e-3)


def test_nothing_is_left_in_an_infinite_batch(fits):
    for task in TASKS:
        # with a term in 1 / B alone, which small batches do not follow, the floor of f^2 is below 0
        assert fits[task, "floor"]["high"] < 0
        floor, second = (fits[task, f"{name}_of_three"] for name in ("floor", "second"))
        assert floor["low"] < 0 < floor["high"] and second["low"] > 0
    highest = [math.sqrt(fits[task, "floor_of_three"]["high"]) for task in TASKS]
    assert np.all(np.array(highest) < [0.0028, 0.016, 0.012])


def test_it_grows_a_little_faster_than_the_root_of_the_step(fits, ends):
    exponent, smallest = (fits[TASKS[0], f"step_exponent{name}"] for name in ("", "_of_the_smallest_two"))
    assert exponent["value"] == pytest.approx(0.56, abs=0.005) and exponent["low"] > 0.5
    assert smallest["low"] < 0.5 < smallest["high"]

    def mean(batch, step):
        here = [row for row in ends if task_of(row) == TASKS[0] and (row["batch_size"], row["step"]) == (batch, step)]
        return np.mean([row["off_subspace"] for row in here])

    # step / B alone matters while steps are small
    assert mean(256, 0.0625) == pytest.approx(mean(1024, 0.25), rel=0.03)
    assert mean(256, 1.0) == pytest.approx(1.11 * mean(64, 0.25), rel=0.02)


def test_after_one_step_it_is_what_is_expected(ends):
    compared = 0
    for key in {(task_of(row), row["batch_size"]) for row in ends if row["inputs"] == "orthonormal"}:
        here = [row for row in ends if (task_of(row), row["batch_size"]) == key]
        expected = here[0]["expected_after_one_step"]
        # the norm on the subspace scatters by its own noise, which four seeds do not average out
        assert np.mean([row["after_one_step"] for row in here]) == pytest.approx(expected, rel=0.04), key
        compared += 1
    assert compared == 8


def test_it_is_nearly_everything_at_first_and_falls(table):
    for task in TASKS:
        rows = [row for row in table("off_subspace", "curves") if task_of(row) == task and row["batch_size"] == 256]
        rows = [row for row in rows if row["step"] == 0.25]
        assert rows[0]["time"] == 0.25 and rows[0]["off_subspace"] > 0.8
        assert rows[-1]["time"] == 4 * task[1] ** 2 and rows[-1]["off_subspace"] < 0.12
        # a random walk would grow by sqrt(4 N^2 / 4) = N; what is off the subspace grows by at most half of that
        late = [row for row in rows if row["time"] >= 4]
        largest = max(row["norm_off"] for row in late) / late[0]["norm_off"]
        assert late[0]["time"] == 4 and largest < (2.0 if task[0] == "isotropic" else 1.5) <= 0.5 * task[1]
        assert late[-1]["norm_on"] > 7 * late[0]["norm_on"]


def test_a_random_start_costs_what_its_output_does(starts):
    """The loss at the start is 1/2 + s^2 ||x2||^2 / 2, with the squared norm of the residual stream at zero weights."""
    average = [sum(1 / (k - 1) for k in range(m + 1, 9)) / 8 for m in range(1, 9)]
    whole = 2 + 4 / 8 + 2 * sum(weight**2 for weight in average)
    assert whole / 2 == pytest.approx(1.43, abs=0.01)
    for start in STARTS:
        for scale in (0.1, 0.3, 0.5, 1.0):
            found = np.mean(of_scale(starts, start, scale, "initial_loss"))
            # three draws leave some of what is linear in the start, and a tenth of its square
            tolerance = 0.02 * scale + 0.1 * scale**2 * whole / 2
            assert found - 0.5 == pytest.approx(scale**2 * whole / 2, abs=tolerance), (start, scale)


def test_a_small_start_changes_no_time(times):
    for start in STARTS:
        for scale in (0.0, 0.01, 0.03, 0.1):
            for measure in FOUR if (start, "all", scale, "loss") in times else ():
                assert np.max(np.abs(delays(times, start, scale, measure))) < 0.04, (start, scale, measure)


def test_the_projection_of_the_start_explains_the_scatter(times):
    for start in STARTS:
        for measure in ("beta_2", "alpha_3"):
            zero, projection = (np.ptp(delays(times, start, 0.3, measure, prediction=k)) for k in (0, 1))
            assert projection < 0.3 * zero, (start, measure)


def test_what_remains_is_a_delay_as_the_square_of_the_scale(times):
    for start in (UNIFORM, LAST):
        base = np.mean(delays(times, start, 0.0, "alpha_3", prediction=1))
        later = [
            (np.mean(delays(times, start, scale, "alpha_3", prediction=1)) - base) / scale**2
            for scale in (0.3, 0.5, 0.7, 1.0)
        ]
        assert all(0.21 < share < 0.28 for share in later), (start, later)


def test_from_where_on_the_flow_does_not_predict(table):
    limits = {
        (start_of(row), row["measure"]): row
        for row in table("off_subspace", "limits")
        if row["prediction"] == "per_flow_from_projection"
    }
    for start in (UNIFORM, LAST):
        assert all(0.45 < limits[start, measure]["scale"] < 0.68 for measure in FOUR)
    narrow, wide = limits[UNIFORM, "loss"], limits[WIDE, "loss"]
    assert (round(narrow["scale"], 2), round(wide["scale"], 2)) == (0.50, 0.60)
    narrow, wide = limits[UNIFORM, "alpha_3"], limits[WIDE, "alpha_3"]
    assert (round(narrow["scale"], 2), round(wide["scale"], 2)) == (0.59, 1.17)
    # as sqrt(D), 2 at four times the width
    assert wide["low"] / narrow["high"] < 2 < wide["high"] / narrow["low"]


def test_of_W2_the_delay_falls_with_the_width_and_of_W3_it_does_not(times):
    def delay(start, matrices, measure="loss"):
        base = np.mean(delays(times, start, 0.0, measure, prediction=1))
        return np.mean(delays(times, start, 1.0, measure, matrices, prediction=1)) - base

    assert delay(UNIFORM, "W2") == pytest.approx(0.525, abs=0.01) and delay(WIDE, "W2") == pytest.approx(0.16, abs=0.01)
    assert delay(UNIFORM, "W3") == pytest.approx(0.053, abs=0.005)
    assert delay(WIDE, "W3") == pytest.approx(0.046, abs=0.005)
    assert all(-0.06 < delay(start, "W1") < 0 for start in (UNIFORM, WIDE))


def test_up_to_one_the_circuit_emerges(starts):
    for start in STARTS:
        for scale in (0.1, 0.3, 0.5, 1.0):
            assert of_scale(starts, start, scale, "answered") == pytest.approx([1.0] * 3, abs=1e-3)
            assert max(of_scale(starts, start, scale, "final_loss")) < 0.011
            assert min(of_scale(starts, start, scale, "attention_to_the_label")) > 0.47


def test_at_two_it_depends_on_width_and_query(starts, times):
    assert min(of_scale(starts, WIDE, 2.0, "answered")) > 0.999
    assert min(of_scale(starts, UNIFORM, 2.0, "answered")) > 0.93
    assert 7 < 1 + min(delays(times, UNIFORM, 2.0, "gamma_3")) and 1 + max(delays(times, UNIFORM, 2.0, "gamma_3")) < 13
    # right answers without the circuit
    assert min(of_scale(starts, LAST, 2.0, "answered")) > 0.97
    assert max(of_scale(starts, LAST, 2.0, "attention_to_the_label")) < 0.11
    assert [pair[0] for pair in times[LAST, "all", 2.0, "alpha_3"]].count(None) == 2


def test_at_three_nothing_but_beta_2_has_emerged(starts, times):
    for start in (UNIFORM, LAST):
        assert all(
            pair[0] is None for name in ("alpha_3", "gamma_3", "loss") for pair in times[start, "all", 3.0, name]
        )
        assert min(of_scale(starts, start, 3.0, "final_loss")) > 0.37
        assert max(of_scale(starts, start, 3.0, "captured_of_weights")) < 0.06


def test_what_is_captured_of_weights_and_of_movement(starts):
    for start in (UNIFORM, LAST):
        for scale, weights, movement in ((0.1, 0.996, 0.992), (0.3, 0.97, 0.93), (0.5, 0.92, 0.84), (1.0, 0.77, 0.58)):
            assert min(of_scale(starts, start, scale, "captured_of_weights")) > weights
            assert min(of_scale(starts, start, scale, "captured_of_movement")) > movement
        assert max(of_scale(starts, start, 1.0, "captured_of_movement")) < 0.67


def test_the_movement_off_the_subspace_is_of_the_size_of_the_start_and_forgets_W3(starts):
    for start in (UNIFORM, LAST):
        for scale in (0.3, 0.5, 1.0):
            moved = of_scale(starts, start, scale, "off_moved_per_start")
            assert all(0.72 < share < 0.83 for share in moved)
            left = {name: of_scale(starts, start, scale, f"off_end_per_start_{name}") for name in PLACES}
            assert max(left["W3"]) < min(left["W1"]) + 0.06 < max(left["W1"]) + 0.06 < min(left["W2"])
            assert all(0.5 < share < 0.7 for share in left["W2"])


SMALL = {
    "noise": (("orthonormal", 2, 6, (4, 8, 16)),),
    "steps": (0.5, 1.0),
    "steps_batch": 8,
    "noise_seeds": (0, 1),
    "starts": ((2, 6, "uniform", (0.0, 0.5)),),
    "alone": (),
    "seeds": (0, 1),
    "batch_size": 8,
    "horizon": 4.0,
}


@pytest.mark.slow
def test_the_experiment_makes_the_committed_numbers(tmp_path, starts, ends, times):
    noise = (("orthonormal", 4, 10, (16, 64, 256)),)
    main(
        OffSubspaceConfig(
            tmp_path / "figures", tmp_path / "ledger", noise=noise, starts=((*UNIFORM, (0.0, 0.3, 1.0)),), alone=()
        )
    )
    # float32 training on another machine rounds otherwise
    about = {"context_length", "embedding_dim", "inputs", "query", "matrices", "scale", "batch_size", "step", "seed"}
    values = {"off_subspace", "after_one_step", "captured_of_weights", "captured_of_movement", "answered"}
    for name, committed in (("ends", ends), ("starts", starts)):
        for row in read_table(tmp_path / "figures" / f"{name}.csv"):
            (same,) = [other for other in committed if all(other[key] == row[key] for key in about & set(row))]
            for key in values & set(row):
                assert row[key] == pytest.approx(same[key], rel=0.02), (key, row)
    made = read_table(tmp_path / "figures" / "times.csv")
    for row in made:
        if row["measure"] in FOUR:
            pairs = times[start_of(row), "all", row["scale"], row["measure"]]
            assert row["per_flow_from_zero"] == pytest.approx(pairs[row["seed"]][0], rel=0.02)
    assert len(made) == 3 * 3 * 5


def test_the_experiment_runs_and_goes_on(tmp_path, monkeypatch):
    settings = OffSubspaceConfig(tmp_path / "figures", tmp_path / "ledger", **SMALL)
    main(settings)
    tables = {f"{name}.csv" for name in ("curves", "ends", "fits", "starts", "times", "limits")}
    pictures = {"off_subspace.png", "off_subspace.svg"}
    assert {file.name for file in settings.output.iterdir()} == tables | pictures | {"config.json"}
    starts = read_table(settings.output / "starts.csv")
    assert [(row["scale"], row["seed"]) for row in starts] == [(0, 0), (0, 1), (0.5, 0), (0.5, 1)]
    for row in starts:
        # of a start at zero the weights are their own movement
        same = row["captured_of_weights"] == pytest.approx(row["captured_of_movement"])
        assert same == (row["scale"] == 0) and (row["off_end_per_start"] is None) == (row["scale"] == 0)
    for row in read_table(settings.output / "times.csv"):
        if row["scale"] == 0 and row["time"] is not None:
            assert row["per_flow_from_zero"] == pytest.approx(row["per_flow_from_projection"], rel=1e-6)
    # what is in the ledger is not trained again, and gives the same tables
    kept: dict[str, Any] = {}
    monkeypatch.setattr(random_starts, "train_seeds", None)
    monkeypatch.setattr(off_subspace, "record", lambda output, **given: kept.update(given))
    main(settings)
    again = [row["final_loss"] for row in kept["tables"]["starts"]]
    assert again == pytest.approx([row["final_loss"] for row in starts], rel=1e-9)


@pytest.mark.parametrize("query", ["uniform", "last"])
def test_the_expected_fraction_after_one_step_is_that_of_gradients(query):
    """The squares on and off the subspace of gradients at zero, over many batches."""
    task, batch, count = Task(3, query=query), 16, 400

    def squares(key):
        gradient = jax.grad(batch_loss)(zero_weights(task.embedding_dim), sample_sequences(task, key, batch))
        whole = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient))
        return whole, whole * project(gradient).off_subspace.total ** 2

    whole, off = jax.lax.map(squares, jax.random.split(jax.random.key(3), count))
    found = math.sqrt(float(jnp.mean(off)) / float(jnp.mean(whole)))
    # 400 batches leave about 3 % in the mean square of the part on the subspace, of which f is about 1/20 in 1 - f^2
    assert found == pytest.approx(fraction_after_one_step(task, batch), rel=5e-3)


def test_the_scale_of_a_limit():
    assert scale_of_limit([0.0, 0.1, 1.0], [1.0, 1.0, 1.2]) == pytest.approx(10**-0.5)
    assert scale_of_limit([0.0, 0.1, 1.0], [1.0, 0.95, 0.85]) == pytest.approx(10**-0.5)
    assert scale_of_limit([0.0, 0.1, 1.0], [1.0, 1.0, None]) == pytest.approx(10**-0.5)
    assert scale_of_limit([0.0, 0.1, 1.0], [1.0, 1.3, 1.0]) == 0.1
    assert scale_of_limit([0.0, 0.1, 1.0], [1.2, 1.0, 1.0]) == 0.0
    assert scale_of_limit([0.0, 0.1, 1.0], [1.0, 1.09, 0.91]) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"starts": ((4, 10, "last", (0.1, 0.3)),)}, "starts must be of scales that increase from 0 on"),
        ({"starts": ((4, 10, "last", (0.0, 0.3, 0.1)),)}, "starts must be of scales that increase from 0 on"),
        ({"noise": (("orthonormal", 4, 10, (16, 64)),)}, "noise must be at least one, each with three batch sizes"),
        ({"seeds": (0,)}, "seeds must be at least two"),
    ],
)
def test_refused(settings, message):
    with pytest.raises(ArgumentError, match=message):
        OffSubspaceConfig(Path("nowhere"), **settings)


def test_the_expected_fraction_is_of_orthonormal_inputs_alone():
    with pytest.raises(ArgumentError, match="task must be of orthonormal inputs, at 90 degrees"):
        fraction_after_one_step(Task(4, inputs="isotropic"), 16)
