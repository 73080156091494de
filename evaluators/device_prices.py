"""Target devices of a search: the latency and energy columns they add to its cost tables.

A run stores a copy of the latency tables and datasheets it was priced with, so that its costs stay
the same on another machine and after a table is measured again. Knows latency sources and names of
metrics. Does not measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from evaluators.costs.tables import Column, CostTables, Price
from evaluators.footprint.energy import energy_price
from evaluators.metrics import energy_on, latency_on
from hardware_profiles.device import Device, normalised_name
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
    """A device with its latency source and, if there is one, its datasheet."""

    latency: Latency
    datasheet: Device | None

    @property
    def name(self) -> str:
        """Name of the device, which ends the names of its metrics."""
        return self.latency.device

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics added to cost tables: latency, and energy if there is a datasheet."""
        energy = () if self.datasheet is None else (energy_on(self.name),)
        return (latency_on(self.name), *energy)

    def prices(self) -> dict[str, Price]:
        """Metrics that are sums over blocks, for `CostTables`."""
        prices: dict[str, Price] = {}
        if self._column is None:
            prices[latency_on(self.name)] = self.latency.milliseconds
        if self.datasheet is not None:
            batch = self.latency.table.batch if isinstance(self.latency, MeasuredLatency) else 1
            prices[energy_on(self.name)] = energy_price(self.datasheet, self.latency, batch=batch)
        return prices

    def columns(self, space: SearchSpace) -> dict[str, Column]:
        """Metrics that are no sum over blocks, for `CostTables`."""
        column = self._column
        return {} if column is None else {latency_on(self.name): column.column(space)}

    @property
    def _column(self) -> FittedLatency | None:
        """The latency model of a compiler that removes dead ops: less than the sum over blocks."""
        latency = self.latency
        return latency if isinstance(latency, FittedLatency) and latency.compiled else None

    def save(self, folder: Path) -> None:
        """Write the table and the datasheet to a folder, for `load_target`."""
        if isinstance(self.latency, MeasuredLatency):
            write_measured(self.latency.table, folder / f"{self.name}.json")
        elif isinstance(self.latency, FittedLatency):
            self.latency.save(folder / f"{self.name}.json")
        if self.datasheet is not None:
            text = self.datasheet.model_dump_json(indent=1) + "\n"
            write_text(folder / f"{self.name}.device.json", text)


def find_target(reference: str, space: SearchSpace) -> Target:
    """Find a device by name, or by the path of a latency table or a datasheet.

    Raises:
        UserError: if there is neither a table for the space nor a datasheet.
    """
    latency = find_latency(reference, space)
    if isinstance(latency, Roofline):
        return Target(latency, latency.profile)
    try:
        return Target(latency, load_device(latency.device))
    except UserError:
        return Target(latency, None)


def load_target(folder: Path, name: str, space: SearchSpace) -> Target:
    """Read what `Target.save` wrote.

    Raises:
        UserError: if the files are missing, unreadable or of another space.
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
        raise UserError(f"no latency table or datasheet of device {name} in {folder}")
    return Target(Roofline(datasheet), datasheet)


def saved_devices(folder: Path) -> list[str]:
    """Names of the devices with files in `folder`, sorted."""
    names = (
        path.name.removesuffix(".json").removesuffix(".device") for path in folder.glob("*.json")
    )
    return sorted(set(names))


def targets_of(
    references: Sequence[str], space: SearchSpace, folder: Path | None = None
) -> list[Target]:
    """Find devices by reference: in a run's folder if they were saved there, else on this machine.

    Raises:
        UserError: for a device with neither a latency table for the space nor a datasheet.
    """
    names = saved_devices(folder) if folder is not None else []
    saved = {normalised_name(name): name for name in names}
    return [
        load_target(folder, saved[normalised_name(reference)], space)
        if folder is not None and normalised_name(reference) in saved
        else find_target(reference, space)
        for reference in references
    ]


def device_tables(
    space: SearchSpace,
    targets: Sequence[Target],
    columns: dict[str, Column] | None = None,
    prices: dict[str, Price] | None = None,
) -> CostTables:
    """Cost tables of a space with latency and energy on devices.

    Args:
        columns: further metrics that are no sum over blocks.
        prices: further metrics that are sums over blocks.
    """
    prices = dict(prices or {})
    all_columns = dict(columns or {})
    for target in targets:
        prices |= target.prices()
        all_columns |= target.columns(space)
    return CostTables(space, prices=prices, columns=all_columns)
