"""Weights on disk: what is written is read, nothing else is, and a file of unknown origin is refused in a sentence."""

import io
import json
import os
import struct
import tempfile
import tracemalloc
import weakref
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from induction_dynamics import weights_files
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import COORDINATES, project
from induction_dynamics.transformer.disentangled import Weights
from induction_dynamics.weights_files import load_weights, project_file, rotation_of_file, save_weights, stored_dim

SUFFIXES = (".npz", ".safetensors")
SHAPES = {"W1": (2, 2), "W2": (4, 4), "W3": (1, 8)}
T, R, A1T, A1R, A2T, A2A1T = 0, 1, 2, 3, 4, 6
BASIS = [
    ("W1", T, T, "I"),
    *(("W1", R, R, structure) for structure in "IM"),
    *(("W2", row, column, "I") for row in (T, A1T) for column in (T, A1T)),
    *(("W2", row, column, structure) for row in (R, A1R) for column in (R, A1R) for structure in "IM"),
    *(("W3", 0, column, "I") for column in (T, A1T, A2T, A2A1T)),
]


def random_arrays(dim=4, seed=0, dtype: Any = np.float64):
    rng = np.random.default_rng(seed)
    shapes = {name: (rows * dim, columns * dim) for name, (rows, columns) in SHAPES.items()}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def npz(arrays, compressed=False):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def encoded(arrays, suffix):
    if suffix == ".npz":
        return npz(arrays)
    return save(arrays)


def written(path, content):
    path.write_bytes(content)
    return path


def refused(path, reason, function=load_weights):
    """The refusal, which names the file and gives the reason."""
    with pytest.raises(ArgumentError) as caught:
        function(path)
    assert caught.value.argument == "path" and caught.value.value == str(path)
    assert reason in caught.value.allowed, caught.value
    assert "\n" not in str(caught.value)
    return caught.value


def twin(arrays, rotation):
    """Least squares on the 19 basis matrices, each written out in full."""
    dim = arrays["W3"].shape[0]
    zero, half = np.zeros((dim // 2, dim // 2)), np.eye(dim // 2)
    phi = np.radians(rotation)
    structures = {
        "I": np.eye(dim),
        "M": np.cos(phi) * np.eye(dim) + np.sin(phi) * np.block([[zero, -half], [half, zero]]),
    }
    coordinates, missed, whole = [], [], []
    for name in SHAPES:
        columns = []
        for matrix, row, column, structure in BASIS:
            if matrix == name:
                full = np.zeros_like(arrays[name])
                full[row * dim : (row + 1) * dim, column * dim : (column + 1) * dim] = structures[structure]
                columns.append(full.ravel())
        basis, target = np.stack(columns, axis=1), arrays[name].ravel()
        theta = np.linalg.lstsq(basis, target, rcond=None)[0]
        coordinates.extend(theta)
        missed.append(np.linalg.norm(target - basis @ theta))
        whole.append(np.linalg.norm(target))
    return np.array(coordinates), np.array(missed), np.array(whole)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.float16, jnp.bfloat16, jnp.float8_e4m3fn])
def test_round_trip(tmp_path, suffix, dtype):
    weights = Weights(**{name: jnp.asarray(array, dtype) for name, array in random_arrays().items()})
    path = save_weights(weights, tmp_path / f"weights{suffix}")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    again = load_weights(str(path))
    kept = dtype in (jnp.float64, jnp.float32, jnp.float16) or (dtype == jnp.bfloat16 and suffix == ".safetensors")
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(weights), strict=True):
        assert one.dtype == (dtype if kept else jnp.float32)
        np.testing.assert_array_equal(np.asarray(one, float), np.asarray(other, float))
    assert again.embedding_dim == stored_dim(path) == 4
    save_weights(weights, path)  # an earlier file is replaced


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_matrices_stored_by_columns_are_written_as_they_are(tmp_path, suffix):
    arrays = random_arrays()
    weights = Weights(**{name: jnp.asarray(array) for name, array in arrays.items()})
    object.__setattr__(weights, "W1", np.asfortranarray(arrays["W1"]))
    again = load_weights(save_weights(weights, tmp_path / f"weights{suffix}"))
    np.testing.assert_array_equal(again.W1, arrays["W1"])


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", "<u4", "<i8", "<u8", ">i4", ">f8", ">f4", ">f2", np.longdouble])
def test_other_numbers_are_read(tmp_path, dtype):
    arrays = {name: np.rint(10 * np.abs(array)).astype(dtype) for name, array in random_arrays().items()}
    path = written(tmp_path / "weights.npz", npz(arrays))
    weights = load_weights(path)
    for name, array in arrays.items():
        assert jnp.issubdtype(getattr(weights, name).dtype, jnp.floating)
        np.testing.assert_array_equal(getattr(weights, name), array.astype(float))
    expected = project_file_of(tmp_path, {name: array.astype(float) for name, array in arrays.items()})
    np.testing.assert_array_equal(project_file(path).coordinates, expected.coordinates)


