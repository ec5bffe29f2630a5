"""How and when an induction head emerges while a transformer trains: exact reduced flows beside real training.

Public names are loaded when first used: importing the package imports neither jax nor numpy.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from induction_dynamics.checkpoints import project_files as project_files
    from induction_dynamics.copying import copying_score as copying_score
    from induction_dynamics.dynamics.emergence import Emergence as Emergence
    from induction_dynamics.dynamics.emergence import emergence_order as emergence_order
    from induction_dynamics.dynamics.emergence import emergence_times as emergence_times
    from induction_dynamics.dynamics.flow import flow_time_of_steps as flow_time_of_steps
    from induction_dynamics.dynamics.flow import solve_flow as solve_flow
    from induction_dynamics.dynamics.holds import Hold as Hold
    from induction_dynamics.dynamics.trajectory import Trajectory as Trajectory
    from induction_dynamics.errors import ArgumentError as ArgumentError
    from induction_dynamics.heads import duplicate_token_scores as duplicate_token_scores
    from induction_dynamics.heads import head_scores as head_scores
    from induction_dynamics.heads import in_context_learning_score as in_context_learning_score
    from induction_dynamics.heads import induction_scores as induction_scores
    from induction_dynamics.heads import previous_token_scores as previous_token_scores
    from induction_dynamics.plotting.asymptotics import plot_asymptotics as plot_asymptotics
    from induction_dynamics.plotting.attention import plot_attention as plot_attention
    from induction_dynamics.plotting.checkpoints import plot_checkpoints as plot_checkpoints
    from induction_dynamics.plotting.comparison import plot_comparison as plot_comparison
    from induction_dynamics.plotting.coordinates import plot_coordinates as plot_coordinates
    from induction_dynamics.plotting.coordinates_at_rest import plot_coordinates_at_rest as plot_coordinates_at_rest
    from induction_dynamics.plotting.emergence_order import plot_emergence_order as plot_emergence_order
    from induction_dynamics.plotting.emergence_times import plot_emergence_times as plot_emergence_times
    from induction_dynamics.plotting.patterns import plot_patterns as plot_patterns
    from induction_dynamics.plotting.phase_change import plot_phase_change as plot_phase_change
    from induction_dynamics.plotting.structures import plot_structures as plot_structures
    from induction_dynamics.plotting.weights import plot_weights as plot_weights
    from induction_dynamics.pseudo_parameters import COORDINATES as COORDINATES
    from induction_dynamics.pseudo_parameters import lift as lift
    from induction_dynamics.pseudo_parameters import project as project
    from induction_dynamics.reduced.retrieval import failing_length as failing_length
    from induction_dynamics.reduced.retrieval import retrieval_weights as retrieval_weights
    from induction_dynamics.scaling.labelled import load_sweep as load_sweep
    from induction_dynamics.scaling.laws import describe_fits as describe_fits
    from induction_dynamics.scaling.laws import fit_laws as fit_laws
    from induction_dynamics.scaling.laws import local_exponents as local_exponents
    from induction_dynamics.scaling.limits import asymptotic_law as asymptotic_law
    from induction_dynamics.scaling.plan import Grid as Grid
    from induction_dynamics.scaling.points import Point as Point
    from induction_dynamics.scaling.study import SweepResult as SweepResult
    from induction_dynamics.scaling.study import run_sweep as run_sweep
    from induction_dynamics.scaling.sweep import sweep as sweep
    from induction_dynamics.task import Task as Task
    from induction_dynamics.task import sample_sequences as sample_sequences
    from induction_dynamics.token_task import TokenTask as TokenTask
    from induction_dynamics.token_task import sample_tokens as sample_tokens
    from induction_dynamics.training.comparison import Comparison as Comparison
    from induction_dynamics.training.comparison import compare as compare
    from induction_dynamics.training.optimizers import Optimizer as Optimizer
    from induction_dynamics.training.saving import Checkpoints as Checkpoints
    from induction_dynamics.training.standard import StandardRun as StandardRun
    from induction_dynamics.training.standard import train_standard as train_standard
    from induction_dynamics.training.standard import train_standard_seeds as train_standard_seeds
    from induction_dynamics.training.standard_emergence import emergence_steps as emergence_steps
    from induction_dynamics.training.starts import Start as Start
    from induction_dynamics.training.train import train as train
    from induction_dynamics.training.train import train_seeds as train_seeds
    from induction_dynamics.transformer.ablation import ablate_heads as ablate_heads
    from induction_dynamics.transformer.ablation import ablate_terms as ablate_terms
    from induction_dynamics.transformer.built import built_circuit as built_circuit
    from induction_dynamics.transformer.disentangled import Weights as Weights
    from induction_dynamics.transformer.disentangled import forward as forward
    from induction_dynamics.transformer.progress import chance_spread as chance_spread
    from induction_dynamics.transformer.progress import progress_measures as progress_measures
    from induction_dynamics.transformer.standard import Architecture as Architecture
    from induction_dynamics.transformer.standard import StandardWeights as StandardWeights
    from induction_dynamics.transformer.standard import initial_weights as initial_weights
    from induction_dynamics.transformer.standard import standard_forward as standard_forward
    from induction_dynamics.transformer.structures import interpretable_structures as interpretable_structures
    from induction_dynamics.weights_files import load_weights as load_weights
    from induction_dynamics.weights_files import project_file as project_file
    from induction_dynamics.weights_files import save_weights as save_weights

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "transformer.standard",
    "ArgumentError": "errors",
    "COORDINATES": "pseudo_parameters",
    "Checkpoints": "training.saving",
    "Comparison": "training.comparison",
    "Emergence": "dynamics.emergence",
    "Grid": "scaling.plan",
    "Hold": "dynamics.holds",
    "Optimizer": "training.optimizers",
    "Point": "scaling.points",
    "StandardRun": "training.standard",
    "StandardWeights": "transformer.standard",
    "Start": "training.starts",
    "SweepResult": "scaling.study",
    "Task": "task",
    "TokenTask": "token_task",
    "Trajectory": "dynamics.trajectory",
    "Weights": "transformer.disentangled",
    "ablate_heads": "transformer.ablation",
    "ablate_terms": "transformer.ablation",
    "asymptotic_law": "scaling.limits",
    "built_circuit": "transformer.built",
    "chance_spread": "transformer.progress",
    "compare": "training.comparison",
    "copying_score": "copying",
    "describe_fits": "scaling.laws",
    "duplicate_token_scores": "heads",
    "emergence_order": "dynamics.emergence",
    "emergence_steps": "training.standard_emergence",
    "emergence_times": "dynamics.emergence",
    "failing_length": "reduced.retrieval",
    "fit_laws": "scaling.laws",
    "flow_time_of_steps": "dynamics.flow",
    "forward": "transformer.disentangled",
    "head_scores": "heads",
    "in_context_learning_score": "heads",
    "induction_scores": "heads",
    "initial_weights": "transformer.standard",
    "interpretable_structures": "transformer.structures",
    "lift": "pseudo_parameters",
    "load_sweep": "scaling.labelled",
    "load_weights": "weights_files",
    "local_exponents": "scaling.laws",
    "plot_asymptotics": "plotting.asymptotics",
    "plot_attention": "plotting.attention",
    "plot_checkpoints": "plotting.checkpoints",
    "plot_comparison": "plotting.comparison",
    "plot_coordinates": "plotting.coordinates",
    "plot_coordinates_at_rest": "plotting.coordinates_at_rest",
    "plot_emergence_order": "plotting.emergence_order",
    "plot_emergence_times": "plotting.emergence_times",
    "plot_patterns": "plotting.patterns",
    "plot_phase_change": "plotting.phase_change",
    "plot_structures": "plotting.structures",
    "plot_weights": "plotting.weights",
    "previous_token_scores": "heads",
    "progress_measures": "transformer.progress",
    "project": "pseudo_parameters",
    "project_file": "weights_files",
    "project_files": "checkpoints",
    "retrieval_weights": "reduced.retrieval",
    "run_sweep": "scaling.study",
    "sample_sequences": "task",
    "sample_tokens": "token_task",
    "save_weights": "weights_files",
    "solve_flow": "dynamics.flow",
    "standard_forward": "transformer.standard",
    "sweep": "scaling.sweep",
    "train": "training.train",
    "train_seeds": "training.train",
    "train_standard": "training.standard",
    "train_standard_seeds": "training.standard",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
