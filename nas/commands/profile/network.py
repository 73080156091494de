"""Loads, counts and measures a user's network: `nas profile`.

Knows PyTorch networks, ONNX and Keras files, and the notation of inputs. Does not know how a
network is imported (`loading.py`), or the table (`table.py`) and page (`page.py`) of the result.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.counting.counts import Count
from evaluators.counting.torch_counter import count_module
from evaluators.counting.torch_profile import profile_module
from hardware_profiles.machine import available_bytes
from hardware_profiles.peak import measured_peak
from nas.commands.profile.loading import build_without_memory, load_network
from nas.commands.profile.page import page
from nas.commands.profile.table import print_profile, to_json
from nas.commands.show.console import make_console, print_json
from search_spaces.errors import UserError, unknown
from search_spaces.files import write_text

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
    "int64": torch.int64,
    "int32": torch.int32,
    "bool": torch.bool,
}

PIPE_WIDTH = 140
"""Width of the table in columns if standard output is not a terminal."""

LARGEST_INPUT = 2**50
"""Most elements of an input and one more; torch has no numbers for the bytes of larger ones."""

_INPUT = re.compile(r"(?:([A-Za-z_]\w*)=)?(\d+(?:x\d+)*)(?::(\w+))?")


@dataclass(frozen=True)
class Input:
    """One input of a network: `1x3x224x224`, `1x128:int64` or `mask=1x128:bool`."""

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    name: str | None = None

    def tensor(self, device: str) -> Tensor:
        """Random numbers for a floating-point type, zeros (valid indices) for any other."""
        if self.dtype.is_floating_point:
            return torch.randn(self.shape, device=device).to(self.dtype)
        return torch.zeros(self.shape, dtype=self.dtype, device=device)


def parse_input(text: str) -> Input:
    """Parse an input, such as `1x3x224x224`, `1x128:int64` or `mask=1x128:bool`.

    Raises:
        UserError: for malformed text or an unknown type.
    """
    match = _INPUT.fullmatch(text.strip())
    if match is None or not 0 < prod(map(int, match[2].split("x"))) < LARGEST_INPUT:
        raise UserError(
            f"malformed input '{text}': expected sizes such as 1x3x224x224, with a type for "
            "integers (1x128:int64) and a name for keywords (mask=1x128:bool)"
        )
    name, shape, dtype = match.groups()
    if dtype is not None and dtype not in DTYPES:
        raise unknown("type of input", dtype, DTYPES)
    return Input(tuple(map(int, shape.split("x"))), DTYPES[dtype or "float32"], name)


def profile_target(
    target: str,
    inputs: Sequence[Input],
    *,
    measure: bool,
    backward: bool,
    repeats: int,
    device: str = "cpu",
) -> tuple[Count, str | None]:
    """Load and count a network, and measure it if it is a PyTorch network.

    Args:
        target: `pkg.module:function`, `file.py:NAME`, or the path of an ONNX or Keras file.
        inputs: example inputs.
        measure: run the network on random inputs, not only count it.
        backward: measure gradients too.
        repeats: number of passes to measure.
        device: torch's name of the device to measure on.

    Returns:
        The counts, and the reason why nothing was measured (None if it was, or was not requested).

    Raises:
        UserError: if the target cannot be loaded or fails on the inputs.
    """
    suffix = Path(target).suffix
    if suffix == ".onnx":
        from evaluators.counting.formats.onnx_counter import count_onnx

        return count_onnx(target, _shapes(inputs)), None
    if suffix == ".keras" or Path(target).is_dir():
        from evaluators.counting.formats.keras_counter import count_keras

        return count_keras(target, _shapes(inputs)), None
    if not inputs:
        raise UserError(f"'{target}' needs its input: --input 1x3x224x224")
    make = load_network(target)
    args = [i for i in inputs if i.name is None]
    kwargs = {i.name: i for i in inputs if i.name is not None}
    with _silent_stderr():
        network = build_without_memory(make, target)
        count = _count(network, args, kwargs)
        reason = None
        if measure:
            reason = _too_large(count, device)
            if reason is None:
                real = make().to(device)
                count = profile_module(
                    real,
                    [i.tensor(device) for i in args],
                    {name: i.tensor(device) for name, i in kwargs.items()},
                    backward=backward,
                    repeats=repeats,
                )
    return count, reason


def profile_network(
    network: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    measure: bool = True,
    backward: bool = True,
    repeats: int = 10,
) -> tuple[Count, str | None]:
    """Count a PyTorch network and measure it on the device of its parameters.

    Args:
        network: the network, which is not changed.
        args: positional inputs; an `Input` becomes a tensor of its shape.
        kwargs: inputs by name, likewise.
        measure: run the network, not only count it.
        backward: measure gradients too.
        repeats: number of passes to measure.

    Returns:
        The counts, and the reason why nothing was measured (None if it was, or was not requested).

    Raises:
        UserError: if the network fails on the inputs.
    """
    device = str(next((p.device for p in network.parameters()), "cpu"))

    def real(value: Any) -> Any:
        return value.tensor(device) if isinstance(value, Input) else value

    args, kwargs = [real(a) for a in args], {name: real(a) for name, a in kwargs.items()}
    with _silent_stderr():
        count = count_module(network, args, kwargs)
        reason = _too_large(count, device) if measure else None
        if measure and reason is None:
            count = profile_module(network, args, kwargs, backward=backward, repeats=repeats)
    return count, reason


def profile_and_print(
    target: str,
    inputs: Sequence[str],
    *,
    measure: bool,
    backward: bool,
    repeats: int,
    depth: int,
    html: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Count and measure a network and print the result by module: `nas profile`.

    Args:
        target: see `profile_target`.
        inputs: inputs as text; see `parse_input`.
        measure: see `profile_target`.
        backward: see `profile_target`.
        repeats: see `profile_target`.
        depth: number of levels of modules in the table.
        html: also write a page to this file.
        device: torch's name of the device to measure on.
        as_json: print JSON.

    Raises:
        UserError: see `profile_target`.
    """
    parsed = [parse_input(text) for text in inputs]
    count, note = profile_target(
        target, parsed, measure=measure, backward=backward, repeats=repeats, device=device
    )
    timed = count.root.total().forward_seconds is not None
    peak = measured_peak(device) if timed else None
    if html is not None:
        write_text(html, page(count, peak, note))
    if as_json:
        print_json(to_json(count, peak, note))
        return
    # A pipe has no width: print all columns.
    console = make_console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    print_profile(console, count, peak, note, depth=depth)
    if html is not None:
        console.print(f"page in {html}")


