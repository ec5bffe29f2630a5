"""The circuit's three structures in a standard transformer's weights: where they are, and how far above chance."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.transformer.progress import ProgressMeasures, chance_spread, progress_measures
from induction_dynamics.transformer.standard import StandardWeights
from induction_dynamics.transformer.structures import InterpretableStructures, interpretable_structures

HEADS = ("sum", "strongest")

_COLORS = "RdBu_r"
_HIDDEN = "#dcdcdc"
_TICKS = 16
"""At most, on each side."""
_WORDS = {
    "alpha_3": ("a label looks at its item", "key's position", "query's position", "score in layer 1"),
    "beta_2": (
        "a token looks where it was retrieved",
        "token retrieved by the key",
        "query's token",
        "score in layer 2",
    ),
    "gamma_3": ("what is looked at is put out", "attended token", "token put out", "logit"),
}
"""Of each structure: what it does, the two axes, and what an entry is."""


class Shown(NamedTuple):
    """One structure as it is drawn.

    Args:
        matrix: rows by columns.
        measure: its progress measure, the mean of the entries of the structure.
        spread: standard deviation of the measure at random weights.
    """

    matrix: np.ndarray
    measure: float
    spread: float


def plot_structures(
    stages: Mapping[str, StandardWeights],
    second_positions: Sequence[int],
    *,
    scaled: bool = False,
    heads: str = "sum",
    names: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    r"""Draw the weights of two layers between their embeddings, a row for each stage and a column for each structure.

    From the left: what positions add to scores of layer 1, what tokens add to scores of layer 2 through what layer 1
    retrieved, and what tokens add to logits (`interpretable_structures`). Each has colours of its own scale, symmetric
    about 0. Above it is its progress measure, the mean of the outlined entries of the first and of the diagonals of the
    others, and how many standard deviations of chance that is (`chance_spread`). Positions that the mask hides are
    grey.

    Args:
        stages: title of each row (such as "before") to weights of the same sizes, of two layers.
        second_positions: whose tokens belong to the one before (`TokenTask.second_positions`).
        scaled: whether the model divides scores by sqrt(K).
        heads: `sum` of all heads and pairs of heads, or `strongest`, the head or pair whose measure is the largest at
            the last stage; that it was chosen is not in its standard deviation of chance.
        names: of the V tokens; their numbers by default.
        title: of the whole figure.

    Returns:
        The figure.

    Raises:
        ArgumentError: no stages, weights of another number of layers or of different sizes, no second positions, or
            another number of names.

    Example:
        >>> import jax
        >>> from induction_dynamics.transformer.standard import Architecture, initial_weights
        >>> weights = initial_weights(Architecture(vocabulary=8, length=5), jax.random.key(0))
        >>> figure = plot_structures({"before": weights}, second_positions=(1, 3))
        >>> [axes.get_xlabel() for axes in figure.axes[:3]]
        ["key's position", 'token retrieved by the key', 'attended token']
    """
    shown = shown_structures(stages, second_positions, scaled=scaled, heads=heads)
    vocabulary = len(next(iter(shown.values()))["gamma_3"].matrix)
    if names is not None and len(names) != vocabulary:
        raise ArgumentError("names", len(names), f"as many as tokens, {vocabulary}")
    tokens = [str(v) for v in range(vocabulary)] if names is None else list(names)
    # so wide that heights bound the squares: the layout leaves no room of its own for the scales beside them
    figure = style.new_figure(16.6, 0.3 + 4.3 * len(shown) + (0.4 if title is not None else 0.0))
    panels = figure.subplots(len(shown), 3, squeeze=False)
    for line, (stage, of_stage) in zip(panels, shown.items(), strict=True):
        for axes, (name, structure) in zip(line, of_stage.items(), strict=True):
            positions = [str(i) for i in range(len(structure.matrix))]
            _draw(axes, name, structure, positions if name == "alpha_3" else tokens)
            if name == "alpha_3":
                _outline(axes, second_positions)
        line[0].annotate(
            stage,
            xy=(-0.29, 0.5),
            xycoords="axes fraction",
            rotation=90,
            ha="center",
            va="center",
            fontsize=style.FONT["title"] + 1,
            fontweight="bold",
        )
    if title is not None:
        figure.suptitle(title, fontsize=style.FONT["title"])
    return figure


def shown_structures(
    stages: Mapping[str, StandardWeights], second_positions: Sequence[int], *, scaled: bool = False, heads: str = "sum"
) -> dict[str, dict[str, Shown]]:
    """The numbers that `plot_structures` draws: of each stage the three structures, by coordinate.

    Args:
        stages: see `plot_structures`, as for all that follow.
        second_positions: see there.
        scaled: see there.
        heads: see there.

    Raises:
        ArgumentError: see there.
    """
    if heads not in HEADS:
        raise ArgumentError("heads", heads, f"one of {', '.join(HEADS)}")
    if not stages:
        raise ArgumentError("stages", dict(stages), "at least one stage")
    last = list(stages.values())[-1]
    for stage, weights in stages.items():
        sizes = weights.positions.shape, weights.tokens.shape, weights.query.shape
        if sizes != (last.positions.shape, last.tokens.shape, last.query.shape) or weights.layers != 2:
            raise ArgumentError("stages", {stage: sizes}, "weights of two layers, of the same sizes at every stage")
    if not second_positions or not all(0 < i < len(last.positions) for i in second_positions):
        allowed = f"one or more positions from 1 to {len(last.positions) - 1}"
        raise ArgumentError("second_positions", tuple(second_positions), allowed)
    found = {
        stage: _computed(weights, tuple(int(i) for i in second_positions), scaled) for stage, weights in stages.items()
    }
    strongest = {name: int(np.argmax(measures)) for name, (_, measures, _) in found[list(stages)[-1]].items()}
    shown = {}
    for stage, of_stage in found.items():
        shown[stage] = {}
        for name, (matrices, measures, spreads) in of_stage.items():
            part = slice(None) if heads == "sum" else slice(strongest[name], strongest[name] + 1)
            shown[stage][name] = Shown(
                matrix=matrices[part].sum(axis=0),
                measure=float(measures[part].sum()),
                spread=float(np.sqrt(np.sum(spreads[part] ** 2))),
            )
    return shown


def _computed(
    weights: StandardWeights, second_positions: tuple[int, ...], scaled: bool
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each structure: matrices, measures and spreads of each head of its layer, or of each pair of heads."""
    matrices, *numbers = _compute(weights, second_positions, scaled)
    parts = [(each.alpha_3[0], each.beta_2[0, :, 1], each.gamma_3[1]) for each in numbers]
    found = {}
    for name, matrix, measures, spreads in zip(CIRCUIT, matrices, *parts, strict=True):
        flat = np.asarray(matrix, dtype=float).reshape(-1, *matrix.shape[-2:])
        found[name] = flat, *(np.asarray(values, dtype=float).ravel() for values in (measures, spreads))
    return found


