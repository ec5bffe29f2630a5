"""Layer 2 of standard transformers as an associative memory: retrieval weight over the context length, and its cause.

`python -m experiments.standard_retrieval --output DIR` writes weights.csv (b over N, measured and predicted),
moments.csv (by how much each prediction misses, and where b falls to 1/2), runs.csv and the figure. Models trained at
one context length are used at others, as they are before, at and after the step at which half of their answers are
right. Longer contexts have position vectors that are drawn as all others are, and were in no sequence of training.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import logsumexp

from experiments.recorder import record, run_script
from experiments.retrieval import crossing
from experiments.standard_runs import trained
from induction_dynamics.cli.progress import progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.standard_retrieval import plot_standard_retrieval
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.scaling.plan import log_spaced
from induction_dynamics.task import split_seed
from induction_dynamics.token_task import TokenTask, sample_tokens
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.standard import StandardRun, StandardSettings
from induction_dynamics.training.standard_steps import token_loss
from induction_dynamics.transformer.progress import progress_measures, summed
from induction_dynamics.transformer.standard import Architecture, StandardWeights, standard_forward

PLACES = ("next", "trained")
"""Whose position vector the query has: that of the place after the context, or the one it had in training."""

HALF = 0.5
"""Accuracy that divides before from after, and the level at which retrieval fails."""

PREDICTIONS = ("two", "binding", "path", "placed")
"""Of the retrieval weight: of two numbers, of one with layer 1's attention, of all pairs of tokens, of all places."""

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class StandardRetrievalConfig:
    """What is trained, and where it is looked at.

    Args:
        output: folder for the tables and the figure.
        ledger: folder that keeps the trainings.
        seeds: of the trainings.
        context_length: N0, of the training.
        vocabulary: V, which has room for the items of the longest context.
        embedding_dim: D.
        learning_rate: of adam.
        steps: of each training.
        batch_size: sequences per step.
        record_every: steps between two records.
        evaluation: sequences of the records, whose accuracy says when half is solved.
        moments: steps after that, before the end; the end is looked at as well.
        measured: N at which the models are used.
        sequences: of each measurement.
        longest: largest N of the formula of two numbers.
    """

    output: Path = Path("build/figures/standard_retrieval")
    ledger: Path = Path("build/ledgers/standard_retrieval")
    seeds: tuple[int, ...] = (0, 1, 2)
    context_length: int = 16
    vocabulary: int = 64
    embedding_dim: int = 64
    learning_rate: float = 0.003
    steps: int = 2000
    batch_size: int = 128
    record_every: int = 20
    evaluation: int = 256
    moments: tuple[int, ...] = (-100, 0)
    measured: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32)
    sequences: int = 2048
    longest: int = 2**14

    def __post_init__(self):
        if list(self.measured) != sorted(set(self.measured)) or self.context_length not in self.measured:
            raise ArgumentError("measured", self.measured, f"increasing, with {self.context_length} among them")
        if self.measured[-1] > self.vocabulary:
            raise ArgumentError("vocabulary", self.vocabulary, f"at least {self.measured[-1]}, the longest context")
        if not self.seeds:
            raise ArgumentError("seeds", self.seeds, "at least one")
        if list(self.moments) != sorted(set(self.moments)):
            raise ArgumentError("moments", self.moments, "increasing")
        if self.longest < self.measured[-1]:
            raise ArgumentError("longest", self.longest, f"at least {self.measured[-1]}")

    def settings(self, steps: int) -> StandardSettings:
        """Of a training up to a step; it has position vectors for the longest context, fixed as all are.

        Args:
            steps: of the training.
        """
        return StandardSettings(
            Architecture(self.vocabulary, 2 * self.measured[-1] + 1, self.embedding_dim),
            TokenTask(self.context_length, self.vocabulary),
            optimizer=Optimizer("adam", learning_rate=self.learning_rate),
            steps=steps,
            batch_size=self.batch_size,
            record_every=self.record_every,
            evaluation=self.evaluation,
        )


class Stage(NamedTuple):
    """A model at one moment of its training.

    Args:
        about: the columns that say which.
        weights: in float64.
        measures: alpha_3~, beta_2~ and gamma_3~.
    """

    about: Row
    weights: StandardWeights
    measures: dict[str, float]


