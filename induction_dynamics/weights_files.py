"""Weights on disk: arrays W1, W2, W3 in an .npz or .safetensors file, never pickled, read one matrix at a time."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import (
    COLUMNS,
    ROWS,
    MatrixProjection,
    Projection,
    off_subspace,
    project_matrix,
)
from induction_dynamics.task import check_rotation, require_float64
from induction_dynamics.transformer.disentangled import Weights

SUFFIXES = (".npz", ".safetensors")
MATRICES: tuple[str, ...] = tuple(ROWS)

T = TypeVar("T")

_LARGEST = 1e300  # coordinates are at most a thousand times as large, so they do not overflow

_project_matrix = jax.jit(project_matrix, static_argnames=("name", "rotation"))


def save_weights(weights: Weights, path: str | Path) -> Path:
    """Write W1, W2, W3 under these names; the file is there whole or not at all.

    Args:
        weights: of any floating type.
        path: file name ending in .npz or .safetensors; an earlier file of that name is replaced.

    Returns:
        The path.

    Raises:
        ArgumentError: `path` has another ending.
        OSError: it cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> import induction_dynamics as idyn
        >>> run = idyn.train(idyn.Task(context_length=2), horizon=1.0, batch_size=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = idyn.save_weights(run.weights, pathlib.Path(folder) / "weights.npz")
        ...     idyn.load_weights(path).W3.shape
        (6, 48)
    """
    path = Path(path)
    check_suffix(path)
    arrays = {name: np.asarray(getattr(weights, name)) for name in MATRICES}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        written = Path(folder) / path.name
        if path.suffix == ".npz":
            np.savez(written, allow_pickle=False, **arrays)
        else:
            from safetensors.numpy import save_file

            save_file(arrays, written)
        os.replace(written, path)
    return path


def load_weights(path: str | Path) -> Weights:
    """Read weights, in the floating type that they are stored in.

    Args:
        path: an .npz or .safetensors file with arrays W1 (2D x 2D), W2 (4D x 4D) and W3 (D x 8D), D even.

    Raises:
        ArgumentError: the file is missing, is no such file, or holds anything but finite numbers.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> import induction_dynamics as idyn
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "weights.npz"
        ...     np.savez(path, W1=np.zeros((4, 4)), W2=np.ones((8, 8)), W3=np.zeros((2, 16)))
        ...     idyn.load_weights(path).embedding_dim
        2
    """
    return Weights(**{name: jnp.asarray(matrix) for name, matrix in _matrices(Path(path))})


def project_file(path: str | Path, rotation: float = 90.0) -> Projection:
    """Coordinates and off-subspace fractions of weights on disk, in float64, one matrix in memory at a time.

    Args:
        path: see `load_weights`.
        rotation: phi in degrees, of the task that the weights were trained on.

    Raises:
        ArgumentError: as `load_weights` and `project` say.
        ValueError: jax_enable_x64 is off.

    Example:
        >>> import pathlib, tempfile
        >>> import jax
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> run = idyn.train(idyn.Task(context_length=2, query="uniform"), horizon=10.0, batch_size=64)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = idyn.save_weights(run.weights, pathlib.Path(folder) / "weights.safetensors")
        ...     found = idyn.project_file(path)
        >>> bool(abs(found.coordinates - run.coordinates[-1]).max() < 1e-5)
        True
        >>> bool(abs(found.off_subspace.total - run.off_subspace[-1]) < 1e-5)
        True
    """
    require_float64("Projections of files need")
    check_rotation(rotation)
    parts: list[MatrixProjection] = []
    scales: list[float] = []
    for name, matrix in _matrices(Path(path)):
        # In units of a power of two near its largest entry, so that no square overflows or vanishes.
        scales.append(float(np.ldexp(1.0, np.frexp(_largest(matrix))[1])))
        parts.append(_project_matrix(name, jnp.asarray(matrix, jnp.float64) / scales[-1], rotation))
    missed, whole = jnp.stack([part.missed for part in parts]), jnp.stack([part.whole for part in parts])
    each, together = off_subspace(missed, whole), jnp.square(jnp.asarray(scales) / max(scales))
    coordinates = [scale * part.coordinates for scale, part in zip(scales, parts, strict=True)]
    total = off_subspace(together * missed, together * whole).total
    return Projection(jnp.concatenate(coordinates), each._replace(total=total))


def check_suffix(path: Path) -> None:
    """Refuse a file name that ends in neither .npz nor .safetensors.

    Raises:
        ArgumentError: see above.
    """
    if path.suffix not in SUFFIXES:
        raise ArgumentError("path", str(path), f"a file name ending in {' or '.join(SUFFIXES)}")


def _matrices(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """W1, W2, W3 in turn, each checked and forgotten before the next is read."""
    with _opened(path) as (names, read):
        dim = 0
        for name in MATRICES:
            if name not in names:
                raise _refusal(path, f"{name} is missing")
            matrix = read(name)
            if not jnp.issubdtype(matrix.dtype, jnp.floating) and not jnp.issubdtype(matrix.dtype, jnp.integer):
                raise _refusal(path, f"{name} holds {matrix.dtype}, not real numbers")
            dim = dim or (matrix.shape[-1] if matrix.ndim else 0) // COLUMNS[name]
            if dim < 2 or dim % 2 or matrix.shape != (ROWS[name] * dim, COLUMNS[name] * dim):
                raise _refusal(path, f"{name} has the shape {matrix.shape}")
            if not _largest(matrix) <= _LARGEST:
                raise _refusal(path, f"{name} has an entry that is NaN, infinite or above {_LARGEST:g}")
            yield name, matrix
            del matrix


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Sequence[str], Callable[[str], np.ndarray]]]:
    """Names of the arrays of a file, and what reads one of them."""
    check_suffix(path)

    def guarded(read: Callable[..., T], *arguments: Any, **options: Any) -> T:
        # Whatever a parser raises on a file of unknown origin, it says that this file is not one of weights.
        try:
            return read(*arguments, **options)
        except FileNotFoundError:
            raise _refusal(path, "there is no such file") from None
        except IsADirectoryError:
            raise _refusal(path, "it is a folder") from None
        except PermissionError:
            raise _refusal(path, "it may not be read") from None
        except MemoryError:
            raise _refusal(path, "it does not fit into memory") from None
        except Exception:
            raise _refusal(path, "it is damaged or of another kind") from None

    if path.suffix == ".npz":
        file = guarded(np.load, path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise _refusal(path, "it holds a single array")
        with file:
            yield file.files, lambda name: guarded(file.__getitem__, name)
    else:
        # named here since only these files need it
        from safetensors import safe_open

        with guarded(safe_open, path, framework="numpy") as file:
            yield list(file.keys()), lambda name: guarded(file.get_tensor, name)


def _largest(matrix: np.ndarray) -> float:
    """Largest size of an entry; NaN if there is one."""
    return max(abs(float(np.max(matrix))), abs(float(np.min(matrix))))


def _refusal(path: Path, reason: str) -> ArgumentError:
    allowed = "an .npz or .safetensors file of finite numbers W1 (2D x 2D), W2 (4D x 4D) and W3 (D x 8D), D even"
    return ArgumentError("path", str(path), f"{allowed} (here {reason})")
