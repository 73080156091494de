"""How fast networks are counted, beside the counters that people use.

    python benchmarks/counting.py

Once-for-All's MobileNetV3 space, architectures a second on one core: our tables from an integer
matrix, `nas count` from JSON lines (start-up aside), the authors' own analytic count, fvcore and
torch's counter on built networks. All that count the same thing must agree. Then a Llama-style
decoder of 70 billion parameters: seconds and memory of one count in a process of its own. A peer
that is not installed is left out (`pip install --no-deps ofa fvcore iopath yacs tabulate termcolor
portalocker`).
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import contextlib
import importlib.util
import io
import json
import logging
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import emit  # before torch: it sets how threads wait

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.tables import CostTables
from nas.commands.profile.count import print_counts
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.spaces.mobilenet import divisible
from search_spaces.networks.modules import build
from search_spaces.ops import Conv2d

SPACE = "ofa-mbv3"
TABLES = "tables, MACs and parameters"
JSON_LINES = "nas count, JSON lines"
LLAMA = """
import resource, time
import torch
from evaluators.counting.torch_counter import count_module
from evaluators.counting.without_memory import without_memory
from transformers import LlamaConfig, LlamaForCausalLM
start = time.perf_counter()
config = LlamaConfig(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                     num_attention_heads=64, num_key_value_heads=8, vocab_size=128256)
with without_memory():
    network = LlamaForCausalLM(config)
