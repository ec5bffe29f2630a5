"""The one way in which this package refuses an argument, and what a sentence on a failure needs."""

import operator


class ArgumentError(ValueError):
    """A value that an argument does not take, in one sentence: the argument, what it takes, and what it was given.

    Args:
        argument: name of the argument, as in the signature (`context_length`).
        value: what was given; quoted in the message.
        allowed: what is allowed, to follow "must be".

    Example:
        >>> from induction_dynamics import ArgumentError, Task
        >>> try:
        ...     Task(context_length=0)
        ... except ArgumentError as error:
        ...     print(error.argument, error.value, error, sep=" | ")
        context_length | 0 | context_length must be a whole number of pairs, at least 1; got 0.
    """

    def __init__(self, argument: str, value: object, allowed: str):
        self.argument = argument
        self.value = value
        self.allowed = allowed
        super().__init__(f"{argument} must be {allowed}; got {value!r}.")


def whole_number(value: object) -> int | None:
    """A whole number of Python, NumPy or JAX as Python's; None for whatever else, True and False as well.

    Args:
        value: as given.
    """
    try:
        return None if isinstance(value, bool) else operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None


def in_words(error: BaseException) -> str:
    """What an error of somebody else says, on one line and not at length.

    Args:
        error: as raised.
    """
    return " ".join(str(error).split())[:200] or type(error).__name__
