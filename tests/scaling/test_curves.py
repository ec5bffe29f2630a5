"""Curves in rows of emergence times: what tells them apart, what is pooled, and the laws found in them."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest

from induction_dynamics.cli.document import fit_rows
from induction_dynamics.dynamics.emergence import Emergence
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.curves import LABELS, SERIES, fit_curves, group, is_usual, phrase, select, value_of
from induction_dynamics.scaling.laws import fit_laws
from induction_dynamics.scaling.points import Point, Row
from induction_dynamics.task import Task
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.starts import Start
from tests.scaling.known_laws import LAWS, LENGTHS, entry, point, rows_of, runs

ONE = ["loss"]


def only(rows, *measures):
    return [row for row in rows if row["measure"] in (measures or ONE)]


def labels(curves, name):
    return [curve.labels[name] for curve in curves]


def test_seeds_are_pooled_and_nothing_else_is():
    curves = group(rows_of(runs(seeds=3)))
    assert [tuple(curve.labels) for curve in curves] == [SERIES] * 3
    assert labels(curves, "measure") == ["alpha_3", "gamma_3", "loss"]
    for curve in curves:
        assert sorted(curve.context_lengths) == sorted(3 * LENGTHS)
        assert len(set(curve.times)) == 21 and curve.pooled == {} and not curve.noise_free


def test_the_laws_behind_noise_over_seeds_are_found():
    fits, words, notes = fit_curves(group(rows_of(runs(seeds=4))))
    found = {(fit["measure"], fit["law"]): fit for fit in fits}
    assert len(fits) == 9 and notes == []
    assert [key for key, fit in found.items() if fit["preferred"]] == [
        ("alpha_3", "quadratic_log"),
        ("gamma_3", "power"),
    ]
    for key, name, truth, close in (
        (("gamma_3", "power"), "p", 1.5, 0.03),
        (("gamma_3", "power"), "c", 3.0, 0.2),
        (("alpha_3", "quadratic_log"), "a", 0.5, 0.04),
        (("alpha_3", "quadratic_log"), "b", 0.3, 0.1),
        (("loss", "power"), "p", 2.0, 0.03),
        (("loss", "quadratic"), "c", 2.0, 0.1),
    ):
        interval = found[key]["parameters"][name]
        assert interval["low"] < truth < interval["high"], (key, name)
        assert abs(interval["value"] - truth) < close, (key, name)
    assert [("do not decide" in line, "preferred" in line) for line in words] == [
        (False, True),
        (False, True),
        (True, False),
    ]
    assert all(f"over {4 * len(LENGTHS)} points" in line for line in words)


def test_without_noise_the_laws_are_found_exactly():
    curves = group(rows_of(runs(model="circuit")))
    fits, words, _ = fit_curves(curves)
    assert all(curve.noise_free for curve in curves)
    assert "a ranking by misfit" in words[0]
    exact = {(fit["measure"], fit["law"]): fit["parameters"] for fit in fits}
    assert exact["gamma_3", "power"]["p"]["value"] == pytest.approx(1.5, abs=1e-9)
    assert exact["alpha_3", "quadratic_log"]["a"]["value"] == pytest.approx(0.5, abs=1e-6)
    assert exact["loss", "quadratic"]["c"]["value"] == pytest.approx(2.0, abs=1e-6)


def test_random_inputs_are_not_without_noise():
    sampled = runs(lengths=(4, 8, 16), model="subspace", inputs="isotropic", samples=64, seed=1)
    assert not any(curve.noise_free for curve in group(rows_of(sampled)))


def test_the_confidence_is_that_of_fit_laws():
    rows = only(rows_of(runs()))
    fits, _, _ = fit_curves(group(rows), confidence=0.5)
    expected = fit_laws([row["context_length"] for row in rows], [row["time"] for row in rows], confidence=0.5)
    assert [fit["parameters"] for fit in fits] == [
        {name: dataclasses.asdict(interval) for name, interval in fit.parameters.items()} for fit in expected
    ]
    assert {fit["confidence"] for fit in fits} == {0.5}
    with pytest.raises(ArgumentError, match="confidence must be between 0 and 1"):
        fit_curves(group(rows), confidence=1.0)


ADAM = {"step": None, "steps": 5000, "optimizer": Optimizer("adam", learning_rate=0.01)}
FASTER = ADAM | {"optimizer": Optimizer("adam", learning_rate=0.1)}
HOLDS = (Hold("alpha_3", 0.0), Hold("beta_2", None, 40.0))
SAMPLED = {"model": "subspace", "inputs": "isotropic", "seed": 0}
DIFFERENT = {
    "rotation": ({"rotation": 90.0}, {"rotation": 60.0}),
    "copies": ({"copies": 1}, {"copies": 2}),
    "batch_size": ({"batch_size": 16}, {"batch_size": 64}),
    "step": ({"step": 0.25}, {"step": 0.5}),
    "samples": (SAMPLED | {"samples": 64}, SAMPLED | {"samples": 128}),
    "horizon": ({"horizon": 12.0}, {"horizon": 20.0}),
    "accuracy": ({"model": "circuit", "accuracy": 1e-7}, {"model": "circuit", "accuracy": 1e-4}),
    "study": ({}, {}),
    "learning_rate": (ADAM, FASTER),
    "steps": (ADAM, ADAM | {"steps": 6000}),
    "sequences": ({}, {"sequences": 128}),
    "start": ({"start": Start(0.1)}, {}),
    "hold": ({}, {"hold": HOLDS}),
    "training": ({}, {"dtype": "float64"}),
}
LABELLED = {
    "learning_rate": [0.01, 0.1],
    "sequences": ["none", 128],
    "start": ["scale=0.1", "none"],
    "hold": ["none", "alpha_3=0.0 beta_2@40.0"],
    "training": ["none", "dtype=float64"],
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_between_rows_that_are_alike_otherwise_tells_curves_apart(name):
    rows = []
    for place, options in enumerate(DIFFERENT[name]):
        more = {"study": "ab"[place]} if name == "study" else {}
        rows += only(rows_of(runs(factor=1.0 + place, **options), **more))
    curves = group(rows)
    assert len(curves) == 2 and set(curves[0].labels) == {*SERIES, name}
    expected = LABELLED.get(name) or [
        "ab"[place] if name == "study" else o[name] for place, o in enumerate(DIFFERENT[name])
    ]
    assert labels(curves, name) == expected
    first, second = (np.mean(np.log(np.array(curve.times, float))) for curve in curves)
    assert second - first > 0.5
    fits, words, _ = fit_curves(curves)
    assert labels(curves, name) == list(dict.fromkeys(fit[name] for fit in fits))
    assert all(phrase(name, value) in line for value, line in zip(labels(curves, name), words, strict=True))
    pooled = group(rows, SERIES)
    assert len(pooled) == 1 and set(pooled[0].pooled) == {name}


def test_what_differs_between_models_alone_is_no_label():
    rows = rows_of(runs(batch_size=16)) + rows_of(runs(model="circuit"))
    assert {tuple(curve.labels) for curve in group(rows)} == {SERIES}


def test_a_model_without_a_batch_size_is_one_curve_among_those_that_have_several():
    rows = only(rows_of([*runs(batch_size=16), *runs(batch_size=64), *runs(model="circuit")]))
    curves = group(rows)
    assert [(curve.labels["model"], curve.labels["batch_size"]) for curve in curves] == [
        ("full", 16),
        ("full", 64),
        ("circuit", None),
    ]
    _, words, _ = fit_curves(curves)
    assert [line.partition(":")[0] for line in words] == [
        "batch size 16, full, loss at 0.5",
        "batch size 64, full, loss at 0.5",
        "circuit, loss at 0.5",
    ]


def test_the_width_is_a_label_only_where_it_does_not_follow_n():
    own, fixed = only(rows_of(runs(1))), only(rows_of(runs(1, embedding_dim=66)))
    assert "embedding_dim" not in group(own)[0].labels
    curves = group(own + fixed)
    assert labels(curves, "embedding_dim") == ["2N + 2", 66]
    # N = 32 has D = 66 either way: it is on both
    assert [sorted(curve.context_lengths) for curve in curves] == [sorted([*LENGTHS, 32]), sorted([*LENGTHS, 32])]
    (alone,) = group(fixed)
    assert alone.labels.get("embedding_dim") is None and sorted(alone.context_lengths) == sorted(LENGTHS)
    (asked,) = group(fixed, ["embedding_dim"])
    assert asked.labels == {"embedding_dim": 66}


def test_the_width_of_isotropic_inputs_follows_n_otherwise():
    options = {"inputs": "isotropic", "seed": 0, "samples": 64, "lengths": (4, 8, 16)}
    rows = only(rows_of(runs(model="subspace", **options)))
    assert labels(group(rows, ["embedding_dim"]), "embedding_dim") == ["4N"]
    wider = only(rows_of(runs(model="subspace", embedding_dim=40, **options)))
    assert labels(group(rows + wider), "embedding_dim") == ["4N", 40]


def test_chosen_columns_pool_all_others_and_a_note_says_which():
    rows = rows_of([*runs(batch_size=16), *runs(batch_size=64, query="uniform"), *runs(model="circuit")])
    curves = group(rows, ["measure"])
    assert [curve.labels for curve in curves] == [{"measure": "alpha_3"}, {"measure": "gamma_3"}, {"measure": "loss"}]
    assert all(len(curve.rows) == 49 for curve in curves)
    fits, words, (note,) = fit_curves(curves)
    assert {"measure", "law"} <= set(fits[0]) and not {"model", "query", "seed"} & set(fits[0])
    assert words[0].startswith("alpha_3: p = ")
    assert "batch_size (16, 64, none)" in note and "model (full, circuit)" in note and "query (last, uniform)" in note
    assert "seed" not in note
    assert fit_curves(group(rows))[2] == []


def test_flow_times_and_steps_are_never_on_one_curve():
    flows, steps = rows_of(runs(1)), rows_of(runs(1, factor=40.0, **ADAM))
    curves = group(only(flows + steps))
    # all that differs tells them apart: a training without flow time has neither step nor horizon
    assert labels(curves, "optimizer") == ["gd", "adam"] and labels(curves, "steps") == [None, 5000]
    assert [{row["time_unit"] for row in curve.rows} for curve in curves] == [{"flow"}, {"steps"}]
    fits, words, notes = fit_curves(curves)
    assert len(fits) == 2 * len(LAWS) and notes == []
    assert words[0].startswith("step 0.25, horizon 12 N^2, optimizer gd, full, loss at 0.5: ")
    assert words[1].startswith("optimizer adam, learning rate 0.01, 5000 steps, full, loss at 0.5: ")
    for by in (["measure"], SERIES):
        words = re.escape(
            f"by must be columns that tell flow times from steps, such as optimizer; got '{' '.join(by)}'"
        )
        with pytest.raises(ArgumentError, match=words):
            group(flows + steps, by)
    for by in (["measure", "optimizer"], ["measure", "steps"]):
        assert len(group(flows + steps, by)) == 2 * 3
    # models tell them apart as well, and steps alone are like anything else
    assert len(group(rows_of(runs(model="circuit")) + steps, ["measure", "model"])) == 2 * 3
    assert len(group(steps, ["measure"])) == 3


def test_what_is_not_held_is_no_curve_of_what_is():
    rows = only(rows_of([*runs(1), *runs(1, hold=HOLDS), *runs(model="circuit", hold=HOLDS)]))
    curves = group(rows)
    assert [(curve.labels["model"], curve.labels["hold"]) for curve in curves] == [
        ("full", "none"),
        ("full", "alpha_3=0.0 beta_2@40.0"),
        ("circuit", "alpha_3=0.0 beta_2@40.0"),
    ]
    assert fit_curves(curves)[1][0].startswith("nothing held, full, loss at 0.5")
    assert {row["model"] for row in select(rows, {"hold": [None]})} == {"full"}
    assert len(select(rows, {"hold": ["alpha_3=0.0 beta_2@40.0"]})) == 2 * len(LENGTHS)
    (pooled,) = group(rows, ["measure"])
    assert pooled.pooled["hold"] == ["none", "alpha_3=0.0 beta_2@40.0"] and "sequences" not in pooled.pooled


def test_what_goes_without_saying():
    (circuit,) = only(rows_of(runs(lengths=(4,), model="circuit")))
    (full,) = only(rows_of(runs(1, lengths=(4,))))
    new = LABELS[LABELS.index("optimizer") :]
    assert all(is_usual(name, value_of(row, name)) for name in new for row in (circuit, full))
    assert not is_usual("optimizer", "adam") and not is_usual("hold", "beta_2=0.0") and not is_usual("study", "none")


def test_seeds_can_be_told_apart():
    curves = group(rows_of(runs(seeds=3)), ["measure", "seed"])
    assert labels(curves, "seed") == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(sorted(curve.context_lengths) == list(LENGTHS) for curve in curves)


def test_studies_stand_side_by_side():
    rows = rows_of(runs(), study="b") + rows_of(runs(), study="a")
    assert [(curve.labels["measure"], curve.labels["study"]) for curve in group(rows)] == [
        (measure, study) for measure in ("alpha_3", "gamma_3", "loss") for study in ("b", "a")
    ]


def test_points_without_a_time_are_counted_and_said():
    entries = runs(seeds=2)
    late = [point(n, seed=seed) for n in (48, 64) for seed in (0, 1)]
    entries += [entry(late[0], without=ONE), entry(late[1], without=ONE)]
    entries += [entry(late[2], without=ONE, outcome="solver_failed"), entry(late[3])]
    fits, (words,), _ = fit_curves(group(only(rows_of(entries))))
    assert {(fit["points"], fit["censored"]) for fit in fits} == {(15, 3)}
    assert "Censored and not fitted: 3 of 18 points. Failed: 1 of 18 runs." in words


def test_too_few_points_are_a_note_and_no_error():
    entries = [*runs(lengths=(4, 8)), *(entry(point(n), without=ONE, outcome="not_computed") for n in (16, 32))]
    fits, words, notes = fit_curves(group(only(rows_of(entries))))
    assert fits == words == []
    (note,) = notes
    assert note == (
        "full, loss at 0.5: no law fitted, which takes at least 3 distinct values among the points with a time. "
        "Without a time: 2 of 8 points. Failed: 2 of 8 runs."
    )


def test_rows_are_selected():
    rows = rows_of([*runs(1), *runs(1, step=1 / 3), *runs(1, embedding_dim=66), *runs(model="circuit")])
    assert select(rows, {}) == rows
    assert {row["measure"] for row in select(rows, {"measure": ["loss", "gamma_3"]})} == {"loss", "gamma_3"}
    assert {row["step"] for row in select(rows, {"step": [0.333333]})} == {1 / 3}
    assert {row["model"] for row in select(rows, {"step": [None]})} == {"circuit"}
    assert {row["embedding_dim"] for row in select(rows, {"embedding_dim": [66]})} == {66}
    assert {
        row["embedding_dim"] - 2 * row["context_length"] for row in select(rows, {"embedding_dim": ["2N + 2"]})
    } == {2}
    both = select(rows, {"context_length": [4, 8], "model": ["full"], "measure": ["loss"]})
    assert len(both) == 2 * 3 and select(rows, {"model": ["subspace"]}) == []


def test_unknown_columns_are_refused():
    with pytest.raises(ArgumentError, match="by must be columns out of study, model, .*; got 'context_length'"):
        group(rows_of(runs(1)), ["model", "context_length"])


def test_nothing_is_no_curve():
    assert group([]) == [] and fit_curves([]) == ([], [], [])


def test_every_label_has_words():
    assert all("7" in phrase(name, 7) for name in LABELS)


def test_fit_rows_takes_rows_and_mappings():
    rows = rows_of([*runs(), *runs(model="circuit")])
    found = fit_rows([Row(**row) for row in rows])
    assert found == fit_rows(rows) == fit_curves(group(rows))
    assert all(tuple(fit)[:5] == SERIES for fit in found[0]) and len(found[0]) == 2 * len(LAWS) * 3


def test_no_jax_is_needed():
    code = "import sys, induction_dynamics.scaling.curves; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_many_curves_with_one_reason_make_one_note():
    rows = [row for length in (4, 8) for row in Row.of(Point(Task(length), "circuit"), CROSSINGS)]
    fits, words, notes = fit_curves(group(list(map(vars, rows))))
    assert (fits, words, len(notes)) == ([], [], 1)
    assert notes[0].startswith("4 curves (the first: circuit, alpha_3 at 0.1): no law fitted, which takes at least 3 ")
    fewer = [vars(row) for row in rows if row.threshold < 0.4]
    assert len(fit_curves(group(fewer))[2]) == 3


CROSSINGS = [Emergence("alpha_3", level, 1.0, "emerged", True) for level in (0.1, 0.2, 0.3, 0.4)]