def _count(network: nn.Module, args: Sequence[Input], kwargs: Mapping[str, Input]) -> Count:
    try:
        return count_module(
            network,
            [i.tensor("meta") for i in args],
            {name: i.tensor("meta") for name, i in kwargs.items()},
        )
    except UserError as error:
        given = [*args, *kwargs.values()]
        if "indices" in str(error) and all(i.dtype.is_floating_point for i in given):
            sizes = "x".join(map(str, given[0].shape))
            raise UserError(f"{error} (token ids are written {sizes}:int64)") from error
        raise


def _shapes(inputs: Sequence[Input]) -> Mapping[str, tuple[int, ...]] | list[tuple[int, ...]]:
    if inputs and all(i.name is not None for i in inputs):
        return {i.name: i.shape for i in inputs if i.name is not None}
    return [i.shape for i in inputs]


def _too_large(count: Count, device: str) -> str | None:
    """The reason why the network does not fit into the memory of the device; None if it does.

    A pass needs memory for weights, gradients and activations.
    """
    needed = 8 * count.params + 2 * count.root.total().activation_bytes
    free = torch.cuda.mem_get_info()[0] if device.startswith("cuda") else available_bytes()
    if free and needed > 0.8 * free:
        return (
            f"not measured: a pass needs about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free"
        )
    return None


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what native libraries (the profiler) print to standard error; Python still prints."""
    sys.stderr.flush()
    kept = os.dup(2)
    silent = os.open(os.devnull, os.O_WRONLY)
    before = sys.stderr
    try:
        sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1)
        os.dup2(silent, 2)
        yield
    finally:
        os.dup2(kept, 2)
        sys.stderr.close()
        sys.stderr = before
        os.close(kept)
        os.close(silent)
