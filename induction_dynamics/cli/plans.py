"""Plans of a sweep: from options or a TOML file to grids of points, and back to a file."""

import contextlib
import dataclasses
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.options import EmergenceOptions
from induction_dynamics.cli.parsing import Command, flags, nearest, parse
from induction_dynamics.cli.refusal import Refusal, from_argument_error
from induction_dynamics.cli.sweep_options import PlanOptions
from induction_dynamics.cli.values import listed, quoted
from induction_dynamics.errors import ArgumentError

if TYPE_CHECKING:
    from induction_dynamics.scaling.plan import Grid

GRID = "grid"
_LENGTHS = ("context_lengths", "from", "to", "per_decade")
_ASKED = ("measures", "thresholds", "loss_fractions")
_KEYS = tuple(flag.removeprefix("--").replace("-", "_") for flag in flags(PlanOptions))
_LARGEST_FILE = 16 * 1024**2

# A table of a plan is read as the words of a command line, so that one place knows what each option takes.
_TABLE = Command(name="sweep", summary="", description="", options=PlanOptions, run=lambda options: None)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which points, and what is asked of all of them.

    Args:
        grids: the points are those of all grids.
        measures: see `EmergenceOptions`, as for the other two.
        thresholds: of the coordinates.
        loss_fractions: of the loss.
    """

    grids: "tuple[Grid, ...]"
    measures: tuple[str, ...]
    thresholds: tuple[float, ...]
    loss_fractions: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, a list for each option: what a document and a file say."""
        asked = {name: list(getattr(self, name)) for name in _ASKED}
        grids = [{name: list(values) for name, values in vars(grid).items()} for grid in self.grids]
        for grid in grids:
            if grid["embedding_dim"] == [0]:
                del grid["embedding_dim"]
        # what has no value is left to the optimizer
        return asked | {GRID: [{name: values for name, values in grid.items() if values} for grid in grids]}


def plan_of(options: PlanOptions) -> Plan:
    """The plan that the options of a command line say.

    Raises:
        Refusal: neither or both forms of context lengths are given, or the range is incomplete or runs backwards.
    """
    return Plan((_grid(options),), **_asked(options))


