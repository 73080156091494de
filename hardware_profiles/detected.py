"""Describe this machine as a device, from measurements, system information and estimates.

On a CUDA machine the device is the GPU: its datasheet if its name is known, else its properties and
a measurement. Otherwise it is the processor, limited to the cores that this process may use. The
thermal design power of a processor is read from the table that codecarbon packages (Courty et al.,
codecarbon). The table does not cover virtual machines, whose share of a processor is estimated.
Knows hardware names and figures. Does not know latencies.
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

from hardware_profiles.device import (
    THIS_MACHINE,
    Device,
    Figure,
    device_files,
    normalised_name,
    read_device,
)
from hardware_profiles.machine import cores, memory_bytes, processor
from hardware_profiles.peak import measured_peak
from search_spaces.errors import UserError

WATTS_PER_THREAD = 4.0
"""Power of a processor without an entry in the table; codecarbon's default."""

IDLE_SHARE = 0.25
"""Idle power as a share of the power under full load, as of recent server processors."""

GPU_WATTS = 250.0
"""Assumed power of a GPU without a datasheet here."""

_VENDORS = ("nvidia", "amd")

_NUMBER = re.compile(r"\d+(\.\d+)?")


@cache
def this_machine() -> Device:
    """Return the device that this process runs on.

    It is measured once per process, in about a second.
    """
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
    """Describe a GPU by the name that torch reports."""
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
    """Return the device whose name or alias equals the name of a GPU, or None.

    The vendor is ignored. The rest must be equal: an L40S is not an L4, and a laptop's RTX 4090
    is not an RTX 4090.

    Args:
        name: the name that torch reports.
    """
    wanted = normalised_name(name)
    for vendor in _VENDORS:
        wanted = wanted.removeprefix(vendor)
    for path in device_files().values():
        try:
            device = read_device(path)
        except UserError:
            continue  # loading the device by name reports an invalid file
        if wanted in {normalised_name(known) for known in (device.name, *device.aliases)}:
            return device
    return None


def cpu_watts(model: str, usable: int, total: int, *, virtual: bool) -> Figure:
    """Estimate the power in watts under full load of the threads that this process may use.

    Args:
        model: the processor's model name.
        usable: number of threads that this process may use.
        total: number of threads of the machine.
        virtual: whether this is a virtual machine, whose share of the processor is not known.
    """
    per_thread = WATTS_PER_THREAD * usable
    watts = tabulated_watts(model, _power_table())
    if watts is None:
        return _guess(per_thread, f"codecarbon's {WATTS_PER_THREAD:g} W a thread, {model} unlisted")
    source = f"codecarbon's table: {watts:g} W for {model}"
    if virtual:
        note = f"a virtual machine: its share is guessed at {WATTS_PER_THREAD:g} W a thread"
        return _guess(min(watts, per_thread), source, note)
    note = f"times {usable} of {total} threads" if usable < total else ""
    return _guess(watts * usable / total, source, note)


def tabulated_watts(model: str, table: Mapping[tuple[str, ...], float]) -> float | None:
    """Return the thermal design power in watts of the longest table entry that prefixes a name.

    None if no entry of at least two words does.

    Args:
        model: the processor's model name.
        table: watts by the words of the name.
    """
    words = _words(model)
    for length in range(len(words), 1, -1):
        if words[:length] in table:
            return table[words[:length]]
    return None


@cache
def _power_table() -> dict[tuple[str, ...], float]:
    """Read codecarbon's table; empty if it is not found in the installed version."""
    try:
        file = resources.files("codecarbon") / "data" / "hardware" / "cpu_power.csv"
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    except (ModuleNotFoundError, OSError):
        return {}
    # Some entries have no power.
    pairs = [(row.get("Name") or "", row.get("TDP") or "") for row in rows]
    return {_words(name): float(watts) for name, watts in pairs if _NUMBER.fullmatch(watts)}


def _words(model: str) -> tuple[str, ...]:
    """Split a name: `Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz` as `intel xeon e5-2680 v4`."""
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
    return _guess(8e9, "assumed: the system does not report it")


def _idle(watts: Figure) -> Figure:
    return _guess(IDLE_SHARE * watts.value, f"assumed: {IDLE_SHARE:.0%} of full load")


def _measured(value: float, by: str) -> Figure:
    return Figure(value=value, source=by, year=date.today().year, confidence="measured")


def _guess(value: float, source: str, note: str = "") -> Figure:
    return Figure(
        value=value, source=source, year=date.today().year, confidence="estimate", note=note
    )
