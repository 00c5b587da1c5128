"""`python -m inpainterz` is the command line."""

from inpainterz.cli import main

main()
