"""What was traced is kept, used by the next process, and never missed where it is not whole."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics import traced
from induction_dynamics.traced import traced_once


class Found(NamedTuple):
    root: jax.Array
    power: jax.Array


class Line(eqx.Module):
    slope: jax.Array | np.ndarray
    kind: str


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where jax keeps its programs during the test."""
    before = os.environ["JAX_COMPILATION_CACHE_DIR"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "kept"))
    yield tmp_path / "kept"
    jax.config.update("jax_compilation_cache_dir", before)


def anew():
    """The function as a new process has it, and how often it was traced since."""
    count = []

    def solve(line, right, power):
        count.append(1)
        return formula(line, right, power)

    return traced_once(Found)(solve), count


def formula(line, right, power):
    ones = jnp.ones((len(right), len(right)), right.dtype)
    sign = -1.0 if line.kind == "down" else 1.0
    root = jnp.linalg.solve(jnp.eye(len(right), dtype=right.dtype) + line.slope * ones, sign * right)
    return Found(root, jnp.sum(right**power))


def line(kind="up"):
    return Line(jnp.asarray(0.5), kind)


def files(folder):
    return sorted(path.name for path in folder.glob("*-traced"))


RIGHT = jnp.arange(1.0, 4.0)


def test_traced_once_and_right(folder):
    first, count = anew()
    found = first(line(), RIGHT, 2)
    np.testing.assert_allclose(np.asarray(found.root), np.linalg.solve(np.eye(3) + 0.5, [1.0, 2.0, 3.0]), rtol=1e-14)
    assert float(found.power) == 14 and len(count) == 1 and len(files(folder)) == 1
    # not for other values of the same shape, and not by the next process
    first(line(), 2 * RIGHT, 2)
    second, again = anew()
    for mine, theirs in zip(second(line(), RIGHT, 2), found, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (len(count), len(again)) == (1, 0)
    # the digits are those of a program that was never kept
    plain = eqx.filter_jit(formula)(line(), RIGHT, 2)
    np.testing.assert_array_equal(plain.root, found.root)


@pytest.mark.parametrize(
    "words",
    [
        (line("down"), RIGHT, 2),
        (line(), RIGHT, 3),
        (line(), jnp.arange(1.0, 5.0), 2),
        (Line(jnp.float32(0.5), "up"), RIGHT.astype(jnp.float32), 2),
        (Line(jnp.asarray(np.float64(0.5)), "up"), RIGHT, 2),  # an array of no weak type
    ],
    ids=["a static field", "a number", "a shape", "a dtype", "a weak type"],
)
def test_another_program_is_another_file(words, folder):
    first, count = anew()
    first(line(), RIGHT, 2)
    second, again = anew()
    found = second(*words)
    assert len(again) == 1 and len(files(folder)) == 2
    expected = eqx.filter_jit(formula)(*words)
    np.testing.assert_array_equal(found.root, expected.root)


def change(package, monkeypatch):
    (package / "room" / "two.py").write_text("y = 3")


def rename(package, monkeypatch):
    (package / "one.py").rename(package / "three.py")


def move_a_line(package, monkeypatch):
    (package / "one.py").write_text("x = 1\n")
    (package / "room" / "two.py").write_text("y = 2")


def update(package, monkeypatch):
    monkeypatch.setattr(traced.importlib.metadata, "version", lambda name: "another")


def touch_something_else(package, monkeypatch):
    (package / "notes.txt").write_text("no source")


@pytest.mark.parametrize("what", [change, rename, move_a_line, update, touch_something_else])
def test_a_program_is_of_all_sources_and_of_what_traces_them(what, tmp_path, monkeypatch):
    (tmp_path / "room").mkdir()
    (tmp_path / "one.py").write_text("x = 1")
    (tmp_path / "room" / "two.py").write_text("\ny = 2")
    before = traced._surroundings(tmp_path)
    assert before is not None and before == traced._surroundings(tmp_path) and jax.__version__ in before
    what(tmp_path, monkeypatch)
    assert (traced._surroundings(tmp_path) == before) == (what is touch_something_else)


def test_other_sources_are_another_file(folder, monkeypatch):
    anew()[0](line(), RIGHT, 2)
    with monkeypatch.context() as patch:
        patch.setattr(traced, "_AT_IMPORT", ("other sources",))
        # and are not kept where they are no longer those on disk
        for _ in range(2):
            function, count = anew()
            function(line(), RIGHT, 2)
            assert len(count) == 1 and len(files(folder)) == 1
        patch.setattr(traced, "_surroundings", lambda package: ("other sources",))
        anew()[0](line(), RIGHT, 2)
        assert len(files(folder)) == 2


def test_sources_that_cannot_be_read(folder, tmp_path, monkeypatch):
    (tmp_path / ".#one.py").symlink_to("nobody@nowhere")  # as an editor leaves it
    assert traced._surroundings(tmp_path) is None
    monkeypatch.setattr(traced, "_AT_IMPORT", None)
    function, count = anew()
    assert float(function(line(), RIGHT, 2).power) == 14 and len(count) == 1 and files(folder) == []


@pytest.mark.parametrize("damage", ["empty", "cut", "one bit", "text", "a folder"])
def test_a_damaged_file_is_traced_anew(damage, folder):
    expected = anew()[0](line(), RIGHT, 2)
    (path,) = folder.glob("*-traced")
    whole = path.read_bytes()
    flipped = whole[:900] + bytes([whole[900] ^ 1]) + whole[901:]
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "cut": whole[:-7], "one bit": flipped, "text": b"not a program" * 9}[damage])
    function, count = anew()
    np.testing.assert_array_equal(function(line(), RIGHT, 2).root, expected.root)
    assert len(count) == 1
    # mended, where it can be
    function, count = anew()
    function(line(), RIGHT, 2)
    assert len(count) == (1 if damage == "a folder" else 0)
    assert not [each for each in folder.iterdir() if each.name.startswith(".")]


