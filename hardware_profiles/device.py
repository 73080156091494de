"""Devices: what a datasheet says of where a network will run, each figure with its source.

One TOML file a device: those of this package, those in the user's `budget-nas/devices` folder under
`$XDG_CONFIG_HOME` (`~/.config`), or any path. Knows files and their validation. Does not know
latencies: `roofline.py` estimates them from these figures, tables hold measured ones.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_spaces.errors import UserError

Precision = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8"]

Kind = Literal["gpu", "cpu", "tpu", "npu", "board", "phone"]

Confidence = Literal["datasheet", "derived", "measured", "estimate"]
"""Printed by the maker; computed from what is printed; measured, by whom the source says; or a
guess whose grounds the source says."""

THIS_MACHINE = "this-machine"
"""The device that is detected, not read."""


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a device can be called: it is the name of files, and the end of metrics' names."""


class Figure(BaseModel):
    """A number with where it is from. Its unit is said by the name of the field that holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
    source: Annotated[str, Field(min_length=1)]
    year: Annotated[int, Field(ge=1990, le=2100)]
    confidence: Confidence = "datasheet"
    note: str = ""
    """What a reader must know to compare it: dense or sparse, accumulation, boost clock."""


class Device(BaseModel):
    """A device by its datasheet. All peaks are dense, and count two operations for each MAC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=NAME)]
    """What the user types, and the end of metrics' names: `latency_ms_NAME`."""
    aliases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Other things people call it."""
    title: Annotated[str, Field(min_length=1)]
    kind: Kind
    peak_flops: Annotated[dict[Precision, Figure], Field(min_length=1)]
    """Floating-point (or integer) operations a second, by precision."""
    bandwidth_bytes_per_s: Figure
    """Memory bandwidth, reads and writes together."""
    memory_bytes: Figure
    tdp_watts: Figure
    """Power under full load, of the device alone."""
    idle_watts: Figure
    launch_seconds: Figure | None = None
    """Overhead of starting one kernel; by default what is usual for its kind."""
    note: str = ""


def check_name(name: str) -> None:
    """Refuse what no device can be called.

    Raises:
        UserError: in one line.
    """
    if not re.fullmatch(NAME, name):
        raise UserError(f"malformed device name '{name}': expected letters, digits, '.', '_', '-'")


def plain(name: str) -> str:
    """A name as devices are looked up by: without case, spaces, '-' and '_'."""
    return re.sub(r"[\s_-]+", "", name).lower()


def device_files() -> dict[str, Path]:
    """Where each named device is described; a user's file goes before one of this package."""
    own = Path(str(files("hardware_profiles") / "devices"))
    found = {
        plain(path.stem): path
        for folder in (own, user_folder() / "devices")
        for path in sorted(folder.glob("*.toml"))
    }
    return {path.stem: path for path in found.values()}


def user_folder() -> Path:
    """Where a user's devices (`devices/`) and measured tables (`tables/`) are."""
    root = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(root).expanduser() / "budget-nas"


def read_device(path: Path) -> Device:
    """The device that a file describes.

    Raises:
        UserError: in one line, with the first wrong field.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read the device file {path}: it is no UTF-8 text") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot read the device file {path}: {reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"device file {path} is no TOML: {error}") from error
    try:
        device = Device.model_validate(content)
    except ValidationError as error:
        raise UserError(f"device file {path}: {_first_wrong(error)}") from error
    if device.name != path.stem:
        raise UserError(
            f"device file {path}: name: is '{device.name}', expected '{path.stem}' as the file"
        )
    return device


def _first_wrong(error: ValidationError) -> str:
    """Where a file's first wrong field is, what it holds, and what was expected."""
    first = error.errors()[0]
    # A key of a table is located as `table.key.[key]`.
    where = [str(part) for part in first["loc"] if part != "[key]"]
    field = ".".join(where)
    if first["type"] == "missing":
        return f"{field}: missing"
    if first["type"] == "extra_forbidden":
        model = Figure if where[:-1] else Device
        near = difflib.get_close_matches(where[-1], model.model_fields, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(model.model_fields)}"
        return f"{field}: unknown field, {hint}"
    given: Any = first["input"]
    message = first["msg"][0].lower() + first["msg"][1:]
    return f"{field}: {message}, given {given!r}"
