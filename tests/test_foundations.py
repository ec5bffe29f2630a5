"""What everything rests on: a jax that multiplies rightly, imports that go one way, and no global side effects."""

import ast
import graphlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import induction_dynamics

ROOT = "induction_dynamics"
FOLDER = Path(induction_dynamics.__file__).parent

LAYERS = (
    {"errors", "files", "provenance"},
    {"frames", "heads", "traced"},
    {"task", "copying"},
    {"token_task"},
    {"gram_matrices"},
    {"transformer"},
    {"pseudo_parameters"},
    {"transformer.progress", "transformer.structures", "transformer.ablation", "transformer.built"},
    {"weights_files"},
    {"reduced"},
    {"dynamics.trajectory", "dynamics.holds", "dynamics.collocation", "dynamics.radau", "dynamics.circuit_flow"},
    {"dynamics.solvers", "dynamics.explicit", "dynamics.pieces", "dynamics.flow", "dynamics.emergence"}
    | {"dynamics.__init__"},
    {"checkpoints"},
    {"training"},
    {"scaling.laws", "scaling.limits", "scaling.least_squares"},
    {
        "scaling.points",
        "scaling.sweep",
        "scaling.plan",
        "scaling.keys",
        "scaling.ledger",
        "scaling.workers",
        "scaling.study",
        "scaling.curves",
    }
    | {"scaling.labelled", "scaling.__init__"},
    {"plotting"},
    {"cli"},
    {"__main__"},
)
"""Floors of the package, lowest first. A file, or a room with all its files, imports what is on lower floors, and of
its own floor what is in the same room."""

ONLY = {"scaling.laws": {"errors"}, "scaling.limits": {"errors"}, "scaling.least_squares": {"errors", "scaling.laws"}}
"""Files that may import less than their floor allows: statistics and limits are mathematics, and need no jax."""

HEAVY = ("jax", "numpy", "scipy", "matplotlib", "jaxtyping", "diffrax")


def files():
    """Each module of the package by its dotted name within it; a package's own file ends in __init__."""
    return {".".join(path.relative_to(FOLDER).with_suffix("").parts): path for path in sorted(FOLDER.rglob("*.py"))}


def floor(module):
    """Number of the floor that a module is on; None for one that has none."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for number, names in enumerate(LAYERS):
            if name in names:
                return number
    return None


def imported(module, source, modules):
    """Pairs (module of the package, line) of every import in a source, also within functions and for types only."""
    package = [ROOT, *module.split(".")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ".".join([*package[: len(package) + 1 - node.level], *filter(None, [node.module])])
            origin = start if node.level else node.module or ""
            # a name taken from a package is one of its modules, or else something in its __init__
            targets = [origin if f"{origin}.{a.name}" not in modules else f"{origin}.{a.name}" for a in node.names]
        else:
            continue
        for target in targets:
            if target in modules and modules[target] != module:
                yield modules[target], node.lineno


def importable(names):
    """What an import statement calls each module."""
    return {f"{ROOT}.{name}".removesuffix(".__init__"): name for name in names}


def breaches(module, source, names):
    """A sentence for each import of a module that goes the wrong way."""
    place, found = floor(module), []
    for target, line in imported(module, source, importable(names)):
        if target == "__init__":
            continue
        other = floor(target)
        assert place is not None and other is not None, (module, target)
        same_room = other == place and target.split(".")[0] == module.split(".")[0]
        if not (other < place or same_room) or target not in ONLY.get(module, {target}):
            found.append(f"{module}, line {line}, imports {target}: that is not below it")
    return found


def run(code):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("dtype, rows", [(jnp.float64, 20_000), (jnp.float32, 40_000)])
def test_the_installed_jax_multiplies_rightly(dtype, rows):
    """Jitted vmap(matrix @ row) and a reduction: wrong on CPU in jax 0.10.2 (jax-ml/jax#39103)."""
    rng = np.random.default_rng(0)
    for matrix in (np.eye(3), rng.integers(-4, 5, size=(3, 3))):
        # whole numbers of few digits: no rounding, so equality is exact in either precision
        given = rng.integers(-20, 21, size=(rows, 3))
        computed = jax.jit(
            lambda table, m: jax.vmap(lambda row: jnp.sum(jnp.square(m @ row)))(table),
        )(jnp.asarray(given, dtype), jnp.asarray(matrix, dtype))
        np.testing.assert_array_equal(computed, np.sum((given @ matrix.T) ** 2, axis=1))


@pytest.mark.parametrize("module", sorted(files()))
def test_imports_go_one_way(module):
    if module == "__init__":
        return
    assert floor(module) is not None, f"{module} has no floor: give it one in LAYERS"
    source = files()[module].read_text()
    assert breaches(module, source, files()) == []


def test_no_import_goes_in_a_circle():
    graph = {
        module: {target for target, _ in imported(module, path.read_text(), importable(files()))} - {"__init__"}
        for module, path in files().items()
        if module != "__init__"
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "module, source",
    [
        ("task", "from induction_dynamics.reduced import gram"),
        ("task", "from induction_dynamics.reduced.gram import GramLoss"),
        ("task", "import induction_dynamics.reduced.gram"),
        ("task", "from . import pseudo_parameters"),
        ("reduced.gram", "def late():\n    from ..cli import main"),
        ("transformer.disentangled", "from induction_dynamics.pseudo_parameters import lift"),
        ("scaling.laws", "from induction_dynamics.task import Task"),
        ("scaling.sweep", "from induction_dynamics import plotting"),
        ("dynamics.trajectory", "from induction_dynamics.dynamics import flow"),
        ("dynamics.emergence", "if TYPE_CHECKING:\n    from ..training import gradient_descent"),
    ],
)
def test_a_planted_import_is_found(module, source):
    names = {*files(), "dynamics.flow", "dynamics.emergence", "dynamics.trajectory", "training.train"}
    assert len(breaches(module, source, names)) == 1


@pytest.mark.parametrize(
    "module, source",
    [
        ("reduced.circuit", "import jax\nfrom induction_dynamics.pseudo_parameters import CIRCUIT"),
        ("reduced.gram", "from .circuit import CircuitLoss"),
        ("dynamics.flow", "from .emergence import crossings"),
        ("cli.simulate", "from induction_dynamics import __version__"),
        ("scaling.laws", "from induction_dynamics.errors import ArgumentError"),
    ],
)
def test_a_right_import_is_not(module, source):
    assert breaches(module, source, {*files(), "dynamics.flow", "dynamics.emergence"}) == []


def test_importing_the_library_changes_no_setting_of_jax():
    modules = [
        f"{ROOT}.{name}".removesuffix(".__init__")
        for name in files()
        if name != "__init__" and name.split(".")[0] not in ("cli", "__main__")
    ]
    changed = run(
        "import importlib, jax\n"
        "before = dict(jax.config.values)\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "after = dict(jax.config.values)\n"
        "print([name for name in before if before[name] != after[name]], jax.config.jax_enable_x64)"
    )
    assert changed == "[] False"


@pytest.mark.parametrize("module", [ROOT, f"{ROOT}.cli"])
def test_importing_computes_nothing(module):
    assert run(f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


def test_version():
    assert induction_dynamics.__version__ == importlib.metadata.version("induction-dynamics")
