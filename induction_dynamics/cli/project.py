"""`induction-dynamics project`: the 19 coordinates of weights on disk, of one file or along a series."""

import contextlib
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from induction_dynamics.cli.computing import enough_memory, use_device
from induction_dynamics.cli.document import as_csv, as_json, build, configuration, finite
from induction_dynamics.cli.folder import CONFIG, claimed, text, write_all
from induction_dynamics.cli.options import ProjectOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.progress import progress
from induction_dynamics.cli.project_tables import show_projection, show_series
from induction_dynamics.cli.refusal import Refusal
from induction_dynamics.cli.values import quoted, visible
from induction_dynamics.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np

FILES = ("project.json", "rows.csv")
FIGURES = ("coordinates.png", "coordinates.svg")


class Checkpoint(NamedTuple):
    """The projection of one file.

    Args:
        file: its path, as shown.
        embedding_dim: D.
        coordinates: the 19.
        off_subspace: fractions of W1, W2, W3 and in total.
    """

    file: str
    embedding_dim: int
    coordinates: "np.ndarray"
    off_subspace: dict[str, float]


def run(options: ProjectOptions) -> None:
    """Project every file, print the coordinates, and write the folder if one is given.

    Raises:
        Refusal: a file, the times or the folder are refused; nothing was written.
    """
    files = find_files(options.files)
    check_times(options.times, len(files))
    dim = read_dim(files)
    device_kind = use_device(options.answer.device)
    config = configuration(options, device_kind) | {"files": [visible(file) for file in files]}
    written = FILES if len(files) == 1 else (*FILES, *FIGURES)
    with claimed(options.output, config, written) if options.output else contextlib.nullcontext() as folder:
        checkpoints = project_files(files, dim, options)
        document = _series(checkpoints, config, options) if len(files) > 1 else _single(checkpoints[0], config)
        if folder is not None:
            write_all(folder, _writers(document, checkpoints, options))
    if options.answer.json:
        sys.stdout.write(as_json(document))
        return
    (show_series if len(files) > 1 else show_projection)(document, quiet=options.answer.quiet)
    if options.output and not options.answer.quiet:
        print(f"\nWritten to {visible(options.output)}")


def find_files(typed: Sequence[str]) -> list[str]:
    """The files as typed, or those of the one folder that was.

    Raises:
        Refusal: a folder beside others, or one that has no files of weights or cannot be read.
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
    return [str(path) for path in sorted(inside, key=lambda path: natural(path.name))]


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts names by the numbers in them.

    Example:
        >>> sorted(["step_10", "step_2", "step_1b", "step_1"], key=natural)
        ['step_1', 'step_1b', 'step_2', 'step_10']
    """
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def check_times(times: Sequence[float], files: int) -> None:
    """Refuse times that are not one for each file, increasing.

    Raises:
        Refusal: see above.
    """
    if not times:
        return
    if len(times) != files:
        raise Refusal(f"--times must be as many as files, which are {files}; got {len(times)}.")
    for before, after in zip(times, times[1:], strict=False):
        if after <= before:
            raise Refusal(f"--times must increase from file to file; got '{after!r}' after '{before!r}'.")


def read_dim(files: Sequence[str]) -> int:
    """D of all files, from their shapes alone.

    Raises:
        Refusal: one is no file of weights, or of another D than the first.
    """
    from induction_dynamics.weights_files import stored_dim

    first = 0
    for file in files:
        with _naming_files():
            dim = stored_dim(file)
        first = first or dim
        if dim != first:
            raise Refusal(
                f"FILE must be files of one D, which is {first} in {quoted(files[0])}; "
                f"got {quoted(file)}, where it is {dim}."
            )
    return first


def project_files(files: Sequence[str], embedding_dim: int, options: ProjectOptions) -> list[Checkpoint]:
    """The projection of every file, one matrix in memory at a time.

    Raises:
        Refusal: one holds numbers that are not finite, or is damaged; with status 1, when memory runs out.
    """
    import numpy as np

    from induction_dynamics.weights_files import project_file

    checkpoints = []
    with progress(options.answer.quiet) as tell, enough_memory():
        for done, file in enumerate(files):
            if tell is not None:
                tell(done, len(files), visible(Path(file).name))
            with _naming_files():
                found = project_file(file, options.rotation)
            missed = {name: float(value) for name, value in found.off_subspace._asdict().items()}
            checkpoints.append(Checkpoint(visible(file), embedding_dim, np.asarray(found.coordinates), missed))
    return checkpoints


