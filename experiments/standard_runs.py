"""Trainings of standard transformers for the experiments, each kept on disk, so that none is done twice."""

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from induction_dynamics.files import written_whole
from induction_dynamics.heads import KINDS
from induction_dynamics.training.standard import StandardRun, StandardSettings, train_standard_seeds
from induction_dynamics.transformer.progress import ProgressMeasures
from induction_dynamics.transformer.standard import StandardWeights

_ARRAYS = ("steps", "loss", "accuracy", "batch_loss", "batch_accuracy")


def trained(ledger: Path, settings: StandardSettings, seeds: Sequence[int]) -> list[StandardRun]:
    """The runs of some seeds: those that the ledger has from there, the others trained side by side and kept in it.

    Args:
        ledger: folder, one .npz file for each run; made if need be. A file that cannot be read is made anew.
        settings: of the trainings.
        seeds: one for each run.
    """
    ledger.mkdir(parents=True, exist_ok=True)
    found = {seed: _read(_path(ledger, settings, seed)) for seed in seeds}
    missing = [seed for seed, run in found.items() if run is None]
    if missing:
        options = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
        runs = train_standard_seeds(options.pop("architecture"), options.pop("task"), missing, **options)
        for seed, run in zip(missing, runs, strict=True):
            _write(_path(ledger, settings, seed), run)
            found[seed] = run
    return [run for seed in seeds if (run := found[seed]) is not None]


def _path(ledger: Path, settings: StandardSettings, seed: int) -> Path:
    words = json.dumps([dataclasses.asdict(settings), int(seed)], sort_keys=True)
    return ledger / f"{hashlib.sha256(words.encode()).hexdigest()[:24]}.npz"


def _write(path: Path, run: StandardRun) -> None:
    arrays: dict[str, Any] = {name: getattr(run, name) for name in _ARRAYS}
    for name in ("progress", "spread"):
        arrays |= {f"{name}_{part}": value for part, value in getattr(run, name)._asdict().items()}
    arrays |= {f"head_scores_{kind}": values for kind, values in run.head_scores.items()}
    if run.weights is not None:
        arrays |= {f"weights_{name}": np.asarray(x) for name, x in vars(run.weights).items() if x is not None}
    arrays["outcome"] = np.array(run.outcome)
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> StandardRun | None:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            of = {name: arrays[name] for name in arrays}
        weights = {name: of.get(f"weights_{name}") for name in StandardWeights.__dataclass_fields__}
        progress, spread = (
            ProgressMeasures(*(of[f"{name}_{part}"] for part in ProgressMeasures._fields))
            for name in ("progress", "spread")
        )
        return StandardRun(
            **{name: of[name] for name in _ARRAYS},
            progress=progress,
            spread=spread,
            head_scores={kind: of[f"head_scores_{kind}"] for kind in KINDS},
            outcome=str(of["outcome"]),
            weights=None if weights["query"] is None else StandardWeights(**jax.tree.map(jnp.asarray, weights)),
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
