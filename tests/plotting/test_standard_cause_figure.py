import math
import re

import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.standard_cause import plot_paths, plot_standard_cause
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.transformer.ablation import PATHS

HEADS, SEEDS = (1, 4), (0, 1, 2)
KNOWN = [
    ("intact", "intact", ""),
    *(("layer", f"layer {layer}", how) for layer in (1, 2) for how in ("zero", "mean", "pattern")),
    *(("without", term, "whole") for term in CIRCUIT),
    *(("alone", what, "whole") for what in (*CIRCUIT, "three", "three and places")),
]
BUILT = [("built", "built", ""), ("built", "built, first position held back", "")]


def accuracy(kind, heads, seed, place):
    return 0.01 + 0.02 * place + 0.1 * seed + (0.3 if heads == 4 else 0.0) + (0.05 if kind == "repeated" else 0.0)


def row_of(kind, heads, seed, place, key):
    value = accuracy(kind, heads, seed or 0, place)
    named = dict(zip(("group", "what", "how"), key, strict=True))
    return {"kind": kind, "heads": heads, "seed": seed, **named, "accuracy": value, "loss": 10 * value**2}


ROWS = [
    row_of(kind, heads, seed, place, key)
    for kind in ("pairs", "repeated")
    for heads in HEADS
    for seed in SEEDS
    for place, key in enumerate(KNOWN)
]
ROWS += [row_of(kind, None, None, place, key) for kind in ("pairs", "repeated") for place, key in enumerate(BUILT)]
# what the picture does not show: single heads, diagonals
ROWS += [
    row_of("pairs", 4, 0, 3, ("head", "layer 1 head 2", "zero")),
    row_of("pairs", 1, 0, 3, ("alone", "three", "diagonal")),
]


def drawn(axes, gid):
    (found,) = [line for line in axes.lines if line.get_gid() == gid]
    return found


def test_each_mark_is_the_mean_over_seeds_in_the_row_of_its_name():
    figure = plot_standard_cause(ROWS, 32)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    heights = figure.axes[0].get_yticks()
    assert len(names) == len(KNOWN) + len(BUILT) and len(set(names)) == len(names)
    assert names[1] == "heads of layer 1: zero" and names[7] == f"without {style.display('alpha_3')}"
    for panel, kind in ((0, "pairs"), (2, "repeated")):
        for heads in HEADS:
            for place, (group, what, how) in enumerate(KNOWN):
                values = np.array([accuracy(kind, heads, seed, place) for seed in SEEDS])
                for axes, shown in ((figure.axes[panel], values), (figure.axes[panel + 1], 10 * values**2)):
                    mark = drawn(axes, f"{group} {what} {how} {heads}")
                    np.testing.assert_allclose(np.asarray(mark.get_xdata()), [shown.mean()])
                    assert abs(np.asarray(mark.get_ydata())[0] - heights[place]) < 0.3
                    assert mark.get_color() == (style.color(what) if what in CIRCUIT else "black")
                    ranges = [line for line in axes.lines if line.get_gid() == f"range {what} {how}"]
                    assert any(np.allclose(np.asarray(line.get_xdata()), [shown.min(), shown.max()]) for line in ranges)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "trained, one head a layer",
        "trained, 4 heads a layer",
        "built by hand",
        "chance",
    ]


def test_chance_units_and_small_losses():
    small = [row | {"loss": 1e-12} if row["group"] == "built" else row for row in ROWS]
    figure = plot_standard_cause(small, 32)
    assert [axes.get_xlabel() for axes in figure.axes] == 2 * ["accuracy", "loss (nats)"]
    for axes, chance in zip(figure.axes, 2 * (1 / 32, math.log(32)), strict=True):
        assert list(np.asarray(drawn(axes, "chance").get_xdata())) == pytest.approx(2 * [chance])
    mark = drawn(figure.axes[1], "built built  None")
    assert np.asarray(mark.get_xdata())[0] == 1e-5 > figure.axes[1].get_xlim()[0]


def test_the_terms_of_each_model():
    models = [{"kind": kind, "heads": 1, "seed": seed} for kind in ("pairs", "repeated") for seed in SEEDS]
    rows = [
        model | {"path": path, "without_accuracy": 1 - 0.01 * place - 0.2 * model["seed"]}
        for model in models
        for place, path in enumerate(PATHS)
    ]
    kept = ["scores_2:t,1t", "logits:21p"]
    figure = plot_paths(rows, [model | {"kept": " ".join(kept)} for model in models])
    assert len(figure.axes) == 3
    for axes, title in zip(figure.axes, ("item-label pairs,", "repeated segment,"), strict=False):
        assert axes.get_title() == f"{title}\none head a layer"
        (image,) = axes.images
        expected = 0.01 * np.arange(len(PATHS))[:, None] + 0.2 * np.array(SEEDS)
        np.testing.assert_allclose(np.asarray(image.get_array()), expected, atol=1e-12)
        dots = drawn(axes, "sufficient")
        found = {list(PATHS)[int(line)] for line in np.asarray(dots.get_ydata())}
        assert found == set(kept) and len(np.asarray(dots.get_xdata())) == len(kept) * len(SEEDS)
    labels = {label.get_text(): label.get_color() for label in figure.axes[0].get_yticklabels()}
    assert labels[f"{style.display('beta_2')}   layer 2: token looks for token via 1"] == style.text_color("beta_2")
    assert labels["logits: position via 1, 2"] == "black"


@pytest.mark.parametrize("draw", [lambda: plot_standard_cause([], 32), lambda: plot_paths([], [])])
def test_refused(draw):
    with pytest.raises(ArgumentError, match=re.escape("rows must be at least one; got [].")):
        draw()
