"""What a reader at a terminal sees of projected weights."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from induction_dynamics.cli.tables import new_console, new_table, show_lines, show_table

if TYPE_CHECKING:
    from rich.table import Table

_LEGEND = """\
Off-subspace: the fraction of the norm that the 19 coordinates do not explain;
0: none of it, the weights are entirely within."""


def show_projection(document: dict[str, Any], quiet: bool = False) -> None:
    """Print the 19 coordinates of one file.

    Args:
        document: of one file.
        quiet: only the table and the fractions.
    """
    from induction_dynamics.pseudo_parameters import BLOCKS, CIRCUIT, STREAMS

    console = new_console()
    if not quiet:
        print(f"{document['config']['files'][0]}\n{_settings(document, document['embedding_dim'])}\n")
    table = new_table(("coordinate", "block", "value", ""), right=("value",))
    for row in document["rows"]:
        block = BLOCKS[row["coordinate"]]
        streams = STREAMS[block.column] if block.matrix == "W3" else f"{STREAMS[block.row]}, {STREAMS[block.column]}"
        mark = "circuit" if row["coordinate"] in CIRCUIT else ""
        name = f"{block.matrix} ({streams}) {block.structure}"
        table.add_row(row["coordinate"], name, f"{row['value']:.6g}", mark)
    show_table(table, console)
    fractions = ", ".join(f"{name} {value:.4g}" for name, value in document["off_subspace"].items())
    print(f"\nOff-subspace: {fractions}")
    if not quiet:
        print(f"\n{_LEGEND.partition(': ')[0]} is{_LEGEND.partition(':')[2]}")
        show_lines("Notes", document["notes"], console)


def show_series(document: dict[str, Any], quiet: bool = False) -> None:
    """Print the circuit along a series of files, and when its coordinates emerge.

    Args:
        document: of a series.
        quiet: only the tables.
    """
    from induction_dynamics.pseudo_parameters import CIRCUIT

    console = new_console()
    files, flow = document["files"], "time" in document["files"][0]
    folder = os.path.dirname(files[0]["file"])
    together = bool(folder) and all(os.path.dirname(file["file"]) == folder for file in files)
    if not quiet:
        where = f"{len(files)} files in {folder}" if together else f"{len(files)} files"
        print(f"{where}\n{_settings(document, files[0]['embedding_dim'])}\n")
    position = "T" if flow else "checkpoint"
    table = new_table(
        ("file", position, *CIRCUIT, "off-subspace"), right=(position, *CIRCUIT, "off-subspace"), wrapped=("file",)
    )
    values = {(row["file"], row["coordinate"]): row["value"] for row in document["rows"]}
    for place, file in enumerate(files):
        name = os.path.basename(file["file"]) if together else file["file"]
        circuit = (f"{values[file['file'], coordinate]:.5g}" for coordinate in CIRCUIT)
        when = f"{file['time']:.6g}" if flow else str(place)
        table.add_row(name, when, *circuit, f"{file['off_subspace']['total']:.4g}")
    show_table(table, console)
    print()
    show_table(_emergence(document["emergence"], position), console)
    if quiet:
        return
    print("\nOrder of emergence")
    for order in document["order"]:
        print(f"  at {order['threshold']:g}: {order['order']}")
    print(f"\n{_LEGEND}\n")
    print("T: flow time, by straight lines from file to file." if flow else _COUNTED)
    show_lines("Notes", document["notes"], console)


_COUNTED = """\
Files are counted from 0, with fractions by straight lines from file to file:
no flow time, which --times would tell."""


def _emergence(crossings: Sequence[dict[str, Any]], position: str) -> "Table":
    table = new_table(("measure", "level", position, "outcome"), right=("level", position))
    for crossing in crossings:
        time, words = crossing["time"], "emerged"
        if time is None:
            words = "not within these files"
        elif crossing["sustained"] is False:
            words = "emerged, not held"
        when = "-" if time is None else f"{time:.6g}"
        table.add_row(crossing["measure"], f"{crossing['threshold']:g}", when, words)
    return table


def _settings(document: dict[str, Any], dim: int) -> str:
    return f"D = {dim}, rotation {document['config']['rotation']:g} degrees"
