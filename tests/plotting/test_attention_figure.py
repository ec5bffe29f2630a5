import re
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.attention import plot_attention


def causal(pairs: int, sharp: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Uniform attention; with a share of `sharp` a label attends to its item and the query to the label of pair 2."""
    length = 2 * pairs + 1
    layer_1 = np.tril(np.ones((length, length)), -1) / np.maximum(np.arange(length), 1)[:, None]
    layer_2 = np.full(2 * pairs, (1 - sharp) / (2 * pairs))
    for k in range(pairs):
        layer_1[2 * k + 1] *= 1 - sharp
        layer_1[2 * k + 1, 2 * k] += sharp
    layer_2[3] += sharp
    return layer_1, layer_2


STAGES = {"before": causal(4), "after": causal(4, 0.9)}


def outlines(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle) and " to " in str(patch.get_gid())]


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_layer_1_is_shown_below_the_diagonal_on_one_scale_from_0_to_1():
    figure = plot_attention(STAGES, query=2)
    for axes, (title, (layer_1, _)) in zip(figure.axes, STAGES.items(), strict=False):
        assert axes.get_title() == title
        (image,) = axes.images
        shown = np.ma.asarray(image.get_array())
        below = np.tril(np.ones((9, 9), bool), -1)
        np.testing.assert_array_equal(~np.ma.getmaskarray(shown), below)
        np.testing.assert_array_equal(shown.data[below], layer_1[below])
        assert image.get_clim() == (0, 1) and image.get_interpolation() == "nearest"
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "attention" and len(figure.axes) == 5


def test_darker_is_more_and_nothing_shown_is_white():
    (image,) = plot_attention(STAGES, query=2).axes[0].images
    shades = image.get_cmap()(np.linspace(0, 1, 11))
    assert np.all(np.diff(shades[:, 0]) < 0) and shades[0, 0] < 0.95
    assert np.array_equal(shades[:, 0], shades[:, 1]) and np.array_equal(shades[:, 1], shades[:, 2])


def test_a_label_to_its_own_item_is_outlined():
    axes = plot_attention(STAGES, query=2).axes[0]
    cells = outlines(axes)
    # centre (column, row) counted from 0: item k is token 2k - 2, its label 2k - 1
    assert [cell.get_center().tolist() for cell in cells] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert all((cell.get_width(), cell.get_height(), cell.get_fill()) == (1, 1, False) for cell in cells)
    assert {to_hex(cell.get_edgecolor()) for cell in cells} == {style.COLORS["alpha_3"]}


def test_layer_2_is_bars_and_the_right_label_is_coloured():
    figure = plot_attention(STAGES, query=2)
    for axes, (_, layer_2) in zip(figure.axes[2:4], STAGES.values(), strict=True):
        drawn = bars(axes)
        np.testing.assert_allclose([bar.get_height() for bar in drawn], layer_2)
        colors = [to_hex(bar.get_facecolor()) for bar in drawn]
        assert [k for k, color in enumerate(colors) if color == style.COLORS["beta_2"]] == [3]
        assert axes.get_xticklabels()[3].get_text() == "$y_{2}$" and axes.get_ylim() == (0, 1)


def test_tokens_are_named_on_both_sides():
    axes = plot_attention({"only": causal(2)}, query=1).axes[0]
    expected = ["$x_{1}$", "$y_{1}$", "$x_{2}$", "$y_{2}$", "$x_q$"]
    assert [label.get_text() for label in axes.get_xticklabels()] == expected
    assert [label.get_text() for label in axes.get_yticklabels()] == expected
    assert axes.yaxis_inverted()


@pytest.mark.parametrize("pairs", [2, 8, 12, 40])
def test_names_of_tokens_do_not_overlap(pairs):
    figure = plot_attention({"before": causal(pairs), "after": causal(pairs, 0.9)}, query=2)
    figure.draw_without_rendering()
    for axes in figure.axes[:4]:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert 4 < len(boxes) <= 17
        assert all(one.x1 < next.x0 for one, next in zip(boxes[:-1], boxes[1:], strict=True))


def test_the_key_says_which_coordinate_does_what():
    (key,) = plot_attention(STAGES, query=2).legends
    first, second = (text.get_text() for text in key.get_texts())
    assert style.display("alpha_3") in first and "its item" in first
    assert style.display("beta_2") in second and "$y_{2}$" in second


LAYER_1, LAYER_2 = causal(4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": {}}, "stages must be at least one stage; got {}."),
        (
            {"stages": {"now": (LAYER_1[1:], LAYER_2)}},
            "stages['now'] must be an attention_1 of shape (9, 9); got (8, 9)",
        ),
        ({"stages": {"now": (LAYER_1, LAYER_2[1:])}}, "stages['now'] must be an attention_2 of shape (8,); got (7,)."),
        ({"stages": {"now": (np.ones(()), LAYER_2)}}, "stages['now'] must be an attention_1 of shape (3, 3); got ()."),
        ({"stages": STAGES | {"other": causal(3)}}, "stages['other'] must be an attention_1 of shape (9, 9); got (7, "),
        ({"query": 0}, "query must be from 1 to 4; got 0."),
        ({"query": 5}, "query must be from 1 to 4; got 5."),
    ],
)
def test_refused(changes, message):
    arguments: dict[str, Any] = {"stages": STAGES, "query": 2}
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_attention(**(arguments | changes))
