"""What an experiment leaves behind: the picture, the numbers it was drawn from, and how both were made."""

import csv
import dataclasses
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro
from matplotlib.figure import Figure

from induction_dynamics.cli.document import as_csv, as_json
from induction_dynamics.cli.folder import CONFIG, pictures, text, write_all
from induction_dynamics.errors import ArgumentError
from induction_dynamics.provenance import versions

DIGITS = 10
"""Digits kept of a number: more than any solver here is right to, fewer than differ between machines."""


def record(
    output: Path,
    *,
    config: Any,
    command: str,
    figures: Mapping[str, Figure],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    documents: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write all of an experiment's files to its folder, or none of them.

    What an earlier run recorded there and this one does not make is removed.

    Args:
        output: the folder, made if need be.
        config: the dataclass that the experiment was run with; where it wrote to is left out.
        command: what makes the same files again.
        figures: by name, each saved as .png and .svg.
        tables: by name, rows with the same keys, each saved as .csv.
        documents: by name, each saved as .json.
    """
    writers = {f"{name}.csv": text(as_csv(rounded(rows))) for name, rows in tables.items()}
    writers |= {f"{name}.json": text(as_json(rounded(content))) for name, content in (documents or {}).items()}
    for name, figure in figures.items():
        writers |= pictures(name, figure)
    about = {"command": command, "config": settings(config), "files": sorted(writers), "versions": versions()}
    output.mkdir(parents=True, exist_ok=True)
    before = _files_of(output)
    write_all(output, {**writers, CONFIG: text(as_json(about))})
    for name in before - set(writers):
        (output / name).unlink(missing_ok=True)


def _files_of(output: Path) -> set[str]:
    """Files that an earlier run of an experiment recorded in a folder."""
    try:
        names = json.loads((output / CONFIG).read_text(encoding="utf-8"))["files"]
        return {name for name in names if Path(name).name == name}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def run_script(main: Callable[[Any], object], config: type[Any], description: str | None) -> None:
    """Run an experiment from the words of the command line; what is refused is told in one sentence, with status 2.

    Args:
        main: the experiment.
        config: dataclass of what it takes, with the folder `output`.
        description: for the help.
    """
    try:
        options = tyro.cli(config, description=description)
        options.output.mkdir(parents=True, exist_ok=True)  # before hours of computing
        main(options)
    except (ArgumentError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def chosen(only: Sequence[str], known: Collection[str]) -> Iterator[str]:
    """The names asked for, or all, each told of as its turn comes.

    Args:
        only: what is asked for; nothing for all.
        known: what there is.

    Raises:
        ArgumentError: there is no such name; told before the first one's turn.
    """
    if unknown := [name for name in only if name not in known]:
        raise ArgumentError("only", unknown[0], f"one or more of {', '.join(known)}")
    for name in only or known:
        print(f"{name} ...", flush=True)
        yield name


def settings(config: Any) -> dict[str, Any]:
    """The fields of a configuration, but for where it writes to: the folder `output`, and that of a ledger."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in ("output", "ledger")}


def rounded(value: Any) -> Any:
    """Every float in it to `DIGITS` significant digits."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def read_table(path: Path) -> list[dict[str, Any]]:
    """A table as it was written: numbers as numbers, null where empty."""
    with open(path, newline="") as file:
        return [{key: _parsed(cell) for key, cell in row.items()} for row in csv.DictReader(file)]


def _parsed(cell: str) -> Any:
    known = {"": None, "True": True, "False": False}
    if cell in known:
        return known[cell]
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
