"""A series of weights on disk as one run: the coordinates of its checkpoints on a time axis."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import Projection
from induction_dynamics.weights_files import project_file, rotation_of_file, same_rotation, stored_dim


class Settings(NamedTuple):
    """What all files of a series have in common.

    Args:
        embedding_dim: D.
        rotation: phi in degrees.
    """

    embedding_dim: int
    rotation: float


def project_files(
    paths: Sequence[str | Path], *, times: Sequence[float] | None = None, rotation: float | None = None
) -> Trajectory:
    """Coordinates and off-subspace fraction along a series of weights on disk, of which one matrix is read at a time.

    theta_k(t_i) is the projection of the weights W in file i, as `project_file` gives it, and the off-subspace
    fraction is ||W - sum_k theta_k B_k|| / ||W||. Between files the run is a straight line.

    Args:
        paths: files as in `load_weights`, at least one, in their order.
        times: t_i, flow time of each file, increasing; by default the files are counted from 0, which is no flow time.
        rotation: phi in degrees; by default what the files state, else 90.

    Returns:
        The run, with a record for each file. Its loss is unknown, so it is NaN and never emerges.

    Raises:
        ArgumentError: no paths; files of several D or rotations; times that are not one for each file, finite and
            increasing; or as `project_file` says.
        ValueError: jax_enable_x64 is off.

    Example:
        >>> import pathlib, tempfile
        >>> import jax
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> task = idyn.Task(context_length=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = [pathlib.Path(folder) / f"{step}.npz" for step in (0, 40)]
        ...     for path, size in zip(paths, (0.0, 2.0)):
        ...         _ = idyn.save_weights(idyn.lift(jax.numpy.full(19, size), task), path)
        ...     run = idyn.project_files(paths, times=(0.0, 10.0))
        >>> [(found.measure, found.time) for found in idyn.emergence_times(run)]
        [('alpha_3', 2.5), ('beta_2', 2.5), ('gamma_3', 2.5), ('loss', None)]
    """
    settings = check_files(paths, rotation)
    check_times(times, len(paths))
    return trajectory_of([project_file(path, settings.rotation) for path in paths], times)


def check_files(paths: Sequence[str | Path], rotation: float | None = None) -> Settings:
    """D and rotation of a series, from the beginnings of its files.

    Args:
        paths: see `project_files`.
        rotation: phi as given by the user.

    Raises:
        ArgumentError: see `project_files`; of the numbers in W1, W2, W3 nothing is known yet.
    """
    if not paths:
        raise ArgumentError("paths", paths, "at least one file")
    found = [Settings(stored_dim(path), rotation_of_file(path, rotation)) for path in paths]
    for path, own in zip(paths, found, strict=True):
        for what, first, other, same in (
            ("D", found[0].embedding_dim, own.embedding_dim, found[0].embedding_dim == own.embedding_dim),
            ("rotation", found[0].rotation, own.rotation, same_rotation(found[0].rotation, own.rotation)),
        ):
            if not same:
                allowed = f"files of one {what}, which is {first:g} in {str(paths[0])!r} (here it is {other:g})"
                raise ArgumentError("paths", str(path), allowed)
    return found[0]


def check_times(times: Sequence[float] | None, files: int) -> None:
    """Refuse times that are not one for each file, finite and increasing.

    Args:
        times: see `project_files`.
        files: how many.

    Raises:
        ArgumentError: see above.
    """
    if times is None:
        return
    if len(times) != files:
        raise ArgumentError("times", tuple(times), f"as many as files, which are {files} (here {len(times)})")
    for place, time in enumerate(times):
        if not math.isfinite(time):
            raise ArgumentError("times", time, "finite")
        if place and time <= times[place - 1]:
            raise ArgumentError("times", time, f"increasing from file to file, here above {times[place - 1]:.17g}")


def trajectory_of(projections: Sequence[Projection], times: Sequence[float] | None = None) -> Trajectory:
    """The run that has these projections as its records.

    Args:
        projections: of each file.
        times: t of each, checked; by default they are counted from 0.
    """
    time = np.arange(len(projections)) if times is None else times
    return Trajectory(
        time=np.asarray(time, dtype=float),
        coordinates=np.stack([np.asarray(found.coordinates) for found in projections]),
        loss=np.full(len(projections), np.nan),
        off_subspace=np.array([float(found.off_subspace.total) for found in projections]),
        outcome="horizon_reached",
    )
