"""Weights on disk: arrays W1, W2, W3 in an .npz or .safetensors file, never pickled, read one matrix at a time."""

import functools
import math
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

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
from induction_dynamics.task import ROTATION_ALLOWED, check_rotation, require_float64
from induction_dynamics.transformer.disentangled import Weights

SUFFIXES = (".npz", ".safetensors")
ROTATION = "rotation"
MATRICES: tuple[str, ...] = tuple(ROWS)

_LARGEST = 1e300  # coordinates are at most a thousand times as large, so they do not overflow
_SAFETENSORS_REAL = "F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8".split()

_project_matrix = jax.jit(project_matrix, static_argnames=("name", "rotation"))


def save_weights(weights: Weights, path: str | Path, *, rotation: float = 90.0) -> Path:
    """Write W1, W2, W3 under these names, and the rotation; the file is there whole or not at all.

    Args:
        weights: of any floating type; one that the format does not know (bfloat16 in .npz, 8 bits in both) is written
            as float32, which holds it exactly.
        path: file name ending in .npz or .safetensors; an earlier file of that name is replaced.
        rotation: phi in degrees, of the task that the weights were trained on.

    Returns:
        The path.

    Raises:
        ArgumentError: `path` has another ending, or the angle is within 0.06 degrees of a multiple of 180.
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
    check_rotation(rotation)
    arrays = {name: _storable(np.asarray(getattr(weights, name)), path.suffix) for name in MATRICES}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".weights.") as folder:
        written = Path(folder) / path.name
        if path.suffix == ".npz":
            np.savez(written, allow_pickle=False, **arrays, **{ROTATION: np.float64(rotation)})
        else:
            from safetensors.numpy import save_file

            save_file(arrays, written, metadata={ROTATION: repr(float(rotation))})
        os.replace(written, path)
    return path


def load_weights(path: str | Path) -> Weights:
    """Read weights, in the floating type that they are stored in; whole numbers become float64.

    As everywhere in jax, float64 is float32 unless jax_enable_x64 is on.

    Args:
        path: an .npz or .safetensors file with arrays W1 (2D x 2D), W2 (4D x 4D) and W3 (D x 8D), D even; others in
            it are left alone.

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
    path, found = Path(path), {}
    for name, matrix in _matrices(path):
        dtype = jax.dtypes.canonicalize_dtype(_floating(matrix.dtype))
        if _largest(matrix) > float(jnp.finfo(dtype).max):
            raise _refusal(path, f"{name} has an entry too large for {dtype}, and jax_enable_x64 is off")
        found[name] = jnp.asarray(matrix.astype(dtype))
    return Weights(**found)


