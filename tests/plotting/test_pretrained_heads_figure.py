import re

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.pretrained_heads import plot_pretrained_heads

HEADS = [
    {
        "layer": layer,
        "head": head,
        "previous_token": 0.1 * layer + 0.2 * head + 0.1,
        "induction": 0.9 - 0.1 * layer - 0.2 * head,
        "previous_token_chance": 0.1,
        "induction_chance": 0.05,
    }
    for layer in range(4)
    for head in range(2)
]
LOSSES = [
    {"position": i, "copy": 1 + (i > 3), "loss": 14.0 if i <= 4 else 1.0, "standard_error": 0.25} for i in range(1, 7)
]
ABLATIONS = [
    {"kind": kind, "which": which, "count": count, "draw": draw}
    | {"second_change": of * count / (1 if draw is None else 10 + draw), "text_change": 0.1 * count}
    for kind, of in (("mean", 2.0), ("zero", 3.0))
    for which in ("induction", "previous_token")
    for count in (1, 4)
    for draw in (None, 0, 10)
] + [{"kind": "none", "which": "none", "count": 0, "draw": None, "second_change": 0.0, "text_change": 0.0}]
COMPOSITION = [
    {"kind": kind, "count": count, "draw": draw, "side": side, "measured": measured, "layer": layer}
    | {"score": 0.8 * kept if draw is None else 0.76 - 0.04 * draw, "intact": 0.8 if kind == "mean" else 8.0}
    for kind in ("mean", "zero")
    for measured in ("induction", "duplicate_token")
    for layer in (None, 3)
    for count in (1, 4)
    for draw in (None, 0, 1)
    for side, kept in (("both", 0.2), ("keys", 0.3), ("queries", 0.9))
]


@pytest.fixture
def panels():
    return plot_pretrained_heads(HEADS, LOSSES, ABLATIONS, COMPOSITION).axes


def drawn(axes, gid):
    (line,) = [line for line in axes.lines if line.get_gid() == gid]
    return line


@pytest.mark.parametrize(
    ("place", "kind", "coordinate"), [(0, "previous_token", "alpha_3"), (1, "induction", "beta_2")]
)
def test_a_map_has_every_head_at_its_place_less_chance(panels, place, kind, coordinate):
    (image,) = panels[place].images
    shown = np.asarray(image.get_array())
    assert shown.shape == (2, 4)
    for row in HEADS:
        assert shown[row["head"], row["layer"]] == pytest.approx(row[kind] - row[f"{kind}_chance"])
    assert image.get_clim() == (0, 1)
    # a map has 256 shades, none of them just in the middle
    assert to_rgb(image.cmap(0.5)) == pytest.approx(to_rgb(style.COLORS[coordinate]), abs=0.01)
    assert (panels[place].get_xlabel(), panels[place].get_ylabel()) == ("layer", "head")


def test_each_copy_has_its_losses(panels):
    first, second = drawn(panels[2], "copy 1"), drawn(panels[2], "copy 2")
    np.testing.assert_array_equal(first.get_xydata(), [[1, 14], [2, 14], [3, 14]])
    np.testing.assert_array_equal(second.get_xydata(), [[4, 14], [5, 1], [6, 1]])
    assert panels[2].get_ylabel() == "loss (nats)"


def test_scores_are_those_of_the_mean_over_heads_against_the_intact_model(panels):
    for side, kept in (("both", 0.2), ("keys", 0.3), ("queries", 0.9)):
        np.testing.assert_allclose(drawn(panels[3], side).get_xydata(), [[1, kept], [4, kept]])
    np.testing.assert_allclose(drawn(panels[3], "others").get_xydata(), [[1, 0.925], [4, 0.925]])
    (band,) = panels[3].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.9, 0.95))


def test_changes_of_the_loss_with_the_range_of_the_draws(panels):
    axes = panels[4]
    for which, coordinate in (("induction", "beta_2"), ("previous_token", "alpha_3")):
        for kind, of in (("mean", 2.0), ("zero", 3.0)):
            line = drawn(axes, f"{which} {kind}")
            np.testing.assert_allclose(line.get_xydata(), [[1, of], [4, 4 * of]])
            assert line.get_color() == style.COLORS[coordinate]
            assert line.get_markerfacecolor() == (line.get_color() if kind == "mean" else "white")
    others = [line for line in axes.lines if line.get_gid() == "others"]
    for line, band in zip(others, axes.collections, strict=True):
        np.testing.assert_allclose(line.get_xydata(), [[1, 0.15], [4, 0.6]])
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == pytest.approx((0.1, 0.8))
    np.testing.assert_allclose(drawn(panels[5], "induction mean").get_xydata(), [[1, 0.1], [4, 0.4]])
    assert axes.get_ylabel().endswith("(nats)")


def test_the_key_names_each_line_once():
    (key,) = plot_pretrained_heads(HEADS, LOSSES, ABLATIONS, COMPOSITION).legends
    words = [text.get_text() for text in key.get_texts()]
    assert len(words) == len(set(words)) == 6
    assert "zero" not in words[0] and words[1] == words[0].replace("previous-token", "induction")


def test_without_draws_nothing_is_said_of_others():
    best = [row for row in ABLATIONS if row["draw"] is None]
    figure = plot_pretrained_heads(HEADS, LOSSES, best, [row for row in COMPOSITION if row["draw"] is None])
    assert not any(line.get_gid() == "others" for axes in figure.axes for line in axes.lines)
    assert len(figure.legends[0].get_texts()) == 4


@pytest.mark.parametrize("name", ["heads", "losses", "ablations", "composition"])
def test_refused(name):
    tables = {"heads": HEADS, "losses": LOSSES, "ablations": ABLATIONS, "composition": COMPOSITION} | {name: []}
    with pytest.raises(ArgumentError, match=re.escape(f"{name} must be at least one row; got [].")):
        plot_pretrained_heads(**tables)
