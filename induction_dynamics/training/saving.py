"""States of a training on disk, from which it goes on to the same numbers after an interruption (needs orbax).

A folder holds `states/`, orbax's series of the latest states; `about/`, what each of them belongs to, with the SHA-256
of its files, written once it is whole; and `records/`, the records between two states as .npz files, all of them.
Nothing in it is ever unpickled, and no state is read that is not what was written.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import logging
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np

from induction_dynamics.errors import ArgumentError, in_words
from induction_dynamics.files import sha256, written_whole
from induction_dynamics.provenance import versions
from induction_dynamics.training.engine import Ended, Saved, State
from induction_dynamics.training.settings import MOST_STEPS
from induction_dynamics.transformer.disentangled import Weights

LOCK = "lock"
_STATES, _ABOUT, _RECORDS = "states", "about", "records"
_SCHEMA_VERSION = 1
_PATIENCE = 30.0  # seconds in which the first of several processes makes the folder
_FILE = re.compile(r"([0-9]{10})-([0-9]{10})\.npz")


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Where and how often the state of a training is saved.

    Args:
        folder: where; made if need be. It belongs to one training.
        every: steps between two savings; the end is saved as well.
        keep: how many of the latest states are kept.
        resume: whether to go on from the latest state, if there is one; else a folder that has any is refused.
        tell: called with a sentence on what was found there.

    Raises:
        ArgumentError: a number out of range; or orbax is not installed.

    Example:
        >>> import tempfile
        >>> import induction_dynamics as idyn
        >>> task = idyn.Task(context_length=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     saved = idyn.Checkpoints(folder, every=100, resume=True, tell=print)
        ...     for _ in range(2):  # had the first been killed, the second would go on where it was
        ...         run = idyn.train(task, horizon=12.0, batch_size=64, checkpoints=saved)
        Nothing was saved yet: the training starts afresh.
        The training had ended.
    """

    folder: str | Path
    every: int
    keep: int = 2
    resume: bool = False
    tell: Callable[[str], object] | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        for name in ("every", "keep"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_STEPS:
                raise ArgumentError(name, value, "a whole number, at least 1")
        if importlib.util.find_spec("orbax") is None:
            allowed = "left out, unless orbax is installed (pip install 'induction-dynamics[checkpoints]')"
            raise ArgumentError("checkpoints", str(self.folder), allowed)


class Store:
    """The folder of one training, held by one process at a time; of several processes of one training by the first."""

    def __init__(
        self, checkpoints: Checkpoints, settings: Any, seeds: Sequence[int], stop: Sequence[Any], records: type[Any]
    ):
        self.every = checkpoints.every
        self._checkpoints = checkpoints
        self._folder = Path(checkpoints.folder).absolute()
        self._config = _configuration(settings, seeds, stop)
        self._most, self._seeds, self._kind = settings.most, len(seeds), records
        self._writes = jax.process_index() == 0
        self._recorded = 0
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> "Store":
        if self._writes:
            try:
                for name in (_ABOUT, _RECORDS, _STATES):
                    (self._folder / name).mkdir(parents=True, exist_ok=True)
                lock = filelock.FileLock(self._folder / LOCK, timeout=0)
                self._exit.enter_context(lock)
            except filelock.Timeout:
                raise self._refused("a folder at which no other training is at work") from None
            except OSError as error:
                raise self._refused(f"a folder that can be written ({error.strerror or error})") from None
        else:
            self._wait()
        with self._exit:
            self._manager = self._exit.enter_context(_manager(self._folder / _STATES))
            self._exit = self._exit.pop_all()
        return self

    def _wait(self) -> None:
        """Until the first process has made the folder, which the others only read."""
        deadline = time.monotonic() + _PATIENCE
        while not (self._folder / _STATES).is_dir():
            if time.monotonic() > deadline:
                raise self._refused("a folder that all processes can read")
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def latest(self, like: State) -> Saved | None:
        """The latest state that can be read, if there is any.

        Args:
            like: a state of the same shapes.

        Raises:
            ArgumentError: there is one and it is not to be resumed, or is of another training, or none can be read.
        """
        # one that was killed may have left a state that is not whole
        steps = sorted((step for step in self._manager.all_steps() if self._about(step).exists()), reverse=True)
        if not steps:
            self._forget_after(0)
            if self._checkpoints.resume:
                self._say("Nothing was saved yet: the training starts afresh.")
            return None
        if not self._checkpoints.resume:
            raise self._refused(f"one without states of a training (here up to step {steps[0]}), unless it is resumed")
        reasons = []
        for step in steps:
            try:
                found = self._read(step, like)
            except _Unreadable as error:
                reasons.append(f"step {step}: {error}")
                continue
            for reason in reasons:
                self._say(f"A state cannot be read ({reason}).")
            over = found.done >= self._most or len(found.ended) == self._seeds
            self._say("The training had ended." if over else f"The training goes on from step {found.done}.")
            self._forget_after(found.done)
            return found
        raise self._refused(f"one whose states can be read ({'; '.join(reasons)})")

    def save(self, saved: Saved) -> None:
        """Write the records since the last time, then the state.

        Raises:
            OSError: there is no room, or whatever else keeps the disk from taking it.
        """
        if not self._writes or saved.done == self._recorded:
            return
        import orbax.checkpoint as ocp

        self._write_records(saved)
        try:
            self._manager.save(saved.done, args=ocp.args.StandardSave(_leaves(saved)), force=True)
        except (ValueError, RuntimeError) as error:  # as a full disk is called there
            raise OSError(in_words(error)) from error
        about = {
            "schema_version": _SCHEMA_VERSION,
            "configuration": self._config,
            "versions": versions(),
            "done": saved.done,
            "ended": {str(seed): [one.done, one.outcome] for seed, one in saved.ended.items()},
            "sha256": _digests(self._folder / _STATES / str(saved.done)),
        }
        content = json.dumps(about, indent=2).encode()
        _write(self._about(saved.done), lambda file: file.write(content))
        # now that this one is whole, earlier ones may go
        for step in sorted(self._manager.all_steps())[: -self._checkpoints.keep]:
            self._remove(step)

    def _write_records(self, saved: Saved) -> None:
        new, place = [], saved.done
        for part in reversed(saved.records):  # the earlier ones are there already
            if place <= self._recorded:
                break
            place -= part.loss.shape[1]
            new.append(self._kind(*(values[:, max(self._recorded - place, 0) :] for values in part)))
        part = self._kind(*(np.concatenate(each, axis=1) for each in zip(*reversed(new), strict=True)))
        path = self._folder / _RECORDS / f"{self._recorded:010d}-{saved.done:010d}.npz"
        arrays: dict[str, Any] = part._asdict()
        _write(path, lambda file: np.savez(file, **arrays))
        self._recorded = saved.done

    def _remove(self, step: int) -> None:
        self._about(step).unlink(missing_ok=True)
        self._manager.delete(step)

    def _about(self, step: int) -> Path:
        return self._folder / _ABOUT / f"{step}.json"

    def _read(self, step: int, like: State) -> Saved:
        import orbax.checkpoint as ocp

        try:
            about = json.loads(self._about(step).read_bytes())
            config, done, digests = about["configuration"], int(about["done"]), about["sha256"]
            ended = {int(seed): (int(one[0]), str(one[1])) for seed, one in about["ended"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _Unreadable(f"about/{step}.json: {in_words(error)}") from None
        if config != self._config:
            names = [name for name in self._config if config.get(name) != self._config[name]] or ["version"]
            raise self._refused(f"one of the same training (its states have another {', '.join(names)})")
        try:
            if _digests(self._folder / _STATES / str(step)) != digests:
                raise _Unreadable("its files are not what was saved")
        except OSError as error:
            raise _Unreadable(in_words(error)) from None
        template = _leaves(Saved(0, like, (), {seed: Ended(*one, like.weights) for seed, one in ended.items()}))
        shapes = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
            for name, leaf in template.items()
            if not any(name.startswith(f"ended_{seed}_") for seed, one in ended.items() if one[1] == "nonfinite")
        }
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(shapes))
        leaves = {name: np.asarray(leaf) for name, leaf in restored.items()}
        self._compare_versions(about.get("versions"))
        weights = {
            seed: _tree(like.weights, leaves, f"ended_{seed}_") if one[1] != "nonfinite" else None
            for seed, one in ended.items()
        }
        return Saved(
            done=done,
            state=_tree(like, leaves, "state_"),
            records=self._read_records(done),
            ended={seed: Ended(*one, weights[seed]) for seed, one in ended.items()},
        )

    def _read_records(self, done: int) -> list[Any]:
        files = {}
        for path in (self._folder / _RECORDS).iterdir():
            if (found := _FILE.fullmatch(path.name)) and int(found[2]) <= done:
                files.setdefault(int(found[1]), {})[int(found[2])] = path
        parts, place = [], 0
        while place < done:
            if place not in files:
                raise _Unreadable(f"the records from step {place} on are missing")
            last, path = max(files[place].items())
            try:
                with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                    part = self._kind(*(arrays[name] for name in self._kind._fields))
                if any(values.shape[1] != last - place for values in part):
                    raise ValueError("of another length")
            except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, EOFError) as error:
                raise _Unreadable(f"{path.name}: {in_words(error)}") from None
            parts.append(part)
            place = last
        return parts

    def _forget_after(self, done: int) -> None:
        """Remove what is later than the state that the training goes on from: it is about to be made again."""
        self._recorded = done
        if not self._writes:
            return
        for step in self._manager.all_steps():
            if step > done:
                self._remove(step)
        for path in (self._folder / _RECORDS).iterdir():
            if (found := _FILE.fullmatch(path.name)) and int(found[2]) > done:
                path.unlink(missing_ok=True)

    def _compare_versions(self, then: Any) -> None:
        if not isinstance(then, dict):
            return
        others = [f"{name} {then.get(name)}" for name, version in versions().items() if then.get(name) != version]
        if others:
            self._say(f"The state was saved by other versions ({', '.join(others)}): last digits may differ.")

    def _say(self, sentence: str) -> None:
        if self._checkpoints.tell is not None:
            self._checkpoints.tell(sentence)

    def _refused(self, allowed: str) -> ArgumentError:
        return ArgumentError("checkpoints", str(self._checkpoints.folder), allowed)


