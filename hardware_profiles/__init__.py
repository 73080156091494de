"""Hardware profiles: datasheets, latency sources, measurements, and carbon intensity of grids.

Public names, each imported on first use, and the modules that document them:

- `Device`: `hardware_profiles.device`
- `FittedLatency`, `fit_latency`, `load_fitted`: `hardware_profiles.fitting.fitted`
- `Latency`: `hardware_profiles.latency.protocol`
- `MeasuredLatency`, `MeasuredTable`, `read_measured`: `hardware_profiles.latency.measured`
- `Region`, `load_region`: `hardware_profiles.electricity.grid`
- `Roofline`: `hardware_profiles.latency.roofline`
- `device_names`, `load_device`: `hardware_profiles.lookup`
- `find_latency`: `hardware_profiles.latencies`

Imports `search_spaces` only. Only `peak`, `detected` and `measuring.runtimes` import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardware_profiles.device import Device
    from hardware_profiles.electricity.grid import Region, load_region
    from hardware_profiles.fitting.fitted import FittedLatency, fit_latency, load_fitted
    from hardware_profiles.latencies import find_latency
    from hardware_profiles.latency.measured import MeasuredLatency, MeasuredTable, read_measured
    from hardware_profiles.latency.protocol import Latency
    from hardware_profiles.latency.roofline import Roofline
    from hardware_profiles.lookup import device_names, load_device

__all__ = [
    "Device",
    "FittedLatency",
    "Latency",
    "MeasuredLatency",
    "MeasuredTable",
    "Region",
    "Roofline",
    "device_names",
    "find_latency",
    "fit_latency",
    "load_device",
    "load_fitted",
    "load_region",
    "read_measured",
]

_MODULES = {
    "Device": "device",
    "FittedLatency": "fitting.fitted",
    "Latency": "latency.protocol",
    "MeasuredLatency": "latency.measured",
    "MeasuredTable": "latency.measured",
    "Region": "electricity.grid",
    "Roofline": "latency.roofline",
    "device_names": "lookup",
    "find_latency": "latencies",
    "fit_latency": "fitting.fitted",
    "load_device": "lookup",
    "load_fitted": "fitting.fitted",
    "load_region": "electricity.grid",
    "read_measured": "latency.measured",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that importing one module does not import scipy or pydantic."""
    if name not in _MODULES:
        raise AttributeError(f"module 'hardware_profiles' has no attribute '{name}'")
    return getattr(import_module(f"hardware_profiles.{_MODULES[name]}"), name)
