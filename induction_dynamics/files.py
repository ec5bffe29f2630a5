"""Files that are there whole or not at all, and their digests. Imports nothing that computes."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Another name to write a file under, which gets its own when the block has ended well, and else is gone.

    Args:
        path: of the file; an earlier one is replaced.

    Raises:
        OSError: it cannot get its name.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The digest of a file, of which little is in memory at a time.

    Args:
        path: of the file.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
