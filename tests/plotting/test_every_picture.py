import inspect
from pathlib import Path
from types import SimpleNamespace

import jax
import matplotlib
import numpy as np
import pytest

from induction_dynamics.heads import KINDS
from induction_dynamics.plotting import style
from induction_dynamics.plotting.asymptotics import plot_asymptotics
from induction_dynamics.plotting.attention import plot_attention
from induction_dynamics.plotting.burstiness import plot_burstiness
from induction_dynamics.plotting.checkpoints import plot_checkpoints
from induction_dynamics.plotting.comparison import plot_comparison
from induction_dynamics.plotting.convergence_orders import plot_convergence_orders
from induction_dynamics.plotting.coordinates import plot_coordinates
from induction_dynamics.plotting.coordinates_at_rest import plot_coordinates_at_rest
from induction_dynamics.plotting.emergence_order import plot_emergence_order
from induction_dynamics.plotting.emergence_times import plot_emergence_times
from induction_dynamics.plotting.local_exponents import plot_local_exponents
from induction_dynamics.plotting.off_subspace import plot_off_subspace
from induction_dynamics.plotting.other_sixteen import plot_other_sixteen
from induction_dynamics.plotting.patterns import plot_patterns
from induction_dynamics.plotting.phase_change import plot_phase_change
from induction_dynamics.plotting.pretrained_heads import plot_pretrained_heads
from induction_dynamics.plotting.retrieval import plot_retrieval
from induction_dynamics.plotting.standard_cause import plot_standard_cause
from induction_dynamics.plotting.standard_emergence import plot_standard_emergence
from induction_dynamics.plotting.standard_retrieval import plot_standard_retrieval
from induction_dynamics.plotting.structures import plot_structures
from induction_dynamics.plotting.thresholds import plot_thresholds
from induction_dynamics.plotting.trained_scaling import plot_trained_scaling
from induction_dynamics.plotting.weights import plot_weights
from induction_dynamics.transformer.disentangled import zero_weights
from induction_dynamics.transformer.standard import Architecture, initial_weights

PICTURES = {
    function.__name__.removeprefix("plot_"): function
    for function in (
        plot_asymptotics,
        plot_attention,
        plot_burstiness,
        plot_checkpoints,
        plot_comparison,
        plot_convergence_orders,
        plot_coordinates,
        plot_coordinates_at_rest,
        plot_emergence_order,
        plot_emergence_times,
        plot_local_exponents,
        plot_off_subspace,
        plot_other_sixteen,
        plot_patterns,
        plot_phase_change,
        plot_retrieval,
        plot_pretrained_heads,
        plot_standard_cause,
        plot_standard_emergence,
        plot_standard_retrieval,
        plot_structures,
        plot_thresholds,
        plot_trained_scaling,
        plot_weights,
    )
}


