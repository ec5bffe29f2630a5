"""Any words at all: an answer or one sentence, never a traceback; and good words are what the answer is to."""

import contextlib
import importlib
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from induction_dynamics.cli import COMMANDS, main
from induction_dynamics.cli.document import configuration
from induction_dynamics.cli.options import MEASURES
from induction_dynamics.cli.parsing import flags, parse
from induction_dynamics.transformer.disentangled import zero_weights
from induction_dynamics.weights_files import MATRICES, save_weights

OPTIONS = sorted(
    {flag for command in COMMANDS.values() for flag in flags(command.options)} - {"--output", "--save-weights"}
)
VALUES = st.sampled_from(
    "0 1 4 8 -3 2.5 nan inf -inf 1e400 1e-400 x circuit subspace full last uniform isotropic loss alpha_3 180 90 "
    "cpu -- - -h --help --version = --=3 -1 0.5 1_0 7 10 999999999999 --no-json simulate".split()
)
WORDS = st.one_of(
    st.sampled_from(OPTIONS),
    st.sampled_from(OPTIONS),
    VALUES,
    VALUES,
    st.builds("{}={}".format, st.sampled_from(OPTIONS), VALUES),
    st.text(max_size=6),
)


LENGTHS = st.one_of(st.integers(1, 40), st.integers(1, 10**12))
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "inputs": st.sampled_from(["orthonormal", "isotropic"]),
    "query": st.sampled_from(["last", "uniform"]),
    "rotation": st.floats(-1e6, 1e6).filter(lambda degrees: abs(math.sin(math.radians(degrees))) >= 1e-3),
    "embedding_dim": st.one_of(st.integers(2, 200), st.integers(2, 10**13)),
    "measures": st.lists(st.sampled_from(MEASURES), min_size=1, unique=True),
    "thresholds": st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=4, unique=True),
    "loss_fractions": st.lists(st.floats(1e-300, 1, exclude_max=True), min_size=1, max_size=4, unique=True),
    "horizon": st.floats(1e-300, 1e9),
    "batch_size": st.integers(1, 10**9),
    "step": st.floats(1e-300, 1e6),
    "samples": st.integers(1, 10**9),
    "seed": st.integers(0, 2**32 - 1),
}
"""Every value that an option takes by itself; together the library may still refuse them."""

OF_EMERGENCE, OF_PROJECT = ("measures", "thresholds", "loss_fractions"), ("rotation", "thresholds")
COMPARE = {name: value for name, value in GOOD.items() if name not in (*OF_EMERGENCE, "seed")}
COMPARE["seeds"] = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3, unique=True)
PROJECT = {name: GOOD[name] for name in OF_PROJECT}
FILES = st.lists(st.sampled_from(["silent.npz", "silent.safetensors", "right.npz"]), min_size=1, max_size=3)
TIMES = st.floats(0, 1e100)


@st.composite
def good_options(draw):
    """A command and options as the document should have them."""
    command = draw(st.sampled_from(list(COMMANDS)))
    options = {"compare": COMPARE, "project": PROJECT}.get(command, GOOD)
    given: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=options))
    if command == "project":
        given["files"] = draw(FILES)
        if draw(st.booleans()):
            count = len(given["files"])
            given["times"] = sorted(draw(st.lists(TIMES, min_size=count, max_size=count, unique=True)))
    elif command == "compare":
        given["context_length"] = draw(LENGTHS)
    elif command == "sweep":
        given["context_lengths"] = draw(st.lists(LENGTHS, min_size=1, max_size=6, unique=True))
        given["model"] = draw(st.lists(st.sampled_from(["circuit", "subspace", "full"]), min_size=1, unique=True))
    else:
        given["context_length"] = draw(LENGTHS)
        given["model"] = draw(st.sampled_from(["circuit", "subspace"])) if command == "simulate" else "full"
    return command, given


def as_words(options, draw_order):
    """The options as typed, in any order, values after an equals sign where there is one; files come first."""
    words = list(options.get("files", []))
    for name in draw_order:
        if name == "files":
            continue
        value, flag = options[name], "--" + name.replace("_", "-")
        if isinstance(value, list):
            words += [flag, *map(str, value)]
        else:
            words.append(f"{flag}={value}")
    return words


@settings(deadline=None, max_examples=80, derandomize=True)
@given(options=good_options(), random=st.randoms())
def test_options_are_read_as_they_are_written(options, random):
    """And an answer's configuration, typed again, is the same configuration: no digit is lost on the way."""
    command, given = options
    lengths = given.get("context_lengths", [])
    rest = ["--output", "x"] if command == "sweep" else []
    names = random.sample(sorted(given), len(given))
    config = configuration(parse(COMMANDS[command], as_words(given, names) + rest), "cpu", lengths)
    assert {name: config[name] for name in given} == given
    again = json.loads(json.dumps(config))
    typed = {
        name: value
        for name, value in again.items()
        if name not in ("device_kind", "versions") and value is not None and value != []
    }
    assert configuration(parse(COMMANDS[command], as_words(typed, typed) + rest), "cpu", lengths) == config


