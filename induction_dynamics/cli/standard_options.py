"""The options of `standard`: names, types, defaults and the words of the help. Imports nothing that computes."""

import dataclasses
from typing import Annotated

import tyro

from induction_dynamics.cli.options import (
    FOLDER,
    LEVEL,
    SEED,
    AnswerOptions,
    CheckpointOptions,
    OptimizerOptions,
    default,
)
from induction_dynamics.cli.training_kinds import AT_LEAST_ZERO, DTYPE, LEARNING_RATE, MOST_STEPS, STEPS
from induction_dynamics.cli.values import Kind, choice, one, path, several, whole

# Those of `TokenTask`, `Architecture` and `StandardSettings`, which take jax to import.
_PAIRS = whole("N", "a whole number", 1, 2**12)
_VOCABULARY = whole("V", "a whole number of tokens", 2, 2**16)
_DIM = whole("D", "a whole number", 1, 2**12)
_LAYERS = whole("S", "a whole number of layers", 1, 64)
_HEADS = whole("H", "a whole number of heads", 1, 256)
_HEAD_DIM = whole("K", "a whole number", 1, 2**12)
_COUNT = whole("COUNT", "a whole number of sequences", 1, 2**20)
_EVERY = whole("K", "a whole number of steps", 1, MOST_STEPS)
_EMBEDDINGS = choice(("fixed", "learned"))
_OPTIMIZER = choice(("sgd", "adam", "adamw"))
_NEW_FILE = path("FILE", "the path of a new .npz file")


def _new_npz(word: str) -> str:
    if not word.endswith(".npz"):
        raise ValueError(_NEW_FILE.allowed)
    return _NEW_FILE.read(word)


_NEW_NPZ = Kind("FILE", _new_npz, _NEW_FILE.allowed)


@dataclasses.dataclass(frozen=True)
class TokenTaskOptions:
    """What is learned, in tokens 0 .. V - 1.

    Args:
        task: N item-label pairs and a query, whose label is the answer (pairs); or a segment of at most N distinct
            tokens over and over, 2N tokens, of which every one from the second time on is an answer (repeated).
        context_length: N.
        vocabulary: V, at least N.
        query: the queried item is uniform on all N, or the last one, to which attention by position leads (pairs).
        period: length of the segment: uniform on N/2 .. N, or N, so that attention by position suffices (repeated).
    """

    task: Annotated[str, one(choice(("pairs", "repeated")))] = "pairs"
    context_length: Annotated[int, one(_PAIRS)] = 8
    vocabulary: Annotated[int, one(_VOCABULARY)] = 32
    query: Annotated[str, one(choice(("uniform", "last")))] = "uniform"
    period: Annotated[str, one(choice(("varied", "fixed")))] = "varied"


@dataclasses.dataclass(frozen=True)
class ArchitectureOptions:
    """Of the transformer: attention only, additive residual stream, separate query, key, value and output matrices.

    Args:
        embedding_dim: D, width of the residual stream.
        layers: how many.
        heads: H, of each layer.
        head_dim: width of a head.
        scaled: divide scores by the root of a head's width.
        tokens: whether token embeddings are learned.
        positions: the same of position vectors.
        tied: the unembedding is the token embeddings themselves.
    """

    embedding_dim: Annotated[int, one(_DIM)] = 128
    layers: Annotated[int, one(_LAYERS)] = 2
    heads: Annotated[int, one(_HEADS)] = 1
    head_dim: Annotated[int | None, one(_HEAD_DIM), default("D/H")] = None
    scaled: bool = False
    tokens: Annotated[str, one(_EMBEDDINGS)] = "fixed"
    positions: Annotated[str, one(_EMBEDDINGS)] = "fixed"
    tied: bool = False


@dataclasses.dataclass(frozen=True)
class StandardOptimizerOptions(OptimizerOptions):
    """How gradients become updates.

    Args:
        optimizer: as optax has it.
        learning_rate: the largest of the run.
        steps: after which the run ends.
    """

    optimizer: Annotated[str, one(_OPTIMIZER)] = "adam"
    learning_rate: Annotated[float, one(LEARNING_RATE)] = 1e-3
    steps: Annotated[int, one(STEPS)] = 1000


@dataclasses.dataclass(frozen=True)
class StandardRunOptions:
    """How it is trained and looked at.

    Args:
        batch_size: fresh sequences per training step.
        start_scale: of the matrices at the start, whose entries have the standard deviation SCALE / sqrt(D).
        seeds: one or more, trained side by side; repeated values count once.
        record_every: steps between two records; emergence is found by straight lines between them.
        evaluation: sequences on which loss, accuracy and head scores are recorded, the same at every record.
        deviations: standard deviations of chance above which a structure has emerged.
        dtype: of weights and data.
    """

    batch_size: Annotated[int, one(_COUNT)] = 128
    start_scale: Annotated[float, one(AT_LEAST_ZERO), tyro.conf.arg(metavar="SCALE")] = 0.5
    seeds: Annotated[tuple[int, ...], several(SEED)] = (0,)
    record_every: Annotated[int, one(_EVERY)] = 10
    evaluation: Annotated[int, one(_COUNT)] = 256
    deviations: Annotated[float, one(LEVEL)] = 5.0
    dtype: Annotated[str, one(DTYPE)] = "float32"


@dataclasses.dataclass(frozen=True)
class StandardFolderOptions(CheckpointOptions):
    """What is kept of the run, and going on after an interruption.

    Args:
        output: folder for standard.json, rows.csv, records.npz, weights.npz, config.json and a figure for each seed.
    """

    output: Annotated[str | None, one(FOLDER), default("none")] = None


@dataclasses.dataclass(frozen=True)
class StandardOptions:
    """Options of `standard`.

    Args:
        save_weights: new .npz file for the weights of the last step, of all seeds.
    """

    save_weights: Annotated[str | None, one(_NEW_NPZ), default("none")] = None
    task: TokenTaskOptions = TokenTaskOptions()
    architecture: ArchitectureOptions = ArchitectureOptions()
    run: StandardRunOptions = StandardRunOptions()
    optimizer: StandardOptimizerOptions = StandardOptimizerOptions()
    checkpoints: StandardFolderOptions = StandardFolderOptions()
    answer: AnswerOptions = AnswerOptions()
