"""Make everything in figures/ anew: `python -m experiments.figures` (`make figures`)."""

import dataclasses
from pathlib import Path

from experiments import demo

FIGURES = Path(__file__).parents[1] / "figures"


def main() -> None:
    """Run every experiment with the configuration whose numbers are committed."""
    demo.main(dataclasses.replace(demo.DemoConfig(), output=FIGURES / "emergence_times"))


if __name__ == "__main__":
    main()
