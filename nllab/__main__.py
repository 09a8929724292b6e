"""`python -m nllab` is the command `nllab`."""

from nllab.cli import main

main()
