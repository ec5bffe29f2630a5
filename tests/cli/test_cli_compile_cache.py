"""Compiled programs are kept for the next process; a cache that does not work is never noticed."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest

from induction_dynamics.cli.compile_cache import cache_folder, harmless_cache, keep_programs
from induction_dynamics.transformer.disentangled import zero_weights
from induction_dynamics.weights_files import save_weights

SIMULATE = ("simulate", "--context-length", "4", "--json")
SETTINGS = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "TF_CPP_MIN_LOG_LEVEL")
HOMES = ("HOME", "USERPROFILE", "XDG_CACHE_HOME")

# The real command, but that its sweep runs one small program; jax is imported as late as by the real one.
SMALL = """
import resource, shutil, sys
from induction_dynamics.cli import computing, main, simulate

def sweep(points, **asked):
    import jax, jax.numpy as jnp
    from induction_dynamics.dynamics.emergence import Emergence
    from induction_dynamics.scaling.points import Row

    {before}
    def flow(x):
        return jnp.linalg.norm(jnp.sin(x @ x.T))
    time = float(jax.jit(flow)(jnp.arange(6.0).reshape(2, 3)))
    return Row.of(points[0], [Emergence("loss", 0.5, time, "emerged", True)])

def make_points(*args):
    from induction_dynamics.scaling import sweep as module

    module.sweep = sweep
    return computing.make_points(*args)

simulate.make_points = make_points
sys.exit(main())
"""


def start(command, folder, **settings):
    """A process that has only these settings and whose home is `folder / "home"`, which it is told to exist."""
    (folder / "home").mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, *HOMES)}
    environment |= {"HOME": str(folder / "home")} | settings
    environment = {name: value for name, value in environment.items() if value is not None}
    (folder / "here").mkdir(exist_ok=True)
    return subprocess.Popen(
        command, cwd=folder / "here", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def answered(process):
    """What a process printed, which must have ended well and without a word on standard error."""
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    return out


def small(folder, words=SIMULATE, before="", **settings):
    return answered(start([sys.executable, "-c", SMALL.format(before=before), *words], folder, **settings))


def files(folder):
    """Every file below a folder, and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def programs(folder):
    """Which programs are kept below a folder; the rest of an entry's name depends on where that is."""
    return sorted(path.name.partition("-")[0] for path in folder.rglob("*-cache"))