def project_file(path: str | Path, rotation: float | None = None) -> Projection:
    """Coordinates and off-subspace fractions of weights on disk, in float64, one matrix in memory at a time.

    Args:
        path: see `load_weights`.
        rotation: phi in degrees, of the task that the weights were trained on; by default what the file states, else
            90.

    Raises:
        ArgumentError: as `load_weights` and `project` say; the file states another rotation, or one that is none.
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
    rotation = rotation_of_file(path, rotation)
    parts: list[MatrixProjection] = []
    exponents: list[int] = []
    for name, matrix in _matrices(Path(path)):
        # In units of a power of two near its largest entry, so that no square overflows or vanishes; by numpy, since
        # XLA takes the smallest numbers for 0.
        exponents.append(int(np.frexp(_largest(matrix))[1]))
        scaled = matrix.astype(np.float64)
        del matrix  # the next is read into its place
        np.ldexp(scaled, -exponents[-1], out=scaled)
        parts.append(_project_matrix(name, jnp.asarray(scaled), rotation))
        del scaled
    # In units of the largest, which as a power of two need not be one of jax's numbers.
    largest = max((exponent for exponent, part in zip(exponents, parts, strict=True) if part.whole > 0), default=0)
    scales = [
        np.ldexp(float(part.scale), min(exponent - largest, 0)) for exponent, part in zip(exponents, parts, strict=True)
    ]
    coordinates = [
        np.ldexp(np.asarray(part.coordinates), exponent) for exponent, part in zip(exponents, parts, strict=True)
    ]
    return Projection(jnp.asarray(np.concatenate(coordinates)), off_subspace(parts, jnp.asarray(scales)))


def stored_dim(path: str | Path) -> int:
    """D of weights on disk, from the shapes alone.

    Args:
        path: see `load_weights`.

    Raises:
        ArgumentError: see `load_weights`; of the numbers nothing is known yet.
    """
    with _opened(Path(path)) as arrays:
        return arrays["W3"].shape[0]


def rotation_of_file(path: str | Path, rotation: float | None = None) -> float:
    """The rotation in degrees of weights on disk: what the file states, else the given one, else 90.

    Args:
        path: see `load_weights`; the angle is an array `rotation` of no axis in .npz, metadata in .safetensors.
        rotation: phi as given by the user.

    Raises:
        ArgumentError: see `load_weights`; of the numbers nothing is known yet. Or the file states another rotation, or
            either of them is not away from multiples of 180.
    """
    if rotation is not None:
        check_rotation(rotation)
    path = Path(path)
    with _opened(path) as arrays:
        if ROTATION not in arrays:
            return 90.0 if rotation is None else float(rotation)
        with _refusing(path):
            own = float(arrays[ROTATION].read())
    try:
        check_rotation(own)
    except ArgumentError:
        raise _refusal(path, f"{ROTATION} is not {ROTATION_ALLOWED}") from None
    if rotation is not None and not same_rotation(rotation, own):
        raise ArgumentError("rotation", rotation, f"the file's own, which is {own:g} in {str(path)!r}")
    return own


def same_rotation(one: float, other: float) -> bool:
    """Whether two angles in degrees are the same rotation but for rounding."""
    return abs(math.remainder(one - other, 360.0)) < 1e-9


def check_suffix(path: Path) -> None:
    """Refuse a file name that ends in neither .npz nor .safetensors.

    Raises:
        ArgumentError: see above.
    """
    if path.suffix not in SUFFIXES:
        raise ArgumentError("path", str(path), f"a file name ending in {' or '.join(SUFFIXES)}")


class _Stored(NamedTuple):
    """One array of a file, of which no number has been read."""

    shape: tuple[int, ...]
    dtype: str
    real: bool
    read: Callable[[], np.ndarray]


def _matrices(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """W1, W2, W3 in turn, each checked and forgotten before the next is read."""
    with _opened(path) as arrays:
        for name in MATRICES:
            with _refusing(path):
                matrix = arrays[name].read()
            if not _largest(matrix) <= _LARGEST:
                raise _refusal(path, f"{name} has an entry that is NaN, infinite or above {_LARGEST:g}")
            yield name, matrix
            del matrix


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, _Stored]]:
    """W1, W2, W3 of a file, of shapes that fit each other, and its rotation if it states one."""
    check_suffix(path)
    with ExitStack() as stack:
        with _refusing(path):
            if path.is_dir():
                raise IsADirectoryError
            if path.exists() and not path.is_file():
                raise ValueError("a device or a pipe, at which reading may never end")
            arrays = (_npz if path.suffix == ".npz" else _safetensors)(path, stack)
        dim = 0
        for name in MATRICES:
            if name not in arrays:
                raise _refusal(path, f"{name} is missing")
            array = arrays[name]
            if not array.real:
                raise _refusal(path, f"{name} holds {array.dtype}, not real numbers")
            dim = dim or (array.shape[-1] if array.shape else 0) // COLUMNS[name]
            if dim < 2 or dim % 2 or array.shape != (ROWS[name] * dim, COLUMNS[name] * dim):
                raise _refusal(path, f"{name} has the shape {array.shape}")
        yield arrays


def _npz(path: Path, stack: ExitStack) -> dict[str, _Stored]:
    archive = stack.enter_context(zipfile.ZipFile(path))
    present = set(archive.namelist())
    arrays = {name: _npy(archive, f"{name}.npy") for name in MATRICES if f"{name}.npy" in present}

    def rotation() -> np.ndarray:
        stated = _npy(archive, f"{ROTATION}.npy")
        return stated.read() if stated.real and stated.shape == () else np.array(np.nan)

    return arrays | ({ROTATION: _stated(rotation)} if f"{ROTATION}.npy" in present else {})


def _npy(archive: zipfile.ZipFile, member: str) -> _Stored:
    entry = archive.getinfo(member)
    with archive.open(entry) as stream:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("compressed in a way that numpy never does")
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("a version that is for structured arrays")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        real = dtype.kind in "fiu"
        # Else a header could ask for any amount of memory.
        if real and math.prod(shape) * dtype.itemsize != entry.file_size - stream.tell():
            raise ValueError("more numbers, or fewer, than the shape says")

    def read() -> np.ndarray:
        with archive.open(entry) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    return _Stored(shape, str(dtype), real, read)


def _safetensors(path: Path, stack: ExitStack) -> dict[str, _Stored]:
    # named here since only these files need it
    from safetensors import safe_open

    file = stack.enter_context(safe_open(path, framework="numpy"))
    arrays = {}
    for name in set(MATRICES).intersection(file.keys()):
        part = file.get_slice(name)
        dtype = part.get_dtype()
        read = functools.partial(file.get_tensor, name)
        arrays[name] = _Stored(tuple(part.get_shape()), dtype, dtype in _SAFETENSORS_REAL, read)
    words = file.metadata() or {}
    return arrays | ({ROTATION: _stated(lambda: np.array(float(words[ROTATION])))} if ROTATION in words else {})


def _stated(read: Callable[[], np.ndarray]) -> _Stored:
    """A file's rotation, NaN where it is no number; looked at by those alone who ask for it."""
    return _Stored((), "float64", True, read)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    # Whatever a parser raises or warns of on a file of unknown origin, it says that this file is not one of weights.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
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


def _largest(matrix: np.ndarray) -> float:
    """Largest size of an entry; NaN if there is one."""
    with np.errstate(invalid="ignore"):  # bfloat16 warns of NaN, float64 does not
        return max(abs(float(np.max(matrix))), abs(float(np.min(matrix))))


def _floating(dtype: np.dtype) -> np.dtype:
    """The floating type of jax that holds a type's numbers; the nearest where none does."""
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize <= 8:
        return dtype.newbyteorder("=")
    return np.dtype(np.float64)


def _storable(matrix: np.ndarray, suffix: str) -> np.ndarray:
    known = matrix.dtype.kind == "f" or (suffix == ".safetensors" and matrix.dtype == jnp.bfloat16)
    # safetensors writes the numbers of a matrix stored by columns in the wrong order
    return np.ascontiguousarray(matrix if known else matrix.astype(np.float32))


def _refusal(path: Path, reason: str) -> ArgumentError:
    allowed = "an .npz or .safetensors file of finite numbers W1 (2D x 2D), W2 (4D x 4D) and W3 (D x 8D), D even"
    return ArgumentError("path", str(path), f"{allowed} (here {reason})")
