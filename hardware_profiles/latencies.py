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
        reference: a device's name, or the path of a table (.json) or of a device's file (.toml).
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
    mine = [
        file for file in table_files() if normalised_name(file.device) == normalised_name(reference)
    ]
    fitting = [file for file in mine if file.space == space.name]
    if fitting:
        return _load(min(fitting, key=lambda file: TABLE_KINDS.index(file.kind)))
    try:
        device = load_device(reference)
    except UserError:
        if mine:
            raise _other_space(mine, space) from None
        raise
    return Roofline(device)


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