def flow_entry(folder):
    (entry,) = [path for path in folder.rglob("jit_flow-*-cache")]
    return entry


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The answer without a cache, and a home whose cache was filled."""
    folder = tmp_path_factory.mktemp("expected")
    answer = small(folder, JAX_ENABLE_COMPILATION_CACHE="false")
    assert files(folder) == {}
    assert small(folder) == answer
    return answer, folder


def test_where_it_is():
    home = {"HOME": "/home/me"}
    own = Path("induction-dynamics", "jax")
    assert cache_folder(home) == "/home/me/.cache" / own
    assert cache_folder({"USERPROFILE": "/home/me"}) == "/home/me/.cache" / own
    assert cache_folder(home | {"XDG_CACHE_HOME": "/scratch"}) == "/scratch" / own
    assert cache_folder(home | {"XDG_CACHE_HOME": "scratch"}) == cache_folder(home)
    assert cache_folder(home | {"XDG_CACHE_HOME": ""}) == cache_folder(home)
    assert cache_folder({}) is None
    assert cache_folder({"HOME": "", "XDG_CACHE_HOME": ""}) is None
    assert cache_folder({"HOME": "home"}) is None


def test_what_is_settled_stays(monkeypatch):
    """As in a process that has computed before; here the tests have told jax their own folder."""
    assert os.environ["JAX_COMPILATION_CACHE_DIR"]
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    keep_programs()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    keep_programs()
    assert [getattr(jax.config, name) for name in names] == before


def test_only_warnings_of_the_cache_are_silent():
    with pytest.warns(UserWarning) as shown, harmless_cache():
        warnings.warn("Error reading persistent compilation cache entry for 'jit_f': E: x", stacklevel=1)
        warnings.warn("Error writing persistent compilation cache entry for 'jit_f': E: x", stacklevel=1)
        warnings.warn("Error of another kind", stacklevel=1)
    assert [str(one.message) for one in shown] == ["Error of another kind"]


@pytest.mark.slow
def test_the_second_process_of_the_real_thing_compiles_nothing(tmp_path):
    command = [sys.executable, "-m", "induction_dynamics", "simulate", "--context-length", "3", "--json"]
    first = answered(start(command, tmp_path))
    kept = files(tmp_path)
    folder = str(Path("home", ".cache", "induction-dynamics", "jax"))
    assert kept and all(name.startswith(folder) for name in kept)
    compiled = [name for name in kept if name.endswith("-cache")]
    # of three coordinates and nineteen, nothing else is traced for as long as this
    assert [Path(name).name.split("-")[0] for name in kept.keys() - compiled] == ["collocate"]
    process = start(command, tmp_path, JAX_LOG_COMPILES="1", JAX_EXPLAIN_CACHE_MISSES="1")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (0, first)
    assert err.count("Persistent compilation cache hit") >= len(compiled)
    assert "PERSISTENT COMPILATION CACHE MISS" not in err
    assert files(tmp_path) == kept


def test_nothing_is_written_elsewhere(tmp_path, expected):
    assert small(tmp_path, XDG_CACHE_HOME=str(tmp_path / "xdg")) == expected[0]
    assert {name.split(os.sep)[0] for name in files(tmp_path)} == {"xdg"}
    assert len(list((tmp_path / "xdg" / "induction-dynamics" / "jax").iterdir())) == len(files(tmp_path))


def test_a_folder_that_jax_was_told_is_used_as_jax_does(tmp_path, expected):
    told = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "told")}
    assert small(tmp_path, **told) == expected[0]
    assert files(tmp_path) == {}  # jax's own threshold, which so small a program is below
    assert small(tmp_path, **told, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0") == expected[0]
    assert {name.split(os.sep)[0] for name in files(tmp_path)} == {"told"}
    flow_entry(tmp_path).write_bytes(b"")
    assert small(tmp_path, **told) == expected[0]
    assert flow_entry(tmp_path).read_bytes() == b""  # what is in it is left to its owner


@pytest.mark.parametrize(
    "settings",
    [
        {"JAX_ENABLE_COMPILATION_CACHE": "false"},
        {"JAX_COMPILATION_CACHE_DIR": ""},
        {"HOME": None},
        {"HOME": "home"},
        {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "60"},
    ],
    ids=lambda settings: "-".join(f"{name}={value}" for name, value in settings.items()),
)
def test_without_a_cache(tmp_path, expected, settings):
    assert small(tmp_path, **settings) == expected[0]
    assert files(tmp_path) == {}


@pytest.mark.parametrize("blocked", ["home", "home/.cache", "home/.cache/induction-dynamics/jax"])
def test_a_folder_that_is_a_file(tmp_path, expected, blocked):
    path = tmp_path / blocked
    if blocked == "home":
        path = tmp_path / "file"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    assert small(tmp_path, HOME=str(path if blocked == "home" else tmp_path / "home")) == expected[0]
    assert list(files(tmp_path).values()) == [b"mine"]


@pytest.mark.parametrize("name", ["JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"])
def test_a_folder_that_nobody_can_make(tmp_path, expected, name):
    # Not even root can make a folder there.
    assert small(tmp_path, **{name: "/proc/none"}) == expected[0]
    assert files(tmp_path) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path, expected):
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o500)
    assert small(tmp_path) == expected[0]
    assert files(tmp_path) == {}


def test_warnings_made_errors_do_not_end_a_command(tmp_path, expected):
    assert small(tmp_path, XDG_CACHE_HOME="/proc/none", PYTHONWARNINGS="error::UserWarning") == expected[0]


def test_a_full_disk(tmp_path, expected):
    before = "resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))"
    assert small(tmp_path, before=before) == expected[0]
    assert not any(size >= 100 for size in map(len, files(tmp_path).values()))
    assert small(tmp_path) == expected[0]
    assert programs(tmp_path) == programs(expected[1])
    assert all(len(entry) > 100 for entry in files(tmp_path).values())


def test_a_folder_that_vanishes(tmp_path, expected):
    folder = tmp_path / "home" / ".cache" / "induction-dynamics" / "jax"
    before = f"jnp.arange(5.0) + 1; shutil.rmtree({str(folder)!r})"
    assert small(tmp_path, before=before) == expected[0]
    assert files(tmp_path) == {}
    assert small(tmp_path) == expected[0]
    assert programs(tmp_path) == programs(expected[1])


def test_a_damaged_entry_is_replaced(tmp_path, expected):
    small(tmp_path)
    kept, whole = files(tmp_path).keys(), flow_entry(tmp_path).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[::-1]):
        flow_entry(tmp_path).write_bytes(damaged)
        assert small(tmp_path) == expected[0]
        assert files(tmp_path).keys() == kept
        assert flow_entry(tmp_path).stat().st_size > 1000
    mended = flow_entry(tmp_path).stat().st_mtime_ns
    assert small(tmp_path) == expected[0]
    assert flow_entry(tmp_path).stat().st_mtime_ns == mended


def test_an_entry_that_is_a_folder(tmp_path, expected):
    small(tmp_path)
    entry = flow_entry(tmp_path)
    entry.unlink()
    entry.mkdir()
    assert small(tmp_path) == expected[0]


def test_several_processes_at_once(tmp_path, expected):
    command = [sys.executable, "-c", SMALL.format(before=""), *SIMULATE]
    assert [answered(one) for one in [start(command, tmp_path) for _ in range(3)]] == [expected[0]] * 3
    assert programs(tmp_path) == programs(expected[1])


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["simulate", "--help"], 0),
        (["simulate", "--context-length", "x"], 2),
        (["simulate", "--context-length", "4", "--embedding-dim", "7"], 2),
        (["simulate", "--context-length", "99999999", "--rotation", "60"], 2),
        (["project", "weights.npz"], 0),
        (["project", "weights.npz", "weights.npz"], 0),
        (["project", "none.npz"], 2),
        (["sweep", "--context-lengths", "4", "--dry-run"], 0),
        (["sweep", "--context-lengths", "99999999", "--rotation", "60", "--output", "out"], 2),
        (["sweep", "--plan", "none.toml", "--output", "out"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_compiles_nothing_makes_no_folder(tmp_path, words, status):
    (tmp_path / "here").mkdir()
    save_weights(zero_weights(2), tmp_path / "here" / "weights.npz")
    process = start([sys.executable, "-m", "induction_dynamics", *words], tmp_path)
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, err == "") == (status, status == 0)
    assert list((tmp_path / "home").iterdir()) == []
    assert files(tmp_path).keys() == {str(Path("here", "weights.npz"))}
