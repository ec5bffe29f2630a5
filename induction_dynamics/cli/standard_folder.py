"""What `standard` writes: records, weights and figures, each whole or not at all."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.document import as_csv, as_json
from induction_dynamics.cli.folder import CONFIG, pictures, text, why_not_new
from induction_dynamics.cli.refusal import Refusal
from induction_dynamics.cli.standard_options import StandardOptions
from induction_dynamics.cli.values import quoted
from induction_dynamics.files import written_whole

if TYPE_CHECKING:
    from induction_dynamics.training.standard import StandardRun

FILES = ("standard.json", "rows.csv", "records.npz", "weights.npz")
"""Besides the configuration and the figures."""


def files_of(seeds: Sequence[int]) -> tuple[str, ...]:
    """Names of the files of a folder, besides the configuration.

    Args:
        seeds: of the runs.
    """
    return (*FILES, *(f"seed_{seed}{suffix}" for seed in seeds for suffix in (".png", ".svg")))


def check_new_file(typed: str) -> None:
    """Refuse a path at which no new file can be written.

    Args:
        typed: the path as typed.

    Raises:
        Refusal: see above.
    """
    reason = why_not_new(Path(typed))
    if reason is not None:
        allowed = "a new .npz file in a folder that can be written"
        raise Refusal(f"--save-weights must be {allowed}; got {quoted(typed)} ({reason}).")


def save_weights(runs: "Sequence[StandardRun]", options: StandardOptions, notes: list[str]) -> str | None:
    """Save the last weights if that is asked for; a sentence if it cannot be done.

    Args:
        runs: one for each seed.
        options: of the command.
        notes: told what has become of them.
    """
    typed = options.save_weights
    if typed is None:
        return None
    arrays = weights_of(runs, options.run.seeds)
    if not len(arrays["seeds"]):
        notes.append("No weights were saved: no training stayed finite.")
        return None
    try:
        check_new_file(typed)
        with written_whole(Path(typed)) as path:
            _write_npz(path, arrays)
    except (Refusal, OSError) as error:
        reason = error.sentence if isinstance(error, Refusal) else f"{error.strerror or error}."
        notes.append(f"The weights could not be saved to {quoted(typed)}: {reason}")
        return notes[-1]
    return None


def weights_of(runs: "Sequence[StandardRun]", seeds: Sequence[int]) -> dict[str, Any]:
    """Arrays of the last weights with a leading axis for the seeds that stayed finite, which `seeds` names.

    Args:
        runs: one for each seed.
        seeds: of them.
    """
    import numpy as np

    kept = [(seed, run.weights) for seed, run in zip(seeds, runs, strict=True) if run.weights is not None]
    arrays: dict[str, Any] = {"seeds": np.array([seed for seed, _ in kept], np.int64)}
    for field in dataclasses.fields(kept[0][1]) if kept else ():
        values = [getattr(weights, field.name) for _, weights in kept]
        if values[0] is not None:
            arrays[field.name] = np.stack([np.asarray(value) for value in values])
    return arrays


def records_of(runs: "Sequence[StandardRun]", seeds: Sequence[int]) -> dict[str, Any]:
    """Arrays of the records with a leading axis for the seeds, NaN where one has ended before others.

    Args:
        runs: one for each seed.
        seeds: of them.
    """
    import numpy as np

    from induction_dynamics.pseudo_parameters import CIRCUIT

    def side_by_side(values: "list[np.ndarray]") -> np.ndarray:
        arrays = np.full((len(values), max(map(len, values)), *values[0].shape[1:]), np.nan)
        for row, own in zip(arrays, values, strict=True):
            row[: len(own)] = own
        return arrays

    arrays: dict[str, Any] = {
        "seeds": np.array(seeds, np.int64),
        "steps": max((run.steps for run in runs), key=len),
        "names": np.array(CIRCUIT),
    }
    for name in ("summed", "deviations", "loss", "accuracy", "batch_loss", "batch_accuracy"):
        arrays[name] = side_by_side([getattr(run, name) for run in runs])
    for name in CIRCUIT:
        arrays[name] = side_by_side([getattr(run.progress, name) for run in runs])
        arrays[f"{name}_chance"] = side_by_side([getattr(run.spread, name) for run in runs])
    for kind in runs[0].head_scores:
        arrays[kind] = side_by_side([run.head_scores[kind] for run in runs])
    return arrays


def writers(
    runs: "Sequence[StandardRun]", document: dict[str, Any], options: StandardOptions
) -> dict[str, Callable[[Path], object]]:
    """What writes each file of the folder.

    Args:
        runs: one for each seed.
        document: of the command.
        options: of the command.
    """
    from induction_dynamics.plotting.phase_change import plot_phase_change

    seeds = options.run.seeds
    records, weights = records_of(runs, seeds), weights_of(runs, seeds)
    found: dict[str, Callable[[Path], object]] = {
        CONFIG: text(as_json(document["config"])),
        "standard.json": text(as_json(document)),
        "rows.csv": text(as_csv(document["rows"])),
        "records.npz": lambda path: _write_npz(path, records),
    }
    if len(weights["seeds"]):
        found["weights.npz"] = lambda path: _write_npz(path, weights)
    task, optimizer = options.task, options.optimizer
    title = f"{task.task}, N = {task.context_length}, V = {task.vocabulary}, D = {options.architecture.embedding_dim}"
    title += f", {optimizer.optimizer} at {optimizer.learning_rate:g}"
    for seed, run in zip(seeds, runs, strict=True):
        if len(run.steps) > 1:
            found |= pictures(f"seed_{seed}", plot_phase_change(run, title=f"{title}, seed {seed}"))
    return found


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    import numpy as np

    with open(path, "wb") as file:
        np.savez(file, **arrays)
