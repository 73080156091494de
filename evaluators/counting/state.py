"""What may decide the path of a pass through a network, beside the values of its inputs.

Modules set numbers, words and flags to choose a subnet, read settings from objects and from their
classes, are replaced, cut, frozen, hooked and put into training mode. Reading all of it takes about
a microsecond a module. Does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from evaluators.counting.reduced import PLAIN, Reduced, changed, described

INTERNAL = frozenset(nn.Module().__dict__) - {"training"}
"""Attributes that every module has."""

HOOKS = ("_forward_pre_hooks", "_forward_hooks")
"""Attributes with functions that run with a module."""

STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})
"""Buffers of norms, which change in each pass of a training and decide no path."""

DECIDING = 4
"""Most elements of a parameter whose values are read: gates are of one or a few."""

VALUES = "values of parameters"
"""Name of the number of writes to all other parameters."""

UNIMPORTANT_AFTER = 3
"""Number of changes without an effect on the count after which an attribute is ignored."""

Key = tuple[int, str]
State = tuple[Any, ...]
Named = dict[Key, tuple[str, Any]]


class PathState:
    """Reads the state of one network.

    An attribute that keeps changing without an effect, such as a counter of steps, is ignored from
    then on: each of its values would be counted anew. `ignored` has its name.

    Args:
        owner: object whose methods are no hooks of the network.
    """

    def __init__(self, owner: object = None) -> None:
        self.ignored: set[str] = set()
        self._owner = owner
        self._keys: dict[int, tuple[int, list[str]]] = {}
        self._of_classes: dict[type, tuple[int, list[tuple[type, str]]]] = {}
        self._unread: set[Key] = set()
        self._changes: dict[Key, _Changes] = {}

    def read(self, network: nn.Module, *, training: bool = True) -> State:
        """Identities of modules and parameters, values of attributes, versions of buffers.

        Args:
            training: whether gradients are counted, in which parameters decide no path: they change
                in each step, and a network that branches on them is refused.
        """
        found: list[Any] = []
        add = found.append
        keys, unread, reduced = self._keys, self._unread, Reduced()
        versions = 0
        kinds: dict[type, None] = {}
        waiting: list[nn.Module | None] = [network]
        while waiting:
            module = waiting.pop()
            if module is None:
                continue
            attributes = module.__dict__
            kind = type(module)
            kinds[kind] = None
            add(id(module))
            add(kind)
            known = keys.get(id(module))
            if known is None or known[0] != len(attributes):
                known = keys[id(module)] = (len(attributes), self._own(module))
            for key in known[1]:
                value = attributes.get(key)
                add(value if type(value) in PLAIN else reduced(value))
            for name in HOOKS:
                if attributes[name]:
                    add(self._hooks(attributes[name].values(), reduced))
            for key, buffer in attributes["_buffers"].items():
                if key not in STATISTICS and (id(module), key) not in unread:
                    add(changed(buffer))
            for key, parameter in attributes["_parameters"].items():
                if parameter is not None:
                    add(id(parameter))
                    add(parameter.requires_grad)
                    add(parameter.shape)
                    if not training:
                        if parameter.numel() > DECIDING:
                            versions += _version(parameter)
                        elif (id(module), key) not in unread:
                            add(changed(parameter))
            waiting.extend(attributes["_modules"].values())
        for kind in kinds:
            for holder, key in self._class_keys(kind):
                if (id(holder), key) not in unread:
                    add(reduced(vars(holder).get(key)))
        if (id(network), VALUES) not in unread:
            add(versions)
        return tuple(found)

    def _own(self, module: nn.Module) -> list[str]:
        names = (key for key in module.__dict__ if key not in INTERNAL)
        return [key for key in names if (id(module), key) not in self._unread]

    def _class_keys(self, kind: type) -> list[tuple[type, str]]:
        """Classes of a module that are not torch's, with the names of their settings."""
        holders = [k for k in kind.__mro__[:-1] if not k.__module__.startswith("torch.")]
        size = sum(len(vars(holder)) for holder in holders)
        known = self._of_classes.get(kind)
        if known is None or known[0] != size:
            names = [
                (holder, key)
                for holder in holders
                for key, value in vars(holder).items()
                if key[:2] != "__" and type(value) in (*PLAIN, list, dict, tuple, set)
            ]
            known = self._of_classes[kind] = (size, names)
        return known[1]

    def _hooks(self, hooks: Any, reduced: Reduced) -> State:
        """Functions that run with a module; the same ones also if they were made anew."""
        return tuple(
            _function(hook, reduced)
            for hook in hooks
            if self._owner is None or getattr(hook, "__self__", None) is not self._owner
        )

    def named(self, network: nn.Module, *, training: bool = True) -> Named:
        """Values of what `read` reads, by module and name, with their full names."""
        found = {}
        reduced = Reduced()
        kinds: dict[type, None] = {}
        versions = 0
        for path, module in network.named_modules():
            kinds[type(module)] = None
            values = [(key, reduced(module.__dict__[key])) for key in self._own(module)]
            values += [(k, changed(b)) for k, b in module._buffers.items() if k not in STATISTICS]
            for key, parameter in module._parameters.items():
                if parameter is None or training:
                    continue
                if parameter.numel() > DECIDING:
                    versions += _version(parameter)
                else:
                    values.append((key, changed(parameter)))
            for key, value in values:
                found[id(module), key] = (f"{path}.{key}" if path else key, value)
        for kind in kinds:
            for holder, key in self._class_keys(kind):
                value = reduced(vars(holder).get(key))
                found[id(holder), key] = (f"{holder.__name__}.{key}", value)
        found[id(network), VALUES] = (VALUES, versions)
        return {key: value for key, value in found.items() if key not in self._unread}

    def learn(self, before: Named, after: Named, *, same: bool) -> None:
        """Note a change of the state; what changes often without an effect is ignored.

        Attributes that return to earlier values are choices: a network with as much work by other
        choices says nothing about them. The same holds for those that had an effect alone.

        Args:
            same: whether the count is the same before and after.
        """
        altered = [key for key in after if key in before and before[key][1] != after[key][1]]
        for key in altered:
            changes = self._changes.setdefault(key, _Changes(before[key][1]))
            changes.add(after[key][1], alone=len(altered) == 1, same=same)
            if changes.without_effect >= UNIMPORTANT_AFTER:
                self.ignored.add(after[key][0])
                self._unread.add(key)
                self._keys.pop(key[0], None)
                del self._changes[key]


