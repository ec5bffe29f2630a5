"""Layer 2 as an associative memory: retrieval weight over the context length, and the length at which it fails.

`python -m experiments.retrieval --output DIR` writes weights.csv (b over N, predicted and measured), moments.csv (where
it falls to 1/2), flows.csv (that length over flow time), growth.csv (how it grows), losses.csv and the figure. Weights
are trained at one context length, and used at all others as they are.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.retrieval import plot_retrieval
from induction_dynamics.pseudo_parameters import COORDINATES, lift, project
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.reduced.retrieval import failing_length, limiting_lengths, mean_retrieval
from induction_dynamics.scaling.plan import log_spaced
from induction_dynamics.task import Sequences, Task, sample_sequences, split_seed
from induction_dynamics.training.train import train
from induction_dynamics.transformer.disentangled import Weights, forward
from induction_dynamics.weights_files import load_weights, save_weights

ALPHA, BETA = (COORDINATES.index(name) for name in ("alpha_3", "beta_2"))

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RetrievalConfig:
    """What is trained, and at which context lengths it is looked at; orthonormal inputs throughout.

    Args:
        output: folder for the tables and the figure.
        ledger: folder that keeps trained weights, so that an experiment that was stopped goes on from there.
        queries: of training, and of the contexts that the weights are used on.
        context_length: N0, at which they are trained.
        embedding_dim: D, which has room for the longest context that is measured.
        moments: times at which they are looked at, in units of N0^2.
        seeds: of the trainings of all weights.
        batch_size: sequences per training step.
        step: flow time per training step.
        shared_frames: see `sample_sequences`; of the training.
        measured: N at which the retrieval weight is measured.
        sequences: at least as many are drawn for each measurement.
        longest: largest N of what the three coordinates predict, and of the loss.
        flow_lengths: N0 of the circuit's flows.
        horizon: their end, in units of N0^2.
        per_decade: times of each.
    """

    output: Path = Path("build/figures/retrieval")
    ledger: Path = Path("build/ledgers/retrieval")
    queries: tuple[str, ...] = ("last", "uniform")
    context_length: int = 8
    embedding_dim: int = 130
    moments: tuple[float, ...] = (2.0, 4.0, 12.0)
    seeds: tuple[int, ...] = (0,)
    batch_size: int = 512
    step: float = 0.5
    shared_frames: int = 4
    measured: tuple[int, ...] = (1, 2, 4, 8, 12, 16, 24, 32, 64)
    sequences: int = 256
    longest: int = 4096
    flow_lengths: tuple[int, ...] = (8, 64, 1024)
    horizon: float = 1e6
    per_decade: int = 8

    def __post_init__(self):
        room = self.embedding_dim // 2 - 1
        if list(self.measured) != sorted(set(self.measured)) or not self.measured or self.measured[-1] > room:
            raise ArgumentError("measured", self.measured, f"increasing, up to {room} for the width")
        if list(self.moments) != sorted(set(self.moments)) or not self.moments:
            raise ArgumentError("moments", self.moments, "increasing, at least one")
        if not self.seeds:
            raise ArgumentError("seeds", self.seeds, "at least one")
        if self.horizon < 10:
            raise ArgumentError("horizon", self.horizon, "at least 10, for a decade")


class Stage(NamedTuple):
    """Weights at one moment of one training, of the circuit's flow or of the full model.

    Args:
        about: the columns that say which.
        weights: all 28 D^2 of them, in float64.
        coordinates: of their projection.
    """

    about: Row
    weights: Weights
    coordinates: Float[np.ndarray, "19"]


def main(config: RetrievalConfig, command: str = "make figures ONLY=retrieval") -> None:
    """Train, look at longer contexts with the same weights, follow the failing length in time, and record it all.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    with progress(lines=True) as tell:
        stages = [stage for query in config.queries for stage in _stages(config, query, tell or _say_nothing)]
    weights, moments, losses = [], [], []
    for stage in stages:
        rows = _weights(config, stage)
        weights += rows
        moments.append(_moment(stage, rows))
        losses += _losses(config, stage)
    flows = [row for query in config.queries for n in config.flow_lengths for row in _flow(config, query, n)]
    record(
        config.output,
        config=config,
        command=command,
        figures={"retrieval": plot_retrieval(weights, moments, flows, losses)},
        tables={
            "weights": weights,
            "moments": moments,
            "flows": flows,
            "growth": _growth(flows),
            "losses": losses,
        },
    )


