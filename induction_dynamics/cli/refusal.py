"""The one way in which a command ends badly: a sentence and an exit status."""

from collections.abc import Sequence

from induction_dynamics.errors import ArgumentError

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


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


def from_argument_error(error: ArgumentError, flags: Sequence[str]) -> Refusal:
    """The sentence of a refused argument, with the option of the command line in the place of the argument's name.

    Args:
        error: what the library raised.
        flags: the options of the command; `threshold` finds `--thresholds`, and an unknown name stays as it is.
    """
    flag = "--" + error.argument.replace("_", "-")
    names = [name for name in (flag, flag + "s") if name in flags]
    return Refusal(f"{names[0] if names else error.argument} must be {error.allowed}; got {error.value!r}.")
