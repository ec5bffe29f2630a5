import numpy as np

from induction_dynamics.plotting import style
from induction_dynamics.plotting.burstiness import MEASURES, plot_burstiness

LENGTHS, COPIES = (8, 32, 128), (2, 4)


def rows_of(model, query, lengths=LENGTHS):
    return [
        {"model": model, "query": query, "measure": measure, "threshold": threshold, "context_length": n, "copies": m}
        | {"gain": 0.9 * m**2, "leading": float(m**2), "against_effective_length": 0.8 if n > 8 else None}
        for measure in ("gamma_3", *MEASURES)
        for threshold in ((0.5, 0.1) if measure == "loss" else (0.5,))
        for n in lengths
        for m in COPIES
    ]


GAINS = [row for query in ("last", "uniform") for row in (*rows_of("circuit", query), *rows_of("full", query, (8,)))]


def drawn(axes, gid):
    (line,) = [line for line in axes.lines if line.get_gid() == gid]
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float), line


def test_gains_begin_at_one_copy_beside_the_leading_order():
    figure = plot_burstiness(GAINS)
    upper = figure.axes[0]
    copies, gains, _ = drawn(upper, "circuit 32")
    np.testing.assert_allclose(copies, [1, 2, 4])
    np.testing.assert_allclose(gains, [1, 3.6, 14.4])
    np.testing.assert_allclose(drawn(upper, "leading")[1], [1, 4, 16])
    copies, gains, line = drawn(upper, "full 8")
    np.testing.assert_allclose(copies, COPIES)
    assert line.get_marker() == style.MARKERS["full"]
    assert [text.get_text() for text in upper.get_xticklabels()] == ["1", "2", "4"]
    assert [axes.get_title() for axes in figure.axes[:2]] == [
        "query last, orthonormal inputs",
        "query uniform, orthonormal inputs",
    ]


def test_what_has_no_shorter_context_to_compare_with_is_left_out():
    lower = plot_burstiness(GAINS).axes[3]
    per_copy, ratios, line = drawn(lower, "loss 4")
    np.testing.assert_allclose(per_copy, [8, 32])
    np.testing.assert_allclose(ratios, 0.8)
    assert line.get_color() == style.COLORS["loss"]
    assert len([line for line in lower.lines if line.get_gid()]) == len(MEASURES) * len(COPIES)
