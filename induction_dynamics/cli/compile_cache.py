"""Programs that jax has compiled, kept on disk: the next process with the same task loads them instead.

What was traced before that lies beside them (`traced`).
"""

import contextlib
import glob
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_THRESHOLD = "jax_persistent_cache_min_compile_time_secs"
_TROUBLE = r"Error (reading|writing) persistent compilation cache entry for '([^']*)'"


def cache_folder(environment: Mapping[str, str]) -> Path | None:
    """Where compiled programs are kept, unless jax was told another place; None without a home.

    Args:
        environment: that of the process.

    Example:
        >>> cache_folder({"HOME": "/home/me"}).as_posix()
        '/home/me/.cache/induction-dynamics/jax'
        >>> cache_folder({"HOME": "/home/me", "XDG_CACHE_HOME": "/scratch/me"}).as_posix()
        '/scratch/me/induction-dynamics/jax'
    """
    home = environment.get("HOME") or environment.get("USERPROFILE", "")
    # The specification of XDG_CACHE_HOME has relative paths ignored; from "HOME" they would litter the folder at hand.
    for base in (Path(environment.get("XDG_CACHE_HOME", "")), Path(home, ".cache")):
        if base.is_absolute():
            return base / "induction-dynamics" / "jax"
    return None


def keep_programs() -> None:
    """Have jax keep what it compiles from here on, unless somebody has settled that for this process already.

    The folder is made as the first program is kept.
    """
    import jax

    folder = cache_folder(os.environ)
    settled = "JAX_COMPILATION_CACHE_DIR" in os.environ or getattr(jax.config, "jax_compilation_cache_dir", None)
    if settled or folder is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if _THRESHOLD.upper() not in os.environ:
        # A run has some ten small programs besides the large ones: to compile them takes 0.15 s, to load them 0.03 s.
        jax.config.update(_THRESHOLD, 0.0)


@contextlib.contextmanager
def harmless_cache() -> Iterator[None]:
    """Say nothing within the block of a cache that cannot be read or written: what it lacks is compiled.

    jax warns of an entry that it cannot read and compiles in its place, but never replaces it; so it is removed.
    """
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, *where: Any, **more: Any) -> None:
            trouble = re.match(_TROUBLE, str(message))
            if trouble is None:
                others(message, *where, **more)
            else:
                _forget(trouble[2])

        warnings.showwarning = show
        # In front of whatever filters there are: an error raised here would end the command.
        warnings.filterwarnings("always", message=_TROUBLE)
        yield


def _forget(program: str) -> None:
    """Remove all entries of a program, but from no folder that somebody else has chosen."""
    import jax

    folder = cache_folder(os.environ)
    used = getattr(jax.config, "jax_compilation_cache_dir", None)
    if folder is None or str(folder) != used or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    with contextlib.suppress(OSError):
        for entry in folder.glob(f"{glob.escape(program)}-*-cache"):
            entry.unlink(missing_ok=True)
