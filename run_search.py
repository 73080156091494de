"""Run `nas search` from a checkout: `python run_search.py ...` is `nas search ...`."""

from __future__ import annotations

import sys

from nas.cli import main

if __name__ == "__main__":
    main(["search", *sys.argv[1:]])
