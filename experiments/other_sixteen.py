"""Which of the sixteen coordinates beside the circuit's three change the times of emergence, and which do not.

`python -m experiments.other_sixteen --output DIR` writes one_by_one.csv, search.csv, greedy.csv, lengths.csv,
plateau.csv and the figures. Ratios are to the flow in which all sixteen are held at zero, on the same loss.
"""

import dataclasses
import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.other_sixteen import plot_one_by_one, plot_other_sixteen
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.scaling.sweep import run_points
from induction_dynamics.task import Task

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss")

CLOCKS = MEASURES[1:]
"""What a set of held coordinates must restore: gamma_3 tells of the plateau and is only reported."""

GROUPS = (
    "alpha_1",
    "beta_1",
    "beta_3+beta_9",
    "beta_4+beta_11",
    "beta_10",
    "beta_12",
    "gamma_1",
    "gamma_2",
    "gamma_4",
)
"""Those of the sixteen that orthonormal inputs at 90 degrees can tell apart: the other five have no effect there."""

SIXTEEN = tuple(name for name in COORDINATES if name not in CIRCUIT)
"""All of the sixteen, each on its own, on isotropic inputs."""

_NONE = frozenset[str]()


@dataclasses.dataclass(frozen=True)
class SixteenConfig:
    """What is run.

    Args:
        output: folder for the tables and the figures.
        ledger: folder of the runs done so far, from which a run that was interrupted goes on.
        queries: which of them.
        lengths: N at which each group is held alone, and freed alone.
        shown: the N of these that is drawn.
        search_lengths: N at which the smallest set is looked for.
        largest_set: number of groups up to which all sets are tried.
        curve_lengths: N over which the ratios of some sets are drawn.
        plateau_length: N at which the plateau before emergence is looked at, at flow time 40 N: long enough to get
            there, and early enough to be there still.
        tolerance: relative difference from the circuit's times that counts as restored.
        isotropic_length: N with isotropic inputs, D = 4 N; None for none.
        samples: Gram matrices there, the same for all sets of held coordinates.
        seeds: of the Gram matrices; the sets are looked for with the first.
        relevant: number of coordinates, those with the largest effects, of which all sets are tried there.
    """

    output: Path = Path("build/figures/other_sixteen")
    ledger: Path = Path("build/ledgers/other_sixteen")
    queries: tuple[str, ...] = ("last", "uniform")
    lengths: tuple[int, ...] = (16, 64, 1024, 10**6)
    shown: int = 64
    search_lengths: tuple[int, ...] = (16, 64, 1024)
    largest_set: int = len(GROUPS)
    curve_lengths: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256, 1024, 4096, *(10**k for k in range(4, 10)))
    plateau_length: int = 10**6
    tolerance: float = 0.01
    isotropic_length: int | None = 4
    samples: int = 256
    seeds: tuple[int, ...] = (0, 1)
    relevant: int = 7

    def __post_init__(self):
        if self.shown not in self.lengths:
            raise ArgumentError("shown", self.shown, f"one of the lengths, {', '.join(map(str, self.lengths))}")
        if not self.queries:
            raise ArgumentError("queries", self.queries, "at least one")
        if not 0 < self.tolerance < 1:
            raise ArgumentError("tolerance", self.tolerance, "between 0 and 1")
        if not self.seeds:
            raise ArgumentError("seeds", self.seeds, "at least one")


SETS_OVER_LENGTHS = ((), ("gamma_4",), ("gamma_2",), ("gamma_2", "gamma_4"))
"""What is held at zero in the runs that are drawn over N."""


