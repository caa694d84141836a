"""`python -m sweep` is `sweep`."""

import sys
from pathlib import Path

if not sys.flags.safe_path:
    # Python puts the folder one stands in first, where a model.py may lie that is not ours.
    sys.path[0] = str(Path(__file__).parents[1])

from sweep.cli.main import main

main()
