"""This machine as a device: what is measured, what the system tells, and what is a guess.

On a CUDA machine the GPU is the device: its datasheet if its name is known, else its properties and
a measurement. Otherwise the processor is, as far as this process may use it. A processor's thermal
design power is in the table that codecarbon ships (Courty et al., codecarbon); the table says
nothing of a virtual machine, whose share of a processor is a guess.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path

from hardware_profiles.device import THIS_MACHINE, Device, Figure, device_files, plain, read_device
from hardware_profiles.machine import cores, memory_bytes, processor
from hardware_profiles.peak import measured_peak
from search_spaces.errors import UserError

WATTS_PER_THREAD = 4.0
"""Where the table has no entry: codecarbon's own default."""

IDLE_SHARE = 0.25
"""Of the power under full load: what processors of recent servers take without any."""

GPU_WATTS = 250.0
"""A GPU whose datasheet is not known."""

_MAKERS = ("nvidia", "amd")

_NUMBER = re.compile(r"\d+(\.\d+)?")


@cache
def this_machine() -> Device:
    """The device that this process would run on; measured once a process, in about a second."""
    import torch

    return _gpu(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else _cpu()


def _cpu() -> Device:
    usable = cores()
    peak = measured_peak()
    watts = cpu_watts(processor(), usable, os.cpu_count() or usable, virtual=_is_virtual())
    return Device(
        name=THIS_MACHINE,
        title=f"{processor()}, {usable} {'core' if usable == 1 else 'cores'}",
        kind="cpu",
        peak_flops={"fp32": _measured(peak.flops, f"a product of matrices, {peak.name}")},
        bandwidth_bytes_per_s=_measured(peak.bandwidth, f"a large copy, {peak.name}"),
        memory_bytes=_memory(memory_bytes()),
        tdp_watts=watts,
        idle_watts=_idle(watts),
        note="measured while anything else runs here, so it varies",
    )


def _gpu(name: str) -> Device:
    """A GPU by the name that torch gives it."""
    import torch

    memory = _memory(torch.cuda.get_device_properties(0).total_memory)
    known = known_gpu(name)
    if known is not None:
        return known.model_copy(
            update={
                "name": THIS_MACHINE,
                "title": f"{name}, as {known.name}",
                "memory_bytes": memory,
            }
        )
    peak = measured_peak("cuda")
    watts = _guess(GPU_WATTS, f"assumed: the datasheet of {name} is not known here")
    return Device(
        name=THIS_MACHINE,
        title=name,
        kind="gpu",
        peak_flops={"fp32": _measured(peak.flops, f"a product of matrices, {peak.name}")},
        bandwidth_bytes_per_s=_measured(peak.bandwidth, f"a large copy, {peak.name}"),
        memory_bytes=memory,
        tdp_watts=watts,
        idle_watts=_idle(watts),
        note="fp32 alone is measured: describe the GPU in a file for its other precisions",
    )


def known_gpu(name: str) -> Device | None:
    """The device whose name or alias is exactly what torch calls a GPU, its maker aside.

    Exactly, since an L40S is no L4, and an RTX 4090 of a laptop is no RTX 4090.
    """
    asked = plain(name)
    for maker in _MAKERS:
        asked = asked.removeprefix(maker)
    for path in device_files().values():
        try:
            device = read_device(path)
        except UserError:
            continue  # a broken file of the user's tells so where it is asked for
        if asked in {plain(called) for called in (device.name, *device.aliases)}:
            return device
    return None


def cpu_watts(model: str, usable: int, total: int, *, virtual: bool) -> Figure:
    """Power under full load of the `usable` of `total` threads that this process has.

    Args:
        virtual: whether this is a virtual machine, which does not tell how much of the processor
            it has.
    """
    per_thread = WATTS_PER_THREAD * usable
    watts = tabulated_watts(model, _table())
    if watts is None:
        return _guess(per_thread, f"codecarbon's {WATTS_PER_THREAD:g} W a thread, {model} unlisted")
    source = f"codecarbon's table: {watts:g} W for {model}"
    if virtual:
        note = f"a virtual machine: its share is guessed at {WATTS_PER_THREAD:g} W a thread"
        return _guess(min(watts, per_thread), source, note)
    note = f"times {usable} of {total} threads" if usable < total else ""
    return _guess(watts * usable / total, source, note)


def tabulated_watts(model: str, table: Mapping[tuple[str, ...], float]) -> float | None:
    """Thermal design power of the entry with which a processor's name begins, if there is one.

    Args:
        table: watts by the words of the name.
    """
    words = _words(model)
    for length in range(len(words), 1, -1):
        if words[:length] in table:
            return table[words[:length]]
    return None


@cache
def _table() -> dict[tuple[str, ...], float]:
    """Codecarbon's table; empty if another version keeps it elsewhere."""
    try:
        file = resources.files("codecarbon") / "data" / "hardware" / "cpu_power.csv"
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    except (ModuleNotFoundError, OSError):
        return {}
    # Some entries have no figure.
    pairs = [(row.get("Name") or "", row.get("TDP") or "") for row in rows]
    return {_words(name): float(watts) for name, watts in pairs if _NUMBER.fullmatch(watts)}


def _words(model: str) -> tuple[str, ...]:
    """`Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz` is `intel xeon e5-2680 v4`."""
    cleaned = re.sub(r"\((r|tm)\)|\bcpu\b|@.*", " ", model.lower())
    return tuple(cleaned.split())


def _is_virtual() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and " hypervisor" in cpuinfo.read_text(encoding="utf-8")


def _memory(size: int) -> Figure:
    if size > 0:
        return Figure(
            value=float(size), source="the system", year=date.today().year, confidence="measured"
        )
    return _guess(8e9, "assumed: the system does not tell")


def _idle(watts: Figure) -> Figure:
    return _guess(IDLE_SHARE * watts.value, f"assumed: {IDLE_SHARE:.0%} of full load")


def _measured(value: float, by: str) -> Figure:
    return Figure(value=value, source=by, year=date.today().year, confidence="measured")


def _guess(value: float, source: str, note: str = "") -> Figure:
    return Figure(
        value=value, source=source, year=date.today().year, confidence="estimate", note=note
    )
