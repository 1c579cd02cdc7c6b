"""`python -m noref.cli`, for `torchrun -m`."""

from noref.cli import main

main()