class Case(NamedTuple):
    """One loss, on which sets of held coordinates are compared.

    Args:
        query: `last` or `uniform`.
        context_length: N.
        seed: of the Gram matrices; None for orthonormal inputs.
        samples: their number.
    """

    query: str
    context_length: int
    seed: int | None = None
    samples: int | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """What can be held: each alone, or two together where only their sum has an effect."""
        return GROUPS if self.seed is None else SIXTEEN

    def point(self, held: Collection[str]) -> Point:
        """The run with groups held at zero.

        Args:
            held: which of `groups`.
        """
        names = [name for group in held for name in group.split("+")]
        task = Task(self.context_length, query=self.query)
        if self.seed is not None:
            task = Task(self.context_length, 4 * self.context_length, inputs="isotropic", query=self.query)
        return Point(task, "subspace", seed=self.seed, samples=self.samples, hold=tuple(Hold(x, 0.0) for x in names))

    def columns(self) -> dict[str, Any]:
        """What all rows of the case begin with."""
        inputs = "orthonormal" if self.seed is None else "isotropic"
        return {"inputs": inputs, **self._asdict()}


Times = dict[str, float | None]
Sets = Iterable[frozenset[str]]


class Runs:
    """The times of emergence of every set of held groups that was asked for, each computed once."""

    def __init__(self, ledger: Path):
        self._ledger = ledger
        self._known: dict[Point, Times] = {}

    def times(self, cases: Sequence[Case], sets: Sets) -> dict[tuple[Case, frozenset[str]], Times]:
        """Times by measure for each case with each set held, and with all held.

        Args:
            cases: which losses, alike in their groups.
            sets: what is held.
        """
        wanted = {(case, held): case.point(held) for held in sets for case in cases}
        wanted |= {(case, frozenset(case.groups)): case.point(case.groups) for case in cases}
        missing = [point for point in wanted.values() if point not in self._known]
        if missing:
            with progress(lines=True) as tell:
                found = run_sweep(missing, self._ledger, measures=MEASURES, on_progress=tell)
            for entry in found.entries:
                rows = entry.rows({(measure, 0.5) for measure in MEASURES})
                self._known[entry.point] = {row["measure"]: row["time"] for row in rows}
        return {key: self._known[point] for key, point in wanted.items()}

    def ratios(self, case: Case, sets: Sets) -> dict[frozenset[str], Times]:
        """The times over those with all held.

        Args:
            case: which loss.
            sets: what is held.
        """
        found = self.times([case], sets)
        whole = found[case, frozenset(case.groups)]
        return {held: _over(times, whole) for (_, held), times in found.items()}


def _over(times: Times, others: Times) -> Times:
    pairs = {measure: (times[measure], others[measure]) for measure in MEASURES}
    return {measure: a / b if a is not None and b is not None else None for measure, (a, b) in pairs.items()}


def off(ratios: Times) -> float:
    """How far the times of beta_2, alpha_3 and the loss are from the circuit's, the furthest of the three.

    Args:
        ratios: times over the circuit's.
    """
    found = [ratios[measure] for measure in CLOCKS]
    return max(math.inf if ratio is None else abs(ratio - 1) for ratio in found)


def early_push(query: str, context_length: int, coordinates: Sequence[float] | np.ndarray) -> float:
    r"""-d loss/d alpha_3 before layer 2 attends to anything: what pushes alpha_3 without beta_2.

    Where alpha_1 and all betas are 0, layer 2 averages over all tokens, and token j gets the coefficient

        c_j = (gamma_2 + gamma_3)/2N + gamma_4 s_j/2N + [j is the queried item] gamma_1,

    s_j being the attention that all tokens give to j in layer 1. The rows of that sum to one, so that the sum of all
    s_j is the same whatever alpha_3 is, and gamma_2 and gamma_3 drop out. With g_m = e^{alpha_3}/(e^{alpha_3} + 2m - 2)
    the attention of label m to its item, and

        -1/2 d/d alpha_3 sum_j s_j^2 = Lambda = sum_{m=2}^{N} (2m - 1)/(2m - 2) g_m (1 - g_m)^2,

    which is e^{alpha_3} ln N/2 at leading order, the push is exactly

        (gamma_4/2N)^2 Lambda - gamma_1 gamma_4 g_N (1 - g_N)/2N                                (query last)
        (gamma_4/2N)^2 Lambda - gamma_4 (1 + gamma_1)/(2N)^2 sum_{m=2}^{N} g_m (1 - g_m)        (query uniform).

    The last sum is of what gamma_4 takes from the right answer: a label that attends to its item attends less to the
    labels before it. The last label, which the query last asks for, has none of that attention to lose. Orthonormal
    inputs, a right angle. Costs O(N).

    Args:
        query: `last` or `uniform`.
        context_length: N.
        coordinates: theta, of which alpha_3, gamma_1 and gamma_4 are read.
    """
    n, theta = float(context_length), np.asarray(coordinates, float)
    alpha, gamma_1, gamma_4 = (theta[COORDINATES.index(name)] for name in ("alpha_3", "gamma_1", "gamma_4"))
    earlier = 2 * np.arange(2, context_length + 1, dtype=float) - 2
    g = 1 / (1 + earlier * np.exp(-alpha))
    evened = np.sum((earlier + 1) / earlier * g * (1 - g) ** 2)
    lost = gamma_1 * g[-1] * (1 - g[-1]) if query == "last" else (1 + gamma_1) * np.sum(g * (1 - g)) / (2 * n)
    return float((gamma_4 / (2 * n)) ** 2 * evened - gamma_4 / (2 * n) * lost)


