"""`python -m fnmap` is `fnmap`."""

import sys

from fnmap.cli import main

sys.exit(main())
