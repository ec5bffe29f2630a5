"""`induction-dynamics train`: the full model, trained at one context length."""

import dataclasses
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.computing import compute, make_points, use_device
from induction_dynamics.cli.devices import answers_alone, devices_of, join_processes, together
from induction_dynamics.cli.document import as_csv, as_json, build, configuration
from induction_dynamics.cli.folder import CONFIG, pictures, text, why_not_new, write_all
from induction_dynamics.cli.options import EmergenceOptions, RunOptions, TrainOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.refusal import FAILED, Refusal
from induction_dynamics.cli.states import check_keep, check_saving, checkpoints_of, claimed_folder, saying_states
from induction_dynamics.cli.tables import show
from induction_dynamics.cli.values import listed, quoted, visible
from induction_dynamics.errors import ArgumentError
from induction_dynamics.files import sha256

if TYPE_CHECKING:
    from induction_dynamics.dynamics.trajectory import Trajectory
    from induction_dynamics.scaling.points import Row
    from induction_dynamics.transformer.disentangled import Weights

FILES = ("train.json", "rows.csv", "records.npz", "weights.npz", "train.png", "train.svg")


def run(options: TrainOptions) -> None:
    """Train, save what is asked for, and print the rows.

    Raises:
        Refusal: options that do not go together, or a place that cannot be written to, and nothing was computed; or,
            with status 1 and after the rows, the weights could not be saved in the end.
        ArgumentError: a value that the task or the model does not take.
    """
    check_together(options)
    if options.save_weights is not None:
        check_new_file(options.save_weights)
    points = make_points([options.context_length], [options.model], options)
    join_processes(options.devices)
    device_kind = use_device(options.answer.device)
    answers = not options.devices.process
    weights = _weights_to_start_from(options)
    config = configuration(options, device_kind)
    if options.intervention.start_weights:
        config["start_weights_sha256"] = sha256(Path(options.intervention.start_weights))
    notes = []
    if options.data.record_every > 1:
        notes.append(f"Recorded every {options.data.record_every} steps: times are found between such records.")
    runs: list[Trajectory] = []
    with claimed_folder(options.checkpoints, config, FILES) if answers else nullcontext():
        more = _trainer(options, weights, notes)
        quiet = dataclasses.replace(options.answer, quiet=options.answer.quiet or not answers)
        with answers_alone(options.devices), together(options.devices):
            rows = compute(points, dataclasses.replace(options, answer=quiet), runs.append, **more)
        rows = _named(rows, options)
        if not answers:
            return
        (trained,) = runs
        failure = _save_weights(trained, options, notes)
        document = build("train", config, list(map(dataclasses.asdict, rows)), notes=notes)
        if options.checkpoints.output:
            write_all(Path(options.checkpoints.output), _writers(trained, document, options))
    if options.answer.json:
        sys.stdout.write(as_json(document))
    else:
        show(document, quiet=options.answer.quiet)
        _say_where(trained, options, failure)
    if failure is not None:
        raise Refusal(failure, FAILED)


def check_together(options: TrainOptions) -> None:
    """Refuse options that say nothing without another, or contradict it.

    Raises:
        Refusal: see above.
    """
    start, devices = options.intervention, options.devices
    check_saving(options.checkpoints)
    lacking = [name for name in ("learning_rate", "steps") if getattr(options.optimizer, name) is None]
    name = options.optimizer.optimizer
    if name != "gd" and lacking:
        flag = "--" + lacking[0].replace("_", "-")
        raise Refusal(f"{flag} is missing: the optimizer {name} takes it.")
    of_flow = {"horizon": (options.emergence, EmergenceOptions()), "step": (options.run, RunOptions())}
    typed = [f"--{flag}" for flag, (given, usual) in of_flow.items() if getattr(given, flag) != getattr(usual, flag)]
    if name != "gd" and typed:
        raise Refusal(
            f"{typed[0]} must be left out with the optimizer {name}, which has no flow time and takes --steps."
        )
    if options.data.shared_frames > 1 and options.task.inputs != "orthonormal":
        raise Refusal("--shared-frames must be left out with isotropic inputs, which have no frames.")
    check_keep(options.checkpoints)
    if start.start_weights and (start.start or start.start_scale):
        other = "--start" if start.start else "--start-scale"
        raise Refusal(f"--start-weights and {other} exclude each other: give a file, or what the weights are made of.")
    together = {f"--{name}": getattr(devices, name) for name in ("coordinator", "processes", "process")}
    missing = [name for name, value in together.items() if value is None]
    if missing and len(missing) < len(together):
        raise Refusal(f"{missing[0]} is missing: several processes take all of {', '.join(together)}.")
    if devices.process is not None and devices.processes is not None and devices.process >= devices.processes:
        raise Refusal(f"--process must be below --processes, which is {devices.processes}; got '{devices.process}'.")


def _trainer(options: TrainOptions, weights: "Weights | None", notes: list[str]) -> dict[str, Any]:
    """How `sweep` is to make the run, where that is not as the point alone says."""
    from induction_dynamics.training.train import run_training

    devices = devices_of(options.devices, options.answer.device)
    quiet = options.answer.quiet or bool(options.devices.process)
    checkpoints = checkpoints_of(options.checkpoints, notes, quiet)
    record_every = options.data.record_every
    if weights is None and checkpoints is None and len(devices) < 2 and record_every == 1:
        return {}

    def train_with(settings: Any, seeds: Any, stop: Any, on_progress: Any) -> "list[Trajectory]":
        changed = {"record_every": record_every} | ({} if weights is None else {"start": weights})
        settings = dataclasses.replace(settings, **changed)
        try:
            with saying_states(options.checkpoints):
                return run_training(settings, seeds, stop, devices, checkpoints, on_progress)
        except ArgumentError as error:
            if error.argument != "start" or weights is None:
                raise
            typed = quoted(str(options.intervention.start_weights))
            raise Refusal(f"--start-weights must be {error.allowed}; got {typed}.") from None

    return {"train_with": train_with}


