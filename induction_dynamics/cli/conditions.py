"""Columns of the rows of sweeps, and what is asked of them, as typed. Imports nothing that computes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from induction_dynamics.cli.options import MEASURES, MODELS
from induction_dynamics.cli.parsing import nearest
from induction_dynamics.cli.training_kinds import HELD, OPTIMIZER
from induction_dynamics.cli.values import Kind, choice, listed, path, real, visible, whole

Value = str | int | float | None

_COUNT = whole("COUNT", "a whole number", 0, 10**13)
_NUMBER = real("X", "a finite number", lambda x: True)
_WIDTHS = {"2N+2": "2N + 2", "4N": "4N"}
_KINDS: Mapping[str, Kind[str] | Kind[int] | Kind[float]] = {
    "study": path("NAME", "the name of a folder"),
    "model": choice(MODELS),
    "inputs": choice(("orthonormal", "isotropic")),
    "query": choice(("last", "uniform")),
    "rotation": _NUMBER,
    "copies": _COUNT,
    "embedding_dim": dataclasses.replace(_COUNT, allowed="a whole number, 2N+2 or 4N"),
    "measure": choice(MEASURES, "a coordinate such as alpha_3, or loss"),
    "threshold": _NUMBER,
    "seed": _COUNT,
    "batch_size": _COUNT,
    "step": _NUMBER,
    "samples": _COUNT,
    "horizon": _NUMBER,
    "accuracy": _NUMBER,
    "optimizer": OPTIMIZER,
    "learning_rate": _NUMBER,
    "steps": _COUNT,
    "sequences": _COUNT,
    "start": path("WORDS", "words such as scale=0.1 or gamma_3=0.5"),
    "hold": HELD,
    "training": path("WORDS", "words such as momentum=0.5"),
}
_WITH = ("study", "model", "inputs", "query", "rotation", "copies", "embedding_dim", "measure", "threshold")
_WITHOUT = tuple(column for column in _KINDS if column not in _WITH)

COLUMNS = tuple(_KINDS)
"""What can tell curves apart, as `scaling.curves.LABELS` has it."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """One value that a column may have.

    Args:
        column: one of `COLUMNS`, or `context_length`.
        value: None for rows on which the column has no effect.
        typed: as typed.
    """

    column: str
    value: Value
    typed: str


def _known(columns: Sequence[str]) -> Callable[[str], str]:
    def read(word: str) -> str:
        name = word.replace("-", "_")
        if name in columns:
            return name
        meant = nearest(name, columns)
        hint = f" (did you mean {meant}?)" if meant else ""
        raise ValueError(f"one of {listed(tuple(columns))}{hint}")

    return read


def _condition(word: str) -> Condition:
    name, equals, typed = word.partition("=")
    if not equals:
        raise ValueError(CONDITION.allowed)
    try:
        column = _known((*COLUMNS, "context_length"))(name)
    except ValueError as error:
        raise ValueError(f"COLUMN=VALUE, with COLUMN {error}") from None
    if column in _WITHOUT and typed == "none":
        return Condition(column, None, word)
    if column == "embedding_dim" and (width := _WIDTHS.get(typed.replace(" ", ""))):
        return Condition(column, width, word)
    kind = _KINDS.get(column, _COUNT)
    try:
        value = kind.read(typed)
        return Condition(column, visible(value) if isinstance(value, str) else value, word)
    except ValueError:
        none = ", or none where there is none" if column in _WITHOUT else ""
        raise ValueError(f"COLUMN=VALUE, with {column} {kind.allowed}{none}") from None


COLUMN = Kind("COLUMN", _known(COLUMNS), f"one of {listed(COLUMNS)}")
CONDITION = Kind("COLUMN=VALUE", _condition, "COLUMN=VALUE, such as model=full")
