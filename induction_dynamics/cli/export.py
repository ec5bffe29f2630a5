"""`induction-dynamics export`: the results of a sweep folder as one file for others, netCDF or CSV."""

import sys

from induction_dynamics.cli.computing import enough_memory
from induction_dynamics.cli.document import SCHEMA_VERSION, as_json
from induction_dynamics.cli.folder_options import ExportOptions
from induction_dynamics.cli.parsing import Command
from induction_dynamics.cli.refusal import folder_named
from induction_dynamics.cli.values import visible


def run(options: ExportOptions) -> None:
    """Write the file, and say what is in it.

    Raises:
        Refusal: the folder is refused, and nothing was written; with status 1, when memory runs out.
        ArgumentError: the file is.
    """
    from induction_dynamics.scaling.labelled import write_sweep

    with folder_named(options.folder), enough_memory():
        written = write_sweep(options.folder, options.to, trajectories=options.trajectories)
    counts = {"points": written.points, "rows": written.rows, "failed": written.failed}
    if options.json:
        document = {"schema_version": SCHEMA_VERSION, "command": "export"} | counts
        sys.stdout.write(as_json(document | {"written": visible(options.to)}))
    elif not options.quiet:
        failed = f" ({written.failed} failed)" if written.failed else ""
        print(f"Written to {visible(options.to)}: points: {written.points}{failed}, rows: {written.rows}")


COMMAND = Command(
    name="export",
    summary="the results of a sweep folder as one file, netCDF or CSV",
    description="""\
Writes the results in the folder of a sweep to one file, by its ending netCDF 4
(.nc) or CSV (.csv). A sweep may be at work there: the file then holds what has
been finished so far. Nothing in it depends on when or in which order the points
were run. A file that is there is replaced, by a whole one or not at all.

A .nc file holds time, outcome and sustained, along model, inputs, query,
context_length, seed, measure, threshold and each option of which several values
occur; the others are its attributes. Where nothing was asked the time is NaN
and the outcome empty. Where nothing is random the seed is -1. With
--trajectories it also holds the records of the runs that 'sweep --records' has
kept: run_time, run_loss, run_off_subspace and run_coordinates. To open it:

  xarray.open_dataset("results.nc", engine="h5netcdf")

A .csv file has a line for each emergence time, empty where there is no value.
N counts item-label pairs: the sequence has 2N + 1 tokens. Times are flow time:
for gradient descent, learning rate x steps / D; for other optimizers, steps.

Example:

  induction-dynamics export out/sweep --to results.nc
  induction-dynamics export out/sweep --to results.csv""",
    options=ExportOptions,
    run=run,
)