@settings(
    deadline=None, max_examples=120, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(options=good_options(), table=st.booleans())
def test_good_options_are_answered_or_refused_together(pretended, options, table):
    """A row for all that was asked for; or one sentence, and then nothing was computed."""
    command, given = options
    pretended.clear()
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, without_figure():
        if command == "project":
            given = given | {"files": [str(write_weights(Path(folder) / name)) for name in given["files"]]}
        before = set(Path(folder).rglob("*"))
        words = [] if table else ["--json"]
        if command == "sweep":
            words += ["--output", str(Path(folder) / "out")]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([command, *as_words(given, given), *words])
        written = sorted(path.name for path in {*Path(folder).rglob("*")} - before)
    if status:
        assert (status, out.getvalue(), pretended, written) == (2, "", [], [])
        assert err.getvalue().count("\n") == 1 and err.getvalue().strip()
        return
    assert err.getvalue() == ""
    assert written == (["config.json", "fits.json", "out", "rows.csv", "sweep.json"] if command == "sweep" else [])
    if table:
        # a line is longer only where its cells are
        assert max(map(len, out.getvalue().splitlines())) <= 80 or "e+" in out.getvalue() or "e-" in out.getvalue()
        return
    document = json.loads(out.getvalue())
    assert {name: document["config"][name] for name in given} == given
    check = {"compare": check_comparison, "project": check_projection}.get(command, check_sweep)
    check(document, pretended)


def check_sweep(document, pretended):
    """A row for each model, length, measure and level asked for."""
    ((points, asked),) = pretended
    for name in OF_EMERGENCE:
        assert list(asked[name]) == document["config"][name]
    levels = [
        (measure, level)
        for measure in asked["measures"]
        for level in asked["loss_fractions" if measure == "loss" else "thresholds"]
    ]
    assert [(row["model"], row["context_length"], row["measure"], row["threshold"]) for row in document["rows"]] == [
        (point.model, point.task.context_length, *level) for point in points for level in levels
    ]


def check_comparison(document, pretended):
    """A row for each measure, a curve for each seed, and emergence times of every run."""
    seeds = document["config"]["seeds"]
    assert [row["measure"] for row in document["rows"]] == list(MEASURES) and pretended == []
    for curve in document["curves"]["measures"].values():
        assert [name for name in curve if "trained" in name] == [f"trained_{seed}" for seed in seeds]
    flows = len(seeds) if document["config"]["inputs"] == "isotropic" else 1
    models = [row["model"] for row in document["emergence"]]
    assert models == ["subspace"] * 4 * flows + ["full"] * 4 * len(seeds)


def check_projection(document, pretended):
    """Nineteen coordinates of each file, and each level of the three."""
    files, levels = document["config"]["files"], document["config"]["thresholds"]
    assert [row["coordinate"] for row in document["rows"]] == list(MEASURES[:-1]) * len(files) and pretended == []
    if len(files) > 1:
        assert [row["threshold"] for row in document["emergence"]] == levels * 3


def write_weights(path):
    """A small file of weights; its first word tells whether it states a rotation."""
    weights = zero_weights(2)
    if path.stem == "right":
        return save_weights(weights, path)
    arrays = {name: np.asarray(getattr(weights, name)) for name in MATRICES}
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **arrays)
    else:
        save_file(arrays, path)
    return path


@contextlib.contextmanager
def without_figure():
    """A sweep draws nothing and writes all but its pictures."""
    sweep = importlib.import_module("induction_dynamics.cli.sweep")
    figures = importlib.import_module("induction_dynamics.plotting.emergence_times")
    writers = sweep._writers

    def texts(document, printed):
        return {
            name: write
            for name, write in writers(document, printed).items()
            if Path(name).suffix not in (".png", ".svg")
        }

    drawing = mock.patch.object(figures, "plot_emergence_times", lambda *rows_and_fits: None)
    with drawing, mock.patch.object(sweep, "_writers", texts):
        yield


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from([*COMMANDS, *COMMANDS, "x", ""]), words=st.lists(WORDS, max_size=7), good=st.booleans())
def test_any_words(pretended, command, words, good):
    if good:
        words = ["--context-length", "4", *words]
    out, err = io.StringIO(), io.StringIO()
    nothing = mock.patch.object(
        importlib.import_module("induction_dynamics.cli.sweep"), "_writers", lambda document: {}
    )
    with nothing, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([command, *words])
    assert status in (0, 2)
    if status == 2:
        assert out.getvalue() == ""
        assert err.getvalue().count("\n") == 1 and err.getvalue().strip(), err.getvalue()
    else:
        assert err.getvalue() == ""
        assert out.getvalue()
