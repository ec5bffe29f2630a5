"""Any words at all: an answer or one sentence, never a traceback; and good words are what the answer is to."""

import contextlib
import csv
import io
import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from induction_dynamics.cli import COMMANDS, main
from induction_dynamics.cli.document import configuration
from induction_dynamics.cli.options import MEASURES
from induction_dynamics.cli.parsing import flags, parse
from induction_dynamics.cli.plans import as_toml, plan_of, read_plan
from induction_dynamics.dynamics.emergence import crossing_targets
from induction_dynamics.scaling.keys import point_order
from induction_dynamics.scaling.ledger import FILE, target_order
from induction_dynamics.scaling.plan import Grid
from induction_dynamics.scaling.points import Row
from induction_dynamics.training.optimizers import OPTIMIZERS
from induction_dynamics.transformer.disentangled import zero_weights
from induction_dynamics.weights_files import MATRICES, save_weights
from tests.cli.conftest import crossing
from tests.scaling.invented import circuit, entry, fill

OPTIONS = sorted({flag for command in COMMANDS.values() for flag in flags(command.options)})
VALUES = st.sampled_from(
    "0 1 4 8 -3 2.5 nan inf -inf 1e400 1e-400 x circuit subspace full last uniform isotropic loss alpha_3 180 90 "
    "cpu -- - -h --help --version = --=3 -1 0.5 1_0 7 10 999999999999 --no-json simulate swept plan.toml a.nc a.csv "
    "a.png model seed model=circuit batch-size=64 embedding_dim=2N+2 measure=loss bash adam sgd 0.01 none gamma_4=0@3 "
    "gamma_3=-1,alpha_3=2 hold=gamma_4=0 optimizer=gd steps=none start=x float64 cosine".split()
)
SWITCHES = sorted({flag for command in COMMANDS.values() for flag in flags(command.options, bool)})
WORDS = st.one_of(
    st.sampled_from(OPTIONS),
    st.sampled_from(OPTIONS),
    st.sampled_from(SWITCHES),
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
    "copies": st.one_of(st.just(1), st.integers(1, 8), st.integers(1, 10**12)),
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

RATES, SHARES = st.floats(1e-300, 1e300), st.floats(0, 1, exclude_max=True)
TRAINED: dict[str, st.SearchStrategy[Any]] = {
    "learning_rate": RATES,
    "momentum": SHARES,
    "b1": SHARES,
    "b2": SHARES,
    "eps": RATES,
    "weight_decay": st.floats(0, 1e300),
    "clip": RATES,
    "schedule": st.sampled_from(["constant", "cosine", "linear"]),
    "warmup": st.integers(0, 2**31 - 2**16),
    "steps": st.integers(1, 2**31 - 2**16),
    "start_scale": st.floats(0, 1e300),
    "start": st.sampled_from(["none", "gamma_3=-0.5", "alpha_3=1e-3,beta_2=2", "beta_12=0"]),
    "sequences": st.sampled_from([0, 1, 512, 10**9]),
    "shared_frames": st.sampled_from([1, 2, 10**9]),
    "dtype": st.sampled_from(["float32", "float64"]),
    "hold": st.sampled_from(["none", "gamma_3=-0.5", "alpha_3=1e-3@40,beta_2", "beta_12@0"]),
}
"""How the full model is trained, which a sweep takes several values of."""

COMPUTING = ("simulate", "sweep", "sweep", "train", "compare", "project")
OF_EMERGENCE, OF_PROJECT = ("measures", "thresholds", "loss_fractions"), ("rotation", "thresholds")
COMPARE = {name: value for name, value in GOOD.items() if name not in (*OF_EMERGENCE, "seed")}
COMPARE["seeds"] = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3, unique=True)
PROJECT = {name: GOOD[name] for name in OF_PROJECT}
FILES = st.lists(st.sampled_from(["silent.npz", "silent.safetensors", "right.npz"]), min_size=1, max_size=3)
TIMES = st.floats(0, 1e100)