# one program, rather than one for each of its products
@partial(jax.jit, static_argnums=(1, 2))
def _compute(
    weights: StandardWeights, second_positions: tuple[int, ...], scaled: bool
) -> tuple[InterpretableStructures, ProgressMeasures, ProgressMeasures]:
    about = weights, second_positions, scaled
    return interpretable_structures(weights, scaled), progress_measures(*about), chance_spread(*about)


def _draw(axes: Axes, name: str, shown: Shown, labels: Sequence[str]) -> None:
    what, across, down, unit = _WORDS[name]
    matrix, largest = shown.matrix, float(np.max(np.abs(shown.matrix))) or 1.0
    if name == "alpha_3":
        matrix = np.ma.masked_array(matrix, mask=np.triu(np.ones_like(matrix, dtype=bool), k=1))
    colors = colormaps[_COLORS].with_extremes(bad=_HIDDEN)
    image = axes.imshow(matrix, cmap=colors, norm=Normalize(-largest, largest), interpolation="nearest", gid=name)
    every = -(-len(labels) // _TICKS)
    ticks = range(0, len(labels), every)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [labels[k] for k in ticks], fontsize=style.FONT["tick"])
    axes.tick_params(length=2.0)
    axes.set_xlabel(across, fontsize=style.FONT["label"])
    axes.set_ylabel(down, fontsize=style.FONT["label"])
    # in the panel's own frame, so that it is as high as the square that is drawn
    bar = axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.045, 1.0)))
    bar.set_label(unit, fontsize=style.FONT["label"])
    bar.ax.tick_params(labelsize=style.FONT["tick"])
    axes.set_title(
        f"{_symbol(name)}: {what}\n{_number(shown.measure)}{_in_spreads(shown)}",
        fontsize=style.FONT["legend"] + 1,
        color=style.text_color(name),
        linespacing=1.5,
    )


def _symbol(name: str) -> str:
    r"""Such as $\tilde{\alpha}_3$ for the progress measure of alpha_3."""
    letter, index = style.display(name).strip("$").split("_")
    return rf"$\tilde{{{letter}}}_{index}$"


def _in_spreads(shown: Shown) -> str:
    ratio = shown.measure / shown.spread if shown.spread > 0 else 0.0
    return f" = {_number(ratio, 1)} s.d. of chance" if ratio else ""


def _number(value: float, decimals: int = 2) -> str:
    """With its sign; three digits or more, and at most so many decimals."""
    kept = min(decimals, max(0, 2 - int(np.floor(np.log10(max(abs(value), 1.0))))))
    return f"{value:+.{kept}f}".replace("-", "\N{MINUS SIGN}")


def _outline(axes: Axes, second_positions: Sequence[int]) -> None:
    for i in second_positions:
        cell = Rectangle((i - 1.5, i - 0.5), 1, 1, fill=False, edgecolor=style.color("alpha_3"), linewidth=1.4)
        cell.set(gid=f"{i} to {i - 1}", zorder=3)
        axes.add_patch(cell)
