"""`induction-dynamics project`: the 19 coordinates of weights on disk, of one file or a series."""

import contextlib
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.computing import enough_memory, use_device
from induction_dynamics.cli.document import as_csv, as_json, build, configuration
from induction_dynamics.cli.folder import CONFIG, claimed, pictures, text, write_all
from induction_dynamics.cli.options import ProjectOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.progress import progress
from induction_dynamics.cli.project_tables import show_projection, show_series
from induction_dynamics.cli.refusal import Refusal
from induction_dynamics.cli.values import quoted, visible
from induction_dynamics.errors import ArgumentError

if TYPE_CHECKING:
    from induction_dynamics.checkpoints import Settings
    from induction_dynamics.pseudo_parameters import Projection

FILES = ("project.json", "rows.csv")
FIGURES = ("coordinates.png", "coordinates.svg")


def run(options: ProjectOptions) -> None:
    """Project every file, print the coordinates, and write the folder if one is given.

    Raises:
        Refusal: a file or the folder is refused; nothing was written.
        ArgumentError: the times or the rotation are.
    """
    from induction_dynamics.checkpoints import check_files, check_times

    files = find_files(options.files)
    check_times(options.times or None, len(files))
    with _naming_files():
        settings = check_files(files, options.rotation)
    device_kind = use_device(options.answer.device)
    config = configuration(options, device_kind)
    config |= {"files": [visible(file) for file in files], "rotation": settings.rotation}
    written = FILES if len(files) == 1 else (*FILES, *FIGURES)
    with claimed(options.output, config, written) if options.output else contextlib.nullcontext() as folder:
        projections = read_files(files, settings, options.answer.quiet)
        document = (_series if len(files) > 1 else _single)(projections, config, settings)
        if folder is not None:
            write_all(folder, _writers(document, projections))
    if options.answer.json:
        sys.stdout.write(as_json(document))
        return
    (show_series if len(files) > 1 else show_projection)(document, quiet=options.answer.quiet)
    if options.output and not options.answer.quiet:
        print(f"\nWritten to {visible(options.output)}")


