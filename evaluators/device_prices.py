"""Devices that a search is for: what their latencies and energies add to its cost tables.

A run keeps its own copy of what it was priced with, so that it means the same on another machine
and after a table was measured anew. Knows sources and metrics' names. Does not measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from evaluators.costs.budget import ENERGY, LATENCY
from evaluators.costs.tables import Column, CostTables, Price
from evaluators.footprint.energy import energy_price
from hardware_profiles.device import Device, plain
from hardware_profiles.fitting.fitted import FittedLatency
from hardware_profiles.latencies import find_latency
from hardware_profiles.latency.measured import MeasuredLatency, write_measured
from hardware_profiles.latency.protocol import Latency
from hardware_profiles.latency.roofline import Roofline
from hardware_profiles.lookup import load_device
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class Target:
    """A device with what is known of it: a latency always, a datasheet where there is one."""

    latency: Latency
    datasheet: Device | None

    @property
    def name(self) -> str:
        """The device's name, with which its metrics end."""
        return self.latency.device

    @property
    def metrics(self) -> tuple[str, ...]:
        """What it adds to cost tables: milliseconds, and millijoules if its power is known."""
        energy = () if self.datasheet is None else (f"{ENERGY}{self.name}",)
        return (f"{LATENCY}{self.name}", *energy)

    def prices(self) -> dict[str, Price]:
        """Its metrics that are sums over blocks, for `CostTables`."""
        prices: dict[str, Price] = {}
        if self._column is None:
            prices[f"{LATENCY}{self.name}"] = self.latency.milliseconds
        if self.datasheet is not None:
            batch = self.latency.table.batch if isinstance(self.latency, MeasuredLatency) else 1
            prices[f"{ENERGY}{self.name}"] = energy_price(self.datasheet, self.latency, batch=batch)
        return prices

    def columns(self, space: SearchSpace) -> dict[str, Column]:
        """Its metrics that are not."""
        column = self._column
        return {} if column is None else {f"{LATENCY}{self.name}": column.column(space)}

    @property
    def _column(self) -> FittedLatency | None:
        """A device that leaves dead ops out takes less than the sum of its blocks."""
        latency = self.latency
        return latency if isinstance(latency, FittedLatency) and latency.compiled else None

    def save(self, folder: Path) -> None:
        """Keep all of it in a folder, where `load_target` finds it."""
        if isinstance(self.latency, MeasuredLatency):
            write_measured(self.latency.table, folder / f"{self.name}.json")
        elif isinstance(self.latency, FittedLatency):
            self.latency.save(folder / f"{self.name}.json")
        if self.datasheet is not None:
            text = self.datasheet.model_dump_json(indent=1) + "\n"
            write_text(folder / f"{self.name}.device.json", text)


def find_target(reference: str, space: SearchSpace) -> Target:
    """A device by name, or by the path of a table or of its file.

    Raises:
        UserError: if neither a table for the space nor a datasheet is known.
    """
    latency = find_latency(reference, space)
    if isinstance(latency, Roofline):
        return Target(latency, latency.profile)
    try:
        return Target(latency, load_device(latency.device))
    except UserError:
        return Target(latency, None)


def load_target(folder: Path, name: str, space: SearchSpace) -> Target:
    """What `Target.save` kept of a device.

    Raises:
        UserError: if it is not there, or of another space.
    """
    table, sheet = folder / f"{name}.json", folder / f"{name}.device.json"
    datasheet = None
    try:
        if sheet.exists():
            datasheet = Device.model_validate_json(sheet.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise UserError(f"cannot read {sheet}: {error}") from error
    if table.exists():
        return Target(find_latency(str(table), space), datasheet)
    if datasheet is None:
        raise UserError(f"{folder} has nothing of device {name}")
    return Target(Roofline(datasheet), datasheet)


def kept_names(folder: Path) -> list[str]:
    """The devices of which `folder` keeps something."""
    names = (
        path.name.removesuffix(".json").removesuffix(".device") for path in folder.glob("*.json")
    )
    return sorted(set(names))


def targets_of(
    references: Sequence[str], space: SearchSpace, folder: Path | None = None
) -> list[Target]:
    """Devices by reference, from a run's folder where it keeps them, else from this machine."""
    kept = {plain(name): name for name in kept_names(folder)} if folder is not None else {}
    return [
        load_target(folder, kept[plain(reference)], space)
        if folder is not None and plain(reference) in kept
        else find_target(reference, space)
        for reference in references
    ]


def device_tables(
    space: SearchSpace, targets: Sequence[Target], columns: dict[str, Column] | None = None
) -> CostTables:
    """Cost tables of a space with what its networks take on devices.

    Args:
        columns: more metrics that are no sum over blocks.
    """
    prices: dict[str, Price] = {}
    all_columns = dict(columns or {})
    for target in targets:
        prices |= target.prices()
        all_columns |= target.columns(space)
    return CostTables(space, prices=prices, columns=all_columns)
