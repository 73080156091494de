"""What is known of a device's latency for a space: a table, a fit, or an estimate from a datasheet.

Knows where tables are kept and which source goes before which. Does not price anything itself.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from hardware_profiles.device import load_device, plain, user_folder
from hardware_profiles.fitted import load_fitted
from hardware_profiles.latency import Latency
from hardware_profiles.measured import MeasuredLatency, read_measured
from hardware_profiles.roofline import Roofline
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace

KINDS = ("measured", "fitted")
"""Of tables; the first that there is counts."""


@dataclass(frozen=True)
class TableFile:
    """A table in a file, by its own words."""

    path: Path
    kind: str
    device: str
    space: str


def table_path(device: str, space: str, kind: str) -> Path:
    """Where the table of a device and a space is kept."""
    ending = ".json" if kind == "measured" else f".{kind}.json"
    names = (re.sub(r"[^\w.-]+", "_", name) for name in (device, space))
    return user_folder() / "tables" / f"{'--'.join(names)}{ending}"


def table_files() -> list[TableFile]:
    """The user's tables, those that cannot be read left out."""
    found = (_described(path) for path in sorted((user_folder() / "tables").glob("*.json")))
    return [file for file in found if file is not None]


def device_name(reference: str) -> str:
    """What a device is called, however it is referred to; as it is where nothing is known of it."""
    if reference.endswith(".json"):
        file = _described(Path(reference).expanduser())
        return reference if file is None else file.device
    for file in table_files():
        if plain(file.device) == plain(reference):
            return file.device
    try:
        return load_device(reference).name
    except UserError:
        if reference.endswith(".toml"):
            raise
        return reference


def find_latency(reference: str, space: SearchSpace) -> Latency:
    """What is known of a device for a space: measured before fitted before estimated.

    Args:
        reference: a device's name, or the path of a table (.json) or of a device's file (.toml).

    Raises:
        UserError: for a table of another space, a file that cannot be read, or a device of which
            there is neither a table nor a datasheet.
    """
    if reference.endswith(".json"):
        file = _described(Path(reference).expanduser())
        if file is None:
            raise UserError(
                f"{reference} is no latency table: expected what nas device measure or "
                "nas device fit writes"
            )
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


def _described(path: Path) -> TableFile | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        file = TableFile(path, *(str(content[key]) for key in ("kind", "device", "space")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return file if file.kind in KINDS else None


def _other_space(files: list[TableFile], space: SearchSpace) -> UserError:
    spaces = ", ".join(dict.fromkeys(file.space for file in files))
    device = files[0].device
    return UserError(
        f"latencies on {device} are known for space {spaces}, not for {space.name}: "
        f"nas device measure --name {device} --space {space.name}"
    )
