"""Make every picture of figures/ and its numbers anew: `python -m experiments.figures` (`make figures`)."""

import dataclasses
from pathlib import Path

import tyro

from experiments import demo


@dataclasses.dataclass(frozen=True)
class FiguresConfig:
    """Where the pictures go.

    Args:
        output: folder; `figures` replaces those that are committed.
    """

    output: Path = Path("build/figures")


def main(config: FiguresConfig) -> None:
    """Run every experiment with the configuration whose numbers are committed."""
    demo.main(demo.DemoConfig(output=config.output / "emergence_times"))


if __name__ == "__main__":
    main(tyro.cli(FiguresConfig, description=__doc__))
