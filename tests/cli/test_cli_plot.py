"""`plot`: which pictures are written, what is drawn in them, and every refusal, from ledgers whose laws are known."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from induction_dynamics.cli import main
from induction_dynamics.plotting import emergence_times
from induction_dynamics.scaling.ledger import FILE
from tests.scaling.known_laws import LENGTHS, fill, runs

PICTURES = {"emergence_times.png", "emergence_times.svg"}


@pytest.fixture
def one(tmp_path):
    """A folder of one study: three seeds of the full model."""
    return fill(tmp_path / "one", runs(seeds=3))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn."""
    figures = []
    draw = emergence_times.plot_emergence_times

    def keep(*given, **named):
        figures.append(draw(*given, **named))
        return figures[-1]

    monkeypatch.setattr(emergence_times, "plot_emergence_times", keep)
    return figures


def plot(capsys, *words):
    assert main(["plot", *map(str, words)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *words):
    assert main(["plot", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.endswith((".\n", "?\n"))
    return err.strip()


def lines(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_the_folder_gets_its_pictures(capsys, one, drawn):
    before = set(os.listdir(one))
    assert plot(capsys, one) == f"Written to {one}/emergence_times.png and .svg\n"
    assert set(os.listdir(one)) - before == PICTURES
    (axes,) = drawn[0].axes
    assert [len(line.get_xdata()) for line in lines(axes, "emerged")] == [21] * 3
    fits = {line.get_label().split()[0]: line for line in lines(axes, "fit")}
    n = fits["loss"].get_xdata()
    np.testing.assert_allclose(fits["loss"].get_ydata(), 2 * n**2, rtol=0.03)
    assert len(lines(axes, "mean")) == 3
    first = [(one / name).read_bytes() for name in sorted(PICTURES)]
    assert plot(capsys, f"{one}/", "--quiet") == ""
    assert [(one / name).read_bytes() for name in sorted(PICTURES)] == first


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.b.pdf", b"%PDF")])
def test_a_file_of_any_kind(capsys, one, tmp_path, name, magic):
    before = set(os.listdir(one))
    (tmp_path / "out").mkdir()
    to = tmp_path / "out" / name
    to.write_text("what was there")
    assert plot(capsys, one, "--to", to) == f"Written to {to}\n"
    assert to.read_bytes().startswith(magic)
    assert os.listdir(tmp_path / "out") == [name] and set(os.listdir(one)) == before


def test_studies_side_by_side(capsys, one, tmp_path, drawn):
    other = fill(tmp_path / "other", runs(factor=3.0))
    plot(capsys, one, other, "--where", "measure=loss", "--to", tmp_path / "both.svg")
    assert titles(drawn[0]) == [f"query last, orthonormal inputs\nstudy {name}" for name in ("one", "other")]
    left, right = (np.asarray(lines(axes, "mean")[0].get_ydata()) for axes in drawn[0].axes)
    np.testing.assert_allclose(right, 3 * left)


def test_any_name_of_a_folder_is_drawn(capsys, tmp_path, drawn):
    folders = [fill(tmp_path / name, runs(1)) for name in ("$x^{$", "\u6570\n\udcff")]
    plot(capsys, *folders, "--where", "measure=loss", "--to", tmp_path / "a.png")
    assert [title.partition("\n")[2] for title in titles(drawn[0])] == [r"study \$x^{\$", "study \u6570\\n\\udcff"]
    plot(capsys, *folders, "--where", "study=\u6570\n\udcff", "--by", "study", "measure", "--to", tmp_path / "b.svg")
    assert len(drawn[1].axes) == 1


def test_what_differs_has_panels_and_what_is_chosen_none(capsys, tmp_path, drawn):
    entries = [*runs(batch_size=16), *runs(batch_size=64, factor=1.5), *runs(model="circuit")]
    folder = fill(tmp_path / "x", entries)
    assert "Notes" not in plot(capsys, folder)
    assert [title.partition("\n")[2] for title in titles(drawn[0])] == ["batch size 16", "batch size 64"]
    for axes in drawn[0].axes:
        assert len(lines(axes, "emerged")) == len(lines(axes, "fit")) == 6
    plot(capsys, folder, "--where", "batch_size=64")
    assert titles(drawn[1]) == ["query last, orthonormal inputs"]
    assert len(lines(drawn[1].axes[0], "emerged")) == 3


def test_what_is_pooled_is_said_in_the_picture_and_beside_it(capsys, tmp_path, drawn):
    folder = fill(tmp_path / "x", [*runs(batch_size=16), *runs(batch_size=64)])
    out = plot(capsys, folder, "--by", "model", "measure")
    assert "Pooled, each curve over several values: batch_size (16, 64)." in " ".join(out.split())
    assert titles(drawn[0]) == ["query last, orthonormal inputs"]
    assert "batch_size (16, 64)" in drawn[0].legends[0].get_title().get_text()
    assert len(lines(drawn[0].axes[0], "fit")) == 3


def test_a_width_that_two_curves_share_is_on_both(capsys, tmp_path, drawn):
    folder = fill(tmp_path / "x", [*runs(1), *runs(1, embedding_dim=66)])
    plot(capsys, folder, "--where", "measure=loss")
    assert [title.partition("\n")[2] for title in titles(drawn[0])] == ["D = 2N + 2", "D = 66"]
    for axes in drawn[0].axes:
        assert set(lines(axes, "emerged")[0].get_xdata()) == set(LENGTHS)


def test_too_few_points_are_drawn_without_a_law(capsys, tmp_path, drawn):
    out = plot(capsys, fill(tmp_path / "few", runs(lengths=(4, 8))))
    assert out.count("no law fitted") == 3 and "Written to" in out
    assert lines(drawn[0].axes[0], "fit") == [] and len(lines(drawn[0].axes[0], "emerged")) == 3


def test_too_many_panels_are_refused(capsys, tmp_path):
    rotations = [runs(1, lengths=(4, 8, 16), rotation=float(angle)) for angle in range(10, 140, 10)]
    folder = fill(tmp_path / "x", [found for several in rotations for found in several])
    before = os.listdir(folder)
    assert refused(capsys, folder) == "--where must leave 12 panels at most, one for each rotation; got 13."
    assert os.listdir(folder) == before
    plot(capsys, folder, "--where", "rotation=10", "rotation=20")


WRONG = [
    (["--to", "a.jpg"], "--to must be a file name ending in .png, .svg or .pdf; got 'a.jpg'."),
    (["--to", ".png"], "--to must be a file name ending in .png, .svg or .pdf; got '.png'."),
    (["--to", "none/a.png"], "--to must be a file in a folder that exists; got 'none/a.png'."),
    (["--to", "folder.png"], "--to must be a file; got 'folder.png', which is a folder."),
    (["--to"], "--to must be a file name ending in .png, .svg or .pdf; got no value."),
    (["--by", "modle"], "(did you mean model?); got 'modle'."),
    (["--where", "model=circuit"], "--where must be of what is there (model=full); got 'model=circuit'."),
    (["--where", "seed=x"], "with seed a whole number, at least 0, or none where there is none; got 'seed=x'."),
    (["missing"], "--to is missing: it names the file to write where there is more than one DIR."),
    (["missing", "--to", "a.png"], f"DIR must be a folder that 'sweep' has written, with its {FILE}; got 'missing'."),
    (["--json"], "'--json' is no option of induction-dynamics plot"),
]


@pytest.mark.parametrize(("words", "part"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_values_are_refused_and_nothing_is_written(capsys, one, tmp_path, monkeypatch, words, part):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    before = sorted(map(str, tmp_path.rglob("*")))
    assert part in refused(capsys, one, *words)
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_folders_without_results_are_refused(capsys, tmp_path):
    empty = fill(tmp_path / "empty", [])
    assert refused(capsys, empty).startswith("DIR must be a folder with results; got ")
    (empty / FILE).write_bytes(b"damaged")
    assert f"DIR must be one whose {FILE} is a whole ledger" in refused(capsys, empty)
    assert not PICTURES & set(os.listdir(empty))


def test_a_picture_that_cannot_be_written_leaves_the_old_ones(capsys, one, monkeypatch):
    plot(capsys, one)
    before = {name: (one / name).read_bytes() for name in os.listdir(one)}
    monkeypatch.setattr("induction_dynamics.plotting.style.save_figure", fail)
    sentence = refused(capsys, one, "--where", "measure=loss")
    assert sentence.startswith("DIR must be a folder that can be written, unless there is --to; got ")
    assert "disk full" in refused(capsys, one, "--to", one / "a.png")
    assert {name: (one / name).read_bytes() for name in os.listdir(one)} == before


def fail(figure, path):
    Path(path).write_text("half")
    raise OSError(28, "disk full")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_refused(capsys, one, tmp_path):
    one.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert "DIR must be a folder that can be written, unless there is --to" in refused(capsys, one)
        plot(capsys, one, "--to", tmp_path / "a.png")
    finally:
        one.chmod(stat.S_IRWXU)