class Retrieval(NamedTuple):
    """What is found in each sequence; the last four are retrieval weights by kinds of scores, see `retrieval_of`.

    Args:
        pair: which pair is asked for, from 0.
        measured: attention of layer 2 from the query to the right label.
        bound: share of the asked item's token in what layer 1 delivers to that label.
        loss: of the answer, a mean.
        accuracy: likewise.
        scores: of all scores, from the weights.
        path: of the query's token with all tokens that layer 1 delivers.
        binding: of beta_2~ times the share of the query's token in what layer 1 delivers.
        placed: of the same and the mean of all other scores at each place.
    """

    pair: Array
    measured: Array
    bound: Array
    loss: Array
    accuracy: Array
    scores: Array
    path: Array
    binding: Array
    placed: Array


def main(config: StandardRetrievalConfig, command: str = "make figures ONLY=standard_retrieval") -> None:
    """Train, use the models at other context lengths, predict their retrieval weights, and record it all."""
    jax.config.update("jax_enable_x64", True)
    runs, stages = _stages(config)
    weights: list[Row] = []
    with progress(lines=True) as tell:
        for done, stage in enumerate(stages):
            if tell is not None:
                tell(done, len(stages), f"seed {stage.about['seed']}, {stage.about['moment']}")
            weights += _weights(config, stage)
    record(
        config.output,
        config=config,
        command=command,
        figures={"standard_retrieval": plot_standard_retrieval(weights)},
        tables={"weights": weights, "moments": _moments(config, stages, weights), "runs": runs},
    )


def retrieval_of(weights: StandardWeights, task: TokenTask, beta: float, *, sequences: int, seed: int) -> Retrieval:
    r"""Retrieval weights b = e^s/(e^s + Z) of layer 2 in fresh sequences, of four kinds of scores s.

    The state is W_Q' x_q of the query, the stored patterns are W_K' x_j after layer 1 (one head, scores not divided):

        measured, scores   s_j = (W_Q' x_q) . (W_K' x_j), of the forward pass and by the weights
        path               s_j = sum_k A1_jk (W_Q' t_q) . (W_K' W_O W_V t_k)
        binding            s_j = beta_2~ sum_k A1_jk [token k is that of the query]
        placed             s_j = the same + mean over the sequences of what `scores` has more at place j

    What a kind leaves out of the scores is taken to be the same for all keys, and then has no effect.

    Args:
        weights: in float64.
        task: with N, of pairs.
        beta: beta_2~.
        sequences: how many.
        seed: of the sequences.
    """
    return _retrieval(weights, jnp.asarray(beta), split_seed(seed).evaluation, task, sequences)


@functools.partial(jax.jit, static_argnames=("task", "sequences"))
def _retrieval(weights: StandardWeights, beta: Array, key: PRNGKeyArray, task: TokenTask, sequences: int) -> Retrieval:
    drawn = sample_tokens(task, key, sequences)
    tokens, asked = drawn.tokens, drawn.tokens[:, -1]
    pair = jnp.argmax(tokens[:, :-1:2] == asked[:, None], axis=1)
    output = standard_forward(weights, tokens, last_only=True)
    loss, accuracy = token_loss(output.logits, drawn.answers[:, -1:], drawn.counted[:, -1:])
    first = output.attention[:, 0, 0]

    def taken(values: Array) -> Array:
        return jnp.take_along_axis(values, 2 * pair[:, None] + 1, axis=1)[:, 0]

    def delivered(shares: Array) -> Array:
        return jnp.einsum("bjk,bk->bj", first, shares)

    through = weights.output[0, 0] @ weights.value[0, 0]
    between = weights.query[1, 0].T @ weights.key[1, 0]
    vectors = weights.tokens[tokens] + weights.positions[None, : task.sequence_length]
    after = vectors + jnp.einsum("bjk,bkd->bjd", first, vectors @ through.T)
    scores = jnp.einsum("bd,de,bje->bj", after[:, -1], between, after)
    path = weights.tokens @ between @ through @ weights.tokens.T
    shares = delivered(jnp.asarray(tokens == asked[:, None], first.dtype))
    binding = beta * shares
    kinds = (
        scores,
        delivered(path[asked[:, None], tokens]),
        binding,
        binding + jnp.mean(scores - binding, axis=0, keepdims=True),
    )
    return Retrieval(
        pair,
        taken(output.attention[:, 1, 0, -1]),
        taken(shares),
        loss,
        accuracy,
        *(taken(jax.nn.softmax(kind, axis=1)) for kind in kinds),
    )


