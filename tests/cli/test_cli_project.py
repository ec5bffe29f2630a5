"""`project`: files to coordinates, a series to emergence times; whatever the files are, an answer or one sentence."""

import contextlib
import csv
import io
import json
import os
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_dynamics.cli import main
from induction_dynamics.dynamics.emergence import emergence_times
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES, lift
from induction_dynamics.task import Task
from induction_dynamics.transformer.disentangled import Weights
from induction_dynamics.weights_files import project_file, save_weights

FORMAT = "an .npz or .safetensors file of finite numbers W1 (2D x 2D), W2 (4D x 4D) and W3 (D x 8D), D even"
CONFIG = {"files", "rotation", "times", "thresholds", "device", "device_kind", "versions"}
FRACTIONS = ["W1", "W2", "W3", "total"]
THETA = np.linspace(-1, 3, 19)


def weights(theta=THETA, dim=2, noise=0.0, rotation=90.0):
    lifted = lift(jnp.asarray(theta, float), Task(1, dim, "isotropic", rotation=rotation))
    rng = np.random.default_rng(0)
    arrays = {name: np.asarray(getattr(lifted, name)) for name in ("W1", "W2", "W3")}
    return Weights(
        **{name: jnp.asarray(array + noise * rng.standard_normal(array.shape)) for name, array in arrays.items()}
    )


