"""One look for every picture: a colour per coordinate, a marker per model, sizes, and saving byte by byte alike."""

from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from induction_dynamics.errors import ArgumentError

LineStyle = Literal["-"] | tuple[int, tuple[float, ...]]

COLORS: dict[str, str] = {
    # The circuit and the loss: Okabe and Ito's colours, told apart by colour-blind readers.
    "alpha_3": "#0072b2",
    "beta_2": "#d55e00",
    "gamma_3": "#009e73",
    "loss": "#000000",
    # The other sixteen: pale, and spread as far apart in CIELAB as paleness allows, for normal and deuteranope vision.
    "alpha_1": "#7aadeb",
    "alpha_2": "#5c8abd",
    "beta_1": "#a8854c",
    "beta_3": "#d1a385",
    "beta_4": "#b899ad",
    "beta_5": "#e0d6ad",
    "beta_6": "#c2dbdb",
    "beta_7": "#e6d694",
    "beta_8": "#a8a899",
    "beta_9": "#c7a86b",
    "beta_10": "#528fa3",
    "beta_11": "#ebb8eb",
    "beta_12": "#7ab3d1",
    "gamma_1": "#9edbb8",
    "gamma_2": "#618f8a",
    "gamma_4": "#858f61",
}
"""Colour of each coordinate and of the loss, the same in every picture."""

OTHER_COLOR = "#a0328c"
"""Colour of a measure that is neither a coordinate nor the loss."""

MARKERS: dict[str, str] = {"circuit": "o", "subspace": "s", "full": "D"}
LINES: dict[str, LineStyle] = {
    "circuit": (0, (1.2, 1.4)),
    "subspace": "-",
    "full": (0, (5.0, 2.0)),
}
"""Marker and line style of each model, `circuit` and `subspace` being the reduced flows."""

FONT = {"title": 14.0, "label": 14.0, "tick": 12.5, "legend": 12.0}
"""Font sizes in points, readable when a picture is shown at half its size."""

GRAY = "#6e6e6e"
DOTS_PER_INCH = 200


def color(name: str) -> str:
    """Colour of a coordinate or of `loss`; one colour for all other measures.

    Args:
        name: such as `alpha_3`.
    """
    return COLORS.get(name, OTHER_COLOR)


def display(name: str) -> str:
    r"""The name as set in a figure: `alpha_3` as $\alpha_3$; sums term by term; other names as they are.

    Args:
        name: such as `alpha_3`, `gamma_2+gamma_3` or `loss`.
    """
    terms = [term.strip() for term in name.split("+")]
    if not all(term in COLORS and term != "loss" for term in terms):
        return name.replace("_", " ")
    symbols = [rf"\{letter}_{{{index}}}" for letter, _, index in (term.partition("_") for term in terms)]
    return f"${' + '.join(symbols)}$"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure on white, laid out so that nothing is cut off.

    Args:
        width: in inches.
        height: in inches.
    """
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def dress(axes: Axes) -> None:
    """Give one panel the common look: tick sizes, a faint grid, no frame at the top and on the right.

    Args:
        axes: the panel.
    """
    axes.tick_params(which="both", labelsize=FONT["tick"])
    axes.grid(True, which="major", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Save a figure so that the same figure gives the same bytes.

    Args:
        figure: what to save.
        path: file name ending in .png (200 dots per inch) or .svg; folders are made as needed.

    Returns:
        The path.

    Raises:
        ArgumentError: `path` has another ending.
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise ArgumentError("path", str(path), "a file name ending in .png or .svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    # The date, the release of matplotlib and random identifiers would differ from run to run.
    metadata = {"Software": None} if path.suffix == ".png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context({"svg.hashsalt": "induction-dynamics", "svg.fonttype": "path"}):
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata=metadata)
    return path
