"""The output folder of a command: whose it is, and files that are there whole or not at all."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from induction_dynamics.cli.document import same_options
from induction_dynamics.cli.refusal import Refusal
from induction_dynamics.cli.values import quoted

CONFIG = "config.json"


@contextlib.contextmanager
def claimed(typed: str, config: dict[str, Any], files: Sequence[str]) -> Iterator[Path]:
    """A folder to write to, made if need be and marked with the configuration, so that no other comes to it.

    If the block fails, whatever was made for it is removed again.

    Args:
        typed: the path as typed.
        config: the configuration that will be written to it, as config.json.
        files: names of the other files that will be.

    Raises:
        Refusal: no folder can be written there, or it holds another configuration.
    """
    path = Path(typed)
    made: list[Path] = []
    marked = False
    try:
        try:
            _check_owner(path, typed, config, files)
            for folder in [*reversed(path.parents), path]:
                if not folder.exists():
                    folder.mkdir(exist_ok=True)
                    made.append(folder)
            marked = _mark(path, config)
            _check_owner(path, typed, config, files)
        except OSError as error:
            raise Refusal(
                f"--output must be a folder that can be written; got {quoted(typed)} ({error.strerror or error})."
            ) from None
        yield path
    except BaseException:
        if marked and not any(os.path.lexists(path / name) for name in files):
            (path / CONFIG).unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _mark(path: Path, config: dict[str, Any]) -> bool:
    """Write the configuration unless there is one: whole or not at all, and by one of several at once."""
    # a file of its own making would be for nobody else to read
    with tempfile.TemporaryDirectory(dir=path, prefix=".config.") as folder:
        written = Path(folder) / CONFIG
        with open(written, "w", encoding="utf-8") as file:
            json.dump(config, file, allow_nan=False, indent=2)
        try:
            os.link(written, path / CONFIG)
        except FileExistsError:
            return False
        return True


def write_all(path: Path, writers: Mapping[str, Callable[[Path], object]]) -> None:
    """Write files under temporary names, and rename them only when all are written.

    Args:
        path: the folder.
        writers: for each file name a function that writes to the path that it is given.
    """
    temporary = {name: path / f".{os.getpid()}.{name}" for name in writers}
    try:
        for name, write in writers.items():
            write(temporary[name])
        for name, file in temporary.items():
            os.replace(file, path / name)
    finally:
        for file in temporary.values():
            file.unlink(missing_ok=True)


def text(content: str) -> Callable[[Path], object]:
    """A writer of text."""
    return lambda path: path.write_text(content, encoding="utf-8")


def _check_owner(path: Path, typed: str, config: dict[str, Any], files: Sequence[str]) -> None:
    if path.exists() and not path.is_dir():
        raise Refusal(f"--output must be a folder; got {quoted(typed)}, which is a file.")
    present = [name for name in (CONFIG, *files) if os.path.lexists(path / name)]
    if present and CONFIG not in present:
        raise Refusal(
            f"--output must be a folder of this command; got {quoted(typed)}, "
            f"which holds {present[0]} without {CONFIG}."
        )
    if present:
        try:
            other = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            other = None
        if not same_options(config, other):
            # left by a command that was killed, or of one that is still at work: nothing here tells which
            empty = " and which holds no result yet: unless a command is at work there, remove it, or choose another"
            raise Refusal(
                f"--output must be a new folder or one of the same configuration; got {quoted(typed)}, whose {CONFIG} "
                f"is another{_difference(config, other)}{empty if present == [CONFIG] else ''}."
            )


def _difference(config: dict[str, Any], other: Any) -> str:
    if not isinstance(other, dict):
        return ""
    names = [name for name in config if not same_options({name: config[name]}, {name: other.get(name)})]
    return f" (other {', '.join(names)})" if names else ""
