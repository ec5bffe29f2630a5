"""Kinds of values that options take: how each is read from the command line, and the words that refuse it."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Generic, TypeVar

from tyro.constructors import PrimitiveConstructorSpec

T = TypeVar("T")

_WHOLE = re.compile(r"[0-9]+")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class Kind(Generic[T]):
    """What one word of the command line may be.

    Args:
        metavar: placeholder in the help.
        read: turns the word into the value; raises `ValueError` with what is allowed, to follow "must be".
        allowed: what is allowed, said when no word is there.
    """

    metavar: str
    read: Callable[[str], T]
    allowed: str


def visible(word: str) -> str:
    """The word as typed, on one line whatever it contains."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in word)


def quoted(word: str) -> str:
    """The word as typed, between quotes, on one line whatever it contains."""
    return f"'{visible(word)}'"


def listed(words: tuple[str, ...]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def one(kind: Kind[T]) -> PrimitiveConstructorSpec[T]:
    """An option with one value of a kind."""

    def construct(words: list[str]) -> T:
        if not words:
            raise ValueError(f"must be {kind.allowed}; got no value.")
        return _read(kind, words[0], "must be")

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.metavar,
        instance_from_str=construct,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [_shown(value)],
    )


def several(kind: Kind[T], repeats: bool = False) -> PrimitiveConstructorSpec[tuple[T, ...]]:
    """An option with one or more values of a kind.

    Args:
        kind: of each.
        repeats: whether what is repeated is kept; else it counts once, in the place of the first.
    """

    def construct(words: list[str]) -> tuple[T, ...]:
        if not words:
            raise ValueError(f"must each be {kind.allowed}; got no value.")
        values = [_read(kind, word, "must each be") for word in words]
        return tuple(values if repeats else dict.fromkeys(values))

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{kind.metavar} [{kind.metavar} ...]",
        instance_from_str=construct,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [_shown(item) for item in value or ()],
    )


def whole(metavar: str, noun: str, low: int, high: int) -> Kind[int]:
    """Whole numbers in plain decimal digits, from low to high."""
    allowed = f"{noun}, at least {low}"

    def read(word: str) -> int:
        if not _WHOLE.fullmatch(word):
            raise ValueError(allowed)
        digits = word.lstrip("0") or "0"
        # Compare lengths first: int() itself refuses thousands of digits.
        if len(digits) > len(str(high)) or int(digits) > high:
            raise ValueError(f"{noun}, at most {high}")
        if int(digits) < low:
            raise ValueError(allowed)
        return int(digits)

    return Kind(metavar, read, allowed)


def real(metavar: str, allowed: str, accepts: Callable[[float], bool]) -> Kind[float]:
    """Finite numbers in plain decimal or exponent notation that satisfy a condition."""

    def read(word: str) -> float:
        number = float(word) if _REAL.fullmatch(word) else math.nan
        if not math.isfinite(number) or not accepts(number):
            raise ValueError(allowed)
        return number

    return Kind(metavar, read, allowed)


def choice(words: tuple[str, ...], allowed: str = "", metavar: str = "") -> Kind[str]:
    """One of a few words."""
    sentence = allowed or listed(words)

    def read(word: str) -> str:
        if word not in words:
            raise ValueError(sentence)
        return word

    return Kind(metavar or f"{{{','.join(words)}}}", read, sentence)


def path(metavar: str, allowed: str) -> Kind[str]:
    """A path, kept as typed; what is there is looked at before computing."""

    def read(word: str) -> str:
        if not word or "\0" in word:
            raise ValueError(allowed)
        return word

    return Kind(metavar, read, allowed)


def _read(kind: Kind[T], word: str, verb: str) -> T:
    try:
        return kind.read(word)
    except ValueError as error:
        raise ValueError(f"{verb} {error}; got {quoted(word)}.") from None


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
