"""`induction-dynamics plot`: emergence times against N, with the laws fitted to them, from folders of sweeps."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.folder import pictures, write_all
from induction_dynamics.cli.folder_options import PlotOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.refusal import Refusal
from induction_dynamics.cli.studies import read_curves
from induction_dynamics.cli.tables import new_console, show_lines
from induction_dynamics.cli.values import quoted, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from induction_dynamics.scaling.curves import Curve

_NAME = "emergence_times"
_MOST_PANELS = 12


def run(options: PlotOptions) -> None:
    """Draw the curves and write the picture, whole or not at all.

    Raises:
        Refusal: a folder or the file is refused, no row is left, or there are too many panels; nothing was written.
    """
    place = _place(options)
    from induction_dynamics.plotting.style import save_figure
    from induction_dynamics.scaling.curves import fit_curves

    _, curves = read_curves(options.folders, options.curves)
    fits, _, notes = fit_curves(curves)
    figure = draw(curves, fits)
    writers: dict[str, Callable[[Path], object]] = pictures(_NAME, figure)
    if options.to is not None:
        writers = {Path(options.to).name: lambda path: save_figure(figure, path)}
    try:
        with warnings.catch_warnings():
            # a folder's name in letters that the font has not is drawn as boxes
            warnings.filterwarnings("ignore", "Glyph")
            write_all(place, writers)
    except OSError as error:
        typed = f"{quoted(options.to or options.folders[0])} ({error.strerror or error})"
        if options.to is None:
            raise Refusal(f"DIR must be a folder that can be written, unless there is --to; got {typed}.") from None
        raise Refusal(f"--to must be a file that can be written; got {typed}.") from None
    if not options.quiet:
        show_lines("Notes", notes, new_console())
        names = options.to or f"{options.folders[0].rstrip('/') or '/'}/{_NAME}.png and .svg"
        print(f"Written to {visible(names)}")


def draw(curves: "Sequence[Curve]", fits: Sequence[dict[str, Any]]) -> "Figure":
    """The picture of some curves.

    Args:
        curves: of one or more folders, at least one.
        fits: the laws fitted to them.

    Raises:
        Refusal: there are too many panels, or both flow times and steps.
    """
    from induction_dynamics.plotting.emergence_times import plot_emergence_times
    from induction_dynamics.scaling.curves import SERIES, describe_pooled

    apart = [name for name in curves[0].labels if name not in SERIES]
    labelled = [{**row, **curve.labels} for curve in curves for row in curve.rows]
    steps = {row["optimizer"]: None for row in labelled if row["time_unit"] != "flow"}
    if steps and any(row["time_unit"] == "flow" for row in labelled):
        told = f"some in flow time and some in steps (optimizer {', '.join(steps)})"
        raise Refusal(f"--where must leave times in one unit; got {told}.")
    _check_panels(labelled, ["inputs", "query", *apart])
    return plot_emergence_times(labelled, fits, apart=apart, note=" ".join(describe_pooled(curves)))


def _place(options: PlotOptions) -> Path:
    """The folder that will be written to."""
    folder, *others = options.folders
    if options.to is None and others:
        raise Refusal("--to is missing: it names the file to write where there is more than one DIR.")
    if options.to is None:
        return Path(folder)
    file = Path(options.to)
    if not os.path.isdir(file.parent):  # unlike the method no error where the name is too long
        raise Refusal(f"--to must be a file in a folder that exists; got {quoted(options.to)}.")
    if os.path.isdir(file):
        raise Refusal(f"--to must be a file; got {quoted(options.to)}, which is a folder.")
    return file.parent


def _check_panels(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    panels = {tuple(row.get(name) for name in names) for row in rows}
    if len(panels) > _MOST_PANELS:
        several = [name for place, name in enumerate(names) if len({panel[place] for panel in panels}) > 1]
        told = f"{_MOST_PANELS} panels at most, one for each {' and '.join(several)}"
        raise Refusal(f"--where must leave {told}; got {len(panels)}.")


COMMAND = Command(
    name="plot",
    summary="picture of emergence times against N, from folders of sweeps",
    description="""\
Draws emergence times T against N from one or more folders that 'sweep' has
written, with the preferred law of each curve, or the power law where none is
preferred. Writes emergence_times.png and .svg to the folder, or the file that
--to names; what is there is replaced, by a whole picture or not at all.

Colour tells the measure, the marker the model, size the threshold. Repeats with
other seeds are points, with a thin line through their geometric means. All else
that differs, such as the batch size or the folder, has panels of its own; what
--by leaves out is pooled, which the picture says. --where picks rows.

N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time:
for gradient descent, learning rate x steps / D; for other optimizers, steps.

Example:

  induction-dynamics plot out/sweep
  induction-dynamics plot runs/small runs/large --where query=last --to both.pdf""",
    options=PlotOptions,
    run=run,
)
