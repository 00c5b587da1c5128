"""Starts the web page; `inpainterz serve --help` lists the options."""

import sys

if __name__ == "__main__":
    from inpainterz.cli import main

    sys.argv.insert(1, "serve")
    main()
