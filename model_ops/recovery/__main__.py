"""`python -m model_ops.recovery`: see `cli`."""

import sys

from model_ops.recovery.cli import main

if __name__ == "__main__":
    sys.exit(main())
