import inspect
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from induction_dynamics.plotting import style
from induction_dynamics.plotting.asymptotics import plot_asymptotics
from induction_dynamics.plotting.attention import plot_attention
from induction_dynamics.plotting.checkpoints import plot_checkpoints
from induction_dynamics.plotting.comparison import plot_comparison
from induction_dynamics.plotting.coordinates import plot_coordinates
from induction_dynamics.plotting.coordinates_at_rest import plot_coordinates_at_rest
from induction_dynamics.plotting.emergence_order import plot_emergence_order
from induction_dynamics.plotting.emergence_times import plot_emergence_times
from induction_dynamics.plotting.weights import plot_weights
from induction_dynamics.transformer.disentangled import zero_weights

PICTURES = {
    function.__name__.removeprefix("plot_"): function
    for function in (
        plot_asymptotics,
        plot_attention,
        plot_checkpoints,
        plot_comparison,
        plot_coordinates,
        plot_coordinates_at_rest,
        plot_emergence_order,
        plot_emergence_times,
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
    arguments = {
        "asymptotics": (long, {}),
        "attention": ({"before": uniform, "after": uniform}, {"query": 2}),
        "checkpoints": (
            [1, 2, 3],
            ends,
            np.full((3, 4), 0.1),
            {"time_unit": "checkpoint", "labels": ["first", "second", "third"]},
        ),
        "comparison": (compared(3), {}),
        "coordinates": (
            run.time,
            run.coordinates,
            run.loss,
            {"context_length": 6, "overlay": (run.time, run.coordinates), "title": "a run"},
        ),
        "coordinates_at_rest": ([4, 8, 16], {"last": ends, "uniform": ends}, {"subtitle": "at rest"}),
        "emergence_order": ({"one": run, "another": run}, {"context_length": 6}),
        "emergence_times": ([{**row, "context_length": n, "time": 2.0 * n**2} for n in (4, 8, 16)], {}),
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
