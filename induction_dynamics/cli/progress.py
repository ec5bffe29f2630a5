"""How far a long computation has come: a bar where somebody can see it, lines or nothing elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

Tell = Callable[[int, int, str], None]


@contextlib.contextmanager
def progress(quiet: bool = False, lines: bool = False) -> Iterator[Tell | None]:
    """Show progress on standard error for as long as the block lasts.

    Args:
        quiet: show nothing.
        lines: where standard error is no terminal, say there once what each batch is.

    Yields:
        What to call with points done, points in all and words; None where nothing is shown.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not (console.is_terminal or lines):
        yield None
    elif console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("starting", total=None)
            yield lambda done, total, words: bar.update(task, completed=done, total=total, description=words)
    else:
        said: set[str] = set()

        def tell(done: int, total: int, words: str) -> None:
            batch = words.split(":")[0]
            if batch not in said:
                said.add(batch)
                console.print(f"[{done} of {total} done] {batch} ...", markup=False, highlight=False)

        yield tell
