"""How well a measured table predicts whole networks that it never saw, on this machine.

    python benchmarks/latency_table.py

For each space `nas device measure` and then `nas device check`, timed together. Beside the table,
over the same networks: a line through the FLOPs of the networks that the table was corrected by,
and the estimate from this machine's peaks. Nothing else should run meanwhile.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from report import emit

from hardware_profiles.latency.agreement import agreement
from hardware_profiles.detected import this_machine
from hardware_profiles.latency.measured import read_measured
from hardware_profiles.measuring.this_machine import blocks_of
from hardware_profiles.latency.roofline import Roofline
from nas.commands.devices.check import check_and_print
from nas.commands.devices.measure import SpaceOptions, measure_and_print


def main() -> None:
    """Print shares within 10 %, errors and ranks for each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", nargs="+", default=["mobilenet", "vit"])
    parser.add_argument("--budget", default="8m")
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.spaces:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = Path(folder) / "table.json"
            start = time.perf_counter()
            measure_and_print(
                "this-machine",
                SpaceOptions(name),
                runtime=arguments.runtime,
                budget=arguments.budget,
                out=path,
            )
            check_and_print(str(path), networks=arguments.networks, seed=arguments.seed)
            minutes = (time.perf_counter() - start) / 60
            table = read_measured(path)
        measured = np.array([n.ms for n in table.checked])
        estimate = Roofline(this_machine())
        space = SpaceOptions(name).load()
        macs = np.array([n.macs for n in table.networks], dtype=float)
        line = np.polyfit(macs, [n.ms for n in table.networks], 1, w=1 / macs)
        predictions = {
            "table": [n.predicted_ms or 0.0 for n in table.checked],
            "line through FLOPs": np.polyval(line, [float(n.macs) for n in table.checked]),
            "estimate from peaks": [
                sum(estimate.milliseconds(ops) for ops in blocks_of(space, n))
                for n in table.checked
            ],
        }
        for method, predicted in predictions.items():
            found = agreement(np.asarray(predicted, dtype=float), measured)
            rows.append(
                {
                    "space": table.space,
                    "method": method,
                    "networks": found.n,
                    "within 10 %": f"{found.within_10:.0%}",
                    "mean error": f"{found.mean_error:.1%}",
                    "Spearman": round(found.spearman, 3),
                    "Kendall": round(found.kendall, 3),
                    "blocks": len(table.blocks),
                    "minutes": round(minutes, 1),
                }
            )
    emit("latency_table", rows, vars(arguments), arguments.json)


if __name__ == "__main__":
    main()