def find_files(typed: Sequence[str]) -> list[str]:
    """The files as typed, or those of the one folder that was.

    Raises:
        Refusal: a folder beside others, or one that has no files of weights, two of one name, or cannot be read.
    """
    folders = [word for word in typed if Path(word).is_dir()]
    if not folders:
        return list(typed)
    if len(typed) > 1:
        raise Refusal(f"FILE must be files, or one folder and nothing else; got {quoted(folders[0])} beside others.")
    from induction_dynamics.weights_files import SUFFIXES

    try:
        inside = [
            path
            for path in Path(typed[0]).iterdir()
            if path.suffix in SUFFIXES and path.name[0] != "." and not path.is_dir()
        ]
    except OSError as error:
        raise Refusal(
            f"FILE must be a folder that can be read; got {quoted(typed[0])} ({error.strerror or error})."
        ) from None
    if not inside:
        raise Refusal(f"FILE must be a folder with .npz or .safetensors files in it; got {quoted(typed[0])}.")
    inside.sort(key=lambda path: natural(path.name))
    stems: dict[str, str] = {}
    for path in inside:
        other = stems.setdefault(path.stem, path.name)
        if other != path.name:
            raise Refusal(
                f"FILE must be a folder in which no two files differ in their ending only; got {quoted(typed[0])}, "
                f"which holds {quoted(other)} and {quoted(path.name)}."
            )
    return list(map(str, inside))


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names by the numbers in them.

    Example:
        >>> sorted(["step_10", "step_2", "step_1b", "step_1"], key=natural)
        ['step_1', 'step_1b', 'step_2', 'step_10']
    """
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def read_files(files: Sequence[str], settings: "Settings", quiet: bool) -> "list[Projection]":
    """The projection of every file, one matrix in memory at a time.

    Args:
        files: their paths.
        settings: of all of them.
        quiet: without progress.

    Raises:
        Refusal: one holds numbers that are not finite, or is damaged; with status 1, when memory runs out.
    """
    from induction_dynamics.weights_files import project_file

    projections = []
    with progress(quiet) as tell, enough_memory(), _naming_files():
        for done, file in enumerate(files):
            if tell is not None:
                tell(done, len(files), visible(Path(file).name))
            projections.append(project_file(file, settings.rotation))
    return projections


def _single(projections: "Sequence[Projection]", config: dict[str, Any], settings: "Settings") -> dict[str, Any]:
    (found,) = projections
    more = {"embedding_dim": settings.embedding_dim, "off_subspace": _fractions(found)}
    return build("project", config, _values(found), more=more)


def _series(projections: "Sequence[Projection]", config: dict[str, Any], settings: "Settings") -> dict[str, Any]:
    from induction_dynamics.checkpoints import trajectory_of
    from induction_dynamics.dynamics.emergence import emergence_order, emergence_times
    from induction_dynamics.pseudo_parameters import CIRCUIT

    times = config["times"]
    trajectory = trajectory_of(projections, times or None)
    crossings = emergence_times(trajectory, measures=CIRCUIT, thresholds=config["thresholds"])
    unit = {"time_unit": _unit(config)}
    named = list(zip(config["files"], projections, strict=True))
    files = [
        {"file": file, "embedding_dim": settings.embedding_dim}
        | ({"time": times[place]} if times else {})
        | {"off_subspace": _fractions(found)}
        for place, (file, found) in enumerate(named)
    ]
    more = {
        "files": files,
        "emergence": [dataclasses.asdict(crossing) | unit for crossing in crossings],
        "order": [{"threshold": order.threshold, "order": str(order)} for order in emergence_order(crossings)],
    }
    notes = [
        f"{crossing.measure} is beyond {crossing.threshold:g} in the first file already: its time is an upper bound."
        for crossing in crossings
        if crossing.time == trajectory.time[0]
    ]
    rows = [{"file": file} | value for file, found in named for value in _values(found)]
    return build("project", config, rows, notes=notes, more=more)


def _values(found: "Projection") -> list[dict[str, Any]]:
    from induction_dynamics.pseudo_parameters import COORDINATES

    values = zip(COORDINATES, found.coordinates.tolist(), strict=True)
    return [{"coordinate": name, "value": value} for name, value in values]


def _fractions(found: "Projection") -> dict[str, float]:
    return {name: float(value) for name, value in found.off_subspace._asdict().items()}


def _unit(config: dict[str, Any]) -> str:
    return "flow" if config["times"] else "checkpoint"


def _writers(document: dict[str, Any], projections: "Sequence[Projection]") -> dict[str, Callable[[Path], object]]:
    config = document["config"]
    writers: dict[str, Callable[[Path], object]] = {
        CONFIG: text(as_json(config)),
        "project.json": text(as_json(document)),
        "rows.csv": text(as_csv(document["rows"])),
    }
    if len(projections) > 1:
        from induction_dynamics.checkpoints import trajectory_of
        from induction_dynamics.plotting.checkpoints import plot_checkpoints

        trajectory = trajectory_of(projections, config["times"] or None)
        figure = plot_checkpoints(
            trajectory.time,
            trajectory.coordinates,
            [list(_fractions(found).values()) for found in projections],
            time_unit=_unit(config),
            labels=[Path(file).name for file in config["files"]],
        )
        writers |= pictures("coordinates", figure)
    return writers


@contextlib.contextmanager
def _naming_files() -> Iterator[None]:
    try:
        yield
    except ArgumentError as error:
        if error.argument not in ("path", "paths"):
            raise
        raise Refusal(f"FILE must be {error.allowed}; got {quoted(str(error.value))}.") from None


COMMAND = Command(
    name="project",
    summary="the 19 coordinates of weights on disk, of one file or a series",
    description="""\
Projects weights on disk on the 19 coordinates, and tells the fraction of their
norm that these do not explain. Of several files, or a folder of them, it also
tells when and in which order alpha_3, beta_2 and gamma_3 emerge, by straight
lines from file to file: in flow time with --times, else counting files from 0.

A file holds arrays W1 (2D x 2D), W2 (4D x 4D) and W3 (D x 8D) of real numbers,
as 'induction-dynamics train --save-weights' writes them. At 90 degrees M is
J = [[0, -I], [I, 0]], at others cos I + sin J: weights of a model with another
M must be changed to that basis first. The angle is --rotation, or what a file
states; where both do, they must agree. --output writes project.json, rows.csv
and config.json, and of a series coordinates.png and .svg.

Example:

  induction-dynamics project weights.npz
  induction-dynamics project checkpoints --times 0 16 32 --output out/project""",
    options=ProjectOptions,
    run=run,
)
