"""The output folder of a command: whose it is, and files that are there whole or not at all."""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.document import same_options
from induction_dynamics.cli.refusal import Refusal
from induction_dynamics.cli.values import quoted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    # Each noted before it is there: a signal may come at any moment.
    made: list[Path] = []
    marks: list[os.stat_result] = []
    try:
        try:
            _check_owner(path, typed, config, files)
            for folder in [*reversed(path.parents), path]:
                if not folder.exists():
                    made.append(folder)
                    folder.mkdir(exist_ok=True)
            _mark(path, config, marks)
            _check_owner(path, typed, config, files)
        except OSError as error:
            raise Refusal(
                f"--output must be a folder that can be written; got {quoted(typed)} ({error.strerror or error})."
            ) from None
        yield path
    except BaseException:
        with contextlib.suppress(OSError):
            _temporary(path, CONFIG).unlink(missing_ok=True)
            ours = marks and os.path.samestat(os.lstat(path / CONFIG), marks[0])
            if ours and not any(os.path.lexists(path / name) for name in files):
                (path / CONFIG).unlink(missing_ok=True)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _mark(path: Path, config: dict[str, Any], marks: list[os.stat_result]) -> None:
    """Write the configuration unless there is one: whole or not at all, and by one of several at once.

    Args:
        path: the folder.
        config: the configuration.
        marks: told which file is ours, should it get its name.
    """
    written = _temporary(path, CONFIG)
    try:
        # not written over: one left by a process that was killed may be a second name of the configuration there
        written.unlink(missing_ok=True)
        with open(written, "w", encoding="utf-8") as file:
            json.dump(config, file, allow_nan=False, indent=2)
        marks.append(os.lstat(written))
        with contextlib.suppress(FileExistsError):
            os.link(written, path / CONFIG)
    finally:
        written.unlink(missing_ok=True)


def _temporary(path: Path, name: str) -> Path:
    return path / f".{os.getpid()}.{name}"


def write_all(path: Path, writers: Mapping[str, Callable[[Path], object]]) -> None:
    """Write files under temporary names, and rename them only when all are written.

    Args:
        path: the folder.
        writers: for each file name a function that writes to the path that it is given.
    """
    temporary = {name: _temporary(path, name) for name in writers}
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


def why_not_new(path: Path) -> str | None:
    """Why no new file can be written at a path; None if one can.

    Args:
        path: of the file.
    """
    try:
        path.lstat()
        return "there is one already, which is never overwritten"
    except FileNotFoundError:
        try:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".weights."):
                return None
        except OSError as error:
            return error.strerror or str(error)
    except OSError as error:
        return error.strerror or str(error)


def pictures(name: str, figure: "Figure") -> dict[str, Callable[[Path], object]]:
    """Writers of a figure as .png and .svg.

    Args:
        name: of the files, without an ending.
        figure: what is drawn.
    """
    from induction_dynamics.plotting.style import save_figure

    return {f"{name}{suffix}": lambda path: save_figure(figure, path) for suffix in (".png", ".svg")}


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
    only = {name: {key: value for key, value in other.items() if key == name} for name in config}
    names = [name for name in config if not same_options({name: config[name]}, only[name])]
    return f" (other {', '.join(names)})" if names else ""
