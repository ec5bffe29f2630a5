"""Make every picture of figures/ and its numbers anew: `python -m experiments.figures` (`make figures`)."""

import dataclasses
from pathlib import Path

from experiments import (
    asymptotics,
    burstiness,
    circuit_picture,
    context_length_scaling,
    convergence_orders,
    coordinates_at_rest,
    emergence_order,
    off_subspace,
    other_sixteen,
    reduced_vs_full,
    retrieval,
    standard_cause,
    standard_emergence,
    standard_picture,
    standard_retrieval,
    thresholds,
    trained_scaling,
)
from experiments.recorder import chosen, run_script

EXPERIMENTS = {
    "emergence_order": lambda folder: emergence_order.main(emergence_order.OrderConfig(folder)),
    "context_length_scaling": lambda folder: context_length_scaling.main(context_length_scaling.ScalingConfig(folder)),
    "asymptotics": lambda folder: asymptotics.main(asymptotics.AsymptoticsConfig(folder)),
    "reduced_vs_full": lambda folder: reduced_vs_full.main(reduced_vs_full.OverlayConfig(folder)),
    "coordinates_at_rest": lambda folder: coordinates_at_rest.main(coordinates_at_rest.RestConfig(folder)),
    "convergence_orders": lambda folder: convergence_orders.main(convergence_orders.OrdersConfig(folder)),
    "trained_scaling": lambda folder: trained_scaling.main(trained_scaling.TrainedConfig(folder)),
    "thresholds": lambda folder: thresholds.main(thresholds.ThresholdsConfig(folder)),
    "other_sixteen": lambda folder: other_sixteen.main(other_sixteen.SixteenConfig(folder)),
    "burstiness": lambda folder: burstiness.main(burstiness.BurstConfig(folder)),
    "off_subspace": lambda folder: off_subspace.main(off_subspace.OffSubspaceConfig(folder)),
    "retrieval": lambda folder: retrieval.main(retrieval.RetrievalConfig(folder)),
    "standard_picture": lambda folder: standard_picture.main(standard_picture.PictureConfig(folder)),
    "standard_emergence": lambda folder: standard_emergence.main(standard_emergence.StandardConfig(folder)),
    "standard_cause": lambda folder: standard_cause.main(standard_cause.CauseConfig(folder)),
    "standard_retrieval": lambda folder: standard_retrieval.main(standard_retrieval.StandardRetrievalConfig(folder)),
    "circuit_picture": lambda folder: circuit_picture.main(circuit_picture.CircuitConfig(folder)),
}
"""What makes each folder of figures/, with the configuration whose numbers are committed."""

APART = {"pretrained_heads": "python -m experiments.pretrained_heads --output figures/pretrained_heads"}
"""Folders of figures/ that are made by a command of their own, for what the project does not install."""


@dataclasses.dataclass(frozen=True)
class FiguresConfig:
    """Which pictures are made, and where they go.

    Args:
        output: folder; `figures` replaces those that are committed.
        only: names of the experiments to run; by default all.
    """

    output: Path = Path("build/figures")
    only: tuple[str, ...] = ()


def main(config: FiguresConfig) -> None:
    """Run the experiments.

    Raises:
        ArgumentError: there is no such experiment; nothing was run.
    """
    for name in chosen(config.only, EXPERIMENTS):
        EXPERIMENTS[name](config.output / name)


if __name__ == "__main__":
    run_script(main, FiguresConfig, __doc__)
