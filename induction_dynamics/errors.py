"""The one way in which this package refuses an argument."""


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