@pytest.mark.parametrize("kind", ["by columns", "compressed", "with others"])
def test_other_ways_to_store_the_same(tmp_path, kind):
    arrays = random_arrays()
    stored = dict(arrays)
    if kind == "by columns":
        stored = {name: np.asfortranarray(array) for name, array in arrays.items()}
    if kind == "with others":
        stored |= {"loss": np.array([1.0, np.nan]), "W4": np.zeros(3), "note": np.array([{}, None], dtype=object)}
    path = written(tmp_path / "weights.npz", npz(stored, compressed=kind == "compressed"))
    weights = load_weights(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(weights, name), array)
    np.testing.assert_array_equal(project_file(path).coordinates, project_file_of(tmp_path, arrays).coordinates)


def test_others_in_safetensors_are_left_alone(tmp_path):
    arrays = random_arrays()
    stored = arrays | {"W0": np.zeros((3, 3), bool), "W4": np.full(5, np.nan)}
    path = written(tmp_path / "weights.safetensors", encoded(stored, ".safetensors"))
    np.testing.assert_array_equal(load_weights(path).W2, arrays["W2"])


def project_file_of(folder, arrays, rotation=90.0, suffix=".npz"):
    return project_file(written(folder / f"one{suffix}", encoded(arrays, suffix)), rotation)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("dim", "rotation"), [(2, 90.0), (6, 90.0), (6, -90.0), (4, 37.0), (6, 179.0)])
def test_projection_of_a_file(tmp_path, suffix, dim, rotation):
    """That of the weights in memory, and that of least squares on explicit basis matrices."""
    arrays = random_arrays(dim, seed=dim)
    found = project_file_of(tmp_path, arrays, rotation, suffix)
    coordinates, missed, whole = twin(arrays, rotation)
    size = np.abs(coordinates).max()
    np.testing.assert_allclose(
        found.coordinates, coordinates, rtol=0, atol=1e-13 * size / np.sin(np.radians(rotation)) ** 2
    )
    np.testing.assert_allclose(list(found.off_subspace[:3]), missed / whole, rtol=1e-12)
    total = np.linalg.norm(missed) / np.linalg.norm(whole)
    np.testing.assert_allclose(found.off_subspace.total, total, rtol=1e-12)
    in_memory = project(load_weights(tmp_path / f"one{suffix}"), rotation)
    np.testing.assert_allclose(found.coordinates, in_memory.coordinates, rtol=1e-11, atol=1e-13 * size)
    np.testing.assert_allclose(list(found.off_subspace), list(in_memory.off_subspace), rtol=1e-12)


@pytest.mark.parametrize("scale", [2.0**990, 2.0**-990, 2.0**-1022])
def test_sizes_at_the_ends_of_float64(tmp_path, scale):
    arrays = random_arrays()
    expected = project_file_of(tmp_path, arrays)
    found = project_file_of(tmp_path, {name: scale * array for name, array in arrays.items()})
    # Below 2^-1022 float64 keeps fewer digits, and the matrices have entries on both sides of it.
    tolerance = 1e-13 if scale > 2.0**-1000 else 1e-11
    np.testing.assert_allclose(np.asarray(found.coordinates) / scale, expected.coordinates, rtol=tolerance)
    np.testing.assert_allclose(list(found.off_subspace), list(expected.off_subspace), rtol=tolerance)


