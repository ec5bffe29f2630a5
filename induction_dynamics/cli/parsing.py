"""From the words of the command line to options, with every failure as one sentence."""

import contextlib
import dataclasses
import difflib
import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, get_type_hints

import tyro

from induction_dynamics.cli.refusal import Refusal
from induction_dynamics.cli.values import quoted

PROGRAM = "induction-dynamics"

_MARK = "DESCRIPTION"
_USAGE = "usage: "
_NONE = "; got no value."

OptionsT = TypeVar("OptionsT")


@dataclasses.dataclass(frozen=True)
class Command(Generic[OptionsT]):
    """One command.

    Args:
        name: as typed after the program's name.
        summary: one line for the list of commands.
        description: opening paragraphs of its help, in lines of at most 80 characters.
        options: dataclass of its options.
        run: does it.
    """

    name: str
    summary: str
    description: str
    options: type[OptionsT]
    run: Callable[[OptionsT], None]


def parse(command: Command[OptionsT], words: Sequence[str]) -> OptionsT:
    """The options of one command.

    Args:
        command: the command.
        words: what follows it on the command line.

    Raises:
        Refusal: the words are not understood; the sentence names the option, the value as typed and what is allowed.
        SystemExit: with status 0, after printing the help.
    """
    program = f"{PROGRAM} {command.name}"

    def refuse(event: Any) -> None:
        sentence = _sentence(event, program, words, flags(command.options), flags(command.options, bool))
        if sentence:
            raise Refusal(sentence)

    # tyro joins the lines of a description and does not wrap them again, so it gets a mark in its place.
    printed = io.StringIO()
    try:
        with _on_parse_error(refuse), contextlib.redirect_stdout(printed):
            return tyro.cli(
                command.options,
                prog=program,
                description=_MARK,
                args=list(words),
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    finally:
        for line in printed.getvalue().replace(_MARK, command.description).splitlines():
            print(_folded(line) if line.startswith(_USAGE) else line.rstrip())


def flags(options: type[Any], only: type[Any] | None = None) -> list[str]:
    """Every option of a command as typed, such as `--context-length`.

    Args:
        options: dataclass of the options.
        only: type of the options wanted; by default all.
    """
    found = []
    for name, hint in get_type_hints(options, include_extras=True).items():
        if dataclasses.is_dataclass(hint):
            found += flags(hint, only)  # pyright: ignore[reportArgumentType]
        elif only in (None, hint) and tyro.conf.Positional not in (marks := getattr(hint, "__metadata__", ())):
            renamed = [item.name for item in marks if getattr(item, "name", None)]
            found.append("--" + (renamed or [name])[0].replace("_", "-"))
    return found


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant, if any."""
    begun = [item for item in known if len(word) > 3 and item.startswith(word)]
    return next(iter(begun or difflib.get_close_matches(word, known, n=1)), None)


def _folded(usage: str) -> str:
    return textwrap.fill(usage, 80, subsequent_indent=" " * len(_USAGE), break_on_hyphens=False)


def _on_parse_error(hook: Any) -> contextlib.AbstractContextManager[None]:
    # A private module of tyro: without it the user gets tyro's own box, on standard error and with status 2 as well.
    try:
        from tyro._errors import on_parse_error
    except ImportError:
        return contextlib.nullcontext()
    return on_parse_error(hook)


def _sentence(event: Any, program: str, words: Sequence[str], known: Sequence[str], switches: Sequence[str]) -> str:
    """The failure in one sentence; empty for an event that a later tyro may have added."""
    kind = type(event).__name__
    if kind == "UnrecognizedArgs":
        return _unknown(event.tokens[0], program, words, known, switches)
    if kind == "MissingArgs":
        if event.unrecognized_tokens:
            return _unknown(event.unrecognized_tokens[0], program, words, known, switches)
        argument = event.missing_arguments[0].arg
        return f"{_flag(argument)} is missing: it {_allowed(argument)}."
    if kind == "BadValue":
        flag = _flag(event.argument)
        word = _word_after(flag, words)
        return f"{flag} {_refused(event.argument, [] if word is None or word in known else [word])}"
    if kind == "InstantiationFailure" and event.argument is not None:
        if event.argument.is_positional() and event.message.endswith(_NONE):
            return f"{_flag(event.argument)} is missing: it {_allowed(event.argument).replace(' each', '', 1)}."
        return f"{_flag(event.argument)} {event.message}"
    return ""


def _unknown(word: str, program: str, words: Sequence[str], known: Sequence[str], switches: Sequence[str]) -> str:
    for typed in words:
        option, _, value = typed.partition("=")
        if option in known and value == word:
            return f"{option} takes no value; got {quoted(word)}."
    if word.startswith("-"):
        option = word.partition("=")[0]
        meant = nearest(option, known)
        hint = f"did you mean {meant}?" if meant else f"'{program} --help' lists them."
        return f"{quoted(option)} is no option of {program}; {hint}"
    # A value too many belongs to the option before it; values of a list never get here.
    before = words[: words.index(word)] if word in words else []
    owner = next((item for item in reversed(before) if item.replace("_", "-") in known), None)
    if owner is None:
        return f"{quoted(word)} is no option of {program}; '{program} --help' lists them."
    takes = "no value" if owner.replace("_", "-") in switches else "one value"
    return f"{owner} takes {takes}; got {quoted(word)} as well."


def _flag(argument: Any) -> str:
    shown = argument.lowered.metavar if argument.is_positional() else argument.lowered.name_or_flags[0]
    return str(shown).split()[0]


def _refused(argument: Any, values: list[str]) -> str:
    """Why the type of an argument refuses these words."""
    try:
        argument.lowered.instance_from_str(values)
    except ValueError as error:
        return str(error)
    return f"got no value before {quoted(values[0])}."


def _allowed(argument: Any) -> str:
    return _refused(argument, []).removesuffix(_NONE)


def _word_after(flag: str, words: Sequence[str]) -> str | None:
    after = [words[i + 1] for i, word in enumerate(words[:-1]) if word.replace("_", "-") == flag]
    return next((word for word in after if word.startswith("-")), None)
