"""What is known of a device's latency for a space: a table, a fit, or an estimate from a datasheet.

Knows where tables are kept and which source goes before which. Does not price anything itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hardware_profiles.device import plain, user_folder
from hardware_profiles.fitting.fitted import load_fitted
from hardware_profiles.latency.measured import MeasuredLatency, read_measured
from hardware_profiles.latency.protocol import Latency
from hardware_profiles.latency.roofline import Roofline
from hardware_profiles.lookup import load_device
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace

KINDS = ("measured", "fitted")
"""Of tables; the first that there is counts."""


@dataclass(frozen=True)
class TableFile:
    """A table in a file, by its own words."""

    path: Path
    device: str
    space: str
    runtime: str
    kind: str


def table_path(device: str, space: str, kind: str) -> Path:
    """Where the table of a device and a space is kept."""
    ending = ".json" if kind == "measured" else f".{kind}.json"
    names = (re.sub(r"[^\w.-]+", "_", name) for name in (device, space))
    return user_folder() / "tables" / f"{'--'.join(names)}{ending}"


def table_files(on_broken: Callable[[UserError], None] | None = None) -> list[TableFile]:
    """The user's tables, those that cannot be read left out.

    Args:
        on_broken: called with what is wrong with each of those.
    """
    found = []
    for path in sorted((user_folder() / "tables").glob("*.json")):
        try:
            found.append(described(path))
        except UserError as error:
            if on_broken is not None:
                on_broken(error)
    return found


def described(path: Path) -> TableFile:
    """What a file says that it is.

    Raises:
        UserError: if it is no table.
    """
    keys = ("device", "space", "runtime", "kind")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        file = TableFile(path, *(str(content[key]) for key in keys))
        if file.kind not in KINDS:
            raise ValueError(f"kind '{file.kind}'")
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} is no table of latencies: {reason}") from error
    return file


def device_name(reference: str, *, by_alias: bool = True) -> str:
    """What a device is called, however it is referred to; as it is where nothing is known of it.

    Args:
        by_alias: whether other names than its own are looked up; False beside a published table,
            whose `raspi4` is a column and not our Raspberry Pi.
    """
    if reference.endswith(".json"):
        return described(Path(reference).expanduser()).device
    for file in table_files():
        if plain(file.device) == plain(reference):
            return file.device
    try:
        name = load_device(reference).name
    except UserError:
        if reference.endswith(".toml"):
            raise
        return reference
    return name if by_alias or plain(name) == plain(reference) else reference


def find_latency(reference: str, space: SearchSpace) -> Latency:
    """What is known of a device for a space: measured before fitted before estimated.

    Args:
        reference: a device's name, or the path of a table (.json) or of a device's file (.toml).

    Raises:
        UserError: for a table of another space, a file that cannot be read, or a device of which
            there is neither a table nor a datasheet.
    """
    if reference.endswith(".json"):
        file = described(Path(reference).expanduser())
        if file.space != space.name:
            raise _other_space([file], space)
        return _load(file)
    mine = [file for file in table_files() if plain(file.device) == plain(reference)]
    fitting = [file for file in mine if file.space == space.name]
    if fitting:
        return _load(min(fitting, key=lambda file: KINDS.index(file.kind)))
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
