import re
from typing import Any

import jax
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.structures import plot_structures, shown_structures
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.transformer.progress import chance_spread, progress_measures, summed
from induction_dynamics.transformer.standard import Architecture, initial_weights
from induction_dynamics.transformer.structures import interpretable_structures

SECOND = (1, 3)
# one program each, rather than one for each product
structures = jax.jit(interpretable_structures)
measure, spread = (jax.jit(function, static_argnums=1) for function in (progress_measures, chance_spread))


def weights_of(seed: int, scale: float = 1.0, **changes: Any):
    sizes: dict[str, Any] = {"vocabulary": 6, "length": 5, "embedding_dim": 8, "heads": 2} | changes
    return initial_weights(Architecture(**sizes), jax.random.key(seed), scale=scale)


STAGES = {"before": weights_of(0), "after": weights_of(1)}


def test_of_all_heads_the_sums_of_matrices_measures_and_variances():
    shown = shown_structures(STAGES, SECOND)
    assert list(shown) == list(STAGES)
    for stage, weights in STAGES.items():
        positions, retrieval, copying = structures(weights)
        matrices = positions.sum(axis=0), retrieval.sum(axis=(0, 1)), copying.sum(axis=0)
        measures = summed(measure(weights, SECOND))
        spreads = summed(spread(weights, SECOND), squares=True)
        for place, name in enumerate(CIRCUIT):
            np.testing.assert_allclose(shown[stage][name].matrix, matrices[place], rtol=1e-5, atol=1e-6)
            assert shown[stage][name].measure == pytest.approx(float(measures[place]), rel=1e-5)
            assert shown[stage][name].spread == pytest.approx(float(spreads[place]), rel=1e-5)


def test_the_strongest_is_that_of_the_last_stage():
    shown = shown_structures(STAGES, SECOND, heads="strongest")
    of_last = measure(STAGES["after"], SECOND)
    pair = np.unravel_index(np.argmax(of_last.beta_2[0, :, 1]), (2, 2))
    for stage, weights in STAGES.items():
        retrieval = structures(weights).retrieval[pair]
        np.testing.assert_allclose(shown[stage]["beta_2"].matrix, retrieval, rtol=1e-5, atol=1e-6)
        measures = measure(weights, SECOND)
        assert shown[stage]["beta_2"].measure == pytest.approx(float(measures.beta_2[0, pair[0], 1, pair[1]]), rel=1e-5)
        head = int(np.argmax(of_last.gamma_3[1]))
        assert shown[stage]["gamma_3"].measure == pytest.approx(float(measures.gamma_3[1, head]), rel=1e-5)


def test_what_is_drawn_is_what_is_shown():
    figure = plot_structures(STAGES, SECOND, names=list("uvwxyz"))
    shown = shown_structures(STAGES, SECOND)
    panels = iter(figure.axes[:6])
    for of_stage in shown.values():
        for name, structure in of_stage.items():
            axes = next(panels)
            (image,) = axes.images
            drawn = np.ma.asarray(image.get_array())
            np.testing.assert_array_equal(drawn.data, structure.matrix)
            hidden = np.triu(np.ones((5, 5), bool), k=1) if name == "alpha_3" else np.zeros((6, 6), bool)
            np.testing.assert_array_equal(np.ma.getmaskarray(drawn), hidden)
            low, high = image.get_clim()
            assert -low == high == pytest.approx(np.abs(structure.matrix).max())
            assert axes.title.get_color() == style.text_color(name)
            words = axes.get_title().replace("\N{MINUS SIGN}", "-")
            measure, deviations = map(float, re.findall(r"([-+][\d.e-]+) = ([-+][\d.]+) s.d.", words)[0])
            assert measure == pytest.approx(structure.measure, rel=5e-3, abs=5.1e-3)
            assert deviations == pytest.approx(structure.measure / structure.spread, abs=0.051)
            names = [tick.get_text() for tick in axes.get_yticklabels()]
            assert names == (list("01234") if name == "alpha_3" else list("uvwxyz"))


def test_second_positions_are_outlined_on_the_subdiagonal():
    axes = plot_structures(STAGES, SECOND).axes[0]
    cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [cell.get_center().tolist() for cell in cells] == [[0, 1], [2, 3]]
    assert {to_hex(patch.get_edgecolor()) for patch in axes.patches} == {style.COLORS["alpha_3"]}


def test_every_panel_has_a_scale_with_its_unit():
    figure = plot_structures(STAGES, SECOND)
    bars = [child for axes in figure.axes[:6] for child in axes.child_axes]
    assert [bar.get_ylabel() for bar in bars] == 2 * ["score in layer 1", "score in layer 2", "logit"]


def test_weights_of_zero_have_no_chance():
    zero = weights_of(0, scale=0.0)
    figure = plot_structures({"zero": zero}, SECOND)
    assert all(axes.get_title().endswith("\n+0.00") for axes in figure.axes[:3])


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_nothing_overlaps_or_is_cut_off(stages):
    weights = weights_of(0, vocabulary=33, length=17)
    figure = plot_structures(
        {f"during: step {1000 + k}": weights for k in range(stages)}, range(1, 16, 2), title="a title"
    )
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.images]
    # the scale beside a panel is an axes of its own within it
    parts = [[axes.get_tightbbox(), *(bar.get_tightbbox() for bar in axes.child_axes)] for axes in panels]
    boxes = [Bbox.union([box for box in part if box is not None]) for part in parts]
    assert [len(part) for part in parts] == 3 * stages * [2]
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    width, height = figure.get_size_inches() * figure.dpi
    assert all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": {}}, "stages must be at least one stage; got {}."),
        ({"stages": {"only": weights_of(0, layers=3)}}, "stages must be weights of two layers, of the same sizes"),
        ({"stages": STAGES | {"a": weights_of(0, vocabulary=7)}}, "stages must be weights of two layers, of the same"),
        ({"second_positions": ()}, "second_positions must be one or more positions from 1 to 4; got ()."),
        ({"second_positions": (0, 1)}, "second_positions must be one or more positions from 1 to 4; got (0, 1)."),
        ({"heads": "all"}, "heads must be one of sum, strongest; got 'all'."),
        ({"names": ["u"]}, "names must be as many as tokens, 6; got 1."),
    ],
)
def test_refused(changes, message):
    arguments: dict[str, Any] = {"stages": STAGES, "second_positions": SECOND} | changes
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_structures(**arguments)