def test_nowhere_to_keep_it(folder):
    folder.write_text("no folder")
    function, count = anew()
    assert float(function(line(), RIGHT, 2).power) == 14
    assert len(count) == 1 and folder.read_text() == "no folder"


def test_without_a_cache_nothing_is_kept(folder, tmp_path):
    jax.config.update("jax_compilation_cache_dir", None)
    function, count = anew()
    assert float(function(line(), RIGHT, 2).power) == 14 and len(count) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_on_no_file_system(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/x")
    assert traced._folder() is None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    assert traced._folder() == folder


def test_threads_trace_once(folder):
    function, count = anew()
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(in_float64, function, line(), factor * RIGHT, 2) for factor in (1.0, 2.0, 3.0, 4.0)]
        assert [float(each.result().power) for each in found] == [14 * factor**2 for factor in (1, 2, 3, 4)]
    assert len(count) == 1 and len(files(folder)) == 1


def in_float64(function, *words):
    with jax.enable_x64(True):
        return function(*words)


def test_within_another_program(folder):
    function, _ = anew()
    derivative = jax.jit(jax.grad(lambda right: function(line(), right, 2).power))(RIGHT)
    np.testing.assert_array_equal(derivative, 2 * RIGHT)
    assert files(folder) == []


def test_arrays_of_numpy_are_arguments(folder):
    function, count = anew()
    for factor in (1.0, 2.0):
        found = function(Line(np.asarray(0.5), "up"), factor * np.arange(1.0, 4.0), 2)
        assert float(found.power) == 14 * factor**2
    assert len(count) == 1 and len(files(folder)) == 1


def test_what_has_no_lasting_name_is_not_kept(folder):
    function = traced_once(Found)(lambda give, right: give(right))
    for power in (2, 3):
        found = function(lambda right, power=power: Found(right, jnp.sum(right**power)), RIGHT)
        assert float(found.power) == sum(each**power for each in (1, 2, 3))
    assert files(folder) == []


def test_what_jax_cannot_write_down_is_not_kept(folder):
    def ask(right):
        power = jax.pure_callback(lambda at: np.sum(at**2), jax.ShapeDtypeStruct((), right.dtype), right)
        return Found(right, power)

    assert float(traced_once(Found)(ask)(RIGHT).power) == 14
    assert files(folder) == []


def test_an_error_is_that_of_the_function(folder):
    with pytest.raises(TypeError, match="incompatible shapes"):
        traced_once(Found)(lambda right: Found(right, right + jnp.ones(7)))(RIGHT)
    assert files(folder) == []


IN_A_PROCESS = """
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from typing import NamedTuple
from induction_dynamics.traced import traced_once

class Found(NamedTuple):
    root: jax.Array

def solve(matrix):
    print("traced")
    return Found(jnp.linalg.solve(matrix, jnp.ones(len(matrix))))

print(repr(traced_once(Found)(solve)(jnp.asarray([[2.0, 1.0], [1.0, 3.0]])).root.tolist()))
"""


def test_the_next_process_runs_what_was_kept(tmp_path):
    """LAPACK and all: jax loads it for what it traces itself only (jax-ml/jax#29610)."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "kept")}

    def run():
        command = [sys.executable, "-c", IN_A_PROCESS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    answer = repr(np.linalg.solve([[2.0, 1.0], [1.0, 3.0]], np.ones(2)).tolist())
    assert run() == ["traced", answer]
    assert run() == [answer]