@pytest.fixture
def series(tmp_path):
    """A folder of checkpoints with known coordinates, and their [file, 19]."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    thetas = np.array([0.0, 0.1, 0.4, 1.0, 0.8])[:, None] * THETA
    for step, theta in zip((0, 2, 10, 100, 2000), thetas, strict=True):
        save_weights(weights(theta), folder / f"step_{step}.npz")
    return folder, thetas


def answer(capsys, *words):
    """The document that a command prints, checked against its schema."""
    assert main(["project", *map(str, words), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return validate(out)


def validate(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    document = json.loads(text, parse_constant=refuse)
    own = {"files", "emergence", "order"} if "emergence" in document else {"embedding_dim", "off_subspace"}
    assert set(document) == {"schema_version", "command", "config", "rows", "fits", "notes"} | own
    assert (document["schema_version"], document["command"], document["fits"]) == (1, "project", [])
    assert set(document["config"]) == CONFIG
    names = ["coordinate", "value"] if "embedding_dim" in own else ["file", "coordinate", "value"]
    assert all(list(row) == names for row in document["rows"])
    count = len(document["config"]["files"])
    assert [row["coordinate"] for row in document["rows"]] == list(COORDINATES) * count
    if "embedding_dim" in own:
        assert count == 1 and list(document["off_subspace"]) == FRACTIONS
        return document
    assert [file["file"] for file in document["files"]] == document["config"]["files"]
    for file, time in zip(document["files"], document["config"]["times"] or [None] * count, strict=True):
        assert set(file) == {"file", "embedding_dim", "off_subspace"} | ({"time"} if time is not None else set())
        assert file.get("time") == time and list(file["off_subspace"]) == FRACTIONS
    levels = document["config"]["thresholds"]
    assert [(row["measure"], row["threshold"]) for row in document["emergence"]] == [
        (name, level) for name in CIRCUIT for level in levels
    ]
    for row in document["emergence"]:
        assert set(row) == {"measure", "threshold", "time", "time_unit", "outcome", "sustained"}
        assert row["time_unit"] == ("flow" if document["config"]["times"] else "checkpoint")
        assert (row["time"] is not None) == (row["outcome"] == "emerged")
    assert [order["threshold"] for order in document["order"]] == levels
    return document


def refused(capsys, *words):
    """The sentence, after checking that there is nothing else."""
    status = main(["project", *map(str, words)])
    out, err = capsys.readouterr()
    assert (status, out) == (2, ""), (status, out, err)
    assert err.endswith((".\n", "?\n")) and err.count("\n") == 1 and "Traceback" not in err, err
    return err.strip()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("rotation", [90.0, 60.0])
def test_one_file(capsys, tmp_path, suffix, rotation):
    path = tmp_path / f"w{suffix}"
    save_weights(weights(dim=4, noise=0.1, rotation=rotation), path, rotation=rotation)
    document = answer(capsys, path, "--rotation", rotation)
    assert document == answer(capsys, path)
    found = project_file(path, rotation)
    assert [row["value"] for row in document["rows"]] == found.coordinates.tolist()
    assert list(document["off_subspace"].values()) == [float(value) for value in found.off_subspace]
    assert document["embedding_dim"] == 4 and document["notes"] == []
    assert document["config"]["files"] == [str(path)] and document["config"]["rotation"] == rotation
    np.testing.assert_allclose(found.coordinates, THETA, atol=0.2)


def test_one_file_for_people(capsys, tmp_path):
    path = save_weights(weights(noise=0.1), tmp_path / "w.npz")
    assert main(["project", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "\x1b" not in out and max(map(len, out.splitlines())) <= 80 + len(str(path))
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.split()[:1] and line[0].islower()}
    assert [name for name in lines if name in COORDINATES] == list(COORDINATES)
    assert lines["alpha_3"][1:4] == ["W1", "(r,", "r)"] and lines["beta_8"][1:5] == ["W2", "(r,", "A1r)", "M"]
    assert lines["gamma_4"][1:4] == ["W3", "(A2A1t)", "I"]
    assert {name for name, words in lines.items() if words[-1] == "circuit"} == set(CIRCUIT)
    assert "D = 2, rotation 90 degrees" in out and "Off-subspace: W1 0." in out
    assert "fraction of the norm that the 19 coordinates do not explain" in out
    assert main(["project", str(path), "--quiet"]) == 0
    quiet = capsys.readouterr().out
    assert len(quiet.splitlines()) == 2 + 19 + 2 and "Off-subspace: W1 0." in quiet


def test_a_series_in_a_folder(capsys, series):
    folder, thetas = series
    (folder / "notes.txt").write_text("mine")
    (folder / ".npz").write_text("mine")
    (folder / "._step_1.npz").write_text("of another system")
    (folder / "old.npz").mkdir()
    document = answer(capsys, folder, "--thresholds", "0.5", "2", "9")
    steps = ("0", "2", "10", "100", "2000")
    assert document["config"]["files"] == [str(folder / f"step_{step}.npz") for step in steps]
    values = np.array([row["value"] for row in document["rows"]]).reshape(5, 19)
    np.testing.assert_allclose(values, thetas, rtol=1e-13, atol=1e-15)
    assert all(max(file["off_subspace"].values()) < 1e-15 and file["embedding_dim"] == 2 for file in document["files"])
    times = {(row["measure"], row["threshold"]): row["time"] for row in document["emergence"]}
    gamma_3 = THETA[COORDINATES.index("gamma_3")]
    assert times["gamma_3", 0.5] == pytest.approx(1 + (0.5 / gamma_3 - 0.1) / 0.3)  # between files 1 and 2
    assert times["gamma_3", 2] == pytest.approx(2 + (2 / gamma_3 - 0.4) / 0.6)
    assert times["gamma_3", 9] is None and times["alpha_3", 0.5] is None
    assert [order["order"] for order in document["order"]] == [
        "gamma_3; never alpha_3, beta_2",
        "gamma_3; never alpha_3, beta_2",
        "never alpha_3, beta_2, gamma_3",
    ]
    assert document["notes"] == []


def test_times_are_flow_times(capsys, series):
    """The same emergence times as of a run with these records."""
    folder, thetas = series
    thetas = np.abs(thetas)
    for step, theta in zip((0, 2, 10, 100, 2000), thetas, strict=True):
        save_weights(weights(theta), folder / f"step_{step}.npz")
    time = np.array([0, 1.5, 4, 10, 1000.0])
    document = answer(capsys, folder, "--times", *time, "--thresholds", "0.05", "0.1")
    trajectory = Trajectory(time, thetas, np.ones(5), np.zeros(5), "horizon_reached")
    expected = emergence_times(trajectory, measures=CIRCUIT, thresholds=(0.05, 0.1))
    for row, crossing in zip(document["emergence"], expected, strict=True):
        assert row["time"] == pytest.approx(crossing.time, rel=1e-9)
        assert (row["outcome"], row["sustained"]) == (crossing.outcome, crossing.sustained)
    assert document["order"][0]["order"] == "gamma_3, alpha_3, beta_2"


def test_a_series_for_people(capsys, series, tmp_path):
    folder, _ = series
    assert main(["project", str(folder), "--thresholds", "0.5", "1e9"]) == 0
    out = capsys.readouterr().out
    assert f"5 files in {folder}\nD = 2, rotation 90 degrees" in out
    assert "step_2000.npz           4" in out and "Order of emergence\n  at 0.5: gamma_3; never" in out
    assert "checkpoint" in out and "no flow time, which --times would tell" in out and "not within these files" in out
    assert main(["project", str(folder), "--times", "0", "1", "2", "3", "40"]) == 0
    out = capsys.readouterr().out
    assert "T: flow time" in out and "checkpoint  " not in out and "counted" not in out
    assert main(["project", str(folder / "step_100.npz"), str(save_weights(weights(), tmp_path / "x.npz"))]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 files\n") and str(folder)[:20] in out
    assert "gamma_3 is beyond 0.5 in the first file already: its time is an upper" in out
    assert main(["project", str(folder), "--quiet"]) == 0
    quiet = capsys.readouterr().out
    assert "Order" not in quiet and "step_2000.npz" in quiet and "emerged" in quiet


def test_files_are_taken_in_the_order_typed(capsys, series):
    folder, thetas = series
    typed = [folder / "step_100.npz", folder / "step_2.npz", folder / "step_100.npz"]
    document = answer(capsys, *typed)
    assert document["config"]["files"] == list(map(str, typed))
    assert [row["value"] for row in document["rows"]][:19] == pytest.approx(thetas[3])
    assert [order["order"] for order in document["order"]] == ["gamma_3; never alpha_3, beta_2"]
    assert document["notes"] == ["gamma_3 is beyond 0.5 in the first file already: its time is an upper bound."]


def test_a_folder_with_one_file_is_one_file(capsys, series):
    folder, thetas = series
    for step in (0, 2, 10, 100):
        (folder / f"step_{step}.npz").unlink()
    document = answer(capsys, folder, "--times", "3")
    assert [row["value"] for row in document["rows"]] == pytest.approx(thetas[4])
    assert document["config"]["times"] == [3]


def test_the_folder_of_an_answer(capsys, series, tmp_path):
    folder, _ = series
    out = tmp_path / "deep" / "out"
    document = answer(capsys, folder, "--times", 0, 1, 2, 3, 4, "--output", out)
    names = {"config.json", "project.json", "rows.csv", "coordinates.png", "coordinates.svg"}
    assert {path.name for path in out.iterdir()} == names
    assert json.loads((out / "project.json").read_text()) == document
    assert json.loads((out / "config.json").read_text()) == document["config"]
    with open(out / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row | {"value": float(row["value"])} for row in rows] == document["rows"]
    assert (out / "coordinates.png").read_bytes().startswith(b"\x89PNG")
    assert answer(capsys, folder, "--times", 0, 1, 2, 3, 4, "--output", out) == document  # may be written again
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    sentence = refused(capsys, folder, "--thresholds", 3, "--output", out)
    assert "whose config.json is another (other times, thresholds)." in sentence
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    one = tmp_path / "one"
    assert main(["project", str(folder / "step_2.npz"), "--output", str(one)]) == 0
    assert capsys.readouterr().out.endswith(f"\n\nWritten to {one}\n")
    assert {path.name for path in one.iterdir()} == {"config.json", "project.json", "rows.csv"}


def test_a_bad_file_leaves_no_folder(capsys, series, tmp_path):
    folder, _ = series
    (folder / "step_3000.npz").write_bytes((folder / "step_2000.npz").read_bytes()[:-9])
    refused(capsys, folder, "--output", tmp_path / "a" / "b")
    # known only as it is read
    np.savez(folder / "step_3000.npz", W1=np.full((4, 4), np.nan), W2=np.zeros((8, 8)), W3=np.zeros((2, 16)))
    refused(capsys, folder, "--output", tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    (tmp_path / "file").write_text("mine")
    (folder / "step_3000.npz").unlink()
    assert "--output must be a folder; got" in refused(capsys, folder, "--output", tmp_path / "file")


def test_files_that_are_refused(capsys, series, tmp_path):
    folder, _ = series
    good = folder / "step_2.npz"
    content = good.read_bytes()

    def bad(reason, path, *words):
        assert refused(capsys, *words or [path]) == f"FILE must be {FORMAT} (here {reason}); got '{path}'."

    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    bad("there is no such file", tmp_path / "none.npz")
    bad("there is no such file", tmp_path / "none.npz", good, tmp_path / "none.npz", good)
    bad("it is damaged or of another kind", write("a.npz", content[:-1]))
    bad("it is damaged or of another kind", write("a.npz", content[:700]), good, tmp_path / "a.npz")
    bad("it is damaged or of another kind", write("a.safetensors", content), tmp_path / "a.safetensors", good)
    np.savez(tmp_path / "a.npz", W1=np.array([[None] * 4] * 4), W2=np.zeros((8, 8)), W3=np.zeros((2, 16)))
    bad("W1 holds object, not real numbers", tmp_path / "a.npz", good, tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", W1=np.zeros((6, 6)), W2=np.zeros((12, 12)), W3=np.zeros((3, 24)))
    bad("W1 has the shape (6, 6)", tmp_path / "a.npz", good, tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", W1=np.zeros((4, 4)), W2=np.zeros((8, 8)), W3=np.full((2, 16), np.nan))
    bad("W3 has an entry that is NaN, infinite or above 1e+300", tmp_path / "a.npz", good, tmp_path / "a.npz")
    assert refused(capsys, good, folder) == (
        f"FILE must be files, or one folder and nothing else; got '{folder}' beside others."
    )
    (tmp_path / "empty").mkdir()
    assert refused(capsys, tmp_path / "empty") == (
        f"FILE must be a folder with .npz or .safetensors files in it; got '{tmp_path / 'empty'}'."
    )
    for name in ("none", "none.pt", "x\n.txt"):
        shown = str(tmp_path / name).replace("\n", "\\n")
        assert (
            refused(capsys, tmp_path / name)
            == f"FILE must be a file name ending in .npz or .safetensors; got '{shown}'."
        )
    wide = save_weights(weights(dim=4), tmp_path / "wide.npz")
    assert refused(capsys, good, good, wide) == (
        f"FILE must be files of one D, which is 2 in '{good}' (here it is 4); got '{wide}'."
    )


def test_rotations_of_a_series(capsys, tmp_path):
    """Each file's own, or the one given, or 90; and the same in all of them."""
    paths = [tmp_path / f"{place}.npz" for place in range(3)]
    found = weights(rotation=40.0)
    for path in paths[:2]:
        save_weights(found, path, rotation=40.0)
    silent = paths[2]
    np.savez(silent, W1=found.W1, W2=found.W2, W3=found.W3)
    document = answer(capsys, *paths, "--rotation", "40")
    assert document["config"]["rotation"] == 40
    np.testing.assert_allclose([row["value"] for row in document["rows"]], np.tile(THETA, 3), rtol=1e-12, atol=1e-14)
    assert answer(capsys, *paths[:2])["rows"] == document["rows"][:38]
    assert answer(capsys, silent)["config"]["rotation"] == 90
    assert refused(capsys, *paths) == (
        f"FILE must be files of one rotation, which is 40 in '{paths[0]}' (here it is 90); got '{silent}'."
    )
    assert refused(capsys, silent, *paths, "--rotation", "41") == (
        f"--rotation must be the file's own, which is 40 in '{paths[0]}'; got '41'."
    )
    assert main(["project", str(paths[0])]) == 0
    assert "D = 2, rotation 40 degrees" in capsys.readouterr().out


