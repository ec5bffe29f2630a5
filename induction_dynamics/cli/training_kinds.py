"""Kinds of values of the options that say how the full model is trained. Imports nothing that computes."""

import re
from collections.abc import Callable

from induction_dynamics.cli.values import Kind, choice, real, whole

NONE = "none"
"""An alternative without any hold, or with a start from zero."""

MOST_STEPS = 2**31 - 2**16

OPTIMIZER = choice(("gd", "sgd", "adam", "adamw"))
SCHEDULE = choice(("constant", "cosine", "linear"))
DTYPE = choice(("float32", "float64"))
LEARNING_RATE = real("ETA", "a finite number above 0", lambda x: x > 0)
ABOVE_ZERO = real("X", "a finite number above 0", lambda x: x > 0)
AT_LEAST_ZERO = real("X", "a finite number, at least 0", lambda x: x >= 0)
BELOW_ONE = real("X", "a number from 0 to below 1", lambda x: 0 <= x < 1)
STEPS = whole("STEPS", "a whole number of steps", 1, MOST_STEPS)
WARMUP = whole("STEPS", "a whole number of steps", 0, MOST_STEPS)
SEQUENCES = whole("COUNT", "a whole number of sequences", 0, 10**9)
SHARED = whole("COUNT", "a whole number of sequences", 1, 10**9)

_NAME = "alpha_[1-3]|beta_(?:[1-9]|1[0-2])|gamma_[1-4]"
_VALUED = re.compile(f"({_NAME})=(.+)")
_HELD = re.compile(f"({_NAME})(?:=([^=@]+))?(?:@([^=@]+))?")
_ANY = real("X", "a finite number", lambda x: True)


def _coordinate_value(word: str) -> str:
    found = _VALUED.fullmatch(word)
    if found is None:
        raise ValueError
    _ANY.read(found[2])
    return word


def _hold(word: str) -> str:
    found = _HELD.fullmatch(word)
    if found is None:
        raise ValueError
    for number, kind in ((found[2], _ANY), (found[3], AT_LEAST_ZERO)):
        if number is not None:
            kind.read(number)
    return word


def _word(metavar: str, allowed: str, read: Callable[[str], str]) -> Kind[str]:
    def saying(word: str) -> str:
        try:
            return read(word)
        except ValueError:
            raise ValueError(allowed) from None

    return Kind(metavar, saying, allowed)


def alternative(kind: Kind[str]) -> Kind[str]:
    """One alternative of several: words of a kind joined by commas, each coordinate once, or `none`.

    Args:
        kind: of each, `COORDINATE_VALUE` or `HOLD_WORD`.
    """
    allowed = f"{NONE}, or {kind.allowed}, or several of different coordinates joined by commas"

    def read(word: str) -> str:
        parts = word.split(",")
        names = [re.split("[=@]", part)[0] for part in parts]
        if word != NONE and len(set(names)) < len(names):
            raise ValueError
        return word if word == NONE else ",".join(kind.read(part) for part in parts)

    return _word(f"{kind.metavar}[,...]", allowed, read)


def _held(word: str) -> str:
    """As the rows of a sweep have it: in the order of the coordinates, with all digits."""
    shown: dict[tuple[str, int], str] = {}
    for part in re.split("[ ,]+", word):
        found = _HELD.fullmatch(HOLD_WORD.read(part))
        assert found is not None
        letter, _, number = found[1].partition("_")
        if (letter, int(number)) in shown:
            raise ValueError
        value, since = ("" if text is None else repr(float(text) + 0.0) for text in (found[2], found[3]))
        words = found[1] + (f"={value}" if value else "") + (f"@{since}" if since not in ("", "0.0") else "")
        shown[letter, int(number)] = words
    return " ".join(shown[place] for place in sorted(shown))


COORDINATE_VALUE = _word("NAME=VALUE", "a coordinate and its value, NAME=VALUE, such as gamma_3=0.5", _coordinate_value)
HOLD_WORD = _word(
    "NAME[=VALUE][@TIME]",
    "a coordinate, NAME[=VALUE][@TIME], such as beta_2=0 or alpha_3=1.5@40 or gamma_4@100",
    _hold,
)
STARTS = alternative(COORDINATE_VALUE)
HOLDS = alternative(HOLD_WORD)
HELD = _word("HOLDS", "coordinates that are held, such as gamma_4=0 or beta_2=0@40", _held)
