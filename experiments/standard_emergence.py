"""Does the circuit emerge in standard transformers, and in which order? Ten seeds each of several models and tasks.

`python -m experiments.standard_emergence --output DIR` writes runs.csv, steps.csv, orders.csv and the figure.
"""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.recorder import record, rounded, run_script
from experiments.standard_runs import trained
from induction_dynamics.cli.progress import progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.standard_emergence import plot_standard_emergence
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.token_task import TokenTask
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.standard import StandardRun, StandardSettings
from induction_dynamics.training.standard_emergence import emergence_steps
from induction_dynamics.transformer.standard import Architecture

CASES: dict[str, dict[str, Any]] = {
    "one head": {},
    "D = 128": {"embedding_dim": 128, "learning_rate": 0.001},
    "four heads": {"heads": 4},
    "scores / √K": {"scaled": True},
    "learned embeddings": {"tokens": "learned", "positions": "learned"},
    "tied unembedding": {"tied": True},
    "repeated segment": {"kind": "repeated"},
    "… of fixed length": {"kind": "repeated", "period": "fixed"},
}
"""What differs from one head, fixed embeddings, an unembedding of its own, scores not divided, and pairs."""

LEVELS: dict[str, dict[str, float | None]] = {"chance": {}, "half": {"deviations": None, "fraction": 0.5}}
"""What a measure must reach: five standard deviations of chance; half of where it ends."""

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class StandardConfig:
    """What is trained.

    Args:
        output: folder for the tables and the figure.
        ledger: folder in which each training is kept once it is done.
        cases: of `CASES`.
        seeds: of each.
        context_length: N.
        vocabulary: V.
        embedding_dim: D, where a case has no other.
        learning_rate: of adam, where a case has no other.
        steps: of each training.
        batch_size: B.
        record_every: steps between two records.
        evaluation: sequences of the evaluation batch.
    """

    output: Path = Path("build/figures/standard_emergence")
    ledger: Path = Path("build/ledgers/standard_emergence")
    cases: tuple[str, ...] = tuple(CASES)
    seeds: tuple[int, ...] = tuple(range(10))
    context_length: int = 8
    vocabulary: int = 32
    embedding_dim: int = 64
    learning_rate: float = 0.003
    steps: int = 1500
    batch_size: int = 128
    record_every: int = 10
    evaluation: int = 128

    def __post_init__(self):
        for name in self.cases:
            if name not in CASES:
                raise ArgumentError("cases", name, f"of {', '.join(CASES)}")
        if not self.cases or not self.seeds:
            raise ArgumentError("cases" if not self.cases else "seeds", (), "at least one")


def main(config: StandardConfig, command: str = "make figures ONLY=standard_emergence") -> None:
    """Train what is not in the ledger, time it and count the orders."""
    runs: dict[str, list[StandardRun]] = {}
    with progress(lines=True) as tell:
        for done, case in enumerate(config.cases):
            if tell is not None:
                tell(done, len(config.cases), f"{case}, {len(config.seeds)} seeds")
            with jax.enable_x64(False):  # on which the last digits of adam's factors depend, whatever ran before
                runs[case] = trained(config.ledger, settings_of(config, case), config.seeds)
    ends = [_end(case, seed, run) for case in runs for seed, run in zip(config.seeds, runs[case], strict=True)]
    steps = [
        {"case": case, "seed": seed, "level": level, "measure": measure, "step": step}
        for case in runs
        for seed, run in zip(config.seeds, runs[case], strict=True)
        for level, options in LEVELS.items()
        for measure, step in emergence_steps(run, **options).items()
    ]
    orders = counted_orders(steps)
    record(
        config.output,
        config=config,
        command=command,
        figures={"standard_emergence": plot_standard_emergence(rounded(steps), orders)},
        tables={"runs": ends, "steps": steps, "orders": orders},
    )


def settings_of(config: StandardConfig, case: str) -> StandardSettings:
    """The training of a case.

    Args:
        config: of all.
        case: of `CASES`.
    """
    changes = dict(CASES[case])
    of_task = {name: changes.pop(name) for name in ("kind", "period") if name in changes}
    task = TokenTask(config.context_length, config.vocabulary, **of_task)
    width, rate = changes.pop("embedding_dim", config.embedding_dim), changes.pop("learning_rate", config.learning_rate)
    return StandardSettings(
        architecture=Architecture(config.vocabulary, task.sequence_length, width, **changes),
        task=task,
        optimizer=Optimizer("adam", learning_rate=rate),
        steps=config.steps,
        batch_size=config.batch_size,
        record_every=config.record_every,
        evaluation=config.evaluation,
    )


def counted_orders(steps: Sequence[Row]) -> list[Row]:
    """How many seeds have each order of the three, for each case and level; those that lack one are counted apart.

    Args:
        steps: `case`, `seed`, `level`, `measure`, `step` or None.
    """
    found: dict[tuple[str, str, int], dict[str, float | None]] = {}
    for row in steps:
        if row["measure"] in CIRCUIT:
            found.setdefault((row["case"], row["level"], row["seed"]), {})[row["measure"]] = row["step"]
    counts: dict[tuple[str, str], collections.Counter[str]] = {}
    for (case, level, _), of_seed in found.items():
        order = "incomplete" if None in of_seed.values() else " ".join(sorted(of_seed, key=lambda m: of_seed[m] or 0.0))
        counts.setdefault((case, level), collections.Counter())[order] += 1
    return [
        {"case": case, "level": level, "order": order, "seeds": number}
        for (case, level), counter in counts.items()
        for order, number in counter.most_common()
    ]


def _end(case: str, seed: int, run: StandardRun) -> Row:
    """What a run has come to, and how far alpha_3~ had been below chance."""
    row: Row = {"case": case, "seed": seed, "outcome": run.outcome, "loss": run.loss[-1], "accuracy": run.accuracy[-1]}
    for place, name in enumerate(CIRCUIT):
        row |= {name: run.summed[-1, place], f"{name}_deviations": run.deviations[-1, place]}
        row[f"{name}_least_deviations"] = run.deviations[:, place].min()
    for kind, scores in run.head_scores.items():
        for layer in range(scores.shape[1]):
            row[f"{kind}_layer_{layer + 1}"] = scores[-1, layer].max()
    return {name: value if isinstance(value, str | int) else float(value) for name, value in row.items()}


if __name__ == "__main__":
    run_script(main, StandardConfig, __doc__)
