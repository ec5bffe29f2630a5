"""What a standard transformer's answers rest on: loss and accuracy without each head and each term, and with few alone.

`python -m experiments.standard_cause --output DIR` trains, and writes interventions.csv, paths.csv, sufficient.csv,
trained.csv and the figures.
"""

import dataclasses
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.recorder import record, run_script
from induction_dynamics.errors import ArgumentError
from induction_dynamics.files import written_whole
from induction_dynamics.plotting.standard_cause import plot_paths, plot_standard_cause
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.token_task import KINDS, TokenSequences, TokenTask, sample_tokens
from induction_dynamics.training.standard import train_standard_seeds
from induction_dynamics.training.standard_steps import token_loss
from induction_dynamics.transformer.ablation import ABLATIONS, CIRCUIT_PATHS, PATHS, ablate_heads, ablate_terms
from induction_dynamics.transformer.built import built_circuit
from induction_dynamics.transformer.progress import chance_spread, progress_measures, summed
from induction_dynamics.transformer.standard import Architecture, StandardOutput, StandardWeights, standard_forward

PLACES = "scores_2:p,p"
"""What layer 2 attends to by position alone: the path beside the three that pairs need most."""

FIRST = 300.0
"""What the circuit built by hand takes from the score of the first position where it does so."""

