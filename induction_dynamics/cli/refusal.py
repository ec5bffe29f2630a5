"""The one way in which a command ends badly: a sentence and an exit status."""

import contextlib
from collections.abc import Iterator, Sequence

from induction_dynamics.cli.values import quoted
from induction_dynamics.errors import ArgumentError

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130
TERMINATED = 143


class Refusal(Exception):
    """A command that cannot go on.

    Args:
        sentence: one sentence for standard error; line breaks in it become spaces.
        status: exit status, 2 for bad input and 1 for a failure that is nobody's input.
    """

    def __init__(self, sentence: str, status: int = BAD_INPUT):
        self.sentence = " ".join(sentence.split())
        self.status = status
        super().__init__(self.sentence)


def from_argument_error(error: ArgumentError, flags: Sequence[str], words: Sequence[str] = ()) -> Refusal:
    """The sentence of a refused argument, with the option of the command line in the place of the argument's name.

    Args:
        error: what the library raised.
        flags: the options of the command; `threshold` finds `--thresholds`, and an unknown name stays as it is.
        words: as typed, to quote the value from; a context length of a range is laid to its end.
    """
    flag = "--" + error.argument.replace("_", "-")
    names = [name for name in (flag, flag + "s") if name in flags]
    name, typed = (names or [error.argument])[0], _typed(names, error.value, words)
    if typed is None and error.argument == "context_length" and "--to" in flags:
        typed = _typed(["--to"], None, words)
        name = name if typed is None else "--to"
    return Refusal(f"{name} must be {error.allowed}; got {repr(error.value) if typed is None else quoted(typed)}.")


@contextlib.contextmanager
def folder_named(typed: str, name: str = "DIR") -> Iterator[None]:
    """Say in a sentence, within the block, that the folder of a sweep is refused.

    Args:
        typed: the folder as typed.
        name: of the option or the place where it was typed.

    Raises:
        Refusal: the library refuses its argument `folder`.
    """
    try:
        yield
    except ArgumentError as error:
        if error.argument != "folder":
            raise
        raise Refusal(f"{name} must be {error.allowed}; got {quoted(typed)}.") from None


def _typed(names: Sequence[str], value: object, words: Sequence[str]) -> str | None:
    """The word after an option that stands for a value; the first word where the value is None."""
    for place, word in enumerate(words):
        option, equals, _ = word.replace("_", "-").partition("=")
        if option not in names:
            continue
        following = [word.partition("=")[2]] if equals else words[place + 1 :]
        for given in following:
            if given.startswith("--"):
                break
            try:
                if value is None or float(given) == value or given == value:
                    return given
            except (TypeError, ValueError):
                continue
    return None