def test_a_checkpoint_counts_once(capsys, series):
    """Two files that differ in their ending only are one step, written twice."""
    folder, _ = series
    save_weights(weights(), folder / "step_10.safetensors")
    assert refused(capsys, folder) == (
        f"FILE must be a folder in which no two files differ in their ending only; got '{folder}', "
        "which holds 'step_10.npz' and 'step_10.safetensors'."
    )
    assert len(answer(capsys, folder / "step_10.npz", folder / "step_10.safetensors")["files"]) == 2


NAMED = [("early checkpoint.npz", 1e290), ("late.npz", 1.23456789e297)]


def test_tables_hold_large_numbers_whole(capsys, tmp_path):
    paths = [save_weights(weights(-size * THETA), tmp_path / name) for name, size in NAMED]
    assert main(["project", *map(str, paths), "--times", "1e-90", "1.23456789e99", "--quiet"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "1.23457e+99" in line and "e+296" in line]
    place = [COORDINATES.index(name) for name in CIRCUIT]
    assert [word for word in line.split() if "e+29" in word] == [f"{-1.23456789e297 * THETA[k]:.5g}" for k in place]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--times", "1", "2"], "--times must be as many as files, which are 5 (here 2); got (1.0, 2.0)."),
        (
            ["--times", *"012233"],
            "--times must be as many as files, which are 5 (here 6); got (0.0, 1.0, 2.0, 2.0, 3.0, 3.0).",
        ),
        (["--times", *"01224"], "--times must be increasing from file to file, here above 2; got '2'."),
        (["--times", *"01243"], "--times must be increasing from file to file, here above 4; got '3'."),
        (["--times", "0", "-1", "2", "3", "4"], "--times must each be a finite flow time, at least 0"),
        (["--times", "0", "1", "2", "3", "nan"], "--times must each be a finite flow time, at least 0"),
        (["--times", "0", "1", "2", "3", "1e400"], "got '1e400'."),
        (["--times"], "--times must each be a finite flow time, at least 0 and at most 1e100; got no value."),
        (["--thresholds", "0"], "--thresholds must each be a finite number above 0; got '0'."),
        (["--rotation", "180"], "--rotation must be a finite angle in degrees"),
        (["--device", "abacus"], "--device must be cpu, gpu or tpu; got 'abacus'."),
        (["--output", ""], "--output must be the path of a folder; got ''."),
        (["--rotation", "90", "more.npz"], "--rotation takes one value; got 'more.npz' as well."),
        (["--measures", "loss"], "'--measures' is no option of induction-dynamics project"),
        (["--time", "3"], "'--time' is no option of induction-dynamics project; did you mean --times?"),
    ],
)
def test_options_that_are_refused(capsys, series, words, part):
    assert part in refused(capsys, series[0], *words)