@pytest.mark.parametrize("entry", [1e300, -1e300, 1e-300, 5e-324, 2.2250738585072014e-308])
def test_extreme_entries(tmp_path, entry):
    """W3 holds a multiple of the identity in its third block and nothing else that counts."""
    arrays = {name: np.zeros_like(array) for name, array in random_arrays().items()}
    arrays["W3"][:, 16:20] = entry * np.eye(4)
    found = project_file_of(tmp_path, arrays)
    expected = np.zeros(19)
    expected[COORDINATES.index("gamma_3")] = entry
    np.testing.assert_array_equal(np.asarray(found.coordinates), expected)
    assert [float(value) for value in found.off_subspace] == [0.0] * 4
    arrays["W3"][:, :4] = entry * (1 - np.eye(4))  # 12 entries beside 4
    found = project_file_of(tmp_path, arrays)
    np.testing.assert_array_equal(np.asarray(found.coordinates), expected)
    np.testing.assert_allclose(list(found.off_subspace), [0, 0, np.sqrt(3 / 4), np.sqrt(3 / 4)], rtol=1e-15)


@pytest.mark.parametrize(
    "scales", [(1e-200, 1.0, 1e200), (1e200, 1e-100, 1e200), (1e-300, 0, 3e-300), (1, 0, 1e-5), (0, 1, 0)]
)
def test_total_of_matrices_of_different_scale(tmp_path, scales):
    arrays = {name: scale * array for scale, (name, array) in zip(scales, random_arrays().items(), strict=True)}
    parts = [twin(random_arrays(), 90.0)[place] for place in (1, 2)]
    missed, whole = (np.array(scales, np.longdouble) * part.astype(np.longdouble) for part in parts)
    found = project_file_of(tmp_path, arrays).off_subspace
    np.testing.assert_allclose(float(found.total), float(np.sqrt(np.sum(missed**2) / np.sum(whole**2))), rtol=1e-12)
    expected = [0.0 if scale == 0 else missed / whole for scale, missed, whole in zip(scales, *parts, strict=True)]
    np.testing.assert_allclose(list(found[:3]), expected, rtol=1e-12)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_matrix_in_memory_at_a_time(tmp_path, monkeypatch, suffix):
    arrays = random_arrays(64, dtype=np.float32)
    path = written(tmp_path / f"weights{suffix}", encoded(arrays, suffix))
    project_file(path)  # what is compiled stays
    alive: list[weakref.ref] = []
    opened = weights_files._opened

    class Watched(dict):
        def __getitem__(self, name):
            stored = super().__getitem__(name)

            def read():
                assert not [ref for ref in alive if ref() is not None], name
                matrix = stored.read()
                alive.append(weakref.ref(matrix))
                return matrix

            return stored._replace(read=read)

    @weights_files.contextmanager
    def watched(path):
        with opened(path) as stored:
            yield Watched(stored)

    monkeypatch.setattr(weights_files, "_opened", watched)
    tracemalloc.start()
    project_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(alive) == 3
    # W2 as it is stored, 4 bytes a number and up to twice as it is read, and in float64.
    assert peak < 1.1 * arrays["W2"].size * 16


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_file_is_left_open(tmp_path, suffix):
    path = written(tmp_path / f"weights{suffix}", encoded(random_arrays(), suffix))
    arrays = random_arrays()
    arrays["W2"][0, 0] = np.nan
    bad = written(tmp_path / f"bad{suffix}", encoded(arrays, suffix))
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for function in (load_weights, project_file, stored_dim):
        function(path)
    refused(bad, "W2 has an entry that is NaN")
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("function", [load_weights, project_file, stored_dim])
def test_paths_that_are_no_files(tmp_path, suffix, function):
    refused(tmp_path / f"none{suffix}", "there is no such file", function)
    refused(tmp_path / "deep" / f"none{suffix}", "there is no such file", function)
    (tmp_path / f"folder{suffix}").mkdir()
    refused(tmp_path / f"folder{suffix}", "it is a folder", function)
    os.mkfifo(tmp_path / f"pipe{suffix}")
    refused(tmp_path / f"pipe{suffix}", "it is damaged or of another kind", function)
    refused(tmp_path / ("a" * 300 + suffix), "it is damaged or of another kind", function)
    refused(tmp_path / f"zero\0{suffix}", "(here ", function)


