"""One training of a standard transformer on one axis of steps, with the phase change of its loss marked."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import ArrayLike

from induction_dynamics.errors import ArgumentError
from induction_dynamics.heads import KINDS
from induction_dynamics.plotting import style
from induction_dynamics.pseudo_parameters import CIRCUIT

CHANCE = 5.0
"""Standard deviations of chance up to which a progress measure has not emerged."""

_BAND = "#e8d3a4"
_OF_CHANCE = "#dcdcdc"
_WORDS = {"alpha_3": "label to its item", "beta_2": "query to its label", "gamma_3": "label to the output"}
_SHADES = {"previous_token": ("#000000", 2.0), "duplicate_token": ("#a0a0a0", 1.4), "induction": ("#7c7c7c", 3.4)}
"""Grey and width of the line."""

_LAYERS: tuple[style.LineStyle, ...] = ("-", (0, (5.0, 2.0)), (0, (1.2, 1.4)))


@runtime_checkable
class Training(Protocol):
    """What a picture of a training takes of it: `training.standard.StandardRun`, or anything with these fields."""

    @property
    def steps(self) -> Int[np.ndarray, " records"]:
        """At which a record was made."""
        ...

    @property
    def loss(self) -> Float[np.ndarray, " records"]:
        """On the evaluation batch, in nats a token."""
        ...

    @property
    def accuracy(self) -> Float[np.ndarray, " records"]:
        """On the evaluation batch, from 0 to 1."""
        ...

    @property
    def summed(self) -> Float[np.ndarray, "records 3"]:
        """Progress measures of `CIRCUIT`, summed over heads."""
        ...

    @property
    def deviations(self) -> Float[np.ndarray, "records 3"]:
        """The same in standard deviations of chance."""
        ...

    @property
    def head_scores(self) -> dict[str, Float[np.ndarray, "records layers heads"]]:
        """Of `heads.KINDS`, above chance."""
        ...


def phase_change(
    steps: ArrayLike, loss: ArrayLike, *, share: float = 0.5, smallest: float = 0.1
) -> tuple[float, float] | None:
    r"""The shortest stretch of steps in which the loss falls by half of its whole fall.

    With m_r = min over r' <= r of loss_r', which never rises, joined by straight lines to m(s), the whole fall is
    m_0 - m_R, and the stretch is that of least s' - s with m(s) - m(s') = (m_0 - m_R) / 2; the first of several.

    Args:
        steps: of the records, increasing.
        loss: L, at these steps; what follows the first that is not finite is left out.
        share: of the whole fall that happens within, instead of half of it.
        smallest: whole fall, as a share of the loss at first, below which there is no change.

    Returns:
        The first and the last step of it; None if the loss does not fall by as much.

    Raises:
        ArgumentError: arrays that do not fit each other, steps that do not increase, or a share out of range.

    Example:
        >>> phase_change([0, 100, 120, 200], [4.0, 3.0, 1.0, 0.0])
        (100.0, 120.0)
    """
    x, y = np.asarray(steps, dtype=float), np.asarray(loss, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ArgumentError("loss", y.shape, f"one for each of one or more steps, of shape {x.shape}")
    if not (np.diff(x) > 0).all():
        raise ArgumentError("steps", x.tolist()[:8], "increasing")
    if not 0 < share < 1:
        raise ArgumentError("share", share, "above 0 and below 1")
    finite = np.isfinite(y)
    kept = len(y) if finite.all() else int(np.argmin(finite))
    least = np.minimum.accumulate(y[:kept])
    if kept < 2 or least[0] == least[-1] or least[0] - least[-1] < smallest * abs(least[0]):
        return None
    part = share * (least[0] - least[-1])
    # the length of a stretch is piecewise linear in the level where it begins, so one end of the shortest is a record
    levels = np.concatenate([least, least + part])
    levels = levels[(levels <= least[0]) & (levels - part >= least[-1])]
    stretches = [(_last_at(x, least, level), _first_at(x, least, level - part)) for level in sorted(levels)[::-1]]
    return min(stretches, key=lambda stretch: stretch[1] - stretch[0])


def plot_phase_change(run: Training, *, title: str | None = None) -> Figure:
    r"""Draw a training: loss and accuracy, progress measures, and the best heads' scores, below each other over steps.

    From the top: the evaluation loss (solid) with the accuracy (dashed, on the right); the progress measures, summed
    over heads; the same in standard deviations of chance, linear within 5 of them, which are shaded grey, and
    logarithmic beyond; and of each kind of score and each layer the best head's at each step, above chance. The phase
    change (`phase_change`) is shaded in all of them.

    Args:
        run: of `train_standard`, or anything with its fields `steps`, `loss`, `accuracy`, `summed`, `deviations` and
            `head_scores`.
        title: of the whole figure.

    Returns:
        The figure.

    Raises:
        ArgumentError: fewer than two records.

    Example:
        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> run = SimpleNamespace(
        ...     steps=np.array([0, 10, 20]), loss=np.array([3.0, 2.0, 0.1]), accuracy=np.array([0.0, 0.4, 1.0]),
        ...     summed=np.ones((3, 3)), deviations=np.full((3, 3), 50.0), head_scores={"induction": np.ones((3, 2, 1))})
        >>> [axes.get_ylabel() for axes in plot_phase_change(run).axes[:2]]
        ['loss (nats)', 'progress measure\n(score, score, logit)']
    """
    steps = np.asarray(run.steps, dtype=float)
    if len(steps) < 2:
        raise ArgumentError("run", len(steps), "of at least two records")
    figure = style.new_figure(12.0, 12.6)
    panels: Sequence[Axes] = figure.subplots(4, 1, sharex=True, height_ratios=[1.0, 1.0, 1.3, 1.1]).tolist()
    change = phase_change(steps, run.loss)
    style.dress_over_time(panels, steps.tolist(), 0, "steps")
    for axes in panels:
        if change is not None:
            axes.axvspan(*change, color=_BAND, alpha=0.6, linewidth=0.0, zorder=0.6, gid="phase change")
    _draw_loss(panels[0], run, steps)
    _draw_progress(panels[1], steps, run.summed)
    panels[1].set_ylabel("progress measure\n(score, score, logit)", fontsize=style.FONT["label"])
    panels[2].axhspan(-CHANCE, CHANCE, color=_OF_CHANCE, linewidth=0.0, zorder=0.5, gid="chance")
    _draw_progress(panels[2], steps, run.deviations, [Patch(color=_OF_CHANCE, label=f"within {CHANCE:g} of chance")])
    panels[2].set_yscale("symlog", linthresh=CHANCE, linscale=0.7)
    decades = [0.0, *(sign * 10.0**k for k in range(1, 7) for sign in (1, -1))]
    panels[2].yaxis.set_major_locator(FixedLocator(decades))
    panels[2].yaxis.set_major_formatter("{x:,.0f}")
    panels[2].yaxis.set_minor_locator(NullLocator())
    panels[2].set_ylabel("progress measure\n(s.d. of chance)", fontsize=style.FONT["label"])
    _draw_scores(panels[3], steps, run.head_scores)
    if change is not None:
        first, last = change
        words = f"shaded: half of the loss's whole fall, in {last - first:.0f} steps, from {first:.0f} to {last:.0f}"
        panels[0].set_title(words, fontsize=style.FONT["legend"])
    if title is not None:
        figure.suptitle(title, fontsize=style.FONT["title"])
    return figure


def _last_at(x: np.ndarray, falling: np.ndarray, level: float) -> float:
    """Where straight lines through values that never rise are for the last time at a level above the last of them."""
    before = int(np.flatnonzero(falling >= level)[-1])
    share = (falling[before] - level) / (falling[before] - falling[before + 1])
    return float(x[before] + share * (x[before + 1] - x[before]))


def _first_at(x: np.ndarray, falling: np.ndarray, level: float) -> float:
    """Where they first come down to a level below the first of them."""
    after = int(np.argmax(falling <= level))
    share = (falling[after - 1] - level) / (falling[after - 1] - falling[after])
    return float(x[after - 1] + share * (x[after] - x[after - 1]))


def _draw_loss(axes: Axes, run: Training, steps: np.ndarray) -> None:
    axes.plot(steps, run.loss, color=style.color("loss"), linewidth=2.2, gid="loss")
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("loss (nats)", fontsize=style.FONT["label"])
    right = axes.twinx()
    right.plot(steps, run.accuracy, color=style.GRAY, linewidth=2.2, linestyle=_LAYERS[1], gid="accuracy")
    right.set_ylim(0.0, 1.03)
    right.set_ylabel("accuracy", fontsize=style.FONT["label"], color=style.GRAY)
    right.tick_params(labelsize=style.FONT["tick"], colors=style.GRAY)
    right.spines[["top", "left"]].set_visible(False)
    handles = [
        Line2D([], [], color=style.color("loss"), linewidth=2.2, label="loss"),
        Line2D([], [], color=style.GRAY, linewidth=2.2, linestyle=_LAYERS[1], label="accuracy"),
    ]
    _add_key(axes, handles, 1.1)


def _draw_progress(axes: Axes, steps: np.ndarray, values: np.ndarray, others: Sequence[Artist] = ()) -> None:
    axes.axhline(0.0, color=style.GRAY, linewidth=0.8)
    handles: list[Artist] = []
    for name, curve in zip(CIRCUIT, np.asarray(values, dtype=float).T, strict=True):
        handles += axes.plot(steps, curve, color=style.color(name), linewidth=2.2, gid=name)
        letter, index = style.display(name).strip("$").split("_")
        handles[-1].set_label(rf"$\tilde{{{letter}}}_{index}$: {_WORDS[name]}")
    _add_key(axes, [*handles, *others])


def _add_key(axes: Axes, handles: Sequence[Artist], across: float = 1.01) -> None:
    """Beside the panel."""
    axes.legend(
        handles=list(handles),
        loc="center left",
        bbox_to_anchor=(across, 0.5),
        fontsize=style.FONT["legend"],
        frameon=False,
        handlelength=2.6,
    )


def _draw_scores(axes: Axes, steps: np.ndarray, scores: dict[str, np.ndarray]) -> None:
    axes.axhline(0.0, color=style.GRAY, linewidth=0.8)
    for kind in KINDS:
        if kind not in scores:
            continue
        shade, width = _SHADES[kind]
        best = np.asarray(scores[kind], dtype=float).max(axis=-1)
        for layer, curve in enumerate(best.T):
            axes.plot(
                steps,
                curve,
                color=shade,
                linewidth=width,
                linestyle=_LAYERS[layer % len(_LAYERS)],
                label=f"{style.display(kind)}, layer {layer + 1}",
                gid=f"{kind}, layer {layer + 1}",
            )
    axes.set_ylabel("best head's score\nabove chance", fontsize=style.FONT["label"])
    _add_key(axes, axes.get_legend_handles_labels()[0])
