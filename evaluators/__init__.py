"""Evaluation of candidates: their costs, their accuracy, and counts of any network.

Imports `search_spaces` and `hardware_profiles`. The names below are for users; `evaluators.costs`
has those of cost tables and budgets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluators.counting.formats.keras_counter import count_keras
    from evaluators.counting.formats.onnx_counter import count_onnx
    from evaluators.counting.monitor import ComputeMonitor
    from evaluators.counting.torch_counter import count_module
    from evaluators.counting.torch_profile import profile_module
    from evaluators.footprint.greenscore import GreenScore
    from evaluators.metrics import Metric

__all__ = [
    "ComputeMonitor",
    "GreenScore",
    "Metric",
    "count_keras",
    "count_module",
    "count_onnx",
    "profile_module",
]

_MODULES = {
    "ComputeMonitor": "counting.monitor",
    "GreenScore": "footprint.greenscore",
    "Metric": "metrics",
    "count_keras": "counting.formats.keras_counter",
    "count_module": "counting.torch_counter",
    "count_onnx": "counting.formats.onnx_counter",
    "profile_module": "counting.torch_profile",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that importing the package does not import torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'evaluators' has no attribute '{name}'")
    return getattr(import_module(f"evaluators.{_MODULES[name]}"), name)
