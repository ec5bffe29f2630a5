import re
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.patterns import circuit_cells, plot_patterns

NAMES = "abcdefghijkmnopqrstuvwxyz23456789"


def causal(layers: int, heads: int, length: int) -> np.ndarray:
    """Attention that differs from head to head."""
    scores = np.sin(np.arange(layers * heads * length**2)).reshape(layers, heads, length, length)
    weights = np.tril(np.exp(scores))
    return weights / weights.sum(axis=-1, keepdims=True)


def labels(length: int) -> list[str]:
    return [NAMES[i % len(NAMES)] for i in range(length)]


def outlines(axes: Axes) -> list[tuple[int, int]]:
    """Cells (row, column) that are outlined."""
    cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert all((cell.get_width(), cell.get_height(), cell.get_fill()) == (1, 1, False) for cell in cells)
    return [(round(cell.get_center()[1]), round(cell.get_center()[0])) for cell in cells]


@pytest.mark.parametrize(("layers", "heads"), [(2, 1), (2, 4), (1, 1), (3, 2)])
def test_every_head_is_shown_with_what_is_masked_left_out(layers, heads):
    attention = causal(layers, heads, 5)
    figure = plot_patterns(attention, labels(5))
    *panels, bar = figure.axes
    assert len(panels) == layers * heads and bar.get_ylabel() == "attention" and not figure.legends
    below = np.tri(5, dtype=bool)
    for axes, pattern in zip(panels, attention.reshape(-1, 5, 5), strict=True):
        (image,) = axes.images
        shown = np.ma.asarray(image.get_array())
        np.testing.assert_array_equal(~np.ma.getmaskarray(shown), below)
        np.testing.assert_array_equal(shown.data[below], pattern[below])
        assert image.get_clim() == (0, 1) and image.get_interpolation() == "nearest"
    titles = [axes.get_title() for axes in panels]
    if heads == 1:
        assert titles == [f"layer {layer + 1}" for layer in range(layers)]
    else:
        assert titles == [f"layer {k // heads + 1}, head {k % heads + 1}" for k in range(layers * heads)]


def test_cells_are_outlined_in_their_layer_and_colour():
    marked = {"alpha_3": [(1, 0), (3, 2)], "beta_2": [(4, 1)]}
    figure = plot_patterns(causal(2, 2, 5), labels(5), marked=marked)
    for place, coordinate in enumerate(("alpha_3", "alpha_3", "beta_2", "beta_2")):
        axes = figure.axes[place]
        assert outlines(axes) == marked[coordinate]
        assert {to_hex(cell.get_edgecolor()) for cell in axes.patches} == {style.COLORS[coordinate]}
    (key,) = figure.legends
    first, second = (text.get_text() for text in key.get_texts())
    assert style.display("alpha_3") in first and style.display("beta_2") in second
    assert len(outlines(plot_patterns(causal(1, 1, 5), labels(5), marked=marked).axes[0])) == 3


def test_cells_of_pairs():
    # 5 stands as an item, as a label and as the query: only the label after the item 5 is right
    tokens, counted = np.array([5, 9, 7, 5, 3, 3, 5]), np.arange(7) == 6
    assert circuit_cells(tokens, counted, (1, 3, 5)) == {"alpha_3": [(1, 0), (3, 2), (5, 4)], "beta_2": [(6, 1)]}


def test_cells_of_repeated_tokens():
    tokens = np.array([4, 8, 6, 4, 8, 6, 4])
    cells = circuit_cells(tokens, np.arange(7) >= 3, range(1, 7))
    assert cells["alpha_3"] == [(i, i - 1) for i in range(1, 7)]
    assert cells["beta_2"] == [(3, 1), (4, 2), (5, 3), (6, 1), (6, 4)]


@pytest.mark.parametrize(
    ("layers", "heads", "names"), [(2, 4, labels(17)), (2, 1, labels(40)), (2, 2, ["the", "cat", "sat"] * 3)]
)
def test_every_token_is_named_and_no_two_names_overlap(layers, heads, names):
    figure = plot_patterns(causal(layers, heads, len(names)), names, title="a title")
    figure.draw_without_rendering()
    for axes in figure.axes[:-1]:
        for ticks, near, far in ((axes.get_xticklabels(), "x0", "x1"), (axes.get_yticklabels(), "y0", "y1")):
            assert [tick.get_text() for tick in ticks] == names
            spans = sorted((getattr(box, near), getattr(box, far)) for box in (t.get_window_extent() for t in ticks))
            # glyphs are lower than the line of text, which is what is measured here
            slack = 0.35 * style.FONT["tick"] / 72 * figure.dpi
            assert all(one[1] < following[0] + slack for one, following in zip(spans[:-1], spans[1:], strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": np.ones((2, 5, 5))}, "attention must be of shape [layers, heads, L, L], none of them 0; got"),
        ({"attention": np.ones((2, 1, 5, 4))}, "attention must be of shape [layers, heads, L, L], none of them 0; got"),
        ({"attention": causal(5, 1, 5)}, "attention must be of at most 4 layers, which can still be read; got"),
        ({"attention": causal(1, 9, 5)}, "attention must be of at most 8 heads, which can still be read; got"),
        ({"attention": causal(1, 1, 41)}, "attention must be of at most 40 tokens, which can still be read; got"),
        ({"labels": labels(4)}, "labels must be as many names as tokens, 5; got 4."),
        ({"marked": {"gamma_3": [(1, 0)]}}, "marked must be cells of alpha_3 or beta_2; got 'gamma_3'."),
        ({"marked": {"beta_2": [(5, 0)]}}, "marked must be cells (row, column) from 0 to 4; got (5, 0)."),
    ],
)
def test_refused(changes, message):
    arguments: dict[str, Any] = {"attention": causal(2, 1, 5), "labels": labels(5)} | changes
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_patterns(**arguments)
