import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

# The largest of the quiet coordinates at N = 4 and above, in figures/coordinates_at_rest/coordinates.csv.
SIZEABLE = ("alpha_1", "beta_1", "beta_10", "gamma_2", "gamma_4")

# Machado, Oliveira and Fernandes (2009), full deuteranomaly and protanomaly, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


def lab(color: str, vision: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    xyz = to_xyz @ linear / to_xyz.sum(axis=1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def simple_figure() -> Figure:
    figure = style.new_figure(3.0, 2.0)
    axes = figure.subplots()
    axes.plot([0, 1], [1, 2], label="a")
    axes.set_xlabel(style.display("alpha_3"))
    return figure


def test_every_coordinate_and_the_loss_have_a_colour():
    assert set(style.COLORS) == {*COORDINATES, "loss"}
    assert all(to_hex(value) == value for value in style.COLORS.values())


@pytest.mark.parametrize(
    ("vision", "all_apart", "sizeable_apart", "strong_apart"),
    [("normal", 14, 30, 40), ("deuteranope", 10, 18, 25), ("protanope", 10, 18, 25)],
)
def test_colours_are_pairwise_distinct(vision, all_apart, sizeable_apart, strong_apart):
    seen = {name: lab(value, vision) for name, value in {**style.COLORS, "other": style.OTHER_COLOR}.items()}
    strong = {*CIRCUIT, "loss"}
    for a, b in itertools.combinations(seen, 2):
        if {a, b} <= strong:
            least = strong_apart
        else:
            least = sizeable_apart if {a, b} <= {*strong, *SIZEABLE} else all_apart
        assert np.linalg.norm(seen[a] - seen[b]) > least, (a, b)


def test_the_sixteen_are_paler_than_the_circuit():
    seen = {name: lab(style.color(name), "normal") for name in COORDINATES}
    saturation = {name: np.linalg.norm(color[1:]) for name, color in seen.items()}
    for name in set(COORDINATES) - set(CIRCUIT):
        assert saturation[name] < 39 < min(saturation[strong] for strong in CIRCUIT) and 54 < seen[name][0] < 88, name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("alpha_3", r"$\alpha_{3}$"),
        ("beta_12", r"$\beta_{12}$"),
        ("gamma_2+gamma_3", r"$\gamma_{2} + \gamma_{3}$"),
        ("loss", "loss"),
        ("head_score", "head score"),
    ],
)
def test_display_names(name, shown):
    assert style.display(name) == shown


def test_names_can_be_set_in_bold():
    assert style.display("beta_12", bold=True) == r"$\mathbfit{\beta_{12}}$"
    assert style.display("loss", bold=True) == "loss"


@pytest.mark.parametrize("name", list(style.COLORS))
def test_names_are_dark_enough_to_be_read_on_white(name):
    """A contrast of 3 is what WCAG 2.2 asks of large letters."""
    rgb = np.array(to_rgb(style.text_color(name)))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 3
    assert style.text_color(name) == style.color(name) or name not in (*CIRCUIT, "loss")


def test_ends_are_labelled_by_size_apart_from_each_other_and_only_where_there_is_an_end():
    axes = style.new_figure(4.0, 4.0).subplots()
    axes.set_ylim(0.0, 1.0)
    style.label_ends(axes, {"alpha_3": 0.5, "beta_2": 0.5, "gamma_3": float("nan"), "beta_1": 0.9}, small=["beta_1"])
    heights = {text.get_text(): text.xyann[1] for text in axes.texts if isinstance(text, Annotation)}
    sizes = {text.get_text(): float(text.get_fontsize()) for text in axes.texts}
    alpha, beta, quiet = (style.display(name) for name in ("alpha_3", "beta_2", "beta_1"))
    assert set(heights) == {alpha, beta, quiet}
    assert heights[quiet] == 0.9 and abs(heights[alpha] - heights[beta]) == pytest.approx(0.075)
    assert sizes[quiet] < sizes[alpha] == sizes[beta]


@pytest.mark.parametrize("last", [None, 3.0])
def test_a_name_pushed_from_its_end_is_led_back_to_it(last):
    axes = style.new_figure(4.0, 4.0).subplots()
    axes.set(xlim=(0.0, 4.0), ylim=(0.0, 1.0))
    ends = {"alpha_3": 0.5, "beta_2": 0.51, "gamma_3": 0.9}
    style.label_ends(axes, ends, last=last)
    notes = {text.get_text(): text for text in axes.texts if isinstance(text, Annotation)}
    for name, end in ends.items():
        note = notes[style.display(name)]
        assert tuple(note.xy) == (1.0 if last is None else last, end)
        assert (note.arrow_patch is not None) == (name != "gamma_3")
    assert notes[style.display("gamma_3")].xyann[1] == 0.9


def test_many_names_at_one_height_keep_their_distances():
    axes = style.new_figure(4.0, 4.0).subplots()
    axes.set_ylim(0.0, 1.0)
    style.label_ends(axes, {name: 0.5 for name in COORDINATES}, small=COORDINATES[5:], apart=0.08)
    heights = [text.xyann[1] for text in axes.texts if isinstance(text, Annotation)]
    np.testing.assert_allclose(np.diff(heights), [0.08] * 4 + [0.07] + [0.06] * 13)
    assert np.mean(heights) == pytest.approx(0.5)


def test_other_measures_share_one_colour():
    assert style.color("gamma_2+gamma_3") == style.OTHER_COLOR


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_saved_bytes_are_stable(tmp_path, suffix):
    before = dict(matplotlib.rcParams)
    first = style.save_figure(simple_figure(), tmp_path / "new" / f"first{suffix}").read_bytes()
    second = style.save_figure(simple_figure(), str(tmp_path / f"second{suffix}")).read_bytes()
    assert first == second
    assert not any(word in first for word in (b"<dc:date>", b"CreationDate", b"matplotlib.org", b"Matplotlib"))
    assert dict(matplotlib.rcParams) == before


def test_png_resolution(tmp_path):
    path = style.save_figure(simple_figure(), tmp_path / "a.png")
    width, height = (int.from_bytes(path.read_bytes()[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (600, 400)


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"path must be a file name ending in \.png, \.svg or \.pdf; got .*a\.jpg"):
        style.save_figure(simple_figure(), tmp_path / "a.jpg")


def test_no_picture_imports_pyplot_nor_jax_without_need():
    program = (
        "import sys; import induction_dynamics.plotting.style as style, induction_dynamics.plotting.emergence_times,"
        " induction_dynamics.plotting.attention; assert 'jax' not in sys.modules;"
        " from induction_dynamics.plotting.coordinates import plot_coordinates; import numpy as np, io;"
        " plot_coordinates([0.0, 1.0], np.zeros((2, 19)), context_length=4).savefig(io.BytesIO());"
        " import importlib; from pathlib import Path;"
        " [importlib.import_module(f'induction_dynamics.plotting.{path.stem}')"
        " for path in Path(style.__file__).parent.glob('*.py')];"
        " assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