@st.composite
def good_options(draw):
    """A command and options as the document should have them."""
    command = draw(st.sampled_from(COMPUTING))
    if command == "sweep":
        return command, draw(sweep_options())
    options = {"compare": COMPARE, "project": PROJECT}.get(command, GOOD)
    given: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=options))
    if command == "project":
        given["files"] = draw(FILES)
        if draw(st.booleans()):
            count = len(given["files"])
            given["times"] = sorted(draw(st.lists(TIMES, min_size=count, max_size=count, unique=True)))
    elif command == "compare":
        given["context_length"] = draw(LENGTHS)
    else:
        given["context_length"] = draw(LENGTHS)
        given["model"] = draw(st.sampled_from(["circuit", "subspace"])) if command == "simulate" else "full"
    return command, given


@st.composite
def sweep_options(draw):
    """Several values of any option, but not so many that there are very many points."""
    given: dict[str, Any] = {"context_lengths": draw(st.lists(LENGTHS, min_size=1, max_size=4, unique=True))}
    several = {"model": st.sampled_from(["circuit", "subspace", "full"]), "accuracy": st.floats(1e-10, 1e-2), **GOOD}
    points = len(given["context_lengths"])
    for name in draw(st.lists(st.sampled_from(list(several)), unique=True)):
        if name in OF_EMERGENCE:
            given[name] = draw(GOOD[name])
        else:
            given[name] = draw(st.lists(several[name], min_size=1, max_size=max(1, min(3, 16 // points)), unique=True))
            points *= len(given[name])
    if draw(st.booleans()):
        given["optimizer"] = draw(st.lists(st.sampled_from(OPTIMIZERS), min_size=1, max_size=2, unique=True))
        needed = ["learning_rate", "steps"] if given["optimizer"] != ["gd"] else []
        for name in {*needed, *draw(st.lists(st.sampled_from(list(TRAINED)), max_size=4, unique=True))}:
            most = 2 if points < 16 else 1
            given[name] = draw(st.lists(TRAINED[name], min_size=1, max_size=most, unique=True))
            points *= len(given[name])
    return given


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


def read(command, words):
    """The options as the document has them; of a sweep with those of its grid."""
    options = parse(COMMANDS[command], words)
    if command != "sweep":
        return configuration(options, "cpu")
    config = plan_of(options.points).as_dict()
    (grid,) = config.pop("grid")
    return config | grid


@settings(deadline=None, max_examples=80, derandomize=True)
@given(options=good_options(), random=st.randoms())
def test_options_are_read_as_they_are_written(options, random):
    """And an answer's configuration, typed again, is the same configuration: no digit is lost on the way."""
    command, given = options
    names = random.sample(sorted(given), len(given))
    config = read(command, as_words(given, names))
    assert {name: config[name] for name in given} == given
    again = json.loads(json.dumps(config))
    typed = {
        name: value
        for name, value in again.items()
        if name not in ("device_kind", "versions") and value is not None and value is not False and value != []
    }
    assert read(command, as_words(typed, typed)) == config


IN_TWO_UNITS = {
    "context_lengths": [1, 2],
    "model": ["circuit", "full"],
    "measures": ["alpha_1"],
    "optimizer": ["gd", "sgd"],
    "steps": [1],
    "learning_rate": [1.0],
}


@settings(
    deadline=None, max_examples=120, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(options=good_options(), table=st.booleans())
@example(options=("sweep", IN_TWO_UNITS), table=False)
def test_good_options_are_answered_or_refused_together(pretended, drawn, options, table):
    """A row for all that was asked for; or one sentence, and then nothing was computed."""
    command, given = options
    pretended.clear()
    plan: Any = None
    with tempfile.TemporaryDirectory() as folder:
        if command == "project":
            given = given | {"files": [str(write_weights(Path(folder) / name)) for name in given["files"]]}
        before = set(Path(folder).rglob("*"))
        words = [] if table else ["--json"]
        if command == "sweep":
            words += ["--output", str(Path(folder) / "out")]
        status, out, err = ran([command, *as_words(given, given), *words])
        written = sorted(path.name for path in {*Path(folder).rglob("*")} - before)
        expected: list[str] = []
        if status == 0 and command == "sweep":
            plan = read_plan(str(Path(folder) / "out" / "plan.toml")).as_dict()
            with open(Path(folder) / "out" / "rows.csv", newline="") as file:
                units = {row["time_unit"] for row in csv.DictReader(file)}
            # flow times and steps are on no one picture
            expected = [name for name in SWEPT if len(units) == 1 or not name.startswith("emergence_times")]
    if status:
        assert (status, out, pretended, written) == (2, "", [], [])
        assert err.count("\n") == 1 and err.strip()
        return
    assert err == "" and written == expected
    if table:
        # a line is longer only where its cells are, or for the columns of options of which there are several values
        wide = command == "sweep" and any(len(values) > 1 for name, values in given.items() if name not in NARROW)
        # what a training starts from may differ from what a reduced flow does
        wide |= "start_scale" in given
        assert max(map(len, out.splitlines())) <= 80 or "e+" in out or "e-" in out or wide
        return
    document = json.loads(out)
    if command == "sweep":
        check_sweep(document, pretended, given, plan)
        return
    assert {name: document["config"][name] for name in given} == given
    check = {"compare": check_comparison, "project": check_projection}.get(command, check_run)
    check(document, pretended)


SWEPT = sorted(["out", "rows.csv", "fits.json", "plan.toml", "emergence_times.png", "emergence_times.svg"])
SWEPT = sorted([*SWEPT, "ledger.sqlite", "ledger.lock"])
NARROW = ("context_lengths", "model", *OF_EMERGENCE)


def ran(argv):
    """Status, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(argv)
    return status, out.getvalue(), err.getvalue()


def check_run(document, pretended):
    """A row for each measure and level asked for."""
    (((point,), asked),) = pretended
    for name in OF_EMERGENCE:
        assert list(asked[name]) == document["config"][name]
    targets = crossing_targets(**{name: asked[name] for name in OF_EMERGENCE})
    assert document["rows"] == [vars(row) for row in Row.of(point, [crossing(point, *target) for target in targets])]


def check_sweep(document, pretended, given, plan):
    """A row for each point, measure and level, in the order of all tables; each point is computed once."""
    config = {name: document["config"][name] for name in (*OF_EMERGENCE, "grid")}
    assert plan == config and {name: (config | config["grid"][0])[name] for name in given} == given
    points = [point for points, _ in pretended for point in points]
    grid = Grid(**{name: tuple(values) for name, values in given.items() if name not in OF_EMERGENCE})
    assert set(points) == set(grid.points()) and len(points) == document["computed"] == len(set(points))
    targets = sorted(crossing_targets(**{name: config[name] for name in OF_EMERGENCE}), key=target_order)
    assert all(asked["targets"] == targets for _, asked in pretended)
    assert document["rows"] == [
        vars(row)
        for point in sorted(points, key=point_order)
        for row in Row.of(point, [crossing(point, *target) for target in targets])
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


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A ledger, to be copied."""
    return fill(tmp_path_factory.mktemp("fuzz"), [entry(circuit(length)) for length in (4, 8, 16)]) / FILE


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from([*COMMANDS, *COMMANDS, "x", ""]), words=st.lists(WORDS, max_size=7), good=st.booleans())
def test_any_words(pretended, drawn, swept, command, words, good):
    if good:
        first = {"sweep": ["--context-lengths", "4", "--output", "out"], "export": ["swept", "--to", "a.csv"]}
        first |= dict.fromkeys(("status", "fit", "plot"), ["swept"])
        words = [*first.get(command, ["--context-length", "4"]), *words]
    with in_a_new_folder() as folder:
        (folder / "swept").mkdir()
        shutil.copyfile(swept, folder / "swept" / FILE)
        (folder / "plan.toml").write_text("context_lengths = [4, 8]")
        before = set(folder.rglob("*"))
        status, out, err = ran([command, *words])
        written = set(folder.rglob("*")) - before
    assert status in (0, 2)
    if status == 2:
        assert out == "" and written == set()
        assert err.count("\n") == 1 and err.strip(), err
    else:
        assert err == ""
        assert out or "--quiet" in words


@contextlib.contextmanager
def in_a_new_folder():
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield Path(folder)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(given=sweep_options(), alone=st.booleans())
def test_a_plan_is_what_its_options_are(given, alone):
    """Typed as options or written to a file; and a plan written to a file is read again."""
    table = {name: values[0] if alone and len(values) == 1 else values for name, values in given.items()}
    with in_a_new_folder() as folder:
        typed = ran(["sweep", *as_words(given, given), "--dry-run", "--json"])
        (folder / "plan.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
        written = ran(["sweep", "--plan", "plan.toml", "--dry-run", "--json"])
        assert typed[:2] == written[:2]
        plan = read_plan("plan.toml")
        (folder / "again.toml").write_text(as_toml(plan), encoding="utf-8")
        assert read_plan("again.toml") == plan


SOME = {name: values for name, values in GOOD.items() if name not in OF_EMERGENCE}
SOME |= {"model": st.sampled_from(["circuit", "subspace", "full"]), "accuracy": st.floats(1e-10, 1e-2)}
SOME |= {"context_lengths": LENGTHS, "embedding_dim": st.integers(50, 100).map(lambda half: 2 * half)}
RANGE = {"from": st.integers(1, 9), "to": LENGTHS, "per_decade": st.integers(1, 3)}
BEYOND = {name: GOOD[name] for name in OF_EMERGENCE}
SCALARS = st.one_of(
    st.text(max_size=5),
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.sampled_from(["--seed", "-h", "4 8", "4", "full", "--seed=3"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)


@st.composite
def tables(draw, most, good):
    """Options by their names with values that they take, and unless good now and then anything by any name."""
    names = draw(st.lists(st.sampled_from([*SOME]), max_size=most, unique=True))
    table = {name: draw(st.one_of(SOME[name], st.lists(SOME[name], min_size=1, max_size=2))) for name in names}
    if not good and draw(st.booleans()):
        table[draw(st.one_of(st.sampled_from([*SOME, *BEYOND, "grid", "seeds"]), st.text(max_size=5)))] = draw(ANYTHING)
    return table


@st.composite
def plans(draw):
    """The bytes of a file: a table of options, with grids or without; if not good, damaged or something else."""
    good = draw(st.booleans())
    if not good and draw(st.integers(0, 4)) == 0:
        return draw(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)))
    table = draw(tables(4, good))
    if good or draw(st.booleans()):
        table |= draw(st.fixed_dictionaries({"context_lengths": LENGTHS}, optional=BEYOND))
    elif draw(st.booleans()):
        table |= draw(st.fixed_dictionaries(RANGE))
    if draw(st.booleans()):
        table["grid"] = draw(st.lists(tables(3, good), min_size=good, max_size=3))
    content = tomli_w.dumps(table).encode()
    if not good and draw(st.booleans()):
        place, damages = draw(st.integers(0, len(content))), [b"", b"=", b"[", b"]]", b'"', b"\0", b"\xff"]
        content = content[:place] + draw(st.sampled_from(damages)) + content[place + 1 :]
    return content


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=plans(), words=st.sampled_from([["--dry-run"], ["--dry-run", "--json"], ["--output", "out", "--json"]]))
def test_any_plan(pretended, drawn, content, words):
    """An answer, or one sentence that names the plan; then nothing was computed or written."""
    pretended.clear()
    with in_a_new_folder() as folder:
        (folder / "plan.toml").write_bytes(content)
        status, out, err = ran(["sweep", "--plan", "plan.toml", *words])
        written = sorted(path.name for path in folder.rglob("*"))
    if status == 0:
        assert err == "" and ("points" in json.loads(out) if words[-2:] == ["--dry-run", "--json"] else out)
        assert written == sorted([*(SWEPT if "out" in words else []), *(["plan.toml"])])
        assert bool(pretended) == ("out" in words)
    else:
        assert (status, out, pretended, written) == (2, "", [], ["plan.toml"])
        assert err.startswith("The plan 'plan.toml'") and err.count("\n") == 1, err
