"""`induction-dynamics heads`: which heads of any model look back, and which match prefixes, from their attention."""

import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from induction_dynamics.cli.computing import enough_memory
from induction_dynamics.cli.document import as_json, build
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.refusal import Refusal
from induction_dynamics.cli.tables import new_console, new_table, show_table
from induction_dynamics.cli.values import one, path, quoted, visible, whole
from induction_dynamics.errors import ArgumentError
from induction_dynamics.provenance import versions

if TYPE_CHECKING:
    import numpy as np

    from induction_dynamics.heads import HeadScores

_ARRAYS = ("attention", "tokens")
_ATTENTION = path("FILE", "the path of an .npz file with the arrays attention and tokens")
_TOP = whole("K", "a whole number of heads", 1, 10**9)


@dataclasses.dataclass(frozen=True)
class HeadsOptions:
    """Options of `heads`.

    Args:
        file: .npz file with arrays attention and tokens.
        strict: the mask hides a query's own position too; the first row of attention is 0 then.
        top: the first heads only, by their induction score above chance.
        json: print one JSON document to standard output, and nothing else there.
        quiet: no remarks, only the table.
    """

    file: Annotated[str, one(_ATTENTION), tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    strict: bool = False
    top: Annotated[int | None, one(_TOP), tyro.conf.arg(help_behavior_hint="(default: all heads)")] = None
    json: bool = False
    quiet: bool = False


def run(options: HeadsOptions) -> None:
    """Print the scores of every head, the best induction head first.

    Raises:
        Refusal: the file is refused; with status 1, when memory runs out.
    """
    from induction_dynamics.heads import head_scores

    with enough_memory():
        attention, tokens = read_attention(options.file)
        try:
            scores = head_scores(attention, tokens, strict=options.strict)
        except ArgumentError as error:
            raise Refusal(f"In {quoted(options.file)}, {error}") from None
    document = _document(options, scores, attention.shape)
    if options.json:
        sys.stdout.write(as_json(document))
    else:
        _show(document, options.quiet)


def read_attention(file: str) -> "tuple[np.ndarray, np.ndarray]":
    """The arrays attention and tokens of a file, as they are in it; nothing is unpickled.

    Args:
        file: its path.

    Raises:
        Refusal: there is no such file, it is of another kind or damaged, or it lacks one of them.
    """
    import numpy as np

    with _refusing(file):
        if Path(file).exists() and not Path(file).is_file():
            raise IsADirectoryError if Path(file).is_dir() else ValueError("a device or a pipe may never end")
        # numpy itself leaves a file open that it cannot read
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [name for name in _ARRAYS if name not in archive.files]
            if missing:
                raise _refusal(file, f"{missing[0]} is missing")
            attention, tokens = (archive[name] for name in _ARRAYS)
    return attention, tokens


@contextlib.contextmanager
def _refusing(file: str) -> Iterator[None]:
    # Whatever numpy raises or warns of on a file of unknown origin, it says that this file is not one of attention.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Refusal:
        raise
    except FileNotFoundError:
        raise _refusal(file, "there is no such file") from None
    except IsADirectoryError:
        raise _refusal(file, "it is a folder") from None
    except PermissionError:
        raise _refusal(file, "it may not be read") from None
    except MemoryError:
        raise _refusal(file, "it does not fit into memory") from None
    except Exception:
        raise _refusal(file, "it is damaged or of another kind") from None


def _refusal(file: str, reason: str) -> Refusal:
    return Refusal(
        f"FILE must be an .npz file with the arrays attention and tokens (here {reason}); got {quoted(file)}."
    )


def _document(options: HeadsOptions, scores: "dict[str, HeadScores]", shape: tuple[int, ...]) -> dict[str, Any]:
    import numpy as np

    order = np.argsort(-scores["induction"].score, axis=None, kind="stable")[: options.top]
    rows = []
    for layer, head in zip(*(index.tolist() for index in np.unravel_index(order, shape[-4:-2])), strict=True):
        row: dict[str, Any] = {"layer": layer, "head": head}
        for kind, found in scores.items():
            row[kind] = float(found.score[layer, head])
            row[f"{kind}_above_chance"] = float(found.above_chance[layer, head])
        rows.append(row)
    config = {"file": visible(options.file), "strict": options.strict, "top": options.top, "versions": versions()}
    sizes = {"layers": shape[-4], "heads": shape[-3], "length": shape[-1]}
    more = sizes | {
        "sequences": shape[0] if len(shape) == 5 else 1,
        "chance": {kind: found.chance for kind, found in scores.items()},
    }
    return build("heads", config, rows, more=more)


def _show(document: dict[str, Any], quiet: bool) -> None:
    # what the command is about stands first
    kinds = dict(reversed(document["chance"].items()))
    columns = ["layer", "head"]
    for kind in kinds:
        columns += [kind.removesuffix("_token"), "above"]
    table = new_table(columns, right=columns)
    for row in document["rows"]:
        cells = [f"{row[name]:z.4f}" for kind in kinds for name in (kind, f"{kind}_above_chance")]
        table.add_row(str(row["layer"]), str(row["head"]), *cells)
    if not quiet:
        sizes = (f"{document[name]} {name}" for name in ("layers", "heads"))
        print(f"{document['config']['file']}\n{', '.join(sizes)} in each, length {document['length']}, ", end="")
        print(f"sequences: {document['sequences']}\n")
    show_table(table, new_console())
    if not quiet:
        chance = ", ".join(f"{kind.replace('_', ' ')} {value:.4g}" for kind, value in kinds.items())
        print(f"\nAbove: above chance, which uniform attention scores.\nChance: {chance}")


COMMAND = Command(
    name="heads",
    summary="which heads of any model look back or match prefixes",
    description="""\
Scores the attention heads of any causal model: how much they attend to the
position before (previous), to earlier copies of the own token (duplicate), and
to what followed these (induction: prefix matching). Each is a mean over the
positions where there is such a key. Layers and heads are counted from 0, and
those that match prefixes best come first. Above is the score less its chance
level, which is what a head scores that attends to all keys alike.

FILE holds the arrays attention, [layers, heads, length, length] with a row for
each query or with a leading axis for several sequences, and tokens, [length] or
[sequences, length] of whole numbers without padding. In Python, for a causal
language model of Hugging Face with attn_implementation="eager":

  out = model(tokens, output_attentions=True)
  attention = np.stack([a[0].detach().float().numpy() for a in out.attentions])
  np.savez("attention.npz", attention=attention, tokens=tokens[0])

Example:

  induction-dynamics heads attention.npz
  induction-dynamics heads attention.npz --top 5 --json""",
    options=HeadsOptions,
    run=run,
)