def with_query_at(weights: StandardWeights, pairs: int, trained_length: int) -> StandardWeights:
    """The weights with position vectors in an order that gives the query of N pairs the one that it had in training.

    What it displaces in longer contexts comes later.

    Args:
        weights: of the model.
        pairs: N.
        trained_length: N0.
    """
    order = [place for place in range(weights.positions.shape[0]) if place != 2 * trained_length]
    order.insert(2 * pairs, 2 * trained_length)
    return eqx.tree_at(lambda each: each.positions, weights, weights.positions[jnp.array(order)])


def two_number_weights(alpha: float, beta: float, context_length: int) -> Float[np.ndarray, " pairs"]:
    r"""Retrieval weight of each pair that may be queried, from alpha_3~ and beta_2~ alone, all else being 0.

        b_q = e^{beta g_q}/Z_q,
        Z_q = 2q - 2 + e^{beta g_q} + e^{beta/(2q-1)} + sum_{k>q} (e^{beta u_k} + e^{beta v_k}) + e^{2 beta/(2N+1)}

    with g_k = e^alpha/(e^alpha + 2k - 1), u_k = 1/(e^alpha + 2k - 1) and v_k = 1/(2k - 1): `retrieval_weights` of the
    disentangled model, but that tokens attend to themselves as well, that the query is itself a key, and that layer 1
    delivers the query's token to both: to the item that is asked for, and, twice, to the query. Labels that happen to
    be the query's token are left out.

    Args:
        alpha: alpha_3~.
        beta: beta_2~.
        context_length: N.
    """
    pair = np.arange(1.0, context_length + 1)
    log_others = np.log(2 * pair - 1)
    own = beta / (1 + np.exp(log_others - alpha))
    later = np.full(context_length, -np.inf)
    if context_length > 1:
        both = np.logaddexp(beta * np.exp(-np.logaddexp(alpha, log_others)), beta / (2 * pair - 1))
        later[:-1] = np.logaddexp.accumulate(both[:0:-1])[::-1]
    with np.errstate(divide="ignore"):
        before = np.log(2 * pair - 2)
    asks = np.full(context_length, 2 * beta / (2 * context_length + 1))
    scores = np.stack([own, before, beta / (2 * pair - 1), later, asks])
    return np.exp(own - np.asarray(logsumexp(scores, axis=0)))


def _stages(config: StandardRetrievalConfig) -> tuple[list[Row], list[Stage]]:
    """Each seed's training, and the models at its moments."""
    rows, stages = [], []
    for seed, run in zip(
        config.seeds, trained(config.ledger, config.settings(config.steps), config.seeds), strict=True
    ):
        reached = np.flatnonzero(run.accuracy >= HALF)
        if not len(reached):
            raise ArgumentError("steps", config.steps, f"so many that seed {seed} gets half of its answers right")
        half = int(run.steps[reached[0]])
        for offset in config.moments:
            if not 0 < half + offset < config.steps:
                raise ArgumentError("moments", offset, f"within the training: half is solved at step {half}")
            # the same seed, hence the first steps of the same training
            (short,) = trained(config.ledger, config.settings(half + offset), (seed,))
            stages.append(_stage(config, short, seed, _named(offset), half + offset))
        stages.append(_stage(config, run, seed, "end", config.steps))
        rows.append({"seed": seed, "half": half, "loss": run.loss[-1], "accuracy": run.accuracy[-1]})
    return rows, stages


def _named(offset: int) -> str:
    return f"half {'+' if offset > 0 else '-'} {abs(offset)}" if offset else "half"


