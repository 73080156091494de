"""A custom evaluator: any function from an architecture to metrics by name.

python run_search.py --space mobilenet-cifar --evaluator examples/own_evaluator.py:score \
    --max-flops 3M --max latency_ms=2.5 --time-limit 60s
"""

from collections.abc import Mapping


def score(arch: Mapping[str, int]) -> dict[str, float]:
    """Return the metrics of an architecture; replace this formula by a training or a measurement.

    Args:
        arch: values of the active choices by name.

    An exception or NaN is recorded as the failure of this architecture, and the search continues.
    """
    depth = sum(value for name, value in arch.items() if name.endswith("_depth"))
    width = sum(value for name, value in arch.items() if name.endswith("_width"))
    return {"accuracy": 1 - 4 / (depth + width / 40), "latency_ms": 0.2 * depth + width / 400}