count = count_module(network, [torch.zeros(1, 2048, dtype=torch.long)])
seconds = time.perf_counter() - start
print(count.macs, count.params, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", type=int, default=1_000_000)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    space = load_space(SPACE)
    tables = CostTables(space)
    sample = space.sample(arguments.architectures, arguments.seed)
    archs = space.decode(sample[:200])
    macs = tables.score(sample[:200])["macs"].tolist()
    lines = [json.dumps(_published(a)) for a in space.decode(sample[: arguments.lines])]
    file = Path(tempfile.mkdtemp()) / "archs.jsonl"
    file.write_text("\n".join(lines) + "\n")
    single = file.with_name("one.jsonl")
    single.write_text(lines[0] + "\n")

    def torch_counts(arch: Architecture) -> int:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            build(space, arch).eval()(torch.empty(1, *space.input_shape(arch)))
        return counter.get_total_flops() // 2

    runs: dict[str, tuple[Callable[[], Any], int]] = {
        "tables, MACs and parameters": (
            lambda: tables.score(sample, ("macs", "params")),
            len(sample),
        ),
        "tables, with peak memory": (lambda: tables.score(sample), len(sample)),
        JSON_LINES: (lambda: _nas_count(file), len(lines)),
        "torch's counter": (lambda: [torch_counts(a) for a in archs[:5]], 5),
    }
    assert [torch_counts(a) for a in archs[:5]] == macs[:5]
    printed = [json.loads(line)["macs"] for line in _nas_count(file).splitlines()]
    assert printed[:200] == macs
    if _installed("ofa"):
        config = [_their_config(space.ops(a)) for a in archs]
        theirs = _their_count()
        runs["Once-for-All's own count"] = (
            lambda: [theirs(c, a["resolution"]) for c, a in zip(config, archs, strict=True)],
            len(archs),
        )
        given = [
            round(1e6 * theirs(c, a["resolution"])) for c, a in zip(config, archs, strict=True)
        ]
        assert given == macs
    if _installed("fvcore"):
        from fvcore.nn import FlopCountAnalysis  # type: ignore[import-not-found]

        def fvcore_counts(arch: Architecture) -> float:
            network = build(space, arch).eval()
            x = torch.zeros(1, *space.input_shape(arch))
            analysis = FlopCountAnalysis(network, x)
            analysis.unsupported_ops_warnings(False)
            analysis.uncalled_modules_warnings(False)
            return float(analysis.total())

        runs["fvcore"] = (lambda: [fvcore_counts(a) for a in archs[:3]], 3)

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, (run, _) in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
        start = time.perf_counter()
        _nas_count(single)
        seconds[JSON_LINES][-1] -= time.perf_counter() - start  # start-up aside
    ours = len(sample) / np.median(seconds[TABLES])
    rows = []
    for name, (_, n) in runs.items():
        rate = n / float(np.median(seconds[name]))
        rows.append(
            {
                "counter": name,
                "architectures/s": round(rate) if rate > 100 else round(rate, 1),
                "slowest round": round(n / max(seconds[name]), 1),
                "tables are times faster": round(ours / rate, 1),
            }
        )
    result = subprocess.run(
        [sys.executable, "-c", LLAMA], capture_output=True, text=True, check=True
    )
    counted = result.stdout.split()[-4:]
    extra = {
        "llama 70B": f"{int(counted[0]):,} MACs at 2,048 tokens, {int(counted[1]):,} parameters",
        "its seconds": round(float(counted[2]), 2),
        "its memory (GB)": round(float(counted[3]) / 1e9, 2),
    }
    emit("counting", rows, vars(arguments) | extra, arguments.json)


def _nas_count(file: Path) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        print_counts(SPACE, file, as_json=True)
    return out.getvalue()


def _published(arch: Architecture) -> dict[str, Any]:
    layers = [f"stage{s}_layer{i}" for s in range(5) for i in range(4)]
    return {
        "ks": [arch.get(f"{layer}_kernel", 3) for layer in layers],
        "e": [arch.get(f"{layer}_expand", 3) for layer in layers],
        "d": [arch[f"stage{s}_depth"] for s in range(5)],
        "r": arch["resolution"],
    }


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _their_count() -> Callable[[dict[str, Any], int], float]:
    """The authors' function, loaded without the parts of their package that need torchvision."""
    spec = importlib.util.find_spec("ofa")
    assert spec is not None
    (place,) = spec.submodule_search_locations or [""]
    for name in ("ofa", "ofa.utils"):
        sys.modules[name] = types.ModuleType(name)
    utils: Any = sys.modules["ofa.utils"]
    utils.download_url = None
    utils.make_divisible = lambda width, divisor: divisible(width, divisor)
    utils.MyNetwork = types.SimpleNamespace(CHANNEL_DIVISIBLE=8)
    path = Path(place) / "nas" / "efficiency_predictor" / "latency_lookup_table.py"
    found = importlib.util.spec_from_file_location("latency_lookup_table", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    count: Callable[[dict[str, Any], int], float] = module.MBv3LatencyTable.count_flops_given_config
    return count


def _their_config(blocks: Any) -> dict[str, Any]:
    """A network as the authors' count takes it."""
    layers = []
    for name, ops in blocks[1:-1]:
        convs = {op.name: op for op in ops if isinstance(op, Conv2d)}
        layers.append(
            {
                "mobile_inverted_conv": {
                    "in_channels": convs["expand"].inputs[0].shape[0],
                    "mid_channels": convs["depthwise"].out_shape[0],
                    "out_channels": convs["project"].out_shape[0],
                    "expand_ratio": 6,
                    "kernel_size": convs["depthwise"].kernel,
                    "stride": convs["depthwise"].stride,
                    "use_se": any(op.name.startswith("se_") for op in ops),
                },
                "name": name,
            }
        )
    first = {"in_channels": 16, "mid_channels": 16, "out_channels": 16, "expand_ratio": 1}
    first |= {"kernel_size": 3, "stride": 1, "use_se": False}
    return {
        "first_conv": {"out_channels": 16},
        "blocks": [{"mobile_inverted_conv": first}, *layers],
        "final_expand_layer": {"in_channels": 160, "out_channels": 960},
        "feature_mix_layer": {"in_channels": 960, "out_channels": 1280},
        "classifier": {"in_features": 1280, "out_features": 1000},
    }


if __name__ == "__main__":
    main()