def _stage(config: StandardRetrievalConfig, run: StandardRun, seed: int, moment: str, step: int) -> Stage:
    if run.weights is None:
        raise ArgumentError("learning_rate", config.learning_rate, "so small that the training does not diverge")
    weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), run.weights)
    task = TokenTask(config.context_length, config.vocabulary)
    values = summed(progress_measures(weights, task.second_positions))
    about = {"seed": seed, "moment": moment, "step": step, "trained_length": config.context_length}
    return Stage(about, weights, dict(zip(CIRCUIT, np.asarray(values).tolist(), strict=True)))


def _weights(config: StandardRetrievalConfig, stage: Stage) -> list[Row]:
    """What is measured and predicted at each N, in the sequences of training and of the records alike."""
    rows, beta = [], stage.measures["beta_2"]
    for place in PLACES:
        for pairs in config.measured:
            trained_place = place == "trained"
            weights = with_query_at(stage.weights, pairs, config.context_length) if trained_place else stage.weights
            task = TokenTask(pairs, config.vocabulary)
            found = retrieval_of(weights, task, beta, sequences=config.sequences, seed=1000 + pairs)
            values = {name: np.asarray(value, dtype=float) for name, value in found._asdict().items()}
            within = values["pair"] < config.context_length
            measured = values["measured"]
            error = float(np.std(measured, ddof=1) / math.sqrt(config.sequences))
            two = two_number_weights(stage.measures["alpha_3"], beta, pairs)
            rows.append(
                {
                    **stage.about,
                    "query_at": place,
                    "context_length": pairs,
                    "measured": float(np.mean(measured)),
                    "standard_error": error,
                    "within": float(np.mean(measured[within])),
                    "beyond": None if within.all() else float(np.mean(measured[~within])),
                    "bound": float(np.mean(values["bound"])),
                    "accuracy": float(values["accuracy"]),
                    "loss": float(values["loss"]),
                    **{name: float(np.mean(values[name])) for name in ("scores", "path", "binding", "placed")},
                    "two": float(np.mean(two)),
                }
            )
    return rows


def _moments(config: StandardRetrievalConfig, stages: Sequence[Stage], weights: Sequence[Row]) -> list[Row]:
    """For each model: its measures, how far each prediction is off, and where b falls to 1/2."""
    rows = []
    for stage in stages:
        formula = failing_length(stage.measures["alpha_3"], stage.measures["beta_2"], config.longest)
        for place in PLACES:
            about = stage.about | {"query_at": place}
            here = [row for row in weights if all(row[name] == value for name, value in about.items())]
            row = about | stage.measures
            for name in PREDICTIONS:
                missed = {n["context_length"]: n[name] - n["measured"] for n in here}
                shorter = [value for n, value in missed.items() if n <= config.context_length]
                row[f"{name}_shorter"] = max(shorter, key=abs)
                row[f"{name}_longer"] = max(list(missed.values())[len(shorter) :], key=abs, default=None)
            lengths = [one["context_length"] for one in here]
            for name in ("measured", *PREDICTIONS):
                row[f"fails_{name}"] = last_crossing(lengths, [one[name] for one in here])
            rows.append(row | {"fails_formula": formula})
    return rows


def failing_length(alpha: float, beta: float, longest: int) -> float | None:
    """Where the mean of `two_number_weights` falls to 1/2 for the last time; see `last_crossing`.

    Args:
        alpha: alpha_3~.
        beta: beta_2~.
        longest: largest N that is looked at.
    """
    lengths = log_spaced(1, longest, 24)
    return last_crossing(lengths, [float(np.mean(two_number_weights(alpha, beta, n))) for n in lengths])


def last_crossing(lengths: Sequence[int], weights: Sequence[float]) -> float | None:
    """Context length after which retrieval weights stay below 1/2, which they may also be in the shortest contexts.

    Args:
        lengths: N, increasing.
        weights: b at each.

    Returns:
        None if b is above 1/2 at the last N, and the first N if it is so nowhere.
    """
    above = [place for place, weight in enumerate(weights) if weight > HALF]
    start = above[-1] if above else 0
    return crossing(lengths[start:], weights[start:], HALF)


if __name__ == "__main__":
    run_script(main, StandardRetrievalConfig, __doc__)
