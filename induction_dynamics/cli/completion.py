"""`induction-dynamics completion`: what makes a shell complete commands and options."""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Union

import tyro

from induction_dynamics.cli.parsing import PROGRAM, Command
from induction_dynamics.cli.values import choice, one


@dataclasses.dataclass(frozen=True)
class CompletionOptions:
    """Options of `completion`.

    Args:
        shell: bash or zsh.
    """

    shell: Annotated[str, one(choice(("bash", "zsh"), metavar="SHELL")), tyro.conf.Positional]


def command_for(commands: Sequence[Command[Any]]) -> Command[CompletionOptions]:
    """The command that prints a script for all the others.

    Args:
        commands: those that are to be completed.
    """

    def run(options: CompletionOptions) -> None:
        sys.stdout.write(script(commands, options.shell))

    return Command(
        name="completion",
        summary="a script that makes bash or zsh complete commands and options",
        description="""\
Prints a script after which the shell completes the commands and options of this
program when you press the tabulator.

Example:

  eval "$(induction-dynamics completion bash)"              # for this shell
  induction-dynamics completion bash >> ~/.bash_completion  # for later ones
  induction-dynamics completion zsh > ~/.zfunc/_induction-dynamics""",
        options=CompletionOptions,
        run=run,
    )


def script(commands: Sequence[Command[Any]], shell: str) -> str:
    """What the shell is to evaluate.

    Args:
        commands: those that are to be completed.
        shell: `bash` or `zsh`.
    """
    named = [Annotated[command.options, tyro.conf.subcommand(command.name)] for command in commands]
    each: Any = Union[tuple(named)]  # noqa: UP007
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(
            each,
            prog=PROGRAM,
            args=["--tyro-print-completion", shell],
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    return printed.getvalue()