def measure(weights: Weights, task: Task, *, draws: int, seed: int) -> Float[np.ndarray, " draws"]:
    """Attention of layer 2 to the right label, of each draw the mean over the pairs that may be queried.

    Args:
        weights: W1, W2, W3, in float64.
        task: with N, D and the query.
        draws: number of contexts.
        seed: of the contexts.
    """
    return np.asarray(_measured(weights, split_seed(seed).evaluation, task, draws))


@functools.partial(jax.jit, static_argnames=("task", "draws"))
def _measured(weights: Weights, key: PRNGKeyArray, task: Task, draws: int) -> Float[Array, " draws"]:
    drawn = sample_sequences(task, key, draws, dtype=jnp.float64)

    def ask(pair: Array) -> Array:
        tokens = drawn.tokens.at[:, -1].set(drawn.tokens[:, 2 * pair])
        output = forward(weights, Sequences(tokens, drawn.positions, jnp.full_like(drawn.query, pair)))
        return output.attention_2[:, 2 * pair + 1]

    last = task.context_length - 1
    return jnp.mean(jax.lax.map(ask, jnp.arange(0 if task.query == "uniform" else last, last + 1)), axis=0)


def crossing(lengths: Sequence[int], weights: Sequence[float], level: float = 0.5) -> float | None:
    """Context length at which retrieval weights first fall to a level, ln(b/(1 - b)) being straight in ln N between.

    Args:
        lengths: N, increasing.
        weights: b at each, between 0 and 1.
        level: of b.

    Returns:
        None if b is above the level everywhere, and the first N if it is not above it there.
    """
    below = [place for place, weight in enumerate(weights) if weight <= level]
    if not below:
        return None
    place = below[0]
    if place == 0:
        return float(lengths[0])
    (first, second), (high, low) = lengths[place - 1 : place + 1], (_logit(b) for b in weights[place - 1 : place + 1])
    return first * (second / first) ** ((high - _logit(level)) / (high - low))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _say_nothing(done: int, total: int, words: str) -> None:
    """Where there is no terminal to tell."""


def _stages(config: RetrievalConfig, query: str, tell: Callable[[int, int, str], object]) -> list[Stage]:
    """The circuit's flow lifted to weights, and all weights trained, at every moment."""
    task = Task(config.context_length, config.embedding_dim, query=query)
    times = np.array(config.moments) * float(task.context_length) ** 2
    flow, _ = solve_flow(task, "circuit", horizon=config.moments[-1]).at(times)
    stages = []
    for moment, theta in zip(config.moments, flow, strict=True):
        about = _about("circuit", task, moment, None) | {"off_subspace": 0.0}
        stages.append(Stage(about, lift(jnp.asarray(theta), task), theta))
    runs = [(seed, moment) for seed in config.seeds for moment in config.moments]
    for done, (seed, moment) in enumerate(runs):
        tell(done, len(runs), f"full, N = {task.context_length}, query {query}, seed {seed}, {moment:g} N^2")
        weights = _trained(config, task, moment, seed)
        found = project(weights)
        about = _about("full", task, moment, seed) | {"off_subspace": float(found.off_subspace.total)}
        stages.append(Stage(about, weights, np.asarray(found.coordinates)))
    return stages


def _about(model: str, task: Task, moment: float, seed: int | None) -> Row:
    n = task.context_length
    return {"model": model, "query": task.query, "trained_length": n, "moment": moment, "seed": seed}


def _trained(config: RetrievalConfig, task: Task, moment: float, seed: int) -> Weights:
    """Trained from zero up to the moment, or read from the ledger; the moments of a seed are those of one run."""
    name = f"N{task.context_length}_D{task.embedding_dim}_{task.query}_batch{config.batch_size}_step{config.step:g}"
    path = config.ledger / f"{name}_frames{config.shared_frames}_seed{seed}_horizon{moment:g}.npz"
    if not path.exists():
        run = train(
            task,
            horizon=moment,
            batch_size=config.batch_size,
            step=config.step,
            seed=seed,
            shared_frames=config.shared_frames,
            record_every=64,
        )
        if run.weights is None:
            raise ArgumentError("step", config.step, "so small that the training does not diverge")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_weights(run.weights, path)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), load_weights(path))


