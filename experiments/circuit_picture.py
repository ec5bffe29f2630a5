"""The circuit itself: what both layers attend to before, during and after emergence, and the weights that do it.

`python -m experiments.circuit_picture --output DIR` writes attention.csv, weights.csv, coordinates.csv and two figures.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.recorder import record, rounded, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.attention import plot_attention
from induction_dynamics.plotting.weights import plot_weights
from induction_dynamics.pseudo_parameters import COORDINATES, project
from induction_dynamics.task import Sequences, Task, sample_sequences, split_seed
from induction_dynamics.training.train import train
from induction_dynamics.transformer.disentangled import Weights, forward, zero_weights
from induction_dynamics.weights_files import MATRICES


@dataclasses.dataclass(frozen=True)
class CircuitConfig:
    """What is run.

    Args:
        output: folder for the tables and the figures.
        context_length: N.
        inputs: of the task.
        query: which pair is queried in training.
        during: flow time of the second stage, in units of N^2.
        after: flow time of the third stage, in units of N^2; the weights shown are those of it.
        batch_size: sequences per training step.
        step: flow time per training step.
        seed: of the training data and of the sequence shown.
        shown: number of the queried pair of the sequence shown.
    """

    output: Path = Path("build/figures/circuit_picture")
    context_length: int = 4
    inputs: str = "orthonormal"
    query: str = "uniform"
    during: float = 3.0
    after: float = 40.0
    batch_size: int = 256
    step: float = 0.25
    seed: int = 0
    shown: int = 2

    def __post_init__(self):
        if not 1 <= self.shown <= self.context_length:
            raise ArgumentError("shown", self.shown, f"from 1 to {self.context_length}, the number of pairs")
        if not 0 < self.during < self.after:
            raise ArgumentError("during", self.during, f"above 0 and below {self.after:g}, the time of the third stage")


def main(config: CircuitConfig, command: str = "make figures ONLY=circuit_picture") -> None:
    """Train once to each stage, from the same data, and record attention and weights."""
    jax.config.update("jax_enable_x64", True)
    task = Task(config.context_length, inputs=config.inputs, query=config.query)
    sequences = _shown(task, config)
    attention: list[dict[str, Any]] = []
    coordinates: list[dict[str, Any]] = []
    stages: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    weights = zero_weights(task.embedding_dim)
    with progress(lines=True) as tell:
        for done, (stage, horizon) in enumerate((("before", 0.0), ("during", config.during), ("after", config.after))):
            time = 0.0
            if tell is not None:
                tell(done, 3, f"full, N = {config.context_length}, {stage}")
            if horizon:
                run = train(task, horizon=horizon, batch_size=config.batch_size, step=config.step, seed=config.seed)
                if run.weights is None:
                    raise ArgumentError("step", config.step, "so small that the training does not diverge")
                weights, time = run.weights, float(run.time[-1])
            output = jax.jit(forward)(weights, sequences)
            layer_1, layer_2 = (
                np.array(rounded(output.attention_1[0].tolist())),
                rounded(output.attention_2[0].tolist()),
            )
            stages[f"{stage}: $t$ = {time / config.context_length**2:g} $N^2$"] = layer_1, np.array(layer_2)
            attention += _rows(stage, time, layer_1, np.array(layer_2))
            found = jax.jit(project, static_argnames="rotation")(weights, rotation=task.rotation)
            coordinates.append(
                {"stage": stage, "time": time}
                | dict(zip(COORDINATES, np.asarray(found.coordinates, float).tolist(), strict=True))
                | {"off_subspace": float(found.off_subspace.total)}
            )
    shown = {name: np.array(rounded(np.asarray(getattr(weights, name), float).tolist())) for name in MATRICES}
    record(
        config.output,
        config=config,
        command=command,
        figures={
            "attention": plot_attention(stages, query=config.shown),
            "weights": plot_weights(Weights(**{name: jnp.asarray(matrix) for name, matrix in shown.items()})),
        },
        tables={
            "attention": attention,
            "coordinates": coordinates,
            "weights": [
                {"matrix": name, "row": i, "column": j, "value": value}
                for name, matrix in shown.items()
                for i, line in enumerate(matrix.tolist())
                for j, value in enumerate(line)
            ],
        },
    )


def _shown(task: Task, config: CircuitConfig) -> Sequences:
    """One sequence of the task, asked for the pair to be shown."""
    drawn = sample_sequences(task, split_seed(config.seed).evaluation, 1)
    place = config.shown - 1
    tokens = drawn.tokens.at[:, -1].set(drawn.tokens[:, 2 * place])
    return Sequences(tokens, drawn.positions, jnp.full((1,), place, jnp.int32))


def _rows(stage: str, time: float, layer_1: np.ndarray, layer_2: np.ndarray) -> list[dict[str, Any]]:
    """A row for each attention weight; positions are counted from 1, the last one being the query."""
    about = {"stage": stage, "time": time}
    first = [
        about | {"layer": 1, "attending": i + 1, "attended": j + 1, "attention": float(layer_1[i, j])}
        for i in range(len(layer_1))
        for j in range(i)
    ]
    second = [
        about | {"layer": 2, "attending": len(layer_1), "attended": j + 1, "attention": float(value)}
        for j, value in enumerate(layer_2)
    ]
    return first + second


if __name__ == "__main__":
    run_script(main, CircuitConfig, __doc__)
