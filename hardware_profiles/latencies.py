"""Find the latency source of a device for a space: a measured table, a fit, or an estimate.

Knows where tables are stored and the precedence of the sources. Does not compute latencies.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hardware_profiles.device import normalised_name, user_folder
from hardware_profiles.fitting.fitted import load_fitted
from hardware_profiles.latency.measured import MeasuredLatency, read_measured
from hardware_profiles.latency.protocol import Latency
from hardware_profiles.latency.roofline import Roofline
from hardware_profiles.lookup import load_device
from search_spaces.errors import UserError
from search_spaces.files import read_json
from search_spaces.space import SearchSpace

TABLE_KINDS = ("measured", "fitted")
"""Kinds of latency tables, in order of precedence."""


@dataclass(frozen=True)
class TableFile:
    """The header of a latency table's file."""

    path: Path
    device: str
    space: str
    runtime: str
    kind: str


def table_path(device: str, space: str, kind: str) -> Path:
    """Return the path of the user's table of a kind for a device and a space."""
    ending = ".json" if kind == "measured" else f".{kind}.json"
    names = (re.sub(r"[^\w.-]+", "_", name) for name in (device, space))
    return user_folder() / "tables" / f"{'--'.join(names)}{ending}"


def table_files(on_broken: Callable[[UserError], None] | None = None) -> list[TableFile]:
    """List the user's tables, without files that cannot be read.

    Args:
        on_broken: called with the error of each such file.
    """
    found = []
    for path in sorted((user_folder() / "tables").glob("*.json")):
        try:
            found.append(read_header(path))
        except UserError as error:
            if on_broken is not None:
                on_broken(error)
    return found


def read_header(path: Path) -> TableFile:
    """Read the header of a latency table.

    Raises:
        UserError: if the file cannot be read or is not a latency table.
    """
    keys = ("device", "space", "runtime", "kind")
    try:
        content = read_json(path)
        file = TableFile(path, *(str(content[key]) for key in keys))
        if file.kind not in TABLE_KINDS:
            raise ValueError(f"kind '{file.kind}'")
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} is not a latency table: {reason}") from error
    return file


def device_name(reference: str, *, by_alias: bool = True) -> str:
    """Return the name of a device; the reference itself if the device is unknown.

    Args:
        reference: a name, an alias, or the path of a table (.json) or of a device's file (.toml).
        by_alias: whether aliases are looked up; False with a published table, whose column
            `raspi4` is not the Raspberry Pi described here.

    Raises:
        UserError: if a file is given and cannot be read.
    """
    if reference.endswith(".json"):
        return read_header(Path(reference).expanduser()).device
    for file in table_files():
        if normalised_name(file.device) == normalised_name(reference):
            return file.device
    try:
        name = load_device(reference).name
    except UserError:
        if reference.endswith(".toml"):
            raise
        return reference
    return name if by_alias or normalised_name(name) == normalised_name(reference) else reference


def find_latency(reference: str, space: SearchSpace) -> Latency:
    """Return the latency source of a device for a space.

    A measured table takes precedence over a fitted one, and a fitted one over the roofline
    estimate from the datasheet.

    Args:
        reference: a device's name or alias, or the path of a table (.json) or of a device's file
            (.toml).
        space: the search space whose blocks are priced.

    Raises:
        UserError: if the tables are for another space, a file cannot be read, or the device has
            neither a table nor a datasheet.
    """
    if reference.endswith(".json"):
        file = read_header(Path(reference).expanduser())
        if file.space != space.name:
            raise _other_space([file], space)
        return _load(file)
    mine = _tables_of(reference)
    table = _best_for(space, mine)
    if table is not None:
        return _load(table)
    try:
        device = load_device(reference)
    except UserError:
        if mine:
            raise _other_space(mine, space) from None
        raise
    # Tables have the device's name, where the reference may be an alias. A datasheet that is given
    # as a file is what is to be used.
    by_name = [] if reference.endswith(".toml") else _tables_of(device.name)
    table = _best_for(space, by_name)
    return Roofline(device) if table is None else _load(table)


def _tables_of(device: str) -> list[TableFile]:
    """The user's tables of a device, of any space."""
    return [f for f in table_files() if normalised_name(f.device) == normalised_name(device)]


def _best_for(space: SearchSpace, files: list[TableFile]) -> TableFile | None:
    """The table of a space that takes precedence; None if none is of the space."""
    fitting = [file for file in files if file.space == space.name]
    return min(fitting, key=lambda file: TABLE_KINDS.index(file.kind), default=None)


def _load(file: TableFile) -> Latency:
    if file.kind == "fitted":
        return load_fitted(file.path)
    return MeasuredLatency(read_measured(file.path))


def _other_space(files: list[TableFile], space: SearchSpace) -> UserError:
    spaces = ", ".join(dict.fromkeys(file.space for file in files))
    device = files[0].device
    return UserError(
        f"latencies on {device} are known for space {spaces}, not for {space.name}: "
        f"nas device measure --name {device} --space {space.name}"
    )
