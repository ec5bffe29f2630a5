"""Programs that jax has traced, kept on disk beside those that it has compiled.

jax looks up a compiled program by what tracing the Python code gives, and for the flows here tracing takes longer than
loading the compiled program and running it. So what tracing gives (StableHLO, as `jax.export` writes it) is kept, too,
under a name that has a digest of this package's sources, the versions of the libraries, and the arguments' shapes.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax import export
from jax.core import Tracer

from induction_dynamics.files import written_whole

_Arrays = TypeVar("_Arrays", bound=tuple[Any, ...])
_LIBRARIES = ("jax", "jaxlib", "diffrax", "equinox", "lineax", "numpy", "optimistix")


def _surroundings(package: Path) -> tuple[str, ...] | None:
    """All sources of the package, to the letter, and the versions of what traces them; None if they cannot be read."""
    sources = hashlib.sha256()
    try:
        for path in sorted(package.rglob("*.py")):
            content = path.read_bytes()
            sources.update(f"{path.relative_to(package)} {len(content)} ".encode() + content)
        return sources.hexdigest(), *map(importlib.metadata.version, _LIBRARIES)
    except (OSError, importlib.metadata.PackageNotFoundError):
        return None


_PACKAGE = Path(__file__).parent
_AT_IMPORT = _surroundings(_PACKAGE)  # of the code that runs, whatever becomes of the files


def traced_once(arrays: Callable[..., _Arrays]) -> Callable[[Callable[..., _Arrays]], Callable[..., _Arrays]]:
    """Compile a function as `equinox.filter_jit` does, and trace it no more than once as long as it stays what it is.

    For functions of this package that depend on nothing but their positional arguments: arrays, numbers, strings, and
    pytrees of them. Kept is what was traced where jax keeps what it has compiled, if it does. A file that is not whole
    is not used; one that cannot be written is not missed. Threads that ask for the same program wait for the first.

    Args:
        arrays: the NamedTuple of arrays that the function returns.
    """

    def decorate(function: Callable[..., _Arrays]) -> Callable[..., _Arrays]:
        plain = eqx.filter_jit(function)
        programs: dict[str, Callable[..., Any]] = {}
        lock = threading.Lock()

        @functools.wraps(function)
        def call(*arguments: Any) -> _Arrays:
            leaves, structure = jax.tree.flatten(arguments)
            given = [leaf for leaf in leaves if _is_array(leaf)]
            fixed = [None if _is_array(leaf) else leaf for leaf in leaves]
            described = f"{structure} {fixed}"
            nameless = any(not isinstance(leaf, (str, int, float)) for leaf in fixed if leaf is not None)
            folder = _folder()
            if folder is None or nameless or " at 0x" in described or not all(map(_is_here, given)):
                return plain(*arguments)
            name = _name_of(function, given, described)
            if name in programs:
                return arrays(*programs[name](*given))

            def flat(*given: jax.Array) -> tuple[jax.Array, ...]:
                arrays_in_order = iter(given)
                whole = [next(arrays_in_order) if _is_array(leaf) else leaf for leaf in leaves]
                return tuple(function(*jax.tree.unflatten(structure, whole)))

            with lock:  # until it has been called, by which it is compiled
                if name not in programs:
                    exported = _exported(flat, given, folder / name)
                    if exported is None:
                        return plain(*arguments)
                    programs[name] = _compiled(exported, function.__name__)
                return arrays(*programs[name](*given))

        return call

    return decorate


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))


def _is_here(leaf: Any) -> bool:
    """Whether it is an array with values, on the kind of device that programs are traced for."""
    if isinstance(leaf, Tracer):
        return False
    return not isinstance(leaf, jax.Array) or {at.platform for at in leaf.devices()} == {jax.default_backend()}


def _setting(name: str) -> Any:
    return getattr(jax.config, name, None)


def _folder() -> Path | None:
    """Where jax keeps what it has compiled; None if it does not, or on no file system, or if it looks for faults."""
    folder = _setting("jax_enable_compilation_cache") and _setting("jax_compilation_cache_dir")
    if not folder or "://" in str(folder) or _setting("jax_debug_nans") or _AT_IMPORT is None:
        return None
    return Path(folder)


def _name_of(function: Callable[..., Any], given: list[Any], described: str) -> str:
    shapes = [(leaf.shape, str(leaf.dtype), bool(getattr(leaf, "weak_type", False))) for leaf in given]
    settings = (jax.default_backend(), *map(_setting, ("jax_enable_x64", "jax_default_matmul_precision")))
    depends = repr((_AT_IMPORT, settings, function.__module__, shapes, described))
    return f"{function.__name__}-{hashlib.sha256(depends.encode()).hexdigest()}-traced"


def _exported(flat: Callable[..., Any], given: list[Any], path: Path) -> export.Exported | None:
    """What was traced, anew if its file is not whole; None for what jax cannot write down."""
    with contextlib.suppress(OSError, ValueError):
        exported = _read(path)
        _have_lapack_ready()
        return exported
    # Where this fails the function fails, too, or holds something for which jax has no lasting name.
    with contextlib.suppress(Exception):
        exported = export.export(jax.jit(flat))(*given)
        content = bytes(exported.serialize())
        # Sources that were changed since are not those of what was traced.
        if _surroundings(_PACKAGE) == _AT_IMPORT:
            _write(path, content)
        return exported
    return None


def _compiled(exported: export.Exported, name: str) -> Callable[..., Any]:
    def run(*given: jax.Array) -> Any:
        return exported.call(*given)

    run.__name__ = run.__qualname__ = name
    return jax.jit(run)


@functools.cache
def _have_lapack_ready() -> None:
    """Have jax load LAPACK, as it does for what it traces itself and not for what it reads (jax-ml/jax#29610).

    Without it a program that factorises a matrix ends the process.
    """
    jax.jit(jax.scipy.linalg.lu_factor).lower(jax.ShapeDtypeStruct((2, 2), jnp.float32))


def _read(path: Path) -> export.Exported:
    content = path.read_bytes()
    digest, content = content[:32], content[32:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path} is not whole")
    return export.deserialize(bytearray(content))


def _write(path: Path, content: bytes) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
