"""Lists devices with their figures and latency tables: `nas device list` and `nas device show`.

A file that cannot be read becomes one line on standard error; all others are still listed. Knows
datasheets and tables. Does not measure: this machine is only detected if it is named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluators.sizes import format_size
from hardware_profiles.device import (
    THIS_MACHINE,
    Device,
    Figure,
    device_files,
    normalised_name,
    read_device,
)
from hardware_profiles.latencies import TABLE_KINDS, TableFile, table_files
from hardware_profiles.latency.roofline import Roofline
from hardware_profiles.lookup import load_device
from nas.commands.show.console import print_json
from search_spaces.errors import UserError

LIST_NOTE = (
    "Peaks are dense and count 2 operations per MAC; 16 bit is fp16, or bf16 without fp16. "
    "Latencies are estimated from the datasheet, or measured on the listed spaces. "
    f"{THIS_MACHINE} is measured by: nas device show {THIS_MACHINE}."
)


def print_devices(*, as_json: bool) -> None:
    """Print all devices, including those with a latency table only: `nas device list`."""
    devices = [device for path in device_files().values() if (device := _readable(path))]
    devices.sort(key=lambda device: device.name.lower())
    tables = _tables()
    named = {normalised_name(device.name) for device in devices} | {normalised_name(THIS_MACHINE)}
    others = {
        normalised_name(t.device): t.device
        for t in tables
        if normalised_name(t.device) not in named
    }
    rows = [_row(device, tables) for device in devices]
    rows += [_row(name, tables) for name in (THIS_MACHINE, *sorted(others.values()))]
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("device", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for header in ("fp32\nFLOP/s", "16 bit\nFLOP/s", "memory\nB/s", "memory\nB", "TDP\nW"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("latency", overflow="fold")
    for row in rows:
        table.add_row(
            row["name"],
            row["kind"] or "",
            _size(row["fp32_flops"]),
            _size(row["fp16_flops"] or row["bf16_flops"]),
            _size(row["bandwidth_bytes_per_s"]),
            _size(row["memory_bytes"]),
            _size(row["tdp_watts"]),
            escape("\n".join(found["space"] for found in row["tables"])) or row["latency"],
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"[dim]{LIST_NOTE}[/]")


def print_device(name: str, *, as_json: bool) -> None:
    """Print the figures of a device with sources, and its latency tables: `nas device show`.

    Args:
        name: name or alias of the device.
        as_json: print JSON.

    Raises:
        UserError: for a device without a datasheet or table.
    """
    tables = _tables()
    try:
        device = load_device(name)
    except UserError:
        own = _of(name, tables)
        if not own or normalised_name(name) in map(normalised_name, device_files()):
            raise
        _print_tables_only(own, as_json=as_json)
        return
    own = _of(device.name, tables)
    estimate = Roofline(device).summary
    if as_json:
        described = device.model_dump(mode="json")
        print_json({**described, "tables": _tables_json(own), "latency": estimate})
        return
    console = Console(highlight=False)
    console.print(f"[bold]{device.name}[/]  {escape(device.title)}, {device.kind}")
    if device.aliases:
        console.print(f"also called {', '.join(map(escape, device.aliases))}")
    if device.note:
        console.print(f"[dim]{escape(device.note)}[/]")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("confidence", no_wrap=True)
    table.add_column("year", no_wrap=True)
    table.add_column("source")
    for label, value, figure in _figures(device):
        note = f"\n[dim]{escape(figure.note)}[/]" if figure.note else ""
        source = escape(figure.source) + note
        table.add_row(label, value, figure.confidence, str(figure.year), source)
    console.print()
    console.print(table)
    console.print()
    for found in own:
        console.print(_latency_on(found))
    console.print(f"latency{' on other spaces' if own else ''}: {escape(estimate)}")


def _tables() -> list[TableFile]:
    """The user's tables, sorted by device and space."""
    found = table_files(lambda error: print(f"nas: {error}", file=sys.stderr))
    return sorted(found, key=lambda table: (table.device.lower(), table.space))


def _row(device: Device | str, tables: Sequence[TableFile]) -> dict[str, Any]:
    """A row of the list; without a datasheet, only the name and tables are known."""
    name = device if isinstance(device, str) else device.name
    row: dict[str, Any] = {
        "name": name,
        "title": None,
        "kind": None,
        **dict.fromkeys(("fp32_flops", "fp16_flops", "bf16_flops", "bandwidth_bytes_per_s")),
        **dict.fromkeys(("memory_bytes", "tdp_watts")),
        "latency": "estimate",
        "tables": _tables_json(_of(name, tables)),
    }
    if isinstance(device, Device):
        peaks = device.peak_flops
        row |= {"title": device.title, "kind": device.kind}
        row |= {f"{p}_flops": peaks[p].value for p in ("fp32", "fp16", "bf16") if p in peaks}
        for figure in ("bandwidth_bytes_per_s", "memory_bytes", "tdp_watts"):
            row[figure] = getattr(device, figure).value
    kinds = [table.kind for table in _of(name, tables)]
    if kinds:
        row["latency"] = min(kinds, key=TABLE_KINDS.index)
    return row


def _figures(device: Device) -> list[tuple[str, str, Figure]]:
    """Each figure with its label and its formatted value."""
    found = []
    for precision, figure in device.peak_flops.items():
        unit = "OP/s" if precision == "int8" else "FLOP/s"
        found.append((f"peak {precision}", _spaced(figure.value, unit), figure))
    bandwidth, memory = device.bandwidth_bytes_per_s, device.memory_bytes
    found.append(("bandwidth", _spaced(bandwidth.value, "B/s"), bandwidth))
    found.append(("memory", _spaced(memory.value, "B"), memory))
    found.append(("TDP", f"{device.tdp_watts.value:.3g} W", device.tdp_watts))
    found.append(("idle", f"{device.idle_watts.value:.3g} W", device.idle_watts))
    if (launch := device.launch_seconds) is not None:
        found.append(("kernel launch", f"{launch.value * 1e6:.3g} us", launch))
    return found


def _print_tables_only(tables: Sequence[TableFile], *, as_json: bool) -> None:
    name = tables[0].device
    if as_json:
        print_json({"name": name, "tables": _tables_json(tables)})
        return
    console = Console(highlight=False)
    console.print(f"[bold]{escape(name)}[/]  no datasheet, latency tables only")
    for found in tables:
        console.print(_latency_on(found))


def _latency_on(table: TableFile) -> str:
    by = f"measured with {table.runtime}" if table.kind == "measured" else "fitted to networks"
    return f"latency on {escape(table.space)}: {escape(by)}"


def _of(name: str, tables: Sequence[TableFile]) -> list[TableFile]:
    return [table for table in tables if normalised_name(table.device) == normalised_name(name)]


def _tables_json(tables: Sequence[TableFile]) -> list[Mapping[str, str]]:
    return [{"space": table.space, "runtime": table.runtime} for table in tables]


def _readable(path: Path) -> Device | None:
    try:
        return read_device(path)
    except UserError as error:
        print(f"nas: {error}", file=sys.stderr)
        return None


def _size(value: float | None) -> str:
    return "" if value is None else format_size(value)


def _spaced(value: float, unit: str) -> str:
    """Format a value with a space before its prefix: `15.7 TFLOP/s`."""
    return re.sub(r"(?<=[\d])(?=[A-Za-z]|$)", " ", format_size(value), count=1) + unit
