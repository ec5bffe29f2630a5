"""A standard transformer learns in context: its training on one axis of steps, what its heads attend to, its weights.

`python -m experiments.standard_picture --output DIR` trains once for each number of heads and writes history.csv,
patterns.csv, tokens.csv, structures.csv, measures.csv and around.csv, with three figures for each number of heads.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.heads import KINDS
from induction_dynamics.plotting.patterns import circuit_cells, plot_patterns
from induction_dynamics.plotting.phase_change import phase_change, plot_phase_change
from induction_dynamics.plotting.structures import Shown, plot_structures, shown_structures
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.task import split_seed
from induction_dynamics.token_task import TokenSequences, TokenTask, sample_tokens
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.standard import StandardRun, train_standard
from induction_dynamics.transformer.standard import Architecture, StandardWeights, initial_weights, standard_forward

# no l, which could be a 1
NAMES = "abcdefghijkmnopqrstuvwxyz23456789"
"""A name for each token."""

SCALE = 0.5
"""Of the matrices at the start of training."""

_DIGITS = 5


@dataclasses.dataclass(frozen=True)
class PictureConfig:
    """What is run.

    Args:
        output: folder for the tables and the figures.
        context_length: N, pairs.
        vocabulary: V.
        embedding_dim: D.
        heads: of each layer; a training for each.
        steps: of each training.
        during: step at which the weights are shown besides the first and the last one.
        batch_size: sequences per step.
        learning_rate: of Adam.
        record_every: steps between two records.
        evaluation: sequences by which the model is examined.
        seed: of all that is random.
    """

    output: Path = Path("build/figures/standard_picture")
    context_length: int = 8
    vocabulary: int = 32
    embedding_dim: int = 128
    heads: tuple[int, ...] = (1, 4)
    steps: int = 1500
    during: int = 200
    batch_size: int = 128
    learning_rate: float = 1e-3
    record_every: int = 10
    evaluation: int = 256
    seed: int = 0

    def __post_init__(self):
        if self.vocabulary > len(NAMES):
            raise ArgumentError("vocabulary", self.vocabulary, f"at most {len(NAMES)}, which have short names")
        if not self.heads:
            raise ArgumentError("heads", self.heads, "at least one number of heads")
        if not 0 < self.during < self.steps:
            raise ArgumentError("during", self.during, f"above 0 and below {self.steps}, the last step")


def main(config: PictureConfig, command: str = "make figures ONLY=standard_picture") -> None:
    """Train once for each number of heads, and record the training, one sequence's attention, and the weights."""
    task = TokenTask(config.context_length, config.vocabulary)
    names = list(NAMES[: config.vocabulary])
    example = _example(task, config)
    tokens = np.asarray(example.tokens[0])
    labels = [names[token] for token in tokens.tolist()]
    cells = circuit_cells(tokens, np.asarray(example.counted[0]), task.second_positions)
    figures: dict[str, Any] = {}
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("history", "changes", "patterns", "structures", "measures", "around")
    }
    with progress(lines=True) as tell:
        for done, heads in enumerate(config.heads):
            if tell is not None:
                tell(done, len(config.heads), f"heads = {heads}")
            run, stages = trained(config, heads)
            about = f"{_counted(heads)} a layer, N = {config.context_length}, V = {config.vocabulary}"
            attention = np.asarray(
                standard_forward(_weights(run), jnp.asarray(example.tokens[:1])).attention[0], dtype=float
            )
            figures[f"phase_change_{heads}"] = plot_phase_change(run, title=about)
            asked = f"{about}, trained and asked for what followed {labels[-1]}"
            figures[f"patterns_{heads}"] = plot_patterns(attention, labels, marked=cells, title=asked)
            figures[f"structures_{heads}"] = plot_structures(stages, task.second_positions, names=names, title=about)
            shown = shown_structures(stages, task.second_positions)
            tables["history"] += [{"heads": heads} | row for row in _history(run)]
            tables["changes"].append({"heads": heads} | _change(run))
            tables["patterns"] += [{"heads": heads} | row for row in _patterns(attention)]
            for stage, structures in shown.items():
                of_stage = {"heads": heads, "stage": stage}
                tables["structures"] += [of_stage | row for row in _matrices(structures, config.vocabulary)]
                tables["measures"].append(of_stage | _measures(structures))
                tables["around"].append(of_stage | _around(structures["alpha_3"].matrix, task.second_positions))
    tables["tokens"] = [
        {"position": i, "token": token, "name": names[token]} for i, token in enumerate(tokens.tolist())
    ]
    record(config.output, config=config, command=command, figures=figures, tables=tables)