class _Unreadable(Exception):
    """A state that cannot be read, and why."""


@contextlib.contextmanager
def _manager(folder: Path) -> Iterator[Any]:
    """Orbax's manager of a series of states: of this process alone, and without words on its own doings."""
    import orbax.checkpoint as ocp

    logger = logging.getLogger("absl")
    level, mine = logger.level, jax.process_index()
    logger.setLevel(logging.CRITICAL)
    alone = ocp.options.MultiprocessingOptions(
        primary_host=mine, active_processes={mine}, barrier_sync_key_prefix=f"process_{mine}"
    )
    options = ocp.CheckpointManagerOptions(
        max_to_keep=None,  # an earlier one goes only when what is said of the next is written, too
        create=False,
        enable_async_checkpointing=False,
        multiprocessing_options=alone if jax.process_count() > 1 else ocp.options.MultiprocessingOptions(),
    )
    try:
        with ocp.CheckpointManager(folder, options=options) as manager:
            yield manager
    finally:
        logger.setLevel(level)


def _leaves(saved: Saved) -> dict[str, np.ndarray]:
    """All arrays of a state by name; numbers as arrays without axes, which orbax takes."""
    trees: dict[str, Any] = {"state": saved.state}
    trees |= {f"ended_{seed}": one.weights for seed, one in saved.ended.items() if one.weights is not None}
    return {
        f"{name}_{place}": np.asarray(leaf)
        for name, tree in trees.items()
        for place, leaf in enumerate(jax.tree.leaves(tree))
    }


def _tree(like: Any, leaves: Mapping[str, np.ndarray], prefix: str) -> Any:
    old, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(structure, [jnp.asarray(leaves[f"{prefix}{place}"]) for place in range(len(old))])


def _digest(leaves: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(leaves):
        digest.update(f"{name} {leaves[name].dtype} {leaves[name].shape}".encode())
        digest.update(np.ascontiguousarray(leaves[name]).tobytes())
    return digest.hexdigest()


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder and below it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _write(path: Path, write: Callable[[Any], object]) -> None:
    """A file that is on the disk whole or not at all."""
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _configuration(settings: Any, seeds: Sequence[int], stop: Sequence[Any]) -> dict[str, str]:
    """All that the numbers depend on, in words; weights by their digest."""
    config = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    if isinstance(config.get("start"), Weights):
        config["start"] = _digest({str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(settings.start))})
    config |= {"seeds": list(map(int, seeds)), "stop": [[measure, float(level)] for measure, level in stop]}
    return {name: json.dumps(value) if isinstance(value, list) else repr(value) for name, value in config.items()}
