"""Where numbers come from: versions, commit and kind of machine. Imports nothing that computes."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from induction_dynamics import __version__

LIBRARIES = ("jax", "jaxlib", "diffrax", "optax", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Versions of everything that the numbers depend on."""
    own = {"induction-dynamics": __version__, "python": platform.python_version()}
    return own | {name: importlib.metadata.version(name) for name in LIBRARIES}


def host_kind() -> str:
    """System, architecture and number of cores; not the machine's name."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


@functools.cache
def commit() -> str | None:
    """Commit of the checkout that the package is run from, with a plus where files differ from it; None elsewhere."""
    folder = Path(__file__).parent
    if not (folder.parent / ".git").exists():
        return None

    def git(*words: str) -> str:
        done = subprocess.run(("git", "-C", folder, *words), capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", "--untracked-files=no", "."))
    except (OSError, subprocess.SubprocessError):
        return None
