"""Imports a user's network: `pkg.module:NAME` or `file.py:NAME`.

Knows modules and files of Python. Does not know inputs, counts or measurements.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from evaluators.counting.without_memory import without_memory
from hardware_profiles.machine import available_bytes
from search_spaces.errors import UserError, unknown
from search_spaces.user_files import load_object, running_user_code


def load_network(target: str) -> Callable[[], nn.Module]:
    """Import a network and return a function that returns it.

    Args:
        target: `pkg.module:NAME` or `file.py:NAME`, where NAME is a `torch.nn.Module`, or a
            function or class that returns one when called without arguments.

    Raises:
        UserError: if it cannot be imported, or is not a network or callable. The returned function
            raises one if the result of the call is not a network.
    """
    reference, _, name = target.rpartition(":")
    if not reference or not name:
        raise UserError(
            f"cannot profile '{target}': expected pkg.module:function, file.py:NAME, or a path "
            "that ends in .onnx or .keras"
        )
    is_file = reference.endswith(".py")
    found = load_object(target) if is_file else _imported(reference, name, target)
    if isinstance(found, nn.Module):
        module = found
        return lambda: module
    if not callable(found):
        kind = type(found).__name__
        raise UserError(f"'{target}' is of type {kind}: expected a network or a function")

    def make() -> nn.Module:
        with running_user_code():
            network = found()
        if not isinstance(network, nn.Module):
            raise UserError(
                f"'{target}' returns a {type(network).__name__}: expected a torch.nn.Module"
            )
        return network

    return make


def _imported(reference: str, name: str, target: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with running_user_code():
            module = importlib.import_module(reference)
    except ModuleNotFoundError as error:
        raise UserError(f"cannot import '{reference}' (of '{target}'): {error}") from error
    except Exception as error:
        raise UserError(f"'{reference}' fails: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise unknown(f"name in {reference}", name, [n for n in vars(module) if n[0] != "_"])
    return getattr(module, name)


def build_without_memory(make: Callable[[], nn.Module], target: str) -> nn.Module:
    """Build a network without allocating its weights, if its constructor allows it.

    Args:
        make: returns the network.
        target: its name, for errors.

    Raises:
        UserError: if the constructor fails, or needs more memory than there is.
    """
    try:
        with without_memory() as mode:
            network = make()
        if not mode.has_read_values:
            return network
        _check_memory(network, target)
        return make()
    except UserError:
        raise
    except (Exception, SystemExit):
        try:
            return make()  # its constructor may depend on values of tensors
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            text = (str(error).strip().splitlines() or [""])[0]
            raise UserError(f"'{target}' fails: {type(error).__name__}: {text}") from error


def _check_memory(network: nn.Module, target: str) -> None:
    """Check that a network can be built with its weights.

    Raises:
        UserError: if it does not fit into memory.
    """
    needed = sum(p.numel() * p.element_size() for p in network.parameters())
    if needed > 0.8 * available_bytes():
        raise UserError(
            f"'{target}' reads values of its weights while it is built, and has too many to build: "
            f"about {needed / 1e9:.0f} GB"
        )
