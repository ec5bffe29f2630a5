"""`python -m induction_dynamics`: the same as the console script `induction-dynamics`."""

import sys

from induction_dynamics.cli import main

if __name__ == "__main__":
    sys.exit(main())