def _single(checkpoint: Checkpoint, config: dict[str, Any]) -> dict[str, Any]:
    from induction_dynamics.pseudo_parameters import COORDINATES

    values = zip(COORDINATES, checkpoint.coordinates.tolist(), strict=True)
    rows = [{"coordinate": name, "value": value} for name, value in values]
    more = {"embedding_dim": checkpoint.embedding_dim, "off_subspace": checkpoint.off_subspace}
    return finite(build("project", config, rows) | more)


def _series(checkpoints: Sequence[Checkpoint], config: dict[str, Any], options: ProjectOptions) -> dict[str, Any]:
    import numpy as np

    from induction_dynamics.dynamics.emergence import emergence_order, emergence_times
    from induction_dynamics.dynamics.trajectory import Trajectory
    from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

    time = np.asarray(options.times or range(len(checkpoints)), dtype=float)
    trajectory = Trajectory(
        time=time,
        coordinates=np.stack([checkpoint.coordinates for checkpoint in checkpoints]),
        loss=np.zeros(len(time)),  # unknown, and never asked for
        off_subspace=np.array([checkpoint.off_subspace["total"] for checkpoint in checkpoints]),
        outcome="horizon_reached",
    )
    crossings = emergence_times(trajectory, measures=CIRCUIT, thresholds=options.thresholds)
    unit = {"time_unit": "flow" if options.times else "checkpoint"}
    files = []
    for place, checkpoint in enumerate(checkpoints):
        when = {"time": options.times[place]} if options.times else {}
        files.append(
            {"file": checkpoint.file, "embedding_dim": checkpoint.embedding_dim}
            | when
            | {"off_subspace": checkpoint.off_subspace}
        )
    rows = [
        {"file": checkpoint.file, "coordinate": name, "value": value}
        for checkpoint in checkpoints
        for name, value in zip(COORDINATES, checkpoint.coordinates.tolist(), strict=True)
    ]
    more = {
        "files": files,
        "emergence": [dataclasses.asdict(crossing) | unit for crossing in crossings],
        "order": [{"threshold": order.threshold, "order": str(order)} for order in emergence_order(crossings)],
    }
    notes = [
        f"{crossing.measure} is beyond {crossing.threshold:g} in the first file already: its time is an upper bound."
        for crossing in crossings
        if crossing.time == time[0]
    ]
    return finite(build("project", config, rows, notes=notes) | more)


def _writers(
    document: dict[str, Any], checkpoints: Sequence[Checkpoint], options: ProjectOptions
) -> dict[str, Callable[[Path], object]]:
    writers: dict[str, Callable[[Path], object]] = {
        CONFIG: text(as_json(document["config"])),
        "project.json": text(as_json(document)),
        "rows.csv": text(as_csv(document["rows"])),
    }
    if len(checkpoints) > 1:
        import numpy as np

        from induction_dynamics.plotting.checkpoints import plot_checkpoints
        from induction_dynamics.plotting.style import save_figure

        figure = plot_checkpoints(
            np.asarray(options.times or range(len(checkpoints)), dtype=float),
            np.stack([checkpoint.coordinates for checkpoint in checkpoints]),
            np.array([list(checkpoint.off_subspace.values()) for checkpoint in checkpoints]),
            time_unit="flow" if options.times else "checkpoint",
            labels=[Path(checkpoint.file).name for checkpoint in checkpoints],
        )
        for name in FIGURES:
            writers[name] = lambda path: save_figure(figure, path)
    return writers


@contextlib.contextmanager
def _naming_files() -> Iterator[None]:
    try:
        yield
    except ArgumentError as error:
        if error.argument != "path":
            raise
        raise Refusal(f"FILE must be {error.allowed}; got {quoted(str(error.value))}.") from None


COMMAND = Command(
    name="project",
    summary="the 19 coordinates of weights on disk, of one file or along a series",
    description="""\
Projects weights on disk on the 19 coordinates, and tells the fraction of their
norm that these do not explain. Of several files, or a folder of them, it also
tells when and in which order alpha_3, beta_2 and gamma_3 emerge, by straight
lines from file to file: in flow time with --times, else counting files from 0.

A file holds arrays W1 (2D x 2D), W2 (4D x 4D) and W3 (D x 8D) of real numbers,
as 'induction-dynamics train --save-weights' writes them. At 90 degrees M is
J = [[0, -I], [I, 0]], at others cos I + sin J: weights of a model with another
M must be changed to that basis first. --output writes project.json, rows.csv
and config.json, and of a series coordinates.png and .svg.

Example:

  induction-dynamics project weights.npz
  induction-dynamics project checkpoints --times 0 16 32 --output out/project""",
    options=ProjectOptions,
    run=run,
)
