"""The document of `standard`: for each seed when the circuit emerged, how the training ended, and its best heads."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.document import build
from induction_dynamics.cli.standard_options import StandardOptions

if TYPE_CHECKING:
    from induction_dynamics.training.standard import StandardRun


def document_of(
    runs: "Sequence[StandardRun]", options: StandardOptions, config: dict[str, Any], notes: list[str]
) -> dict[str, Any]:
    """The document.

    Args:
        runs: one for each seed.
        options: of the command.
        config: the options as they were used.
        notes: so far; more are added.
    """
    rows: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    if options.architecture.layers == 1:
        notes.append("One layer has no beta_2, which is between two.")
    for seed, run in zip(options.run.seeds, runs, strict=True):
        own = _rows(run, seed, options)
        rows += own
        told.append(_told(run, seed, own))
        if run.outcome == "nonfinite":
            last = f"after step {run.steps[-1]}" if len(run.steps) else "from the start"
            notes.append(f"The training of seed {seed} was not finite {last}; that is where its records end.")
    return build("standard", config, rows, notes=notes, more={"runs": told})


def _rows(run: "StandardRun", seed: int, options: StandardOptions) -> list[dict[str, Any]]:
    """A row for each measure."""
    from induction_dynamics.pseudo_parameters import CIRCUIT
    from induction_dynamics.training.standard_emergence import emergence_steps

    deviations = run.deviations
    steps = emergence_steps(run, deviations=options.run.deviations) if len(run.steps) else {}
    rows = []
    for place, name in enumerate((*CIRCUIT, "loss", "accuracy")):
        if name == "beta_2" and options.architecture.layers == 1:
            continue
        of_circuit = name in CIRCUIT
        values = run.summed[:, place] if of_circuit else getattr(run, name)
        step = steps.get(name)
        rows.append(
            {
                "seed": seed,
                "measure": name,
                "step": step,
                "outcome": run.outcome if step is None else "emerged",
                "start": float(values[0]) if len(values) else None,
                "end": float(values[-1]) if len(values) else None,
                "deviations": float(deviations[-1, place]) if of_circuit and len(values) else None,
            }
        )
    return rows


def _told(run: "StandardRun", seed: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The end of a seed's run, its best heads there, and the order in words."""
    ended = len(run.steps) > 0
    layers = {"previous_token": 0, "induction": -1}
    return {
        "seed": seed,
        "outcome": run.outcome,
        "last_step": int(run.steps[-1]) if ended else None,
        "loss": float(run.loss[-1]) if ended else None,
        "accuracy": float(run.accuracy[-1]) if ended else None,
        **{kind: _best(run, kind, layer) if ended else None for kind, layer in layers.items()},
        "order": _order(rows),
    }


def _best(run: "StandardRun", kind: str, layer: int) -> dict[str, Any]:
    """The head of a layer that scores highest at the last record."""
    scores = run.head_scores[kind][-1]
    head = int(scores[layer].argmax())
    return {"layer": layer % len(scores), "head": head, "above_chance": float(scores[layer, head])}


def _order(rows: list[dict[str, Any]]) -> str:
    from induction_dynamics.dynamics.emergence import Order

    timed = sorted((row for row in rows if row["step"] is not None), key=lambda row: row["step"])
    groups = [tuple(row["measure"] for row in group) for _, group in itertools.groupby(timed, lambda row: row["step"])]
    return str(Order(0.0, tuple(groups), tuple(row["measure"] for row in rows if row["step"] is None)))
