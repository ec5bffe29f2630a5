"""How far trained models are from the reduced flow, over the step and the batch size, with the fitted orders."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.pseudo_parameters import CIRCUIT

Row = Mapping[str, Any]

_COLORS = {("orthonormal", "last"): "#5b2a86", ("orthonormal", "uniform"): style.OTHER_COLOR}
_ISOTROPIC = "#8a6d00"
_MARKERS = {"coordinates": "o", "weights": "D", "scatter": "^"}
_LINEAR = 0.02  # size up to which the axis of the terms is linear
_STEP_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def plot_convergence_orders(
    means: Sequence[Row],
    slopes: Sequence[Row],
    terms: Sequence[Row],
    *,
    law_step: float,
    law_batch: int,
    title: str | None = None,
) -> Figure:
    r"""Draw the distances of trained models from the reduced flow at one flow time, and the orders at which they fall.

    Four panels. Over the step h, at one batch size and without noise (infinite batches), and over the batch size B, at
    one step: distances in the coordinates, in all weights, and the scatter of the coordinates over the seeds; with the
    fitted powers, and in gray the slopes 1 and -1/2. The scatter over h / B, of every step and batch. And
    (theta_k - theta*_k) / h of the circuit's three over 1 / B, query last, beside a + b / B.

    Args:
        means: a row for each mean over the seeds: `inputs`, `query`, `step` (flow time), `batch_size` (None of infinite
            batches), `distance` (`coordinates`, `weights`, `scatter`, or a coordinate for theta_k - theta*_k), `mean`
            and `standard_error` (None where there is none). Other distances are left out.
        slopes: fitted powers: `inputs`, `query`, `law` (`step`, `batch_size` or `step/batch_size`), `batch_size`,
            `distance`, `slope`, `low`, `high`.
        terms: `coordinate`, `a` and `b`.
        law_step: step at which the batch size varies.
        law_batch: batch size at which the step varies.
        title: of the whole figure.

    Returns:
        The figure.

    Raises:
        ArgumentError: there are no rows.

    Example:
        >>> row = {"inputs": "orthonormal", "query": "last", "batch_size": None, "distance": "coordinates"}
        >>> means = [row | {"step": h, "mean": 2 * h, "standard_error": None} for h in (1.0, 0.5, 0.25)]
        >>> slope = row | {"law": "step", "slope": 1.0, "low": 1.0, "high": 1.0}
        >>> figure = plot_convergence_orders(means, [slope], [], law_step=0.25, law_batch=256)
        >>> figure.axes[0].get_xlabel()
        'step h (flow time)'
    """
    if not means:
        raise ArgumentError("means", list(means), "at least one row")
    figure = style.new_figure(14.4, 14.6)
    by_step, by_batch, by_both, apart = figure.subplots(2, 2).flat
    for axes, law, words, label, kept in (
        (
            by_step,
            "step",
            f"the step, at B = {law_batch} and without noise",
            "step h (flow time)",
            lambda row: row["batch_size"] in (law_batch, None),
        ),
        (
            by_batch,
            "batch_size",
            f"the batch, at h = {law_step:g}",
            "batch size B (sequences per step)",
            lambda row: row["batch_size"] is not None and row["step"] == law_step,
        ),
        (
            by_both,
            "step/batch_size",
            "the noise alone, at every step and batch",
            "h / B (flow time per sequence)",
            lambda row: row["distance"] == "scatter" and row["inputs"] == "orthonormal",
        ),
    ):
        axes.set(xscale="log", yscale="log")
        axes.set_title(words, fontsize=style.FONT["title"])
        axes.set_xlabel(label, fontsize=style.FONT["label"])
        axes.set_ylabel("distance from the flow", fontsize=style.FONT["label"])
        rows = [row for row in means if row["distance"] in _MARKERS and kept(row)]
        _draw_powers(axes, rows, [row for row in slopes if row["law"] == law], _abscissa(law))
    _add_reference(by_step, 1.0)
    _add_reference(by_batch, -0.5)
    _draw_terms(apart, [row for row in means if (row["inputs"], row["query"]) == ("orthonormal", "last")], terms)
    for axes in (by_step, by_batch, by_both, apart):
        style.dress(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                loc="upper center",
                bbox_to_anchor=(0.5, -0.13),
                ncols=2 if axes is apart else 1,
                fontsize=style.FONT["legend"],
                frameon=False,
                handlelength=1.6,
                labelspacing=0.3,
            )
    if title is not None:
        figure.suptitle(title, fontsize=style.FONT["title"] + 2)
    return figure


def _abscissa(law: str) -> Callable[[Row], float]:
    if law == "step/batch_size":
        return lambda row: row["step"] / row["batch_size"]
    return lambda row: float(row[law])


def _draw_powers(axes: Axes, rows: Sequence[Row], slopes: Sequence[Row], abscissa: Callable[[Row], float]) -> None:
    """Marks for the means, and the fitted powers through their middle."""
    varied = {"inputs", "query", "distance"}
    for fit in slopes:
        endless = fit["law"] == "step" and fit["batch_size"] is None
        here = [
            row
            for row in rows
            if all(row[name] == fit[name] for name in varied) and (row["batch_size"] is None) == endless
        ]
        if not here:
            continue
        color = _COLORS.get((fit["inputs"], fit["query"]), _ISOTROPIC)
        x, y = np.array([abscissa(row) for row in here]), np.array([row["mean"] for row in here])
        words = f"{fit['distance']}, {fit['query']}" + (", isotropic" if fit["inputs"] == "isotropic" else "")
        words += ", without noise" if endless else ""
        axes.errorbar(
            x,
            y,
            yerr=[row["standard_error"] or 0.0 for row in here],
            color=color,
            marker=_MARKERS[fit["distance"]],
            markersize=8,
            markerfacecolor="white" if endless else color,
            linestyle="none",
            capsize=3,
            zorder=3,
            gid="means",
            label=f"{words}: slope {_signed(fit['slope'])} [{_signed(fit['low'])}, {_signed(fit['high'])}]",
        )
        ends = np.array([x.min(), x.max()])
        middle = np.exp(np.mean(np.log(y)) + fit["slope"] * (np.log(ends) - np.mean(np.log(x))))
        axes.plot(ends, middle, color=color, linewidth=1.6, linestyle=(0, (4, 2)) if endless else "-", gid="power")


def _add_reference(axes: Axes, slope: float) -> None:
    """A gray line of the expected slope, below what is drawn."""
    marks = [line for line in axes.lines if line.get_gid() == "power"]
    if not marks:
        return
    x = np.concatenate([np.asarray(line.get_xdata(), float) for line in marks])
    y = np.concatenate([np.asarray(line.get_ydata(), float) for line in marks])
    ends = np.exp(np.log(x.min()) + np.array([0.35, 0.65]) * np.log(x.max() / x.min()))
    middle = y.min() / 1.8
    heights = middle * (ends / math.sqrt(ends[0] * ends[1])) ** slope
    axes.plot(ends, heights, color=style.GRAY, linewidth=3, solid_capstyle="round", gid="reference")
    axes.annotate(
        f"slope {_fraction(slope)}",
        (float(ends[1]), float(heights[1])),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=style.GRAY,
        fontsize=style.FONT["legend"],
    )


def _draw_terms(axes: Axes, rows: Sequence[Row], terms: Sequence[Row]) -> None:
    """What a step adds, over what a sequence takes away."""
    steps = sorted({row["step"] for row in rows}, reverse=True)
    found = {row["coordinate"]: row for row in terms}
    for name in CIRCUIT:
        if name not in found:
            continue
        here = [row for row in rows if row["distance"] == name and row["batch_size"] is not None]
        for row in here:
            axes.errorbar(
                1 / row["batch_size"],
                row["mean"] / row["step"],
                yerr=(row["standard_error"] or 0.0) / row["step"],
                color=style.color(name),
                marker=_STEP_MARKERS[steps.index(row["step"]) % len(_STEP_MARKERS)],
                markersize=7,
                linestyle="none",
                gid=name,
            )
        a, b = found[name]["a"], found[name]["b"]
        per_sequence = [1 / row["batch_size"] for row in here]
        x = np.geomspace(min(per_sequence) / 1.5, max(per_sequence) * 1.5, 60)
        words = f"{style.display(name)}: a = {_short(a)}, b = {_short(b)}"
        axes.plot(x, a + b * x, color=style.color(name), linewidth=1.6, label=words, gid="terms")
    for step in steps if found else ():
        marker = _STEP_MARKERS[steps.index(step) % len(_STEP_MARKERS)]
        axes.plot([], [], color=style.GRAY, marker=marker, markersize=7, linestyle="none", label=f"h = {step:g}")
    axes.axhline(0.0, color=style.GRAY, linewidth=1.0, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=_LINEAR)
    axes.margins(y=0.12)
    axes.set_title("discretisation and noise apart, query last: a + b / B", fontsize=style.FONT["title"])
    axes.set_xlabel("1 / B (B sequences per step)", fontsize=style.FONT["label"])
    axes.set_ylabel("(trained - reduced) / h, mean of the seeds", fontsize=style.FONT["label"])


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _fraction(slope: float) -> str:
    return {1.0: "1", -0.5: "−1/2"}.get(slope, f"{slope:g}")
