"""What may decide the path of a pass through a network, beside the shapes of its inputs.

Modules set numbers, words and flags to choose a subnet, are replaced, frozen and put into training
mode. Reading all of it takes about a microsecond a module. Does not count.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

INTERNAL = frozenset(nn.Module().__dict__) - {"training"}
"""Attributes that every module has."""

PLAIN = frozenset({bool, int, float, str, type(None)})
COLLECTIONS = frozenset({tuple, list, dict, set, frozenset})

LONGEST = 64
"""Length from which of a collection only the length is read."""

STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})
"""Buffers of norms, which change in each pass of a training and decide no path."""

UNIMPORTANT_AFTER = 3
"""Number of changes without an effect on the count after which an attribute is ignored."""

State = tuple[Any, ...]


class PathState:
    """Reads the state of one network.

    An attribute that keeps changing without an effect, such as a counter of steps, is ignored from
    then on: each of its values would be counted anew. `ignored` has its name.
    """

    def __init__(self) -> None:
        self.ignored: set[str] = set()
        self._keys: dict[int, tuple[int, list[str]]] = {}
        self._unread: set[tuple[int, str]] = set()
        self._without_effect: dict[tuple[int, str], int] = {}

    def read(self, network: nn.Module) -> State:
        """Identities of all modules and parameters, values of attributes, versions of buffers."""
        found: list[Any] = []
        add = found.append
        keys = self._keys
        waiting: list[nn.Module | None] = [network]
        while waiting:
            module = waiting.pop()
            if module is None:
                continue
            attributes = module.__dict__
            add(id(module))
            known = keys.get(id(module))
            if known is None or known[0] != len(attributes):
                known = keys[id(module)] = (len(attributes), self._own(module))
            for key in known[1]:
                value = attributes.get(key)
                add(value if type(value) in PLAIN else _reduced(value))
            for key, buffer in attributes["_buffers"].items():
                if key not in STATISTICS and (id(module), key) not in self._unread:
                    add(_changed(buffer))
            for parameter in attributes["_parameters"].values():
                if parameter is not None:
                    add(id(parameter))
                    add(parameter.requires_grad)
            waiting.extend(attributes["_modules"].values())
        return tuple(found)

    def _own(self, module: nn.Module) -> list[str]:
        names = (key for key in module.__dict__ if key not in INTERNAL)
        return [key for key in names if (id(module), key) not in self._unread]

    def named(self, network: nn.Module) -> dict[tuple[int, str], tuple[str, Any]]:
        """Values of the attributes that `read` reads, by module and name, with their full names."""
        return {
            (id(module), key): (f"{path}.{key}" if path else key, value)
            for path, module in network.named_modules()
            for key, value in [
                *((key, _reduced(module.__dict__[key])) for key in self._own(module)),
                *(
                    (key, _changed(b))
                    for key, b in module._buffers.items()
                    if key not in STATISTICS
                ),
            ]
        }

    def had_no_effect(
        self,
        before: dict[tuple[int, str], tuple[str, Any]],
        after: dict[tuple[int, str], tuple[str, Any]],
    ) -> None:
        """Note that the count is the same before and after a change; ignore what changes often."""
        for key, (name, value) in after.items():
            if key in before and before[key][1] != value:
                changes = self._without_effect[key] = self._without_effect.get(key, 0) + 1
                if changes >= UNIMPORTANT_AFTER:
                    self.ignored.add(name)
                    self._unread.add(key)
                    self._keys.pop(key[0], None)


def _changed(buffer: Tensor | None) -> Any:
    """What differs once a buffer was replaced or written to: its values if they are few.

    Values on an accelerator would have to be waited for.
    """
    if buffer is None or buffer.is_inference():
        return id(buffer)
    if type(buffer) is Tensor and buffer.is_cpu and buffer.numel() < LONGEST:
        return repr(buffer.tolist())
    return id(buffer), buffer._version


def _reduced(value: Any) -> Any:
    """A value that can be compared and hashed."""
    if type(value) in PLAIN:
        return value
    if type(value) in COLLECTIONS:
        return repr(value) if len(value) < LONGEST else len(value)
    return id(value)


def signature_of(args: Any, kwargs: Any) -> tuple[Any, ...]:
    """What may decide the path of a pass in its inputs: shapes, plain values, and names."""
    leaves = (
        (*t.shape, t.dtype) if isinstance(t, Tensor) else t if type(t) in PLAIN else type(t)
        for t in tree_leaves((args, kwargs))
    )
    return (*leaves, len(args), *kwargs)
