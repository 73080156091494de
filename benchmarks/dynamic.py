"""Switching a network while it runs: time of a switch, views against copies, memory.

    python benchmarks/dynamic.py --threads 1

Dynamic networks of random weights over three spaces, each with random subnets, the smallest and
the largest. A switch is timed in turn over all subnets, with views and with a copy of the active
one's weights; so is building the same subnet again with weights of its own, which is how one would
switch without shared ones. Switches that the system interrupted for other programs do not count.
A pass with views is timed in turn with one with contiguous copies, in processor time, and the
ratio is taken pair by pair. Memory is that of all tensors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from report import emit  # before torch: it sets how threads wait

import torch
from torch import Tensor

from evaluators.costs.tables import CostTables
from hardware_profiles.measuring.standalone import involuntary_switches
from nas.dynamic.network import DynamicNetwork, statistics
from nas.dynamic.files import Subnet
from nas.supernet.shared_weights import Supernet
from search_spaces.catalogue import load_space

SPACES = ("mobilenet-cifar", "vit-cifar", "mobilenet-imagenet")
BATCHES = (1, 16)
TRIES = 10
LONGEST_PASS = 2e9
"""MACs of a batch beyond which a pass is not timed: it would only take long."""


def main() -> None:
    """Print a row a space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subnets", type=int, default=10, help="Random ones.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [_row(name, arguments) for name in SPACES]
    emit("dynamic", rows, vars(arguments), arguments.json)


def _row(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    networks, supernet = made(name, arguments.subnets, arguments.seed)
    views, copies = networks
    space = supernet.space
    switches: dict[str, list[float]] = {"views": [], "copies": [], "rebuilt": []}
    ratios: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    with torch.inference_mode():
        for turn in range(arguments.rounds):
            for subnet in views.subnets:
                arch = space.architecture(subnet.choices)
                timed = {
                    "views": partial(views.use, subnet.id),
                    "copies": partial(copies.use, subnet.id),
                }
                for kind, action in timed.items():
                    seconds = _undisturbed(action)
                    if turn and seconds is not None:  # the first round warms up
                        switches[kind].append(1e3 * seconds)
                if turn == 1:
                    rebuilding = _processor_seconds(partial(supernet.extract, arch))
                    switches["rebuilt"].append(1e3 * rebuilding)
                alone = copies.network(subnet)
                for batch in BATCHES:
                    if batch * subnet.macs > LONGEST_PASS:
                        continue
                    x = torch.randn(batch, *subnet.input_shape)
                    x = x.contiguous(memory_format=torch.channels_last)
                    pair = [
                        _processor_seconds(partial(n, x)) for n in (views.network(subnet), alone)
                    ]
                    if turn:
                        ratios[batch].append(pair[0] / pair[1])
    shared = held(views.parameters())
    statistics = held(views.statistics.buffers())
    own = max(
        held([*views.network(s).parameters(), *views.parameters()]) - shared for s in views.subnets
    )
    apart = sum(
        held(supernet.extract(space.architecture(s.choices)).parameters()) for s in views.subnets
    )
    row: dict[str, Any] = {
        "space": name,
        "range": round(views.subnets[-1].macs / views.subnets[0].macs, 1),
        "switch ms": round(float(np.median(switches["views"])), 2),
        "95 %": round(float(np.quantile(switches["views"], 0.95)), 2),
        "copying ms": round(float(np.median(switches["copies"])), 2),
        "rebuilt ms": round(float(np.median(switches["rebuilt"])), 1),
    }
    for batch, found in ratios.items():
        row[f"slower, batch {batch}"] = round(float(np.median(found)), 3)
    return row | {
        "weights MB": round(shared / 1e6, 2),
        "own MB": round(own / 1e6, 2),
        "stats MB": round(statistics / 1e6, 3),
        "apart MB": round(apart / 1e6, 1),
    }


def made(name: str, count: int, seed: int) -> tuple[list[DynamicNetwork], Supernet]:
    """A dynamic network with views and one with copies, and the supernet of their weights."""
    torch.manual_seed(seed)
    space = load_space(name)
    supernet, tables = Supernet(space).eval(), CostTables(space)
    archs = [space.smallest, *space.decode(space.sample(count, seed)), space.largest]
    tensors: dict[str, Tensor] = {}
    for key, parameter in supernet.named_parameters():
        _, block, _, op, own = key.split(".")
        tensors[f"shared.{block}.{op}.{own}"] = parameter.detach()
    subnets = []
    for arch in archs:
        buffers = statistics(supernet.extract(arch))
        if buffers:
            flat = torch.cat([buffer.flatten() for buffer in buffers.values()])
            tensors[f"statistics.{arch.id}"] = flat
        shape, costs = space.input_shape(arch), tables.cost(arch)
        subnets.append(Subnet(arch.id, dict(arch), space.ops(arch), shape, costs, 0.5))
    about = {"mean": [0.5] * 3, "std": [0.25] * 3}
    return [DynamicNetwork(subnets, tensors, about, copies=c) for c in (False, True)], supernet


def held(tensors: Iterable[Tensor]) -> int:
    """Bytes of memory behind tensors; what several share counts once."""
    found = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in found}.values())


def _undisturbed(action: Callable[[], Any]) -> float | None:
    """Seconds of the first run that the system did not interrupt; None if it interrupted all."""
    for _ in range(TRIES):
        before = involuntary_switches()
        start = time.perf_counter()
        action()
        seconds = time.perf_counter() - start
        if involuntary_switches() == before:
            return seconds
    return None


def _processor_seconds(action: Callable[[], Any]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


if __name__ == "__main__":
    main()
