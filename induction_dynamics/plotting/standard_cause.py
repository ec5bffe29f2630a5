"""What a standard transformer loses without its heads and terms, and what few of them do alone."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.transformer.ablation import CIRCUIT_PATHS, PATHS

Row = Mapping[str, Any]

_FLOOR = 1e-5
"""Losses below are drawn here, at the edge."""
_TICKS = {1e-5: "≤ 10⁻⁵", 1e-3: "0.001", 0.1: "0.1", 10.0: "10"}
_MARKERS = ("o", "s", "^", "v", "P")
"""Of the models, by the number of their heads."""
_KINDS = {"pairs": "item-label pairs", "repeated": "repeated segment"}
_LOST = LinearSegmentedColormap.from_list("lost", ["#ffffff", "#fdd9a0", "#c2410c", "#3b0764"])

_BLOCKS: tuple[tuple[tuple[str, str, str, str], ...], ...] = (
    (("intact", "intact", "", "the model as it is"),),
    tuple(
        ("layer", f"layer {layer}", how, f"heads of layer {layer}: {words}")
        for layer in (1, 2)
        for how, words in (("zero", "zero"), ("mean", "mean"), ("pattern", "zero, attention kept"))
    ),
    tuple(("without", term, "whole", f"without {style.display(term)}") for term in CIRCUIT),
    (
        *(("alone", term, "whole", f"{style.display(term)} alone") for term in CIRCUIT),
        ("alone", "three", "whole", "the three alone"),
        ("alone", "three and places", "whole", "the three, and positions in layer 2"),
    ),
    (
        ("built", "built", "", "by hand, the three"),
        ("built", "built, first position held back", "", "by hand, first position held back"),
    ),
)
"""What is drawn, block by block from the top: group, what, how, and in words."""


def plot_standard_cause(rows: Sequence[Row], vocabulary: int) -> Figure:
    """Draw accuracy and loss with heads and terms removed, and with few terms alone.

    Two panels for each kind of task, with a row for each intervention. Marks are means over seeds, one for each number
    of heads, and bars go from the least to the most. Gray lines are at chance, 1/V and ln V.

    Args:
        rows: with the keys `kind`, `heads` and `seed` (both None of what was built by hand), `group`, `what`, `how`,
            `accuracy` and `loss` in nats; groups and names as `experiments.standard_cause` has them. What is not known
            here is left out.
        vocabulary: V.

    Returns:
        The figure.

    Raises:
        ArgumentError: there are no rows.

    Example:
        >>> row = {"kind": "pairs", "heads": 1, "seed": 0, "group": "without", "what": "beta_2", "how": "whole"}
        >>> figure = plot_standard_cause([row | {"accuracy": 0.1, "loss": 3.0}], 32)
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['accuracy', 'loss (nats)']
    """
    if not rows:
        raise ArgumentError("rows", list(rows), "at least one")
    kinds = [kind for kind in _KINDS if any(row["kind"] == kind for row in rows)]
    heads = sorted({row["heads"] for row in rows if row["heads"] is not None})
    figure = style.new_figure(3.8 + 5.6 * len(kinds), 9.0)
    panels = figure.subplots(1, 2 * len(kinds), squeeze=False, sharey=True)[0]
    places = _places()
    for place, kind in enumerate(kinds):
        here = [row for row in rows if row["kind"] == kind]
        accuracy, loss = panels[2 * place : 2 * place + 2]
        _draw(accuracy, here, heads, places, "accuracy", lambda value: value)
        accuracy.set_xlim(-0.04, 1.04)
        accuracy.set_xticks([0.0, 0.5, 1.0])
        accuracy.axvline(1 / vocabulary, color=style.GRAY, linewidth=1.2, gid="chance", zorder=1)
        _draw(loss, here, heads, places, "loss", lambda value: max(value, _FLOOR))
        loss.set_xscale("log")
        loss.set_xlim(_FLOOR / 4.0, 40.0)
        loss.axvline(math.log(vocabulary), color=style.GRAY, linewidth=1.2, gid="chance", zorder=1)
        loss.xaxis.set_major_locator(FixedLocator(list(_TICKS)))
        loss.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _TICKS.get(value, "")))
        loss.xaxis.set_minor_locator(NullLocator())
        accuracy.set_xlabel("accuracy", fontsize=style.FONT["label"])
        loss.set_xlabel("loss (nats)", fontsize=style.FONT["label"])
        accuracy.set_title(_KINDS[kind], fontsize=style.FONT["title"], loc="left")
    names = {at: (what, words) for (_, what, _), (at, words) in places.items()}
    panels[0].set_yticks(list(names), [words for _, words in names.values()])
    for label, (what, _) in zip(panels[0].get_yticklabels(), names.values(), strict=True):
        label.set_color(style.text_color(what) if what in CIRCUIT else "black")
    panels[0].set_ylim(max(names) + 0.6, -0.6)
    style.add_key_below(figure, _key(heads), columns=len(heads) + 2)
    return figure


def plot_paths(rows: Sequence[Row], sufficient: Sequence[Row]) -> Figure:
    r"""Draw the accuracy that is left without each term of scores and logits, for each model.

    Dots are on the terms of a set that alone answers well enough.

    Args:
        rows: with the keys `kind`, `heads`, `seed`, `path` and `without_accuracy`.
        sufficient: with the keys `kind`, `heads`, `seed` and `kept`, names of terms in one text.

    Returns:
        The figure: a column for each model, a row for each term.

    Raises:
        ArgumentError: there are no rows.

    Example:
        >>> model = {"kind": "pairs", "heads": 1, "seed": 0}
        >>> row = model | {"path": "logits:2t", "without_accuracy": 0.1}
        >>> figure = plot_paths([row], [model | {"kept": "logits:2t"}])
        >>> figure.axes[0].get_title()
        'item-label pairs,\none head a layer'
    """
    if not rows:
        raise ArgumentError("rows", list(rows), "at least one")
    groups = list(dict.fromkeys((row["kind"], row["heads"]) for row in rows))
    widths = [len({row["seed"] for row in rows if (row["kind"], row["heads"]) == group}) for group in groups]
    figure = style.new_figure(4.4 + 0.62 * sum(widths) + 0.9 * len(groups), 10.6)
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True, width_ratios=widths)[0]
    names = list(PATHS)
    image = None
    for axes, (kind, heads) in zip(panels, groups, strict=True):
        here = [row for row in rows if (row["kind"], row["heads"]) == (kind, heads)]
        seeds = sorted({row["seed"] for row in here})
        values = np.full((len(names), len(seeds)), np.nan)
        for row in here:
            values[names.index(row["path"]), seeds.index(row["seed"])] = row["without_accuracy"]
        image = axes.imshow(1 - values, cmap=_LOST, vmin=0.0, vmax=1.0, aspect="auto", gid="lost")
        kept = [row for row in sufficient if (row["kind"], row["heads"]) == (kind, heads)]
        dots = [(seeds.index(row["seed"]), names.index(path)) for row in kept for path in row["kept"].split()]
        marks: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 9, "markerfacecolor": "white"}
        columns, lines = [column for column, _ in dots], [line for _, line in dots]
        axes.plot(columns, lines, markeredgecolor="black", markeredgewidth=1.5, gid="sufficient", **marks)
        axes.set_xticks(range(len(seeds)), [str(seed) for seed in seeds])
        axes.set_xlabel("seed", fontsize=style.FONT["label"])
        axes.set_title(f"{_KINDS[kind]},\n{_of_layer(heads)}", fontsize=style.FONT["title"] - 1)
        axes.tick_params(labelsize=style.FONT["tick"], length=0)
        for between in (3.5, 19.5):
            axes.axhline(between, color="black", linewidth=1.2)
    panels[0].set_yticks(range(len(names)), [_in_words(name) for name in names])
    terms = {path: term for term, path in CIRCUIT_PATHS.items()}
    for label, name in zip(panels[0].get_yticklabels(), names, strict=True):
        label.set_color(style.text_color(terms[name]) if name in terms else "black")
    assert image is not None
    bar = figure.colorbar(image, ax=list(panels), fraction=0.05, pad=0.02, aspect=40)
    bar.set_label("1 − accuracy without the term", fontsize=style.FONT["label"])
    bar.ax.tick_params(labelsize=style.FONT["tick"])
    mark: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "white", "color": "black"}
    style.add_key_below(
        figure, [Line2D([], [], linestyle="none", label="in a set of terms that alone answers nearly as well", **mark)]
    )
    return figure


def _places() -> dict[tuple[str, str, str], tuple[float, str]]:
    """Heights of the interventions, with a gap between blocks, and their names."""
    found, height = {}, 0.0
    for block in _BLOCKS:
        for group, what, how, words in block:
            found[group, what, how] = height, words
            height += 1.0
        height += 0.4
    return found


def _draw(
    axes: Axes,
    rows: Sequence[Row],
    heads: Sequence[int],
    places: Mapping[tuple[str, str, str], tuple[float, str]],
    column: str,
    shown: Callable[[float], float],
) -> None:
    style.dress(axes)
    models = [None, *heads]
    for model in models:
        shift = 0.0 if model is None else 0.3 * (heads.index(model) - (len(heads) - 1) / 2)
        for (group, what, how), (height, _) in places.items():
            values = [
                shown(row[column])
                for row in rows
                if (row["heads"], row["group"], row["what"], row["how"]) == (model, group, what, how)
            ]
            if not values:
                continue
            color = style.color(what) if what in CIRCUIT else "black"
            axes.plot(
                [min(values), max(values)], 2 * [height + shift], color=color, linewidth=2.0, gid=f"range {what} {how}"
            )
            axes.plot(
                [float(np.mean(values))],
                [height + shift],
                linestyle="none",
                marker="*" if model is None else _MARKERS[heads.index(model) % len(_MARKERS)],
                markersize=13 if model is None else 7,
                color=color,
                markerfacecolor="white" if model is not None and heads.index(model) else color,
                markeredgewidth=1.5,
                zorder=3,
                gid=f"{group} {what} {how} {model}",
            )
    heights = [height for height, _ in places.values()]
    for below, above in zip(heights, heights[1:], strict=False):
        if above - below > 1.2:
            axes.axhline((below + above) / 2, color="#d0d0d0", linewidth=0.8, zorder=0)
    axes.grid(False, axis="y")


def _in_words(path: str) -> str:
    """Such as `layer 2: token looks for token via 1`: what the query holds, and the key."""
    terms = {name: term for term, name in CIRCUIT_PATHS.items()}
    place, _, parts = path.partition(":")
    words = [_part(part) for part in parts.split(",")]
    if place == "logits":
        text = f"logits: {words[0]}"
    else:
        text = f"layer {place[-1]}: {words[0]} looks for {words[1]}"
    return f"{style.display(terms[path])}   {text}" if path in terms else text


def _part(part: str) -> str:
    """`21t` as `token via 1, 2`."""
    *layers, last = part
    word = {"t": "token", "p": "position"}[last]
    return f"{word} via {', '.join(reversed(layers))}" if layers else word


def _of_layer(heads: int) -> str:
    return "one head a layer" if heads == 1 else f"{heads} heads a layer"


def _key(heads: Sequence[int]) -> list[Line2D]:
    models = [
        Line2D(
            [],
            [],
            color="black",
            marker=_MARKERS[place % len(_MARKERS)],
            markersize=7,
            markerfacecolor="white" if place else "black",
            markeredgewidth=1.5,
            linewidth=2.0,
            label=f"trained, {_of_layer(number)}",
        )
        for place, number in enumerate(heads)
    ]
    built = Line2D([], [], color="black", marker="*", markersize=13, linestyle="none", label="built by hand")
    return [*models, built, Line2D([], [], color=style.GRAY, linewidth=1.2, label="chance")]
