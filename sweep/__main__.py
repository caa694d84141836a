"""`python -m sweep` is `sweep`."""

from sweep.cli.main import main

main()