def test_no_file_at_all(capsys):
    expected = "FILE is missing: it must be the path of a file of weights, or of a folder of them."
    assert refused(capsys) == expected
    assert refused(capsys, "--times", "1") == expected
    allowed = "FILE must each be the path of a file of weights, or of a folder of them"
    assert refused(capsys, "") == f"{allowed}; got ''."
    assert refused(capsys, "a.npz", "x\0.npz") == f"{allowed}; got 'x\\x00.npz'."


@pytest.mark.skipif(not os.path.exists("/proc"), reason="other systems refuse such names")
def test_names_that_are_no_text(capsys, tmp_path):
    names = [os.fsdecode(b"\xff_1.npz"), "a\n$2$[red].npz"]
    for name in names:
        save_weights(weights(), tmp_path / name)
    document = answer(capsys, tmp_path)
    assert [Path(file).name for file in document["config"]["files"]] == ["a\\n$2$[red].npz", "\\udcff_1.npz"]
    assert main(["project", str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "\\udcff_1.npz" in out and "a\\n$2$[red].npz" in out
    assert len(list(csv.DictReader((tmp_path / "out" / "rows.csv").read_text().splitlines()))) == 38


@pytest.mark.parametrize("size", [1e300, 1e-300, 5e-324, 0.0])
def test_numbers_of_any_size(capsys, tmp_path, size):
    """Drawn, shown and written; 1e300 times a thousand at a rotation of 0.06 degrees."""
    for step, factor in enumerate((0.0, -1.0, 1.0)):
        W1 = np.where(np.arange(16).reshape(4, 4) % 3 > 0, factor * size, 0.0)
        np.savez(tmp_path / f"{step}.npz", W1=W1, W2=np.full((8, 8), factor * size), W3=factor * np.eye(2, 16))
    words = ["project", str(tmp_path), "--rotation", "0.06", "--times", "0", "1e-300", "1e100"]
    thresholds = ["--thresholds", "1e-320", "1e-5", "1e300"]
    assert main([*words, *thresholds]) == 0
    capsys.readouterr()
    assert main([*words, *thresholds, "--output", str(tmp_path / "out"), "--json"]) == 0
    document = validate(capsys.readouterr().out)
    assert all(row["value"] is not None for row in document["rows"])
    assert all(value is not None for file in document["files"] for value in file["off_subspace"].values())


def test_exhausted_memory_is_a_sentence(capsys, monkeypatch, series):
    def fail(*arguments):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")

    monkeypatch.setattr("induction_dynamics.weights_files.project_file", fail)
    assert main(["project", str(series[0])]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "not enough memory" in err


def stored(suffix):
    with tempfile.TemporaryDirectory() as folder:
        return save_weights(weights(noise=0.1), Path(folder) / f"w{suffix}").read_bytes()


CONTENTS = {suffix: stored(suffix) for suffix in (".npz", ".safetensors")}


@st.composite
def file_contents(draw):
    """Bytes of any kind, beginnings of files, and files with some bytes changed."""
    suffix = draw(st.sampled_from(sorted(CONTENTS)))
    whole = CONTENTS[suffix]
    kind = draw(st.sampled_from(["any", "cut", "changed"]))
    if kind == "any":
        return suffix, draw(st.sampled_from([b"", whole[:40], whole[:200]])) + draw(st.binary(max_size=300))
    if kind == "cut":
        return suffix, whole[: draw(st.integers(0, len(whole)))]
    changed = bytearray(whole)
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=5)):
        changed[place] = value
    return suffix, bytes(changed)


@settings(deadline=None, max_examples=150)
@given(contents=st.lists(file_contents(), min_size=1, max_size=3), json_wanted=st.booleans())
def test_any_files(contents, json_wanted):
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        for place, (suffix, content) in enumerate(contents):
            (Path(folder) / f"{place}{suffix}").write_bytes(content)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["project", folder, *["--json"] * json_wanted])
        assert len(list(Path(folder).iterdir())) == len(contents)
    assert status in (0, 2)
    if status == 2:
        assert out.getvalue() == ""
        assert err.getvalue().startswith("FILE must be ") and err.getvalue().count("\n") == 1, err.getvalue()
        assert folder in err.getvalue()
    else:
        assert err.getvalue() == ""
        if json_wanted:
            validate(out.getvalue())
