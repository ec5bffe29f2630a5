"""The command line. Everything that computes is imported by the commands as they run, so that help is instant."""

import _thread
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from induction_dynamics import __version__
from induction_dynamics.cli import compare, export, fit, heads, plot, project, simulate, standard, status, sweep, train
from induction_dynamics.cli.compile_cache import harmless_cache
from induction_dynamics.cli.completion import command_for
from induction_dynamics.cli.computing import refuse_faulty_jax
from induction_dynamics.cli.parsing import PROGRAM, Command, flags, nearest, parse
from induction_dynamics.cli.refusal import BAD_INPUT, FAILED, INTERRUPTED, TERMINATED, Refusal, from_argument_error
from induction_dynamics.cli.values import listed, quoted
from induction_dynamics.errors import ArgumentError

_MODULES = (simulate, sweep, train, compare, standard, project, heads, status, export, fit, plot)
COMMANDS = {module.COMMAND.name: module.COMMAND for module in _MODULES}
COMMANDS["completion"] = command_for(tuple(COMMANDS.values()))

_HELP = f"""\
usage: {PROGRAM} [-h] [--version] COMMAND [OPTIONS]

How and when an induction head emerges while a transformer trains: exact reduced
flows beside real training, on one time axis.

commands:
{{commands}}

options:
  -h, --help  this help; '{PROGRAM} COMMAND --help' tells the rest
  --version   print the version

N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time:
for gradient descent, learning rate x steps / D.

exit status:
  0    done (also where a coordinate has not emerged: that is an answer)
  1    failed unexpectedly
  2    bad input: one sentence on standard error, nothing printed or written
  130  interrupted (143: by SIGTERM)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; by default those of this process.

    Returns:
        The exit status: 0 for an answer, 2 for bad input, 1 for a failure, 130 when interrupted, 143 by SIGTERM.
    """
    status = _status(list(sys.argv[1:] if argv is None else argv))
    if argv is None:
        if status and _is_busy():
            # in the midst of a run, which the interpreter would wait for
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(status)
        # The process ends here, and all it holds with it: to look for garbage first takes a quarter of a second.
        gc.freeze()
    return status


def _status(words: list[str]) -> int:
    try:
        with _terminable():
            _run(words)
            sys.stdout.flush()
        return 0
    except SystemExit as exit:
        return BAD_INPUT if exit.code else 0
    except Refusal as refusal:
        return _complain(refusal.sentence, refusal.status)
    except _Terminated:
        return _complain("Terminated.", TERMINATED)
    except KeyboardInterrupt:
        return _complain("Interrupted.", INTERRUPTED)
    except BrokenPipeError:
        # The reader has gone: what is still buffered must not fail again while the interpreter shuts down.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _complain(f"Reading or writing failed: {error.strerror or error}{where}.", FAILED)


def _is_busy() -> bool:
    """Whether there is a thread that the interpreter would wait for."""
    others = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    return any(not thread.daemon for thread in others)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, after which a command cleans up as after Ctrl-C."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception within the block, unless it is ignored, or Python does not handle signals here.

    Nor is Ctrl-C lost within the block.
    """
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    if not ours or before in (signal.SIG_IGN, None):
        yield
        return

    def terminate(*_: object) -> None:
        raise _Terminated

    unraisable = sys.unraisablehook

    def send_again(lost: Any) -> None:
        """Python drops exceptions in callbacks of the garbage collector, of which jax has one."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            unraisable(lost)
            return
        number = signal.SIGTERM if issubclass(lost.exc_type, _Terminated) else signal.SIGINT
        timer = threading.Timer(0.01, _thread.interrupt_main, (number,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = unraisable
        signal.signal(signal.SIGTERM, before)


def _run(words: list[str]) -> None:
    if not words:
        raise Refusal(f"A command is missing: {listed(tuple(COMMANDS))}; '{PROGRAM} --help' tells more.")
    name, rest = words[0], words[1:]
    if name in ("-h", "--help"):
        commands = "\n".join(f"  {command.name:<11}{command.summary}" for command in COMMANDS.values())
        sys.stdout.write(_HELP.format(commands=commands))
    elif name == "--version":
        print(f"{PROGRAM} {__version__}")
    elif name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        known = ("--help", "--version") if what == "option" else tuple(COMMANDS)
        meant = nearest(name, known)
        hint = f"; did you mean {meant}?" if meant else "."
        raise Refusal(f"The {what} must be {listed(known)}; got {quoted(name)}{hint}")
    else:
        _run_command(COMMANDS[name], rest)


def _run_command(command: Command[Any], words: list[str]) -> None:
    options = parse(command, words)
    refuse_faulty_jax()
    # XLA's loader of cached programs names harmless tuning flags as errors, at length; read when jax is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with harmless_cache(), _rare_collections():
            command.run(options)
    except ArgumentError as error:
        raise from_argument_error(error, flags(command.options), words) from None


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Collect garbage rarely within the block: an eighth of a warm start goes into it, and next to none is found."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], 50_000) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _complain(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status