@pytest.mark.parametrize("name", ["weights", "weights.pt", "weights.NPZ", ".npz", "weights.npz.gz", ""])
def test_other_endings(tmp_path, name):
    refused(tmp_path / name, "a file name ending in .npz or .safetensors")
    weights = Weights(**{name: jnp.asarray(array) for name, array in random_arrays().items()})
    with pytest.raises(ArgumentError, match=r"path must be a file name ending in \.npz or \.safetensors"):
        save_weights(weights, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    weights = Weights(**{name: jnp.asarray(array) for name, array in random_arrays().items()})
    path = written(tmp_path / "weights.npz", b"mine")

    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(weights_files.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        save_weights(weights, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name] and path.read_bytes() == b"mine"
    with pytest.raises(OSError, match="No such file"):
        save_weights(weights, tmp_path / "none" / "weights.npz")


WRONG = [
    ({"W1": None}, "W1 is missing"),
    ({"W3": None}, "W3 is missing"),
    ({"W1": np.zeros((4, 4), bool)}, "W1 holds "),
    ({"W2": np.zeros((8, 8), np.complex64)}, "W2 holds "),
    ({"W1": np.zeros(16)}, "W1 has the shape (16,)"),
    ({"W1": np.zeros(())}, "W1 has the shape ()"),
    ({"W1": np.zeros((0, 0))}, "W1 has the shape (0, 0)"),
    ({"W1": np.zeros((4, 4, 1))}, "W1 has the shape (4, 4, 1)"),
    ({"W1": np.zeros((4, 5))}, "W1 has the shape (4, 5)"),
    ({"W1": np.zeros((5, 4))}, "W1 has the shape (5, 4)"),
    ({"W2": np.zeros((16, 16))}, "W2 has the shape (16, 16)"),
    ({"W3": np.zeros((16, 2))}, "W3 has the shape (16, 2)"),
    ({"W1": np.zeros((6, 6)), "W2": np.zeros((12, 12)), "W3": np.zeros((3, 24))}, "W1 has the shape (6, 6)"),
    ({"W1": np.zeros((2, 2)), "W2": np.zeros((4, 4)), "W3": np.zeros((1, 8))}, "W1 has the shape (2, 2)"),
    ({"W1": np.full((4, 4), np.nan)}, "W1 has an entry that is NaN"),
    ({"W2": np.full((8, 8), np.inf)}, "W2 has an entry that is NaN, infinite"),
    ({"W3": np.full((2, 16), -np.inf)}, "W3 has an entry that is NaN, infinite"),
    ({"W3": np.full((2, 16), -1.01e300)}, "W3 has an entry that is NaN, infinite or above 1e+300"),
    ({"W2": np.where(np.eye(8) > 0, np.float32(np.nan), np.float32(1))}, "W2 has an entry that is NaN"),
    ({"W2": np.where(np.eye(8) > 0, np.float16(np.nan), np.float16(1))}, "W2 has an entry that is NaN"),
]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("changes", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_wrong_arrays(tmp_path, suffix, changes, reason):
    arrays = {name: array for name, array in (random_arrays(2) | changes).items() if array is not None}
    path = written(tmp_path / f"weights{suffix}", encoded(arrays, suffix))
    refused(path, f"(here {reason}")
    refused(path, f"(here {reason}", project_file)


def test_a_nan_in_bfloat16(tmp_path):
    arrays = random_arrays(2, dtype=jnp.bfloat16)
    arrays["W2"][3, 3] = np.nan
    refused(written(tmp_path / "weights.safetensors", save(arrays)), "W2 has an entry that is NaN")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([[{}] * 4] * 4, dtype=object), "W1 holds object"),
        (np.full((4, 4), "x"), "W1 holds <U1"),
        (np.full((4, 4), b"x"), "W1 holds |S1"),
        (np.zeros((4, 4), "m8[s]"), "W1 holds timedelta64"),
        (np.zeros((4, 4), "M8[s]"), "W1 holds datetime64"),
        (np.zeros((4, 4), "V2"), "W1 holds |V2"),
        (np.zeros((4, 4), [("a", "<f8")]), "W1 holds "),
        (np.longdouble(10) ** np.full((4, 4), 400), "W1 has an entry that is NaN, infinite"),
    ],
)
def test_arrays_that_only_npz_can_hold(tmp_path, array, reason):
    refused(written(tmp_path / "weights.npz", npz(random_arrays(2) | {"W1": array})), reason)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)
    bombs = np.empty((4, 4), dtype=object)
    bombs[:] = [[Bomb()] * 4] * 4
    refused(written(tmp_path / "array.npz", npz(random_arrays(2) | {"W1": bombs})), "W1 holds object")
    for suffix in SUFFIXES:
        refused(written(tmp_path / f"whole{suffix}", pickle.dumps(Bomb())), "it is damaged or of another kind")
    assert not (tmp_path / "unpickled").exists()


