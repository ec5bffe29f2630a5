"""The options of the commands that look at the folder of a sweep. Imports nothing that computes."""

import dataclasses
from typing import Annotated

import tyro

from induction_dynamics.cli.values import one, path

FOLDER = path("DIR", "the path of a folder that 'sweep' has written")


@dataclasses.dataclass(frozen=True)
class StatusOptions:
    """Options of `status`.

    Args:
        folder: folder of a sweep, which may be at work there.
        json: print one JSON document to standard output, and nothing else there.
    """

    folder: Annotated[str, one(FOLDER), tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    json: bool = False
