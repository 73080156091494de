"""Device descriptions: datasheet figures, each with its source, read from TOML files.

One TOML file per device: in this package, in the user's `budget-nas/devices` folder under
`$XDG_CONFIG_HOME` (default `~/.config`), or at any path. Knows files and their validation. Does not
know latencies: `latency/roofline.py` estimates them from these figures, and tables hold measured
ones.
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
from search_spaces.files import open_text

Precision = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8"]

DeviceKind = Literal["gpu", "cpu", "tpu", "npu", "board", "phone"]

Confidence = Literal["datasheet", "derived", "measured", "estimate"]
"""Origin of a figure: printed by the manufacturer; derived from printed figures; measured (the
source names by whom); or estimated (the source states the grounds)."""

THIS_MACHINE = "this-machine"
"""Name of the device that is detected instead of read from a file."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Pattern of device names, which are used in file names and as suffixes of metric names."""


class Figure(BaseModel):
    """A number with its source. The name of the field that holds it states the unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
    source: Annotated[str, Field(min_length=1)]
    year: Annotated[int, Field(ge=1990, le=2100)]
    confidence: Confidence = "datasheet"
    note: str = ""
    """Conditions needed for comparison: dense or sparse, accumulation, boost clock."""


class Device(BaseModel):
    """A device as its datasheet describes it.

    All peaks are for dense operands and count two operations per MAC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    """Name on the command line, and suffix of metric names: `latency_ms_NAME`."""
    aliases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Alternative names accepted on the command line."""
    title: Annotated[str, Field(min_length=1)]
    kind: DeviceKind
    peak_flops: Annotated[dict[Precision, Figure], Field(min_length=1)]
    """Floating-point (or integer) operations per second, by precision."""
    bandwidth_bytes_per_s: Figure
    """Memory bandwidth in bytes per second, reads and writes combined."""
    memory_bytes: Figure
    tdp_watts: Figure
    """Power in watts under full load, of the device without its host."""
    idle_watts: Figure
    launch_seconds: Figure | None = None
    """Overhead of launching one kernel, in seconds; None for the default of the device's kind."""
    note: str = ""


def check_name(name: str) -> None:
    """Check that a name is a valid device name (`NAME_PATTERN`).

    Raises:
        UserError: if it is not.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise UserError(f"malformed device name '{name}': expected letters, digits, '.', '_', '-'")


def normalised_name(name: str) -> str:
    """Return a name as used for look-up: lower case, without spaces, '-' and '_'."""
    return re.sub(r"[\s_-]+", "", name).lower()


def device_files() -> dict[str, Path]:
    """Return the file of each named device; a user's file overrides one of this package."""
    own = Path(str(files("hardware_profiles") / "devices"))
    found = {
        normalised_name(path.stem): path
        for folder in (own, user_folder() / "devices")
        for path in sorted(folder.glob("*.toml"))
    }
    return {path.stem: path for path in found.values()}


def user_folder() -> Path:
    """Return the folder of a user's devices (`devices/`) and latency tables (`tables/`)."""
    root = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(root).expanduser() / "budget-nas"


def read_device(path: Path) -> Device:
    """Read a device from a TOML file.

    Raises:
        UserError: if the file cannot be read, is not UTF-8 or TOML, has an invalid field (the
            message names the first), or if the device's name differs from the file's.
    """
    try:
        with open_text(path) as file:
            content = tomllib.loads(file.read())
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read the device file {path}: it is not UTF-8 text") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot read the device file {path}: {reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"device file {path} is not valid TOML: {error}") from error
    try:
        device = Device.model_validate(content)
    except ValidationError as error:
        raise UserError(f"device file {path}: {_describe_first_error(error)}") from error
    if device.name != path.stem:
        raise UserError(
            f"device file {path}: name: '{device.name}', expected '{path.stem}' as in the file name"
        )
    return device


def _describe_first_error(error: ValidationError) -> str:
    """Describe the first invalid field: its path, the value given, and the value expected."""
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