def main(config: SixteenConfig, command: str = "make figures ONLY=other_sixteen") -> None:
    """Hold and free each of the sixteen, look for the smallest sets, and record what that does to the times.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    runs = Runs(config.ledger)
    exact = [Case(query, length) for query in config.queries for length in config.lengths]
    one_by_one = [row for case in exact for row in _one_by_one(runs, case)]
    lengths = [row for query in config.queries for row in _over_lengths(runs, config, query)]
    search, greedy = [], []
    for case in (Case(query, length) for query in config.queries for length in config.search_lengths):
        search += _search(runs, config, case, case.groups)
        greedy += _greedy(runs, config, case, case.groups)
    shown = [row for row in one_by_one if row["context_length"] == config.shown]
    figures = {"other_sixteen": plot_other_sixteen(shown, lengths)}
    if config.isotropic_length is not None:
        sampled = []
        for query in config.queries:
            cases = [Case(query, config.isotropic_length, seed, config.samples) for seed in config.seeds]
            sampled += [row for case in cases for row in _one_by_one(runs, case)]
            relevant = _most_relevant([row for row in sampled if row["query"] == query], config.relevant)
            search += _search(runs, config, cases[0], relevant, others=cases[1:])
            greedy += _greedy(runs, config, cases[0], relevant)
        figures["isotropic"] = plot_one_by_one([row for row in sampled if row["seed"] == config.seeds[0]])
        one_by_one += sampled
    tables = {"one_by_one": one_by_one, "lengths": lengths, "search": search, "greedy": greedy}
    tables["plateau"] = [row for query in config.queries for row in _plateau(config, query)]
    record(config.output, config=config, command=command, figures=figures, tables=tables)


def _one_by_one(runs: Runs, case: Case) -> list[dict[str, Any]]:
    """None held, all held, all but one held (`freed`), and one held alone."""
    everything = frozenset(case.groups)
    sets = {("nineteen", None): _NONE, ("circuit", None): everything}
    sets |= {("held", group): frozenset({group}) for group in case.groups}
    sets |= {("freed", group): everything - {group} for group in case.groups}
    found = runs.times([case], sets.values())
    circuit, nineteen = found[case, everything], found[case, _NONE]
    rows = []
    for (kind, group), held in sets.items():
        times = found[case, held]
        per_circuit, per_nineteen = _over(times, circuit), _over(times, nineteen)
        rows += [
            {
                **case.columns(),
                "kind": kind,
                "group": group,
                "measure": measure,
                "time": times[measure],
                "per_circuit": per_circuit[measure],
                "per_nineteen": per_nineteen[measure],
            }
            for measure in MEASURES
        ]
    return rows


def _over_lengths(runs: Runs, config: SixteenConfig, query: str) -> list[dict[str, Any]]:
    cases = [Case(query, length) for length in config.curve_lengths]
    found = runs.times(cases, map(frozenset, SETS_OVER_LENGTHS))
    return [
        {
            **case.columns(),
            "held": _words(held),
            **_over(found[case, frozenset(held)], found[case, frozenset(case.groups)]),
        }
        for held in SETS_OVER_LENGTHS
        for case in cases
    ]


def _plateau(config: SixteenConfig, query: str) -> list[dict[str, Any]]:
    """Where the gammas stand before emergence, and what pushes alpha_3 there, in units of ln N / (8 N^2)."""
    case = Case(query, config.plateau_length)
    points = [dataclasses.replace(case.point(held), horizon=40 / case.context_length) for held in SETS_OVER_LENGTHS]
    slope = jax.jit(jax.grad(reduced_loss(points[0].task, "subspace")))
    units = 8 * float(case.context_length) ** 2 / math.log(case.context_length)
    rows: list[dict[str, Any]] = [{} for _ in points]
    for place, run in run_points(points):
        theta = run.coordinates[-1]
        rows[place] = {
            **case.columns(),
            "held": _words(SETS_OVER_LENGTHS[place]),
            "time": float(run.time[-1]),
            **{name: float(theta[COORDINATES.index(name)]) for name in (*COORDINATES[-4:], "beta_2", "alpha_3")},
            "push": -float(slope(jnp.asarray(theta))[COORDINATES.index("alpha_3")]) * units,
            "early_push": early_push(query, case.context_length, theta) * units,
        }
    return rows


def _search(
    runs: Runs, config: SixteenConfig, case: Case, among: Sequence[str], others: Sequence[Case] = ()
) -> list[dict[str, Any]]:
    """The set of each size that comes nearest to the circuit's times, up to the first size that is near enough.

    All other groups are free. Of `others`, cases of other samples, the ratios of the last set are told too.
    """
    rows = []
    for size in range(min(config.largest_set, len(among)) + 1):
        sets = [frozenset(held) for held in itertools.combinations(among, size)]
        ratios = runs.ratios(case, sets)
        best = min(sets, key=lambda held: off(ratios[held]))
        enough = sum(off(ratios[held]) < config.tolerance for held in sets)
        rows.append(_set_row(case, best, ratios[best], size, tried=len(sets), enough=enough))
        if enough:
            rows += [_set_row(other, best, runs.ratios(other, [best])[best], size, 1, None) for other in others]
            break
    return rows


def _set_row(
    case: Case, held: frozenset[str], ratios: Times, size: int, tried: int, enough: int | None
) -> dict[str, Any]:
    ordered = [group for group in case.groups if group in held]
    return {
        **case.columns(),
        "groups": size,
        "coordinates": sum(len(group.split("+")) for group in ordered),
        "tried": tried,
        "enough": enough,
        "held": _words(ordered),
        "off": off(ratios),
        **ratios,
    }


def _greedy(runs: Runs, config: SixteenConfig, case: Case, among: Sequence[str]) -> list[dict[str, Any]]:
    """One group held after the other, each time the one that leaves the times nearest to the circuit's."""
    held: list[str] = []
    ratios = runs.ratios(case, [_NONE])[_NONE]
    rows = [{**case.columns(), "step": 0, "group": None, "off": off(ratios), **ratios}]
    while off(ratios) >= config.tolerance and len(held) < len(among):
        sets = {group: frozenset([*held, group]) for group in among if group not in held}
        found = runs.ratios(case, sets.values())
        best = min(sets, key=lambda group: off(found[sets[group]]))
        held.append(best)
        ratios = found[sets[best]]
        rows.append({**case.columns(), "step": len(held), "group": best, "off": off(ratios), **ratios})
    return rows


def _most_relevant(rows: Sequence[dict[str, Any]], count: int) -> list[str]:
    """The groups that move the times most, whether held alone or freed alone."""
    moved = {group: 0.0 for group in SIXTEEN}
    for row in rows:
        if row["group"] is not None and row["measure"] in CLOCKS:
            ratio = row["per_nineteen"] if row["kind"] == "held" else row["per_circuit"]
            size = math.inf if ratio is None else abs(math.log(ratio))
            moved[row["group"]] = max(moved[row["group"]], size)
    chosen = sorted(moved, key=lambda group: -moved[group])[:count]
    return [group for group in SIXTEEN if group in chosen]


def _words(held: Sequence[str]) -> str:
    return " ".join(held) or "none"


if __name__ == "__main__":
    run_script(main, SixteenConfig, __doc__)