def trained(config: PictureConfig, heads: int) -> tuple[StandardRun, dict[str, StandardWeights]]:
    """A training, and its weights before, during and after it, each by its title."""
    task = TokenTask(config.context_length, config.vocabulary)
    architecture = Architecture(config.vocabulary, task.sequence_length, config.embedding_dim, heads=heads)

    def run_to(steps: int) -> StandardRun:
        with jax.enable_x64(False):  # on which the last digits of adam's factors depend, whatever ran before
            return train_standard(
                architecture,
                task,
                seed=config.seed,
                optimizer=Optimizer("adam", learning_rate=config.learning_rate),
                steps=steps,
                batch_size=config.batch_size,
                scale=SCALE,
                record_every=config.record_every,
                evaluation=config.evaluation,
            )

    run = run_to(config.steps)
    # the same seed, hence the first steps of the same training
    during = run_to(config.during)
    start = initial_weights(architecture, split_seed(config.seed).initialisation, SCALE)
    steps = {"before": (0, start), "during": (config.during, _weights(during)), "after": (config.steps, _weights(run))}
    return run, {f"{stage}: step {step}": weights for stage, (step, weights) in steps.items()}


def _weights(run: StandardRun) -> StandardWeights:
    if run.weights is None:
        raise ArgumentError("learning_rate", run.outcome, "so small that the training does not diverge")
    return run.weights


def _counted(heads: int) -> str:
    return "one head" if heads == 1 else f"{heads} heads"


def _example(task: TokenTask, config: PictureConfig) -> TokenSequences:
    """The first of the sequences by which the model is examined."""
    return jax.jit(sample_tokens, static_argnums=(0, 2))(task, split_seed(config.seed).evaluation, config.evaluation)


def _history(run: StandardRun) -> list[dict[str, Any]]:
    """A row for each record; of each kind of score and each layer that of the best head."""
    rows = []
    for k, step in enumerate(run.steps.tolist()):
        row: dict[str, Any] = {"step": step, "loss": run.loss[k], "accuracy": run.accuracy[k]}
        row |= dict(zip(CIRCUIT, run.summed[k], strict=True))
        row |= {f"{name}_deviations": value for name, value in zip(CIRCUIT, run.deviations[k], strict=True)}
        for kind in KINDS:
            best = run.head_scores[kind][k].max(axis=-1)
            row |= {f"{kind}_{layer + 1}": value for layer, value in enumerate(best)}
        rows.append({name: _short(value) if name != "step" else value for name, value in row.items()})
    return rows


def _change(run: StandardRun) -> dict[str, Any]:
    """The phase change of the loss."""
    first, last = phase_change(run.steps, run.loss) or (None, None)
    return {"first": first, "last": last}


def _patterns(attention: np.ndarray) -> list[dict[str, Any]]:
    """A row for each attention weight that is not masked; positions are counted from 0."""
    return [
        {"layer": layer + 1, "head": head + 1, "attending": i, "attended": j, "attention": _short(pattern[i, j])}
        for layer, patterns in enumerate(attention)
        for head, pattern in enumerate(patterns)
        for i in range(len(pattern))
        for j in range(i + 1)
    ]


def _matrices(structures: dict[str, Shown], columns: int) -> list[dict[str, Any]]:
    """A row for each row of each matrix; that of positions may have fewer columns, or more."""
    width = max(columns, len(structures["alpha_3"].matrix))
    return [
        {"structure": name, "row": i}
        | {f"column_{j}": _short(line[j]) if j < len(line) else None for j in range(width)}
        for name, structure in structures.items()
        for i, line in enumerate(structure.matrix)
    ]


def _measures(structures: dict[str, Shown]) -> dict[str, Any]:
    """The progress measures and their standard deviations of chance."""
    row: dict[str, Any] = {name: structure.measure for name, structure in structures.items()}
    return row | {f"{name}_spread": structure.spread for name, structure in structures.items()}


def _around(positions: np.ndarray, second_positions: tuple[int, ...]) -> dict[str, Any]:
    """Mean scores of layer 1 by position.

    From a label to its item, to other items before it and to labels up to itself; from the query to items and labels.
    """
    own = [(i, i - 1) for i in second_positions]
    others = [(i, j - 1) for i in second_positions for j in second_positions if j < i]
    labels = [(i, j) for i in second_positions for j in second_positions if j <= i]
    last = len(positions) - 1
    pairs = {"own_item": own, "other_items": others, "labels": labels}
    pairs["query_items"] = [(last, i - 1) for i in second_positions]
    pairs["query_labels"] = [(last, i) for i in second_positions]
    return {name: float(np.mean([positions[place] for place in places])) for name, places in pairs.items()}


def _short(value: Any) -> float:
    return float(f"{float(value):.{_DIGITS}g}")


if __name__ == "__main__":
    run_script(main, PictureConfig, __doc__)
