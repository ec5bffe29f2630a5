"""`induction-dynamics standard`: standard transformers trained, and the steps at which the circuit emerges in them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.compile_cache import keep_programs
from induction_dynamics.cli.computing import enough_memory, use_device
from induction_dynamics.cli.document import as_json
from induction_dynamics.cli.folder import write_all
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.progress import progress
from induction_dynamics.cli.refusal import FAILED, Refusal
from induction_dynamics.cli.standard_document import document_of
from induction_dynamics.cli.standard_folder import check_new_file, files_of, save_weights, writers
from induction_dynamics.cli.standard_options import StandardOptions
from induction_dynamics.cli.standard_tables import show
from induction_dynamics.cli.states import check_keep, check_saving, checkpoints_of, claimed_folder, saying_states
from induction_dynamics.cli.values import visible
from induction_dynamics.provenance import versions

if TYPE_CHECKING:
    from induction_dynamics.training.standard import StandardRun, StandardSettings


def run(options: StandardOptions) -> None:
    """Train every seed, save what is asked for, and print when the circuit emerged.

    Raises:
        Refusal: options that do not go together, or a place that cannot be written to, and nothing was computed; or,
            with status 1 and after the answer, the weights could not be saved in the end.
        ArgumentError: a value that the task or the model does not take.
    """
    check_together(options)
    if options.save_weights is not None:
        check_new_file(options.save_weights)
    settings = settings_of(options)
    device_kind = use_device(options.answer.device)
    config = _configuration(options, device_kind)
    notes: list[str] = []
    with claimed_folder(options.checkpoints, config, files_of(options.run.seeds)):
        runs = _train(settings, options, notes)
        failure = save_weights(runs, options, notes)
        document = document_of(runs, options, config, notes)
        if options.checkpoints.output:
            write_all(Path(options.checkpoints.output), writers(runs, document, options))
    if options.answer.json:
        sys.stdout.write(as_json(document))
    else:
        show(document, options.answer.quiet)
        if not options.answer.quiet:
            written = options.save_weights is not None and failure is None and any(run.weights for run in runs)
            for where in ([options.save_weights] if written else []) + [options.checkpoints.output]:
                if where:
                    print(f"\nWritten to {visible(where)}")
    if failure is not None:
        raise Refusal(failure, FAILED)


def check_together(options: StandardOptions) -> None:
    """Refuse options that say nothing without another, or contradict it.

    Raises:
        Refusal: see above.
    """
    task = options.task
    check_saving(options.checkpoints)
    check_keep(options.checkpoints)
    if task.task == "repeated" and task.query != "uniform":
        raise Refusal("--query must be left out with the task repeated, which has no query.")
    if task.task == "pairs" and task.period != "varied":
        raise Refusal("--period must be left out with the task pairs, which has no period.")


def settings_of(options: StandardOptions) -> "StandardSettings":
    """The training as the library takes it, checked.

    Raises:
        ArgumentError: a value that the task, the model or the optimizer does not take.
    """
    from induction_dynamics.token_task import TokenTask
    from induction_dynamics.training.optimizers import Optimizer
    from induction_dynamics.training.standard import StandardSettings
    from induction_dynamics.transformer.standard import Architecture

    of_task, run = options.task, options.run
    sizes: dict[str, Any] = vars(options.architecture) | {"head_dim": options.architecture.head_dim or 0}
    task = TokenTask(of_task.context_length, of_task.vocabulary, of_task.task, of_task.query, of_task.period)
    given = {name: value for name, value in vars(options.optimizer).items() if name not in ("optimizer", "steps")}
    given["nesterov"] = given["nesterov"] or None
    return StandardSettings(
        Architecture(task.vocabulary, task.sequence_length, **sizes),
        task,
        optimizer=Optimizer(options.optimizer.optimizer, **given),
        steps=options.optimizer.steps,
        batch_size=run.batch_size,
        scale=run.start_scale,
        record_every=run.record_every,
        evaluation=run.evaluation,
        dtype=run.dtype,
    )


def _configuration(options: StandardOptions, device_kind: str) -> dict[str, Any]:
    """Every option that bears on the numbers, as used, with the versions and the device that computed them."""
    config: dict[str, Any] = {}
    for group in (options.task, options.architecture, options.run, options.optimizer):
        config |= {name: list(value) if isinstance(value, tuple) else value for name, value in vars(group).items()}
    return config | {"device": options.answer.device, "device_kind": device_kind, "versions": versions()}


def _train(settings: "StandardSettings", options: StandardOptions, notes: list[str]) -> "list[StandardRun]":
    from induction_dynamics.training.standard import train_standard_seeds

    keep_programs()
    more = {name: value for name, value in vars(settings).items() if name not in ("architecture", "task")}
    checkpoints = checkpoints_of(options.checkpoints, notes, options.answer.quiet)
    with progress(options.answer.quiet) as tell, enough_memory(), saying_states(options.checkpoints):
        return train_standard_seeds(
            settings.architecture,
            settings.task,
            options.run.seeds,
            checkpoints=checkpoints,
            on_progress=tell and (lambda done, most, loss: tell(done, most, f"loss {loss:.3f}")),
            **more,
        )


COMMAND = Command(
    name="standard",
    summary="steps at which the circuit emerges in standard transformers",
    description="""\
Trains standard transformers (attention only, additive residual stream, random
start) by cross-entropy on fresh sequences of tokens, and prints the step from
which on each structure of the induction circuit is in the weights for good:

  alpha_3  tokens attend to the one before (the first layers)
  beta_2   tokens attend to where they have themselves been retrieved
  gamma_3  what is attended to is put out (the last layer)

Each is a sum over heads, and has emerged at so many standard deviations of what
random weights of the same size have. The loss is timed at half of its start,
the accuracy at 1/2. Another level may give another order. There is no flow
time: all is told in steps. Layers and heads are counted from 0.

With --output writes standard.json, rows.csv, records.npz, weights.npz (of all
seeds, which are the first axis), config.json and for each seed seed_SEED.png
and .svg to a folder; with --checkpoint-every also the state of the training now
and then, from which the same command with --resume goes on to the same numbers.

Example:

  induction-dynamics standard
  induction-dynamics standard --task repeated --heads 4 --steps 3000
  induction-dynamics standard --seeds 0 1 2 --save-weights standard.npz
  induction-dynamics standard --positions learned --output out/standard \\
    --checkpoint-every 200 --resume""",
    options=StandardOptions,
    run=run,
)
