"""Writes results to standard output: for people, or as JSON."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console


def _out() -> Console:
    return Console(highlight=False)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2))