class _Changes:
    """Changes of one attribute."""

    def __init__(self, first: Any) -> None:
        self._values = {first}
        self._is_choice = False
        self._alone = 0
        self._together = 0
        self._with_effect = 0

    def add(self, value: Any, *, alone: bool, same: bool) -> None:
        """Note a change to a value."""
        self._is_choice |= value in self._values or (alone and not same)
        if self._is_choice:
            self._values.clear()
            return
        self._values.add(value)
        self._with_effect += not same
        self._alone += alone and same
        self._together += same

    @property
    def without_effect(self) -> int:
        """Number of changes that had none, as far as that is known."""
        if self._is_choice:
            return 0
        return self._alone if self._with_effect else self._together


def _version(parameter: Tensor) -> int:
    return 0 if parameter.is_inference() else parameter._version


def _function(hook: Callable[..., Any], reduced: Reduced) -> Any:
    """What differs for functions that do something else."""
    if hasattr(hook, "__self__") and hasattr(hook, "__func__"):
        return id(hook.__self__), id(hook.__func__)
    code = getattr(hook, "__code__", None)
    if code is None:
        return id(hook)
    return id(code), *(reduced(value) for value in _enclosed(hook))


def _enclosed(function: Any) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            yield None


def signature_of(args: Any, kwargs: Any) -> tuple[Any, ...]:
    """What may decide the path of a pass in its inputs: structure, shapes, plain values, names."""
    leaves, structure = tree_flatten((args, kwargs))
    return (structure, *map(described, leaves))