_EVALUATED = 2511
"""Key of the sequences on which all is evaluated; none of training's."""

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class CauseConfig:
    """What is run.

    Args:
        output: folder for the tables and the figures.
        ledger: folder of the weights trained so far.
        kinds: of the token task.
        heads: of each layer; a model for each, whose heads have D/H dimensions.
        seeds: a training for each.
        context_length: N.
        vocabulary: V.
        embedding_dim: D.
        steps: of each training.
        batch_size: of each step.
        sequences: on which everything is evaluated.
        lost: accuracy that a sufficient set of terms may lack.
    """

    output: Path = Path("build/figures/standard_cause")
    ledger: Path = Path("build/ledgers/standard_cause")
    kinds: tuple[str, ...] = KINDS
    heads: tuple[int, ...] = (1, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    context_length: int = 8
    vocabulary: int = 32
    embedding_dim: int = 128
    steps: int = 1500
    batch_size: int = 128
    sequences: int = 512
    lost: float = 0.01

    def __post_init__(self):
        for name in ("kinds", "heads", "seeds"):
            if not getattr(self, name):
                raise ArgumentError(name, getattr(self, name), "at least one")
        if not 0 <= self.lost < 1:
            raise ArgumentError("lost", self.lost, "at least 0 and below 1")

    def task(self, kind: str) -> TokenTask:
        """What is learned.

        Args:
            kind: of the task.
        """
        return TokenTask(self.context_length, self.vocabulary, kind)


def trained(config: CauseConfig, kind: str, heads: int) -> list[StandardWeights]:
    """The models of all seeds; those in the ledger are not trained anew.

    Args:
        config: sizes and seeds.
        kind: of the task.
        heads: of each layer.
    """
    task = config.task(kind)
    architecture = Architecture(config.vocabulary, task.sequence_length, config.embedding_dim, heads=heads)
    sizes = f"N{config.context_length}-V{config.vocabulary}-D{config.embedding_dim}-B{config.batch_size}"
    paths = {seed: config.ledger / f"{kind}-H{heads}-{sizes}-T{config.steps}-seed{seed}.npz" for seed in config.seeds}
    found = {seed: _read(path) for seed, path in paths.items()}
    if missing := [seed for seed, weights in found.items() if weights is None]:
        config.ledger.mkdir(parents=True, exist_ok=True)
        print(f"training on {kind}, heads: {heads}, seeds: {missing}", flush=True)
        options: dict[str, Any] = {"steps": config.steps, "batch_size": config.batch_size, "record_every": config.steps}
        runs = train_standard_seeds(architecture, task, missing, **options)
        for seed, run in zip(missing, runs, strict=True):
            if run.weights is None:
                raise ArgumentError("seeds", seed, "such that the training overflows nowhere")
            arrays: dict[str, Any] = {name: np.asarray(value) for name, value in _named(run.weights)}
            with written_whole(paths[seed]) as temporary, open(temporary, "wb") as file:
                np.savez(file, **arrays)
            found[seed] = run.weights
    return [weights for weights in found.values() if weights is not None]


def _named(weights: StandardWeights) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(weights):
        yield field.name, getattr(weights, field.name)


def _read(path: Path) -> StandardWeights | None:
    """None if there is no such file, or none that can be read: it is made anew then."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            return StandardWeights(**{name: jnp.asarray(saved[name]) for name in saved.files})
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        return None


class Examiner:
    """Loss and accuracy on one batch of sequences.

    Args:
        sequences: of the batch.
    """

    def __init__(self, sequences: TokenSequences):
        self.tokens = jnp.asarray(sequences.tokens)
        self._answers = jnp.asarray(sequences.answers)
        counted = jnp.asarray(sequences.counted)
        first = self.tokens == self.tokens[:, :1]
        self._groups = {"": counted, "_first": counted & first, "_elsewhere": counted & ~first}

    def of(self, output: StandardOutput) -> Row:
        """Over all that counts, and the accuracy for tokens like the first of their sequence and for others."""
        found: Row = {}
        for name, counted in self._groups.items():
            loss, accuracy = token_loss(output.logits.astype(jnp.float64), self._answers, counted)
            if not name:
                found["loss"] = float(loss)
            found[f"accuracy{name}"] = float(accuracy)
        return found


def main(config: CauseConfig, command: str = "make figures ONLY=standard_cause") -> None:
    """Train, intervene, and record loss and accuracy.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    interventions: list[Row] = []
    paths: list[Row] = []
    sufficient: list[Row] = []
    strengths: list[Row] = []
    for kind in config.kinds:
        task = config.task(kind)
        sequences = sample_tokens(task, jax.random.key(_EVALUATED), config.sequences)
        examiner = Examiner(sequences)
        interventions += [{"kind": kind, "heads": None, "seed": None, **row} for row in _built(config, task, examiner)]
        for heads in config.heads:
            models = trained(config, kind, heads)
            for seed, weights in zip(config.seeds, models, strict=True):
                print(f"{kind}, heads: {heads}, seed {seed}", flush=True)
                model = {"kind": kind, "heads": heads, "seed": seed}
                own, measures = _strengths(weights, task)
                rows = [*_heads(weights, examiner), *_terms(weights, examiner), *_rebuilt(config, task, examiner, own)]
                interventions += [model | row for row in rows]
                changed = _paths(weights, examiner)
                paths += [model | row for row in changed]
                sufficient.append(model | _sufficient(config, weights, examiner, changed))
                strengths.append(model | measures)
    record(
        config.output,
        config=config,
        command=command,
        figures={
            "standard_cause": plot_standard_cause(interventions, config.vocabulary),
            "paths": plot_paths(paths, sufficient),
        },
        tables={"interventions": interventions, "paths": paths, "sufficient": sufficient, "trained": strengths},
    )


def _row(group: str, what: str, how: str, found: Row) -> Row:
    return {"group": group, "what": what, "how": how, **found}


def _heads(weights: StandardWeights, examiner: Examiner) -> list[Row]:
    """The model as it is, and without each head, and each layer's heads, in each way."""
    tokens = examiner.tokens
    rows = [_row("intact", "intact", "", examiner.of(standard_forward(weights, tokens)))]
    for how, layer in itertools.product(ABLATIONS, range(weights.layers)):
        every = [(layer, head) for head in range(weights.heads)]
        rows.append(_row("layer", f"layer {layer + 1}", how, examiner.of(ablate_heads(weights, tokens, every, how))))
        for pair in every:
            found = examiner.of(ablate_heads(weights, tokens, [pair], how))
            rows.append(_row("head", f"layer {layer + 1} head {pair[1] + 1}", how, found))
    return rows


def _terms(weights: StandardWeights, examiner: Examiner) -> list[Row]:
    """Without each term of the circuit, with it alone, and with all three alone; whole, and their diagonals."""
    tokens = examiner.tokens
    rows = []
    for how, diagonal in (("whole", False), ("diagonal", True)):
        for term in CIRCUIT:
            for group, only in (("without", False), ("alone", True)):
                found = examiner.of(ablate_terms(weights, tokens, [term], only, diagonal))
                rows.append(_row(group, term, how, found))
        found = examiner.of(ablate_terms(weights, tokens, CIRCUIT, True, diagonal))
        rows.append(_row("alone", "three", how, found))
    found = examiner.of(ablate_terms(weights, tokens, [*CIRCUIT, PLACES], only=True))
    return [*rows, _row("alone", "three and places", "whole", found)]


def _built(config: CauseConfig, task: TokenTask, examiner: Examiner) -> list[Row]:
    """The circuit built by hand, without and with what keeps layer 2 off the first position."""
    rows = []
    for what, first in (("built", 0.0), ("built, first position held back", FIRST)):
        weights = built_circuit(
            config.vocabulary, task.sequence_length, task.second_positions, first=first, dtype=jnp.float64
        )
        rows.append(_row("built", what, "", examiner.of(standard_forward(weights, examiner.tokens))))
        for term in CIRCUIT:
            found = examiner.of(ablate_terms(weights, examiner.tokens, [term]))
            rows.append(_row("built", f"{what}, without {term}", "", found))
    return rows


def _strengths(weights: StandardWeights, task: TokenTask) -> tuple[list[float], Row]:
    """The three progress measures of a trained model, and in standard deviations of chance."""
    measures = np.asarray(summed(progress_measures(weights, task.second_positions)))
    spread = np.asarray(summed(chance_spread(weights, task.second_positions), squares=True))
    named = dict(zip(CIRCUIT, measures.tolist(), strict=True))
    deviations = {f"{name}_deviations": value for name, value in zip(CIRCUIT, (measures / spread), strict=True)}
    return measures.tolist(), named | {name: float(value) for name, value in deviations.items()}


def _rebuilt(config: CauseConfig, task: TokenTask, examiner: Examiner, strengths: Sequence[float]) -> list[Row]:
    """The circuit built by hand with the three strengths that a trained model has."""
    rows = []
    for what, first in (("rebuilt", 0.0), ("rebuilt, first position held back", FIRST)):
        sizes = config.vocabulary, task.sequence_length, task.second_positions
        weights = built_circuit(*sizes, *strengths, first=first, dtype=jnp.float64)
        rows.append(_row("rebuilt", what, "", examiner.of(standard_forward(weights, examiner.tokens))))
    return rows


def _paths(weights: StandardWeights, examiner: Examiner) -> list[Row]:
    """Without each term of scores and logits, and with it and the three alone."""
    tokens = examiner.tokens
    rows = []
    for path in PATHS:
        without = examiner.of(ablate_terms(weights, tokens, [path]))
        beside = examiner.of(ablate_terms(weights, tokens, [*CIRCUIT, path], only=True))
        kept = {"loss": "loss", "accuracy": "accuracy"}
        rows.append(
            {"path": path}
            | {f"without_{name}": without[name] for name in kept}
            | {f"with_three_{name}": beside[name] for name in kept}
        )
    return rows


def _sufficient(config: CauseConfig, weights: StandardWeights, examiner: Examiner, changed: Sequence[Row]) -> Row:
    """Terms that alone answer well enough: each is tried once, from the least to the most missed, and goes if it can.

    A set that suffices for these sequences, and need not be the smallest.
    """
    kept = list(PATHS)
    least = examiner.of(standard_forward(weights, examiner.tokens))["accuracy"] - config.lost
    for row in sorted(changed, key=lambda row: row["without_loss"]):
        fewer = [path for path in kept if path != row["path"]]
        if examiner.of(ablate_terms(weights, examiner.tokens, fewer, only=True))["accuracy"] >= least:
            kept = fewer
    found = examiner.of(ablate_terms(weights, examiner.tokens, kept, only=True))
    of_circuit = [name for name, path in CIRCUIT_PATHS.items() if path in kept]
    return {"terms": len(kept), "kept": " ".join(kept), "of_circuit": " ".join(of_circuit), **found}


if __name__ == "__main__":
    run_script(main, CauseConfig, __doc__)
