"""A training's checkpoint: one file, whole or not at all, that only its own training takes.

Knows parts that have a state (network, optimiser, what a training keeps beside them) and the
settings that two trainings must share. Does not know when to save.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from search_spaces.errors import UserError
from search_spaces.files import write_atomically

VERSION = 2


class Stateful(Protocol):
    """Has a state: tensors, numbers and texts in lists and dicts."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take a state up."""
        ...


def pack(identity: Mapping[str, Any], step: int, parts: Mapping[str, Stateful]) -> bytes:
    """A checkpoint as bytes: `step` steps are done."""
    content = {"version": VERSION, "identity": dict(identity), "step": step}
    content |= {name: part.state_dict() for name, part in parts.items()}
    # Through memory: torch's own file writer hides a full disk behind a message of its own.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def write(path: Path, packed: bytes) -> None:
    """Put a packed checkpoint where the one before it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(packed))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file.

    Raises:
        UserError: if the file is not a whole checkpoint, or one of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f"checkpoint {path} is corrupt or truncated; remove it to train anew"
        ) from error
    if not isinstance(content, dict) or not {"identity", "step", "network"} <= content.keys():
        raise UserError(f"{path} is not a checkpoint of this program; remove it to train anew")
    version = content.get("version") or content["identity"].get("version")
    if version != VERSION:
        raise UserError(
            f"checkpoint {path} has version {version}, this program writes and reads {VERSION}; "
            "remove it to train anew"
        )
    return content


def restore(path: Path, identity: Mapping[str, Any], parts: Mapping[str, Stateful]) -> int:
    """Put a checkpoint's state into the parts and return how many steps were done.

    Raises:
        UserError: if the file cannot be used, or was made with other settings or another network.
    """
    content = read_checkpoint(path)
    for key in {**identity, **content["identity"]}:
        given, expected = content["identity"].get(key), identity.get(key)
        if given != expected:
            raise UserError(
                f"checkpoint {path} was made with {key} {given}, this training has {expected}; "
                "remove it to train anew"
            )
    try:
        unpack(content, parts)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint {path} belongs to another network") from error
    return int(content["step"])


def unpack(content: bytes | dict[str, Any], parts: Mapping[str, Stateful]) -> int:
    """Put the state of a checkpoint that is known to be right into the parts.

    Returns:
        How many steps were done.
    """
    if isinstance(content, bytes):
        content = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    assert isinstance(content, dict)
    for name, part in parts.items():
        part.load_state_dict(content[name])
    return int(content["step"])