def _weights(config: RetrievalConfig, stage: Stage) -> list[Row]:
    """The retrieval weight over N: of three coordinates, of all nineteen, and measured with all weights."""
    alpha, beta = (float(stage.coordinates[place]) for place in (ALPHA, BETA))
    query, rows = stage.about["query"], []
    for pairs in sorted({*config.measured, *log_spaced(1, config.longest, 8)}):
        row = {**stage.about, "context_length": pairs, "three": mean_retrieval(alpha, beta, pairs, query)}
        row |= {"nineteen": None, "measured": None, "standard_error": None}
        if pairs in config.measured:
            task = Task(pairs, config.embedding_dim, query=query)
            draws = max(8, -(-config.sequences // (pairs if query == "uniform" else 1)))
            lifted = lift(jnp.asarray(stage.coordinates), task)
            # the same for every context, as all have the same inner products
            row["nineteen"] = float(measure(lifted, task, draws=draws, seed=pairs)[0])
            found = measure(stage.weights, task, draws=draws, seed=pairs)
            row["measured"] = float(np.mean(found))
            row["standard_error"] = float(np.std(found, ddof=1) / math.sqrt(draws))
        rows.append(row)
    return rows


def _moment(stage: Stage, rows: Sequence[Row]) -> Row:
    """The coordinates, and where the retrieval weight falls to 1/2."""
    alpha, beta = (float(stage.coordinates[place]) for place in (ALPHA, BETA))
    there = [row for row in rows if row["measured"] is not None]
    lengths = [row["context_length"] for row in there]
    return {
        **stage.about,
        **dict(zip(COORDINATES, stage.coordinates.tolist(), strict=True)),
        # a training that went astray may have turned the sign
        "fails_three": failing_length(alpha, beta, stage.about["query"]) if beta >= 0 else None,
        **{f"fails_{name}": crossing(lengths, [row[name] for row in there]) for name in ("nineteen", "measured")},
    }


def _losses(config: RetrievalConfig, stage: Stage) -> list[Row]:
    """The exact loss of the coordinates at other context lengths: all nineteen, of which a circuit has three."""
    model = "circuit" if stage.about["model"] == "circuit" else "subspace"
    theta, rows = jnp.asarray(stage.coordinates), []
    for pairs in sorted({config.context_length, *log_spaced(1, config.longest, 6)}):
        loss = float(_loss(reduced_loss(Task(pairs, query=stage.about["query"]), model), theta))
        rows.append({**stage.about, "context_length": pairs, "loss": loss})
    return rows


@jax.jit
def _loss(loss: Any, theta: Float[Array, "19"]) -> Float[Array, ""]:
    return loss(theta)


def _flow(config: RetrievalConfig, query: str, pairs: int) -> list[Row]:
    """The failing length of the circuit's flow, over flow time."""
    count = math.floor(config.per_decade * math.log10(config.horizon))
    per_square = 10.0 ** (np.arange(-config.per_decade // 2, count + 1) / config.per_decade)
    times = per_square * float(pairs) ** 2
    found, losses = solve_flow(Task(pairs, query=query), "circuit", horizon=config.horizon).at(times)
    rows = []
    for time, per, theta, loss in zip(times.tolist(), per_square.tolist(), found, losses.tolist(), strict=True):
        alpha, beta = (float(theta[place]) for place in (ALPHA, BETA))
        fails, bounds = failing_length(alpha, beta, query), limiting_lengths(alpha, beta)
        rows.append(
            {
                "query": query,
                "trained_length": pairs,
                "time": time,
                "time_per_square": per,
                "alpha_3": alpha,
                "beta_2": beta,
                "loss": loss,
                "fails": fails,
                "fails_per_length": None if fails is None else fails / pairs,
                **({"memory": bounds.memory, "binding": bounds.binding} if query == "last" else _NO_BOUNDS),
            }
        )
    return rows


_NO_BOUNDS = {"memory": None, "binding": None}


def _growth(flows: Sequence[Row]) -> list[Row]:
    """What each decade of flow time adds to the failing length, and by which power of time that would be."""
    rows = []
    for query, pairs in dict.fromkeys((row["query"], row["trained_length"]) for row in flows):
        here = [row for row in flows if (row["query"], row["trained_length"]) == (query, pairs)]
        whole = [row for row in here if row["time_per_square"] >= 10 and _is_decade(row["time_per_square"])]
        for before, after in zip(whole, whole[1:], strict=False):
            if before["fails"] is not None and after["fails"] is not None:
                rows.append(
                    {
                        "query": query,
                        "trained_length": pairs,
                        "from": before["time_per_square"],
                        "to": after["time_per_square"],
                        "added": after["fails"] - before["fails"],
                        "exponent": math.log10(after["fails"] / before["fails"]),
                        "alpha_3_added": after["alpha_3"] - before["alpha_3"],
                        "beta_2_added": after["beta_2"] - before["beta_2"],
                    }
                )
    return rows


def _is_decade(per_square: float) -> bool:
    decades = math.log10(per_square)
    return abs(decades - round(decades)) < 1e-9


if __name__ == "__main__":
    run_script(main, RetrievalConfig, __doc__)