def read_plan(typed: str) -> Plan:
    """The plan that a TOML file says: options by their names, with a value or a list of them.

    What stands in front of the first `[[grid]]` holds for all grids that do not say otherwise; without any it is the
    only one.

    Args:
        typed: its path as typed.

    Raises:
        Refusal: it cannot be read, or says what no plan says.
    """
    where = f"The plan {quoted(typed)}"
    try:
        with open(typed, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise Refusal(f"{where} must be a TOML file of at most 16 MB.")
        table = tomllib.loads(content.decode())
    except OSError as error:
        raise Refusal(f"--plan must be a TOML file; got {quoted(typed)} ({error.strerror or error}).") from None
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{where} must be a TOML file: {error}.") from None
    grids = table.pop(GRID, [{}])
    if not isinstance(grids, list) or not grids or not all(isinstance(grid, dict) for grid in grids):
        raise Refusal(f"{where} must have tables [[{GRID}]], or none; got {GRID} = {quoted(_text(grids))}.")
    common = _options(table, where)
    found = []
    for grid in grids:
        beyond = next((name for name in grid if name in _ASKED), None)
        if beyond:
            raise Refusal(f"{where} says {beyond} in a [[{GRID}]]; it holds for all points, and stands before them.")
        inherited = {name: value for name, value in table.items() if name not in _ASKED}
        if any(name in grid for name in _LENGTHS):
            inherited = {name: value for name, value in inherited.items() if name not in _LENGTHS}
        options = _options(inherited | grid, where)
        with plan_named(typed):
            found.append(_grid(options))
    return Plan(tuple(found), **_asked(common))


@contextlib.contextmanager
def plan_named(typed: str | None) -> Iterator[None]:
    """Say of options that are refused within the block that it is a plan that has them.

    Args:
        typed: the plan as typed; None where there is none, and the block is left alone.

    Raises:
        Refusal: what is refused.
    """
    try:
        yield
    except (Refusal, ArgumentError) as error:
        if typed is None:
            raise
        refusal = error if isinstance(error, Refusal) else from_argument_error(error, flags(PlanOptions))
        raise Refusal(f"The plan {quoted(typed)}: {_by_keys(refusal.sentence)}", refusal.status) from None


def _asked(options: PlanOptions) -> dict[str, Any]:
    asked, otherwise = options.emergence, EmergenceOptions()
    return {name: getattr(asked, name) or getattr(otherwise, name) for name in _ASKED}


def _grid(options: PlanOptions) -> "Grid":
    from induction_dynamics.scaling.plan import Grid

    emergence = {"horizon": options.emergence.horizon}
    values = {"model": options.model, **vars(options.task), **vars(options.run), **emergence, **vars(options.training)}
    given = {name: value for name, value in values.items() if value is not None}
    needy = [name for name in given.get("optimizer", ()) if name != "gd"]
    lacking = [name for name in ("learning_rate", "steps") if name not in given]
    if needy and lacking and "full" in given.get("model", ()):
        raise Refusal(f"--{lacking[0].replace('_', '-')} is missing: the optimizer {needy[0]} takes it.")
    return Grid(tuple(_context_lengths(options)), **given)


def _context_lengths(options: PlanOptions) -> Sequence[int]:
    from induction_dynamics.scaling.plan import log_spaced

    span = {"--from": options.first, "--to": options.last, "--per-decade": options.per_decade}
    given = [flag for flag, value in span.items() if value is not None]
    if options.context_lengths and given:
        raise Refusal(f"--context-lengths and {given[0]} exclude each other: give a list, or a range, not both.")
    if options.context_lengths:
        return options.context_lengths
    first, last, per_decade = span.values()
    if not given:
        raise Refusal("--context-lengths is missing: give one or more of them, or --from, --to and --per-decade.")
    if first is None or last is None or per_decade is None:
        missing = next(flag for flag, value in span.items() if value is None)
        raise Refusal(f"{missing} is missing: a range takes all of --from, --to and --per-decade.")
    if last < first:
        raise Refusal(f"--to must be at least --from, which is {first}; got '{last}'.")
    return log_spaced(first, last, per_decade)


def _options(table: Mapping[str, Any], where: str) -> PlanOptions:
    words: list[str] = []
    for name, value in table.items():
        if name not in _KEYS:
            meant = nearest(name, _KEYS)
            hint = f"did you mean {meant}?" if meant else f"it may have {listed((*_KEYS, GRID))}."
            raise Refusal(f"{where} has {quoted(name)}, which is no option of a sweep; {hint}")
        words += [f"--{name.replace('_', '-')}", *(_word(item, name, where) for item in _items(value))]
    try:
        return parse(_TABLE, words)
    except Refusal as error:
        raise Refusal(f"{where}: {_by_keys(error.sentence)}", error.status) from None


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _word(value: Any, name: str, where: str) -> str:
    if isinstance(value, str) and not value.startswith("-"):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _text(value) if isinstance(value, int) or math.isfinite(value) else str(value).lstrip("-")
    kind = "a number or a word" if not isinstance(value, str) else "no word that begins with '-'"
    raise Refusal(f"{where}: {name} must be {kind}; got {quoted(_text(value))}.")


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no number of thousands of digits
        return "..."


def _by_keys(sentence: str) -> str:
    """A sentence about options with their names as in a file."""
    return re.sub(r"--([a-z][a-z-]*[a-z])", lambda found: found[1].replace("-", "_"), sentence)


def as_toml(plan: Plan) -> str:
    """A file that `read_plan` reads to the same plan; it says everything, also what is a default today."""
    import tomli_w

    return tomli_w.dumps(plan.as_dict())


def check_alone(options: PlanOptions, typed: str) -> None:
    """Refuse options that say which points beside a file that does.

    Args:
        options: those of the command line.
        typed: path of the file as typed.

    Raises:
        Refusal: one is given.
    """
    tables = (options, options.task, options.emergence, options.run, options.training)
    values = {name: value for table in tables for name, value in vars(table).items()}
    renamed = {"first": "from", "last": "to"}
    for name, value in values.items():
        if value is not None and not dataclasses.is_dataclass(value):
            flag = "--" + renamed.get(name, name).replace("_", "-")
            raise Refusal(f"--plan and {flag} exclude each other: the plan {quoted(typed)} says which points.")
