import re

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.weights import plot_weights
from induction_dynamics.pseudo_parameters import BLOCKS, CIRCUIT, COORDINATES, lift
from induction_dynamics.task import Task
from induction_dynamics.transformer.disentangled import Weights, zero_weights

DIM = 10


@pytest.fixture
def weights():
    return lift(jnp.linspace(-1.0, 3.0, 19), Task(4))


def panels(figure: Figure) -> dict[str, Axes]:
    return {str(axes.images[0].get_gid()): axes for axes in figure.axes if axes.images}


def names(figure: Figure) -> dict:
    return {text.get_gid(): text for axes in panels(figure).values() for text in axes.texts}


def test_each_matrix_is_shown_as_it_is_on_one_scale_symmetric_about_0(weights):
    figure = plot_weights(weights, title="after training")
    assert figure.get_suptitle() == "after training" and list(panels(figure)) == ["W1", "W2", "W3"]
    for name, axes in panels(figure).items():
        matrix = np.asarray(getattr(weights, name))
        (image,) = axes.images
        np.testing.assert_array_equal(np.asarray(image.get_array()), matrix)
        assert image.get_clim() == (-3, 3)
        assert axes.get_title() == f"$W_{name[1]}$"


def test_blocks_are_named_by_their_streams_and_parted_by_lines(weights):
    drawn = panels(plot_weights(weights))
    streams = ["$t$", "$r$", "$A_1t$", "$A_1r$", "$A_2t$", "$A_2r$", "$A_2A_1t$", "$A_2A_1r$"]
    for name, rows, columns in (("W1", streams[:2], streams[:2]), ("W2", streams[:4], streams[:4])):
        assert [label.get_text() for label in drawn[name].get_yticklabels()] == rows
        assert [label.get_text() for label in drawn[name].get_xticklabels()] == columns
        assert (drawn[name].get_ylabel(), drawn[name].get_xlabel()) == ("query side", "key side")
    assert [label.get_text() for label in drawn["W3"].get_xticklabels()] == streams
    assert [label.get_text() for label in drawn["W3"].get_yticklabels()] == ["out"]
    assert list(drawn["W2"].get_xticks()) == [4.5, 14.5, 24.5, 34.5]
    assert [len(drawn[name].lines) for name in drawn] == [2, 6, 7]


def test_every_coordinate_is_named_with_its_value_within_its_block(weights):
    figure = plot_weights(weights)
    figure.draw_without_rendering()
    assert set(names(figure)) == set(COORDINATES)
    for (coordinate, text), value in zip(names(figure).items(), np.linspace(-1.0, 3.0, 19), strict=True):
        block = BLOCKS[coordinate]
        axes = panels(figure)[block.matrix]
        box = text.get_window_extent().transformed(axes.transData.inverted())
        assert block.column * DIM <= box.x0 + 0.5 < box.x1 + 0.5 <= (block.column + 1) * DIM
        assert block.row * DIM <= min(box.y0, box.y1) + 0.5 < max(box.y0, box.y1) + 0.5 <= (block.row + 1) * DIM
        assert text.get_text().endswith(rf"\,{block.structure}:\,{value:.2f}$")
        assert text.get_path_effects(), "a halo, for weights that are all over the block"


def test_every_name_runs_along_its_own_stripe(weights):
    figure = plot_weights(weights)
    figure.draw_without_rendering()
    for coordinate, text in names(figure).items():
        block = BLOCKS[coordinate]
        axes = panels(figure)[block.matrix]
        assert text.get_rotation() == 315.0
        box = text.get_window_extent().transformed(axes.transData.inverted())
        x, y = (box.x0 + box.x1 + 1) / 2 - block.column * DIM, (box.y0 + box.y1 + 1) / 2 - block.row * DIM
        # cells of I touch the line x - y = 0, those of M x - y = -D/2 and D/2: the name is nearest to its own
        away = {"I": x - y, "M": x - y + DIM / 2}
        assert 0 < away[block.structure] < DIM / 4, (coordinate, away)


def test_the_key_tells_what_M_is_and_one_bar_is_for_all_three(weights):
    figure = plot_weights(weights)
    (key,) = (text for axes in figure.axes for text in axes.texts if text.get_gid() == "key")
    assert "[[0, -I], [I, 0]]" in key.get_text() and "90°" in key.get_text()
    bars = [child for axes in figure.axes for child in axes.child_axes if child.get_xlabel()]
    assert [bar.get_xlabel() for bar in bars] == ["weight, in all three matrices"]
    assert bars[0].get_xlim() == panels(figure)["W1"].images[0].get_clim()


def test_values_of_weights_off_the_subspace_are_projected():
    weights = zero_weights(DIM)
    weights = Weights(weights.W1, weights.W2, weights.W3.at[0, 4 * DIM].set(5.0).at[3, 7].set(9.0))
    assert names(plot_weights(weights))["gamma_3"].get_text().endswith(r"\,I:\,0.50$")


def test_the_circuit_stands_out(weights):
    drawn = names(plot_weights(weights))
    bold = {name for name, text in drawn.items() if style.display(name, bold=True) in text.get_text()}
    assert bold == set(CIRCUIT)
    assert all(to_hex(drawn[name].get_color()) == style.COLORS[name] for name in CIRCUIT)
    assert len({to_hex(text.get_color()) for name, text in drawn.items() if name not in CIRCUIT}) == 1


def test_blocks_of_all_matrices_are_nearly_of_one_size(weights):
    figure = plot_weights(weights)
    figure.draw_without_rendering()
    sizes = [axes.get_window_extent().width / np.diff(axes.get_xlim()).item() for axes in panels(figure).values()]
    assert max(sizes) < 1.1 * min(sizes)


def test_zero_weights_of_any_float_type_are_drawn_without_a_warning():
    figure = plot_weights(zero_weights(2, jnp.bfloat16))
    figure.draw_without_rendering()
    assert panels(figure)["W1"].images[0].get_clim() == (-1, 1)


def test_shapes_that_do_not_fit_are_refused(weights):
    wrong = Weights(W1=weights.W1[:2, :2], W2=weights.W2, W3=weights.W3)
    message = "weights must be of shapes {'W1': (20, 20), 'W2': (40, 40), 'W3': (10, 80)}; got {'W1': (2, 2), "
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_weights(wrong)
