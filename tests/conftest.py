"""Exactness by default: float64, no silent promotion of ranks or dtypes; one key; one compilation cache."""

import gc
import os
from pathlib import Path

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / "build" / "jax-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# XLA's loader of cached programs names harmless tuning flags as errors, at length.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


_MAPS = Path("/proc/self/maps")
_MANY_MAPS = 25_000


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Let go of compiled programs before they are too many: each maps some memory, and Linux allows 65,530 maps."""
    yield
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def key():
    """One key for every test that needs randomness."""
    return jax.random.key(2511)
