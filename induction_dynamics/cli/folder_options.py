"""The options of the commands that look at the folder of a sweep. Imports nothing that computes."""

import dataclasses
from typing import Annotated

import tyro

from induction_dynamics.cli.conditions import COLUMN, CONDITION, Condition
from induction_dynamics.cli.values import Kind, listed, one, path, real, several

FOLDER = path("DIR", "the path of a folder that 'sweep' has written")

_SUFFIXES = (".png", ".svg", ".pdf")
_RESULTS = path("FILE", "the path of a file that ends in .nc or .csv")
_CONFIDENCE = real("X", "a number strictly between 0 and 1", lambda x: 0 < x < 1)


@dataclasses.dataclass(frozen=True)
class StatusOptions:
    """Options of `status`.

    Args:
        folder: folder of a sweep, which may be at work there.
        json: print one JSON document to standard output, and nothing else there.
    """

    folder: Annotated[str, one(FOLDER), tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    json: bool = False


def _picture(word: str) -> str:
    if not word.endswith(_SUFFIXES) or word.rpartition("/")[2] in _SUFFIXES or "\0" in word:
        raise ValueError(_PICTURE.allowed)
    return word


_PICTURE = Kind("FILE", _picture, f"a file name ending in {listed(_SUFFIXES)}")
_FOLDERS = tyro.conf.arg(metavar="DIR [DIR ...]", help_behavior_hint="(required)")
_BY = tyro.conf.arg(
    help_behavior_hint="(default: model, inputs, query, measure, threshold, and what else differs but the seed)"
)
_WHERE = tyro.conf.arg(help_behavior_hint="(default: all rows)")
_TO = tyro.conf.arg(help_behavior_hint="(default: emergence_times.png and .svg in DIR)")


@dataclasses.dataclass(frozen=True)
class CurveOptions:
    """Which emergence times, and which of them make one curve.

    Args:
        by: columns that tell one curve from another, rows alike in them being one curve: of study (a folder's name),
            model, inputs, query, rotation, copies, embedding_dim, measure, threshold, seed, batch_size, step, samples,
            horizon, accuracy, optimizer, learning_rate, steps, sequences, start, hold and training (further options).
        where: rows with these values only, of these columns or of context_length: with any of several values of one
            column, and with those of all columns if there are several.
    """

    by: Annotated[tuple[Annotated[tuple[str, ...], several(COLUMN)], ...], tyro.conf.UseAppendAction, _BY] = ()
    where: Annotated[
        tuple[Annotated[tuple[Condition, ...], several(CONDITION)], ...], tyro.conf.UseAppendAction, _WHERE
    ] = ()


@dataclasses.dataclass(frozen=True)
class FitOptions:
    """Options of `fit`.

    Args:
        folders: folders of sweeps; a sweep may be at work there.
        confidence: coverage of the intervals.
        json: print one JSON document to standard output, and nothing else there.
        quiet: no remarks, only the table.
    """

    folders: Annotated[tuple[str, ...], several(FOLDER), tyro.conf.Positional, _FOLDERS]
    curves: CurveOptions = CurveOptions()
    confidence: Annotated[float, one(_CONFIDENCE)] = 0.95
    json: bool = False
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """Options of `plot`.

    Args:
        folders: folders of sweeps; a sweep may be at work there.
        to: .png, .svg or .pdf file to write, in a folder that exists; needed for several folders.
        quiet: no remarks.
    """

    folders: Annotated[tuple[str, ...], several(FOLDER), tyro.conf.Positional, _FOLDERS]
    curves: CurveOptions = CurveOptions()
    to: Annotated[str | None, one(_PICTURE), _TO] = None
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Options of `export`.

    Args:
        folder: folder of a sweep, which may be at work there.
        to: file to write, .nc (netCDF 4) or .csv, in a folder that exists; one that is there is replaced.
        trajectories: also the records of runs that 'sweep --records' has kept (.nc only).
        json: print one JSON document to standard output, and nothing else there.
        quiet: no remarks.
    """

    folder: Annotated[str, one(FOLDER), tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    to: Annotated[str, one(_RESULTS)]
    trajectories: bool = False
    json: bool = False
    quiet: bool = False