@pytest.fixture(params=list(PICTURES))
def draw(request, run, compared):
    """A function that draws one of the pictures, with everything in it that it can have."""
    ends = np.geomspace(1, 4, 3)[:, None] * np.linspace(-1, 3, 19)
    uniform = np.tril(np.ones((9, 9)), -1) / np.maximum(np.arange(9), 1)[:, None], np.full(8, 0.125)
    row = {"inputs": "orthonormal", "query": "last", "measure": "beta_2", "threshold": 0.5, "model": "circuit"}
    row |= {"outcome": "emerged", "horizon": 12.0}
    long = [
        row | {"model": model, "query": query, "measure": measure, "context_length": n, "time": n * (1.0 + slow * n)}
        for model in ("circuit", "subspace")
        for query in ("last", "uniform")
        for measure, slow in (("gamma_3", 0.0), ("beta_2", 1.0), ("alpha_3", 2.0), ("loss", 3.0))
        for n in (100, 10**5, 10**8)
    ]
    at = {"threshold": 0.5, "inputs": "orthonormal"}
    of_run = at | {"model": "circuit", "query": "last", "context_length": 64}
    of_copies = of_run | {"measure": "alpha_3", "gain": 9.0, "leading": 10.3, "against_effective_length": 0.5}
    of_step = at | {"query": "last", "batch_size": None, "distance": "coordinates"}
    kinds = {"held": "gamma_4", "freed": "gamma_4", "nineteen": None, "circuit": None}
    of_group = of_run | {"measure": "loss", "per_circuit": 0.5}
    of_noise = at | {"context_length": 4, "embedding_dim": 10, "step": 0.25}
    ends_of_noise = [
        of_noise | {"batch_size": b, "time": t, "off_subspace": t / b, "least": t / b, "most": t / b}
        for b in (16, 64)
        for t in (1.0, 2.0)
    ]
    fitted = ("batch_exponent", "batch_exponent_of_the_largest_two", "noise_of_three")
    of_memory = {"model": "full", "query": "last", "trained_length": 8, "moment": 4.0}
    of_start = of_noise | {"query": "last", "matrices": "all", "scale": 0.1}
    of_head = {"previous_token": 0.5, "induction": 0.4, "previous_token_chance": 0.1, "induction_chance": 0.1}
    of_heads = {"text_change": 0.1}
    standard = initial_weights(Architecture(vocabulary=6, length=5, embedding_dim=8), jax.random.key(0))
    arguments = {
        "asymptotics": (long, {}),
        "attention": ({"before": uniform, "after": uniform}, {"query": 2}),
        "burstiness": ([of_copies | {"copies": m, "gain": 2.0 * m} for m in (2, 4)], {}),
        "checkpoints": (
            [1, 2, 3],
            ends,
            np.full((3, 4), 0.1),
            {"time_unit": "checkpoint", "labels": ["first", "second", "third"]},
        ),
        "comparison": (compared(3), {}),
        "convergence_orders": (
            [of_step | {"step": h, "mean": 2 * h, "standard_error": None} for h in (1.0, 0.5, 0.25)],
            [of_step | {"law": "step", "slope": 1.0, "low": 1.0, "high": 1.0}],
            [],
            {"law_step": 0.25, "law_batch": 256},
        ),
        "coordinates": (
            run.time,
            run.coordinates,
            run.loss,
            {"context_length": 6, "overlay": (run.time, run.coordinates), "title": "a run"},
        ),
        "coordinates_at_rest": ([4, 8, 16], {"last": ends, "uniform": ends}, {"subtitle": "at rest"}),
        "emergence_order": ({"one": run, "another": run}, {"context_length": 6}),
        "emergence_times": ([{**row, "context_length": n, "time": 2.0 * n**2} for n in (4, 8, 16)], {}),
        "local_exponents": (
            [of_run | {"measure": "loss", "context_length": n, "exponent": 2.0} for n in (10, 1000, 100000)],
            [of_run | {"measure": "loss", "first": 4, "last": 64, "low": 1.98, "high": 2.0}],
            {},
        ),
        "off_subspace": (
            ends_of_noise,
            [row | {"expected_after_one_step": 0.9} for row in ends_of_noise if row["time"] == 2.0],
            [of_noise | {"fitted": name, "value": -0.5, "low": -0.6, "high": -0.4} for name in fitted],
            [
                of_start | {"scale": s, "captured_of_weights": 0.9, "captured_of_movement": 0.9, "answered": 1.0}
                for s in (0.1, 1.0)
            ],
            [of_start | {"scale": s, "measure": "loss", "per_flow_from_zero": 1.01} for s in (0.1, 1.0)],
            {},
        ),
        "other_sixteen": (
            [of_group | {"kind": kind, "group": group} for kind, group in kinds.items()],
            [{"query": "last", "held": "none", "alpha_3": 0.4, "loss": 0.5, "context_length": n} for n in (16, 64)],
            {},
        ),
        "pretrained_heads": (
            [of_head | {"layer": layer, "head": head} for layer in range(30) for head in range(9)],
            [{"position": i, "copy": 1 + i // 51, "loss": 14.0, "standard_error": 0.5} for i in range(1, 101)],
            [
                of_heads | {"kind": kind, "which": which, "count": k, "draw": at, "second_change": k / (9 + (at or 0))}
                for kind in ("mean", "zero")
                for which in ("induction", "previous_token")
                for k in (1, 24)
                for at in (None, 0, 1)
            ],
            [
                {"kind": "mean", "measured": "induction", "side": side, "count": k, "draw": at, "layer": None}
                | {"score": 0.5, "intact": 0.8}
                for side in ("both", "keys", "queries")
                for k in (1, 24)
                for at in (None, 0, 1)
            ],
            {},
        ),
        "retrieval": (
            [
                of_memory | {"context_length": n, "three": 1 / n, "nineteen": 0.9 / n, "measured": 0.9 / n}
                for n in (1, 2, 64)
            ],
            [of_memory | {"fails_measured": 9.0}],
            [of_memory | {"time_per_square": t, "fails_per_length": t} for t in (1.0, 10.0)],
            [of_memory | {"context_length": n, "loss": 0.01 * n} for n in (1, 64)],
            {},
        ),
        "standard_cause": (
            [
                {"kind": kind, "heads": h, "seed": s, "group": "without", "what": "beta_2", "how": "whole"}
                | {"accuracy": 0.1 * h + 0.05 * s, "loss": 1.0 + s}
                for kind in ("pairs", "repeated")
                for h in (1, 4)
                for s in (0, 1)
            ],
            32,
            {},
        ),
        "standard_emergence": (
            [
                {"case": "one head", "seed": 0, "level": level, "measure": name, "step": step}
                for level in ("chance", "half")
                for name, step in (("gamma_3", 10.0), ("beta_2", 40.0), ("alpha_3", 300.0), ("loss", 400.0))
            ],
            [{"case": "one head", "level": "chance", "order": "gamma_3 beta_2 alpha_3", "seeds": 1}],
            {},
        ),
        "standard_retrieval": (
            [
                of_memory
                | {"seed": 0, "moment": moment, "query_at": place, "context_length": n, "accuracy": 0.9}
                | dict.fromkeys(("measured", "two", "binding", "placed", "within"), 1 / n)
                | {"beyond": 0.1 if n > 8 else None}
                for moment in ("half - 100", "half", "end")
                for place in ("next", "trained")
                for n in (1, 8, 32)
            ],
            {},
        ),
        "patterns": (
            np.broadcast_to(np.tri(9) / np.arange(1, 10)[:, None], (2, 4, 9, 9)),
            list("a1b2c3d4b"),
            {"marked": {"alpha_3": [(1, 0)], "beta_2": [(8, 3)]}, "title": "four heads"},
        ),
        "phase_change": (
            SimpleNamespace(
                steps=np.array([0, 10, 20]),
                loss=np.array([3.4, 3.0, 0.1]),
                accuracy=np.array([0.0, 0.2, 1.0]),
                summed=np.linspace(-1, 15, 9).reshape(3, 3),
                deviations=np.linspace(-70, 1500, 9).reshape(3, 3),
                head_scores={kind: np.full((3, 2, 4), 0.5) for kind in KINDS},
            ),
            {"title": "a run"},
        ),
        "structures": (
            dict.fromkeys(("before: step 0", "after: step 1500"), standard),
            (1, 3),
            {"names": list("abcdef"), "title": "one head"},
        ),
        "thresholds": (
            [
                of_run | {"seed": None, "threshold": x, "gamma_3": x, "beta_2": 2 * x, "alpha_3": 3 * x}
                for x in (0.5, 1.0)
            ],
            [of_run | {"seed": None, "threshold": 0.7, "time": 1.0}],
            {},
        ),
        "trained_scaling": (
            [of_run | {"model": "full", "measure": "loss", "context_length": n, "time": 2.0 * n**2} for n in (4, 8)],
            [of_run | {"measure": "loss", "context_length": n, "ratio": 1.0, "standard_error": None} for n in (4, 8)],
            [],
            {},
        ),
        "weights": (zero_weights(4), {"title": "zero"}),
    }
    *positional, named = arguments[request.param]
    return lambda: PICTURES[request.param](*positional, **named)


def test_same_data_same_bytes_and_no_setting_changed(draw, tmp_path):
    before = dict(matplotlib.rcParams)
    first, second = (style.save_figure(draw(), tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second
    assert dict(matplotlib.rcParams) == before


def test_nothing_is_cut_off_and_no_key_covers_a_panel(draw):
    figure = draw()
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height
    for key in figure.legends:
        assert not any(key.get_window_extent().overlaps(axes.get_tightbbox()) for axes in figure.axes)


@pytest.mark.parametrize("picture", PICTURES.values(), ids=list(PICTURES))
def test_every_public_picture_says_what_it_takes_and_shows_an_example(picture):
    words = inspect.getdoc(picture)
    assert words is not None and all(f"{part}:\n" in words for part in ("Args", "Returns", "Example"))
    assert all(f"\n    {name}: " in words for name in inspect.signature(picture).parameters)


def test_every_module_with_a_picture_is_tested_here():
    modules = {path.stem for path in Path(style.__file__).parent.glob("*.py")} - {"__init__", "style"}
    assert modules == set(PICTURES)
