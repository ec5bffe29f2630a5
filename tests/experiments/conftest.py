"""The committed numbers of every experiment."""

from pathlib import Path

import pytest

from experiments.recorder import read_table

FIGURES = Path(__file__).parents[2] / "figures"


@pytest.fixture(scope="session")
def table():
    """Rows of a committed table, by the folder and the name of the table."""
    return lambda experiment, name: read_table(FIGURES / experiment / f"{name}.csv")
