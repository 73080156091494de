"""What all benchmarks share: the table on the screen and the JSON beside the script."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hardware_profiles.machine import describe

# Before torch is imported: threads that spin at a barrier slow a busy machine tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

WIDTH = 110
RESULTS = Path(__file__).parent / "results"


def emit(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    path: Path | None = None,
) -> None:
    """Print the rows with settings, machine and command, and write them to `path`.

    Args:
        name: the benchmark's name; the default file is `benchmarks/results/NAME.json`.
        rows: one mapping a line of the table, all with the same keys.
        settings: what the figures depend on, the seed among it.
    """
    settings = {key: _anywhere(value) for key, value in settings.items() if key != "json"}
    given = [str(_anywhere(argument)) for argument in sys.argv[1:]]
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])
    console = Console(width=WIDTH)
    table = Table(title=name, title_justify="left")
    for key in rows[0]:
        table.add_column(key, justify="right" if _is_number(rows[0][key]) else "left")
    for row in rows:
        table.add_row(*[_shown(value) for value in row.values()])
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in settings.items()), highlight=False)
    machine = describe()
    console.print(", ".join(f"{k} {v}" for k, v in machine.items()), style="dim", highlight=False)
    console.print(f"$ {command}", style="dim", highlight=False)
    content = {
        "benchmark": name,
        "command": command,
        "date": date.today().isoformat(),
        "machine": machine,
        "settings": dict(settings),
        "rows": [dict(row) for row in rows],
    }
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _anywhere(value: object) -> object:
    """A setting as it is; of a place on this machine only whether it is a folder or a file."""
    if isinstance(value, str | Path) and Path(value).is_absolute():
        return "DIR" if Path(value).is_dir() else "FILE"
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _shown(value: object) -> str:
    if isinstance(value, bool) or not _is_number(value):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
