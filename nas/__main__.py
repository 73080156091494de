"""Run the command line where its script is not on the path: `python -m nas ...` is `nas ...`."""

from __future__ import annotations

from nas.cli import main

if __name__ == "__main__":
    main()
