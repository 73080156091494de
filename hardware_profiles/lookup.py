"""Find devices by name, alias or file.

Knows the order of look-up: a file's path, this machine, names, then aliases. Does not know what the
files contain: `device.py` reads and validates them.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from hardware_profiles.device import (
    THIS_MACHINE,
    Device,
    device_files,
    normalised_name,
    read_device,
)
from search_spaces.errors import UserError


def load_device(reference: str) -> Device:
    """Load a device by name or alias (a user's files override this package's), or from a file.

    Case, spaces, '-' and '_' are ignored in names: `rtx 4090` is RTX4090.

    Args:
        reference: a name, an alias, `this-machine`, or the path of a file that ends in `.toml`.

    Raises:
        UserError: if the name is unknown, or the file cannot be read or has a missing or invalid
            field.
    """
    if reference.endswith(".toml"):
        return read_device(Path(reference).expanduser())
    if normalised_name(reference) == normalised_name(THIS_MACHINE):
        from hardware_profiles.detected import this_machine

        return this_machine()
    paths = device_files()
    key = normalised_name(reference)
    named = {normalised_name(name): path for name, path in paths.items()}
    if key not in named:
        known = {
            normalised_name(alias): path for path in paths.values() for alias in _aliases(path)
        }
        known.update(named)
        if key not in known:
            raise _unknown_device(reference, known)
        named = known
    return read_device(named[key])


def device_names() -> list[str]:
    """Return the names that `load_device` accepts, sorted, `this-machine` last."""
    return [*sorted(device_files(), key=str.lower), THIS_MACHINE]


def _aliases(path: Path) -> tuple[str, ...]:
    """Return a device's aliases; none for an invalid file, which loading by name reports."""
    try:
        return read_device(path).aliases
    except UserError:
        return ()


def _unknown_device(reference: str, known: dict[str, Path]) -> UserError:
    """Return the error for an unknown name, with the device whose name or alias is nearest."""
    near = difflib.get_close_matches(normalised_name(reference), known, n=1)
    hint = f" did you mean '{known[near[0]].stem}'?" if near else ""
    return UserError(f"unknown device '{reference}':{hint} (known: {', '.join(device_names())})")