def npy(array, header=None, version=(1, 0)):
    """A .npy file, with a header of one's own."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array))
    if header is None:
        return file.getvalue()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header.encode() + array.tobytes()


def zipped(members, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def members(**changes):
    return {f"{name}.npy": npy(array) for name, array in random_arrays(2).items()} | {
        f"{name}.npy": content for name, content in changes.items()
    }


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"
HUGE = [
    (2**20, 2**20),
    (2**40, 2**40),
    (2**70, 2**70),
    (4, 2**61),
    (-4, -4),
    (8, 6),
    (4, 3),
]


@pytest.mark.parametrize("shape", HUGE)
@pytest.mark.parametrize("changed", ["W1", "W2"])
def test_shapes_that_the_numbers_do_not_fill(tmp_path, shape, changed):
    """Refused from the header alone, without memory for what it asks for."""
    content = zipped(members(**{changed: npy(random_arrays(2)[changed], HEADER % (shape,))}))
    offsets, arrays = 0, {}
    for name, array in random_arrays(2).items():
        arrays[name] = {"dtype": "F64", "shape": array.shape, "data_offsets": [offsets, offsets + array.nbytes]}
        offsets += array.nbytes
    arrays[changed]["shape"] = shape
    header = json.dumps(arrays).encode()
    tensors = struct.pack("<Q", len(header)) + header + bytes(offsets)
    for path in (written(tmp_path / "one.npz", content), written(tmp_path / "one.safetensors", tensors)):
        tracemalloc.start()
        try:
            refused(
                path, "it is damaged or of another kind" if shape != (-4, -4) or path.suffix != ".npz" else "(here "
            )
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(
    "tensors",
    [
        b"",
        b"\0" * 8,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**26) + b"{}",
        b"{}",
        b"[" * 20_000,
        {"W1": {"dtype": "F64", "shape": [1], "data_offsets": [8, 0]}},
        {"W1": {"dtype": "F64", "shape": [2**63, 2], "data_offsets": [0, 0]}},
        {"W1": {"dtype": "F64", "shape": [2**32, 2**32], "data_offsets": [0, 2**64 - 1]}},
        {"W1": {"dtype": "F99", "shape": [1], "data_offsets": [0, 8]}},
        {"W1": {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]}},
        {"W1": 3},
    ],
    ids=str,
)
def test_headers_of_safetensors(tmp_path, tensors):
    if isinstance(tensors, dict):
        tensors = json.dumps(tensors).encode()
    if tensors[:1] in (b"{", b"["):
        tensors = struct.pack("<Q", len(tensors)) + tensors
    refused(written(tmp_path / "weights.safetensors", tensors), "(here ")


HEADERS = [
    "",
    "(" * 9000,
    "[" * 9000,
    "-" * 9000 + "1",
    "1+" * 4900 + "1",
    "a" + "()" * 4900,
    "{'descr': '<f8'}",
    HEADER % "4",
    HEADER % "(4.0, 4)",
    HEADER % ("(" + "9" * 4000 + ", 4)"),
    HEADER.replace("<f8", "O") % "(4, 4)",
    HEADER.replace("<f8", "nonsense") % "(4, 4)",
    HEADER.replace("'<f8'", "('<f8', (2,))") % "(4, 4)",
    HEADER.replace("False", "7") % "(4, 4)",
    " " * 60_000,
]


@pytest.mark.parametrize("header", HEADERS, ids=[header[:40].strip() for header in HEADERS])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), (9, 9)])
def test_headers_of_npy(tmp_path, header, version):
    changed = npy(random_arrays(2)["W1"], header, version)
    refused(written(tmp_path / "weights.npz", zipped(members(W1=changed))), "(here ")


def test_other_members_of_a_zip(tmp_path):
    def check(content, reason="it is damaged or of another kind"):
        refused(written(tmp_path / "weights.npz", content), reason)

    check(zipped(members(W1=b"")))
    check(zipped(members(W1=b"no array at all, but some bytes")))
    check(zipped(members(W2=npy(random_arrays(2)["W2"])[:-1])))
    check(zipped(members(W2=npy(random_arrays(2)["W2"]) + b"x")))
    check(zipped(members(), compression=zipfile.ZIP_LZMA))
    check(zipped(members(), compression=zipfile.ZIP_BZIP2))
    check(zipped({}), "W1 is missing")
    check(zipped({"x/W1.npy": b""}), "W1 is missing")
    check(npy(random_arrays(2)["W1"]))  # np.save under the name of np.savez
    locked = bytearray(zipped(members()))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = locked.find(signature)
        while start >= 0:
            locked[start + place] |= 1  # encrypted
            start = locked.find(signature, start + 1)
    check(bytes(locked))


@pytest.mark.parametrize(
    "content", [b"", b"\0", bytes(10_000), b"PK\x05\x06" + bytes(18), b"PK" * 500, os.urandom(4096)]
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_garbage(tmp_path, suffix, content):
    refused(written(tmp_path / f"weights{suffix}", content), "(here ")


FILES = [(suffix, encoded(random_arrays(2), suffix)) for suffix in SUFFIXES]
FILES.append((".npz", npz(random_arrays(2), compressed=True)))
FILES_STATING = [
    (".npz", npz(random_arrays(2) | {"rotation": np.float64(40)})),
    (".safetensors", save(random_arrays(2), metadata={"rotation": "40.0"})),
]


@pytest.mark.parametrize(("suffix", "content"), FILES, ids=["npz", "safetensors", "compressed"])
def test_every_truncation(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    for length in range(len(content)):
        refused(written(path, content[:length]), "it is damaged or of another kind")
    load_weights(written(path, content))


@pytest.mark.parametrize(("suffix", "content"), [FILES[0], FILES[2]], ids=["npz", "compressed"])
def test_every_changed_number_of_an_npz(tmp_path, suffix, content):
    """A zip has checksums."""
    # after the header of W1.npy; compressed, after that of the zip
    start = content.index(b"\x93NUMPY") + 128 if b"\x93NUMPY" in content else 30 + len("W1.npy") + 20
    for place in range(start, start + 120):
        changed = bytearray(content)
        changed[place] ^= 0x55
        refused(written(tmp_path / "weights.npz", bytes(changed)), "it is damaged or of another kind")


CHANGES = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6)


@settings(deadline=None, max_examples=200)
@given(
    file=st.sampled_from([*FILES, *FILES_STATING]),
    changes=CHANGES,
    cut=st.integers(0, 10_000) | st.none(),
    more=st.binary(max_size=40),
)
def test_changed_files_are_read_or_refused(file, changes, cut, more):
    suffix, content = file
    changed = bytearray(content)
    for place, value in changes:
        # From the end: there a zip has its table of contents; from the start: there safetensors have theirs.
        changed[-1 - place % len(changed) if suffix == ".npz" else place % len(changed)] = value
    changed[len(changed) if cut is None else cut % len(changed) :] = more
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / f"weights{suffix}", bytes(changed))
        for function in (load_weights, project_file, stored_dim, rotation_of_file):
            try:
                found = function(path)
            except ArgumentError as error:
                assert error.argument == "path" and "(here " in error.allowed
            else:
                assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found))


def test_without_float64(tmp_path):
    arrays = random_arrays(2)
    path = written(tmp_path / "weights.npz", npz(arrays))
    large = written(tmp_path / "large.npz", npz(arrays | {"W3": 1e40 * arrays["W3"]}))
    with jax.enable_x64(False):
        assert load_weights(path).W1.dtype == jnp.float32
        refused(large, "W3 has an entry too large for float32, and jax_enable_x64 is off")
        with pytest.raises(ValueError, match="jax_enable_x64"):
            project_file(path)


def small(folder, suffix, rotation=90.0):
    weights = Weights(**{name: jnp.asarray(array) for name, array in random_arrays(2).items()})
    return save_weights(weights, folder / f"stated{suffix}", rotation=rotation)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("rotation", [90.0, 40.0, -0.1 - 0.2, 1e6 + 1 / 3])
def test_the_rotation_is_kept(tmp_path, suffix, rotation):
    path = small(tmp_path, suffix, rotation)
    assert rotation_of_file(path) == rotation_of_file(path, rotation) == rotation
    found = project_file(path)
    size = float(jnp.max(jnp.abs(found.coordinates)))
    for other in (project(load_weights(path), rotation), project_file(path, rotation - 360)):
        np.testing.assert_allclose(found.coordinates, other.coordinates, rtol=0, atol=1e-9 * size)
    with pytest.raises(ArgumentError, match="rotation must be the file's own, which is .*stated"):
        project_file(path, rotation + 1)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_states_no_rotation_takes_the_given_one(tmp_path, suffix):
    path = written(tmp_path / f"silent{suffix}", encoded(random_arrays(2), suffix))
    assert (rotation_of_file(path), rotation_of_file(path, 40.0)) == (90.0, 40.0)
    np.testing.assert_array_equal(project_file(path).coordinates, project_file(path, 90.0).coordinates)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stated", [np.nan, np.inf, 180.0, 0.0, 1j, True, [40.0], [], "40", None], ids=str)
def test_a_damaged_rotation_is_refused_where_it_counts(tmp_path, suffix, stated):
    arrays = random_arrays(2)
    if suffix == ".npz":
        content = npz(arrays | {"rotation": np.asarray(stated)})
    elif stated in ("40", None):
        pytest.skip("all metadata are words")
    else:
        content = save(arrays, metadata={"rotation": str(stated)})
    path = written(tmp_path / f"weights{suffix}", content)
    for function in (project_file, rotation_of_file, lambda path: project_file(path, 40.0)):
        refused(path, "(here ", function)
    np.testing.assert_array_equal(load_weights(path).W1, arrays["W1"])
    assert stored_dim(path) == 2


def test_a_rotation_in_another_header(tmp_path):
    array = np.float64(40)
    changed = members(rotation=npy(array, HEADER % "()", (2, 0)))
    refused(written(tmp_path / "weights.npz", zipped(changed)), "it is damaged or of another kind", project_file)
    changed = members(rotation=npy(array, HEADER % "()"))
    assert rotation_of_file(written(tmp_path / "weights.npz", zipped(changed))) == 40


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rotation_is_stated_without_a_basis(tmp_path, suffix):
    with pytest.raises(ArgumentError, match="rotation must be a finite angle"):
        small(tmp_path, suffix, 180.0)
    assert list(tmp_path.iterdir()) == []


def test_a_rotation_without_a_basis(tmp_path):
    path = written(tmp_path / "weights.npz", npz(random_arrays(2)))
    with pytest.raises(ArgumentError, match="rotation must be"):
        project_file(path, 180.0)
