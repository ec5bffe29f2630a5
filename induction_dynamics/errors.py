"""The one way in which this package refuses an argument."""


class ArgumentError(ValueError):
    """A value that an argument does not take, in one sentence: the argument, what it takes, and what it was given.

    Args:
        argument: name of the argument, as in the signature (`context_length`).
        value: what was given; quoted in the message.
        allowed: what is allowed, to follow "must be".
    """

    def __init__(self, argument: str, value: object, allowed: str):
        self.argument = argument
        self.value = value
        self.allowed = allowed
        super().__init__(f"{argument} must be {allowed}; got {value!r}.")
