"""Finds devices by name, alias or file."""

from __future__ import annotations

import difflib
from pathlib import Path

from hardware_profiles.device import THIS_MACHINE, Device, device_files, plain, read_device
from search_spaces.errors import UserError


def load_device(reference: str) -> Device:
    """A device by name or alias (the user's files go before this package's), or by a file's path.

    Case, spaces, '-' and '_' do not matter: `rtx 4090` is RTX4090.

    Raises:
        UserError: for an unknown name, a file that cannot be read, or one that lacks a field or
            holds a wrong one.
    """
    if reference.endswith(".toml"):
        return read_device(Path(reference).expanduser())
    if plain(reference) == plain(THIS_MACHINE):
        from hardware_profiles.detected import this_machine

        return this_machine()
    paths = device_files()
    named = {plain(name): path for name, path in paths.items()}
    if plain(reference) not in named:
        known = {plain(alias): path for path in paths.values() for alias in _aliases(path)}
        known.update(named)
        if plain(reference) not in known:
            raise _unknown_device(reference, known)
        named = known
    return read_device(named[plain(reference)])


def device_names() -> list[str]:
    """The names that `load_device` knows."""
    return [*sorted(device_files(), key=str.lower), THIS_MACHINE]


def _aliases(path: Path) -> tuple[str, ...]:
    """A device's other names; none of a broken file, whose own name tells what is wrong."""
    try:
        return read_device(path).aliases
    except UserError:
        return ()


def _unknown_device(reference: str, known: dict[str, Path]) -> UserError:
    """The error for a name that is none, with the device whose name or alias is nearest."""
    near = difflib.get_close_matches(plain(reference), known, n=1)
    hint = f" did you mean '{known[near[0]].stem}'?" if near else ""
    return UserError(f"unknown device '{reference}':{hint} (known: {', '.join(device_names())})")
