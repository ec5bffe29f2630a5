"""The reduced flow beside the trained model: coordinates, their residual, the loss, and what leaves the subspace."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from induction_dynamics.plotting import style
from induction_dynamics.plotting.coordinates import (
    add_key_of_the_quiet,
    draw_coordinates,
    draw_loss,
    key_of_models,
    label_coordinates,
)
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.task import Task
from induction_dynamics.training.comparison import Comparison

_BROAD, _PALE = 5.0, 0.4
"""Width in points and opacity of the reduced flow's strong curves: dashes upon them are seen where both agree."""


def plot_comparison(comparison: Comparison) -> Figure:
    r"""Draw how far gradient descent on all weights follows the reduced flow.

    From the top: theta_k(t) of the reduced flow (broad) and of the trained model (dashed), each in its mean over the
    seeds; the mean of trained - reduced, each with a band of 2 standard errors over the seeds; the loss, that of the
    trained model being the loss on each step's own batch, in its mean over the seeds; and the fraction of the trained
    weights off the subspace, ||W - sum_k theta_k B_k|| / ||W||, of each seed and in the mean.

    Args:
        comparison: the runs, as made by `training.comparison.compare`. With one seed there is no band.

    Returns:
        The figure.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics.dynamics.trajectory import Trajectory
        >>> time = np.linspace(0.0, 64.0, 50)
        >>> rising = np.tanh(time[:, None] / 20.0) * np.linspace(-1.0, 3.0, 19)
        >>> loss = 0.5 * np.exp(-time / 20.0)
        >>> flow = Trajectory(time, rising, loss, 0.0 * time, "horizon_reached")
        >>> trained = [Trajectory(time, x * rising, loss, 0.1 + 0.0 * time, "horizon_reached") for x in (0.9, 1.0)]
        >>> figure = plot_comparison(Comparison(Task(4), (0, 1), time, (flow, flow), tuple(trained)))
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['coordinate', 'trained - reduced', 'loss', 'off-subspace\nfraction']
    """
    t, seeds = comparison.time, len(comparison.seeds)
    reduced, trained = (x.mean(axis=0) for x in (comparison.reduced_values, comparison.trained_values))
    figure = style.new_figure(9.6, 12.4)
    values, residual, loss, off = figure.subplots(4, 1, sharex=True, height_ratios=[3, 2, 1.2, 1.2])
    draw_coordinates(values, t, reduced[:, :-1], width=_BROAD)
    for line in values.lines:
        line.set_alpha(_PALE)
    draw_coordinates(values, t, trained[:, :-1], line=style.LINES["full"], width=2.2)
    draw_coordinates(residual, t, comparison.residual[:, :-1], width=1.8)
    residual.axhline(0.0, color=style.GRAY, linewidth=1.0, zorder=1)
    error = comparison.standard_error
    if error is not None:
        for k, name in enumerate(COORDINATES):
            strong = name in CIRCUIT
            middle, half = comparison.residual[:, k], 2 * error[:, k]
            residual.fill_between(
                t,
                middle - half,
                middle + half,
                color=style.color(name),
                alpha=0.25 if strong else 0.3,
                linewidth=0,
                zorder=3 if strong else 1.5,
                gid=name,
            )
    loss.plot(t, trained[:, -1], color=style.GRAY, linewidth=1.0, gid="loss of the trained model")
    draw_loss(loss, t, reduced[:, -1])
    for fractions in comparison.off_subspace if seeds > 1 else ():
        off.plot(t, fractions, color=style.OTHER_COLOR, linewidth=0.9, alpha=0.7, gid="off subspace of one seed")
    off.plot(t, comparison.off_subspace.mean(axis=0), color=style.OTHER_COLOR, linewidth=2.4, gid="off subspace")
    off.set_ylim(bottom=0.0)
    for axes, label in ((values, "coordinate"), (residual, "trained - reduced"), (off, "off-subspace\nfraction")):
        axes.set_ylabel(label, fontsize=style.FONT["label"])
    style.dress_over_time([values, residual, loss, off], [float(t[0]), float(t[-1])], comparison.task.context_length)
    label_coordinates(values, reduced[-1, :-1])
    add_key_of_the_quiet(figure)
    style.add_key_below(figure, _key(seeds))
    figure.suptitle(_describe(comparison.task), fontsize=style.FONT["title"])
    return figure


def _key(seeds: int) -> list[Line2D | Patch]:
    trained = "full model, 1 seed" if seeds == 1 else f"full model, mean of {seeds} seeds"
    models = key_of_models(trained)
    models[0].set(linewidth=_BROAD, alpha=_PALE)
    words = "loss of the full model, each step's batch" + ("" if seeds == 1 else f",\nmean of {seeds} seeds")
    batch = Line2D([], [], color=style.GRAY, linewidth=1.0, label=words)
    if seeds == 1:
        return [*models, batch]
    band = Patch(color=style.GRAY, alpha=0.3, linewidth=0, label=f"2 standard errors over {seeds} seeds")
    single = Line2D(
        [], [], color=style.OTHER_COLOR, linewidth=0.9, alpha=0.7, label="off-subspace fraction of each seed"
    )
    return [*models, band, batch, single]


def _describe(task: Task) -> str:
    words = f"N = {task.context_length}, D = {task.embedding_dim}, {task.inputs} inputs, query {task.query}"
    words += f", {task.copies} copies" if task.copies > 1 else ""
    return words if task.right_angled else f"{words}, rotation {task.rotation:g}°"
