"""`python -m fnmap`: the command `fnmap`."""

import sys

from fnmap.cli import main

if __name__ == "__main__":
    sys.exit(main())
