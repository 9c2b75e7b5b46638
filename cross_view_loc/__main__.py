"""`python -m cross_view_loc` is the command `cross_view_loc`."""

import sys

from cross_view_loc.cli import main

if __name__ == "__main__":
    sys.exit(main())
