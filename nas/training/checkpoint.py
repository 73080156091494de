"""Checkpoints of a training: written atomically, resumed only by a training with equal settings.

Knows stateful parts (network, optimiser, whatever a training keeps beside them) and the settings
that two trainings must share. Does not know when to save.
"""

from __future__ import annotations

import io
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import torch

from search_spaces.errors import UserError
from search_spaces.files import write_atomically

VERSION = 2


class Stateful(Protocol):
    """Has a state: tensors, numbers and strings in lists and dicts."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Restore a state."""
        ...


def pack(identity: Mapping[str, Any], step: int, parts: Mapping[str, Stateful]) -> bytes:
    """Serialise a checkpoint after `step` steps.

    Args:
        identity: settings that a training must share to resume from the checkpoint.
        step: number of completed steps.
        parts: what the checkpoint contains beside these, by key.
    """
    content = {"version": VERSION, "identity": dict(identity), "step": step}
    content |= {name: part.state_dict() for name, part in parts.items()}
    # Through memory: torch's own file writer replaces the error of a full disk by another one.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def write_checkpoint(path: Path, packed: bytes) -> None:
    """Replace the checkpoint file by a packed checkpoint, atomically.

    Raises:
        UserError: if the file cannot be written; the one before it is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(packed))


def read_checkpoint(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint file.

    Args:
        mapped: map the tensors into memory instead of reading them; only those that are used are
            then read from disk.

    Raises:
        UserError: if the file is not a complete checkpoint, or has another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f"checkpoint {path} is corrupt or truncated; remove it to train from the start"
        ) from error
    if not isinstance(content, dict) or not {"identity", "step", "network"} <= content.keys():
        raise UserError(
            f"{path} is not a checkpoint of this program; remove it to train from the start"
        )
    version = content.get("version") or content["identity"].get("version")
    if version != VERSION:
        raise UserError(
            f"checkpoint {path} has version {version}, this program writes and reads {VERSION}; "
            "remove it to train from the start"
        )
    return content


def steps_done(path: Path) -> int:
    """Number of completed steps in a checkpoint file; 0 if the file does not exist.

    Raises:
        UserError: if the file is not a complete checkpoint, or has another version.
    """
    return int(read_checkpoint(path, mapped=True)["step"]) if path.exists() else 0


def restore(path: Path, identity: Mapping[str, Any] | None, parts: Mapping[str, Stateful]) -> int:
    """Load a checkpoint's state into the parts.

    Args:
        identity: the settings that it must have been made with; None: any.

    Returns:
        The number of completed steps.

    Raises:
        UserError: if the file cannot be read, or was written with other settings or for another
            network.
    """
    content = read_checkpoint(path)
    made_with = content["identity"]
    wanted = made_with if identity is None else identity
    for key in {**wanted, **made_with}:
        given, expected = made_with.get(key), wanted.get(key)
        if given != expected:
            raise UserError(
                f"checkpoint {path} was made with {key} {given}, this training has {expected}; "
                "remove it to train from the start"
            )
    try:
        return _load(content, parts)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint {path} belongs to another network") from error


class LastGoodState:
    """The state that a diverged training is rolled back to.

    With a checkpoint file the state is on disk, so that it takes no memory: it is the file itself
    or, before the first one is written, a temporary file without a name in the same folder. Without
    a checkpoint file the state is kept in memory.

    Args:
        checkpoint: the checkpoint file that this process writes; None if it writes none.
    """

    def __init__(self, checkpoint: Path | None) -> None:
        self._checkpoint = checkpoint
        self._held: IO[bytes] | None = None
        """The state where it is not the checkpoint file."""

    def begin(self, packed: bytes) -> None:
        """Keep the state before the first step, without writing the checkpoint file."""
        if self._checkpoint is not None:
            try:
                self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
                self._held = tempfile.TemporaryFile(dir=self._checkpoint.parent)  # noqa: SIM115
                self._held.write(packed)
                self._held.flush()
                return
            except OSError:
                pass  # reported when the first checkpoint is written
        self._held = io.BytesIO(packed)

    def update(self, packed: bytes) -> None:
        """Keep a later state, and write it to the checkpoint file if there is one.

        Raises:
            UserError: if the file cannot be written.
        """
        if self._checkpoint is None:
            self._held = io.BytesIO(packed)
            return
        write_checkpoint(self._checkpoint, packed)
        if self._held is not None:
            self._held.close()
            self._held = None

    def restore(self, parts: Mapping[str, Stateful]) -> int:
        """Load the state into the parts.

        Returns:
            The number of completed steps.
        """
        if self._held is None:
            assert self._checkpoint is not None
            return _load(read_checkpoint(self._checkpoint), parts)
        self._held.seek(0)
        return _load(torch.load(self._held, map_location="cpu", weights_only=True), parts)


def _load(content: Mapping[str, Any], parts: Mapping[str, Stateful]) -> int:
    """Load the content of a checkpoint into the parts; return the number of completed steps."""
    for name, part in parts.items():
        part.load_state_dict(content[name])
    return int(content["step"])
