"""What a reader at a terminal sees of the document of `standard`."""

from typing import Any

from induction_dynamics.cli.tables import in_lines, new_console, new_table, show_lines, show_table

_HALF_WAY = ("loss", "accuracy")


def show(document: dict[str, Any], quiet: bool) -> None:
    """Print the table of steps, and unless quiet what was trained, the orders, the best heads and the notes.

    Args:
        document: as `standard` builds it.
        quiet: only the table.
    """
    console = new_console()
    if not quiet:
        for phrases in _settings(document["config"]):
            print(in_lines(phrases, console.width))
        level = f"{document['config']['deviations']:g} standard deviations of chance"
        timed = "of the loss, from half of its start; of the accuracy, from 1/2"
        print(f"Step from which on a measure is above {level}\nto the end; {timed}\n")
    show_table(_table(document["rows"]), console)
    if quiet:
        return
    show_lines("Order of emergence", _orders(document["runs"]), console)
    show_lines("Best heads at the end (score above chance)", _heads(document["runs"]), console)
    show_lines("Notes", document["notes"], console)


def _settings(config: dict[str, Any]) -> list[list[str]]:
    of_task = f"query {config['query']}" if config["task"] == "pairs" else f"period {config['period']}"
    layers, heads = (f"{config[name]} {name[:-1] if config[name] == 1 else name}" for name in ("layers", "heads"))
    model = [
        f"{layers} of {heads}",
        f"D = {config['embedding_dim']}",
        f"tokens {config['tokens']}",
        f"positions {config['positions']}",
        *(["scores scaled"] if config["scaled"] else []),
        *(["unembedding tied"] if config["tied"] else []),
    ]
    training = [
        f"{config['optimizer']} at {config['learning_rate']:g}",
        f"{config['steps']} steps of {config['batch_size']} sequences",
        f"start scale {config['start_scale']:g}",
    ]
    task = [config["task"], f"N = {config['context_length']}", f"V = {config['vocabulary']}", of_task]
    return [task, model, training]


def _table(rows: list[dict[str, Any]]) -> Any:
    columns = ["seed", "measure", "step", "at start", "at end", "deviations"]
    table = new_table(columns, right=[name for name in columns if name != "measure"])
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(
            str(row["seed"]),
            row["measure"],
            "-" if row["step"] is None else f"{row['step']:.5g}",
            *("-" if row[name] is None else f"{row[name]:z.4g}" for name in ("start", "end")),
            "" if row["measure"] in _HALF_WAY else "-" if row["deviations"] is None else f"{row['deviations']:z.1f}",
            end_section=following is not None and following["seed"] != row["seed"],
        )
    return table


def _orders(runs: list[dict[str, Any]]) -> list[str]:
    """One line for each order that was seen."""
    seen: dict[str, list[str]] = {}
    for run in runs:
        seen.setdefault(run["order"], []).append(str(run["seed"]))
    return [f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}: {order}" for order, seeds in seen.items()]


def _heads(runs: list[dict[str, Any]]) -> list[str]:
    lines = []
    for run in runs:
        previous, induction = run["previous_token"], run["induction"]
        if previous is not None and induction is not None:
            one, other = (f"{best['above_chance']:z.3f} by head {best['head']}" for best in (previous, induction))
            lines.append(f"seed {run['seed']}: previous token {one} of the first layer, induction {other} of the last")
    return lines