def _weights_to_start_from(options: TrainOptions) -> "Weights | None":
    from induction_dynamics.weights_files import load_weights, rotation_of_file

    typed = options.intervention.start_weights
    if typed is None:
        return None
    try:
        rotation_of_file(typed, options.task.rotation)
        return load_weights(typed)
    except ArgumentError as error:
        raise Refusal(f"--start-weights must be {error.allowed}; got {quoted(typed)}.") from None


def _named(rows: "list[Row]", options: TrainOptions) -> "list[Row]":
    """Rows that say which file training started from."""
    typed = options.intervention.start_weights
    return rows if typed is None else [dataclasses.replace(row, start=f"weights {Path(typed).name}") for row in rows]


def _save_weights(trained: "Trajectory", options: TrainOptions, notes: list[str]) -> str | None:
    """Save the last weights if that is asked for; a sentence if it cannot be done."""
    from induction_dynamics.weights_files import save_weights

    typed = options.save_weights
    if typed is None:
        return None
    unit = "flow time" if trained.time_unit == "flow" else "step"
    if trained.weights is None:
        notes.append(f"No weights were saved: the run stopped being finite after {unit} {trained.time[-1]:g}.")
        return None
    try:
        check_new_file(typed)
        save_weights(trained.weights, typed, rotation=options.task.rotation)
    except (Refusal, OSError) as error:
        reason = error.sentence if isinstance(error, Refusal) else f"{error.strerror or error}."
        notes.append(f"The weights could not be saved to {quoted(typed)}: {reason}")
        return notes[-1]
    notes.append(f"The weights saved are those of the run's last record, at {unit} {trained.time[-1]:g}.")
    return None


def _writers(
    trained: "Trajectory", document: dict[str, Any], options: TrainOptions
) -> dict[str, Callable[[Path], object]]:
    import numpy as np

    from induction_dynamics.plotting.coordinates import plot_coordinates
    from induction_dynamics.pseudo_parameters import COORDINATES
    from induction_dynamics.weights_files import save_weights

    def records(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(
                file,
                time=trained.time,
                time_unit=np.array(trained.time_unit),
                names=np.array(COORDINATES),
                coordinates=trained.coordinates,
                loss=trained.loss,
                off_subspace=trained.off_subspace,
            )

    writers: dict[str, Callable[[Path], object]] = {
        CONFIG: text(as_json(document["config"])),
        "train.json": text(as_json(document)),
        "rows.csv": text(as_csv(document["rows"])),
        "records.npz": records,
    }
    if trained.weights is not None:
        weights = trained.weights
        writers["weights.npz"] = lambda path: save_weights(weights, path, rotation=options.task.rotation)
    title = f"Training, N = {options.context_length}, {options.task.inputs} inputs, query {options.task.query}"
    if options.optimizer.optimizer != "gd":
        title += f", {options.optimizer.optimizer} at {options.optimizer.learning_rate:g}"
    figure = plot_coordinates(
        trained.time,
        trained.coordinates,
        trained.loss,
        context_length=options.context_length,
        title=title,
        time_unit=trained.time_unit,
    )
    return writers | pictures("train", figure)


def _say_where(trained: "Trajectory", options: TrainOptions, failure: str | None) -> None:
    if options.answer.quiet:
        return
    if options.save_weights is not None and trained.weights is not None and failure is None:
        print(f"\nWeights written to {visible(options.save_weights)}")
    if options.checkpoints.output:
        print(f"\nWritten to {visible(options.checkpoints.output)}")


def check_new_file(typed: str) -> None:
    """Refuse a path at which no new file of weights can be written.

    Args:
        typed: the path as typed.

    Raises:
        Refusal: see above.
    """
    from induction_dynamics.weights_files import SUFFIXES

    path, reason = Path(typed), ""
    if path.suffix in SUFFIXES:
        found = why_not_new(path)
        if found is None:
            return
        reason = f" ({found})"
    raise Refusal(
        f"--save-weights must be a new file ending in {listed(SUFFIXES)}, in a folder that can be written; "
        f"got {quoted(typed)}{reason}."
    )


COMMAND = Command(
    name="train",
    summary="emergence times of the full model, trained at one context length",
    description="""\
Trains the full model, by default by gradient descent from zero on fresh
sequences, projects its weights on the 19 coordinates as it goes, and prints
when each coordinate crosses its threshold and when the loss has fallen to a
fraction of its start.

N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time,
the same as for the reduced models: learning rate x steps / D. Optimizers other
than gd have no flow time: their times are steps.

With --output writes train.json, rows.csv, records.npz (time, coordinates, loss
and off-subspace fraction), weights.npz, config.json and train.png and .svg to a
folder; with --checkpoint-every also the state of the training now and then. A
run that was interrupted goes on to the same numbers with --resume.

Example:

  induction-dynamics train --context-length 4 --query uniform
  induction-dynamics train --context-length 4 --save-weights weights.npz
  induction-dynamics train --context-length 4 --optimizer adam \\
    --learning-rate 0.003 --steps 2000 --start-scale 0.1
  induction-dynamics train --context-length 4 --hold beta_2=0@40 --horizon 6
  induction-dynamics train --context-length 8 --output out/train \\
    --checkpoint-every 500 --resume""",
    options=TrainOptions,
    run=run,
)
