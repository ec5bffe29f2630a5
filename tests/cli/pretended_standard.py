"""Trainings of standard transformers that cost nothing: straight lines in the place of the real ones."""

import jax.numpy as jnp
import numpy as np

from induction_dynamics.heads import KINDS
from induction_dynamics.training.standard import StandardRun
from induction_dynamics.transformer.progress import ProgressMeasures
from induction_dynamics.transformer.standard import StandardWeights

ENDS = {"alpha_3": 20.0, "beta_2": 50.0, "gamma_3": 100.0}
"""Standard deviations of chance at the end; at the start there are none."""

SPREAD = 0.125
ARGUMENTS = ("checkpoints", "on_progress", "optimizer", "steps", "batch_size", "scale", "record_every", "evaluation")


def pretend_standard_seeds(architecture, task, seeds, *, on_progress=None, steps, **more):
    """Runs as the real ones give them, of at most three records; a later seed's are a little larger."""
    assert more.keys() <= {*ARGUMENTS, "dtype"}
    if on_progress is not None:
        on_progress(steps + 1, steps + 1, 0.0)
    return [_run(architecture, task, 1 + number / 4, steps) for number in range(len(seeds))]


def _run(architecture, task, factor, steps):
    at = np.unique([0, steps // 2, steps])
    part, a = at / steps, architecture
    of_heads = (len(at), a.layers, a.heads)
    progress: dict[str, np.ndarray] = {name: np.zeros(of_heads) for name in ("alpha_3", "gamma_3")}
    progress["beta_2"] = np.zeros((*of_heads, a.layers, a.heads))
    spread = {name: np.zeros_like(values) for name, values in progress.items()}
    places = {"alpha_3": (0, 0), "gamma_3": (-1, 0)} | ({"beta_2": (0, 0, -1, 0)} if a.layers > 1 else {})
    for name, place in places.items():
        progress[name][:, *place] = ENDS[name] * SPREAD * factor * part
        spread[name][:, *place] = SPREAD
    scores = {kind: np.zeros(of_heads) for kind in KINDS}
    scores["previous_token"][:, 0, -1] = 0.75 * part
    scores["induction"][:, -1, 0] = 0.5 * part
    loss, accuracy = np.log(task.vocabulary) * (1 - part), part
    inwards = jnp.zeros((a.layers, a.heads, a.head_dim, a.embedding_dim))
    embeddings = jnp.full((a.vocabulary, a.embedding_dim), factor)
    weights = StandardWeights(
        tokens=embeddings,
        positions=jnp.zeros((a.length, a.embedding_dim)),
        query=inwards,
        key=inwards,
        value=inwards,
        output=inwards.swapaxes(-1, -2),
        unembedding=None if a.tied else embeddings,
    )
    return StandardRun(
        steps=at,
        progress=ProgressMeasures(**progress),
        spread=ProgressMeasures(**spread),
        head_scores=scores,
        loss=loss,
        accuracy=accuracy,
        batch_loss=loss,
        batch_accuracy=accuracy,
        outcome="horizon_reached",
        weights=weights,
    )
