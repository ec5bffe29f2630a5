"""How and when an induction head emerges while a transformer trains: exact reduced flows beside real training.

Public names are loaded when first used: importing the package imports neither jax nor numpy.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from induction_dynamics.dynamics.emergence import Emergence as Emergence
    from induction_dynamics.dynamics.emergence import emergence_order as emergence_order
    from induction_dynamics.dynamics.emergence import emergence_times as emergence_times
    from induction_dynamics.dynamics.flow import flow_time_of_steps as flow_time_of_steps
    from induction_dynamics.dynamics.flow import solve_flow as solve_flow
    from induction_dynamics.dynamics.trajectory import Trajectory as Trajectory
    from induction_dynamics.errors import ArgumentError as ArgumentError
    from induction_dynamics.plotting.coordinates import plot_coordinates as plot_coordinates
    from induction_dynamics.plotting.emergence_times import plot_emergence_times as plot_emergence_times
    from induction_dynamics.pseudo_parameters import COORDINATES as COORDINATES
    from induction_dynamics.pseudo_parameters import lift as lift
    from induction_dynamics.pseudo_parameters import project as project
    from induction_dynamics.scaling.laws import describe_fits as describe_fits
    from induction_dynamics.scaling.laws import fit_laws as fit_laws
    from induction_dynamics.scaling.laws import local_exponents as local_exponents
    from induction_dynamics.scaling.sweep import Point as Point
    from induction_dynamics.scaling.sweep import sweep as sweep
    from induction_dynamics.task import Task as Task
    from induction_dynamics.training.gradient_descent import train as train
    from induction_dynamics.transformer.disentangled import Weights as Weights

__version__ = "0.1.0"

_HOMES = {
    "ArgumentError": "errors",
    "COORDINATES": "pseudo_parameters",
    "Emergence": "dynamics.emergence",
    "Point": "scaling.sweep",
    "Task": "task",
    "Trajectory": "dynamics.trajectory",
    "Weights": "transformer.disentangled",
    "describe_fits": "scaling.laws",
    "emergence_order": "dynamics.emergence",
    "emergence_times": "dynamics.emergence",
    "fit_laws": "scaling.laws",
    "flow_time_of_steps": "dynamics.flow",
    "lift": "pseudo_parameters",
    "local_exponents": "scaling.laws",
    "plot_coordinates": "plotting.coordinates",
    "plot_emergence_times": "plotting.emergence_times",
    "project": "pseudo_parameters",
    "solve_flow": "dynamics.flow",
    "sweep": "scaling.sweep",
    "train": "training.gradient_descent",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
