"""What dropping tokens saves in time, and what it costs in accuracy.

    python benchmarks/token_pruning.py --threads 1
    python benchmarks/token_pruning.py --threads 1 --data DIR

Time: a transformer of DeiT-S's size and BERT-base at 128 tokens, with random weights, keeping all
tokens, 0.7 and 0.5 of them at a quarter, a half and three quarters of the depth. The three run in
turn, so that a drifting machine is divided out; a ratio is the median over rounds.

Accuracy, where there is `--data` (CIFAR-10 as parquet): a small vision transformer trained shortly
on a part of it, once with pruned subnets in the sandwich and once without, as many steps; both
then scored on the test images with tokens kept by attention, and beside it with as many kept at
random.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from report import emit  # before torch: it sets how threads wait

import torch
from torch import Tensor, nn

from evaluators.data.images import accuracy
from evaluators.data.images import ImageBatches
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData, Split
from hardware_profiles.measuring.runtimes import runner
from nas.training.loop import fit, recipe_for
from nas.supernet.shared_weights import Supernet
from nas.supernet.sandwich import sandwich
from nas.training.network import train
from search_spaces.architecture import Architecture, Value
from search_spaces.spaces.bert import bert
from search_spaces.networks.keep_tokens import KeepTokensModule
from search_spaces.networks.modules import build
from search_spaces.space import Choice, SearchSpace
from search_spaces.spaces.vit import vit

RATES = (1.0, 0.7, 0.5)
ROUNDS = {1: 11, 16: 3, 64: 3}
"""Rounds by batch size."""

ONNXRUNTIME_BATCHES = (1, 16)

TRAINED_IMAGES, EPOCHS, BATCH = 16_384, 4.0, 64


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder or file of CIFAR-10 as parquet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="folder of the JSON files")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = vars(arguments)

    def place(name: str) -> Path | None:
        return None if arguments.json is None else arguments.json / f"{name}.json"

    if arguments.data is not None:
        started = time.process_time()
        rows = accuracies(load_data(arguments.data), arguments.seed)
        used = {"CPU minutes": round((time.process_time() - started) / 60, 1)}
        emit("token_pruning_accuracy", rows, settings | used, place("token_pruning_accuracy"))
    rows = [
        row
        for name, spaces in (("DeiT-S", deit()), ("BERT-base, 128 tokens", base()))
        for row in times(name, spaces, arguments.threads)
    ]
    emit("token_pruning", rows, settings, place("token_pruning"))


def deit() -> dict[float, tuple[SearchSpace, Architecture]]:
    """DeiT-S (Touvron et al., 2021) by keep rate."""
    found = {}
    for rate in RATES:
        space = vit("imagenet", keep_rates=(rate,))
        values = {**space.largest, "resolution": 224, "width": 384, "depth": 12}
        for layer in range(12):
            values |= {f"block{layer}_{k}": v for k, v in (("heads", 6), ("mlp_ratio", 4.0))}
        found[rate] = (space, space.architecture(values))
    return found


def base() -> dict[float, tuple[SearchSpace, Architecture]]:
    """BERT-base by keep rate."""
    spaces = {rate: bert(sequence=128, classes=2, keep_rates=(rate,)) for rate in RATES}
    return {rate: (space, space.largest) for rate, space in spaces.items()}


def times(
    name: str, networks: Mapping[float, tuple[SearchSpace, Architecture]], threads: int
) -> list[dict[str, Any]]:
    """A row for each runtime, batch size and rate."""
    blocks = {rate: space.ops(arch) for rate, (space, arch) in networks.items()}
    macs = {rate: sum(op.macs for _, ops in b for op in ops) for rate, b in blocks.items()}
    rows = []
    for runtime in ("torch", "onnxruntime"):
        for batch, rounds in ROUNDS.items():
            if runtime == "onnxruntime" and batch not in ONNXRUNTIME_BATCHES:
                continue
            runs = {
                rate: runner(b, runtime, threads=threads, batch=batch) for rate, b in blocks.items()
            }
            for run in runs.values():
                run()
            taken = np.array([[_seconds(run) for run in runs.values()] for _ in range(rounds)])
            ratios = taken / taken[:, :1]
            for index, rate in enumerate(runs):
                low, middle, high = np.quantile(ratios[:, index], [0.25, 0.5, 0.75])
                rows.append(
                    {
                        "network": name,
                        "runtime": runtime,
                        "batch": batch,
                        "keep rate": rate,
                        "GMACs": round(macs[rate] / 1e9, 3),
                        "MACs ratio": round(macs[rate] / macs[1.0], 3),
                        "ms": round(1e3 * float(np.median(taken[:, index])), 1),
                        "time ratio": round(float(middle), 3),
                        "quartiles": f"{low:.2f}-{high:.2f}",
                    }
                )
    return rows


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def accuracies(data: ImageData, seed: int) -> list[dict[str, Any]]:
    """A row for each training and rate."""
    whole = vit("tiny", image_size=32, classes=len(data.classes), keep_rates=RATES)
    fixed = {name: whole.largest[name] for name in whole.largest if "keep" not in name}
    fixed |= {name: 2.0 for name in fixed if "mlp_ratio" in name}
    space = replace(whole, choices=tuple(_fixed(choice, fixed) for choice in whole.choices))
    shape = space.input_shape(space.largest)
    generator = torch.Generator().manual_seed(seed)
    part = torch.randperm(len(data.train), generator=generator)[:TRAINED_IMAGES]
    batches = ImageBatches.of(data, data.train[part])
    recipe = recipe_for(space, EPOCHS, batch_size=BATCH)
    torch.manual_seed(seed)
    supernet = Supernet(space)
    plain = build(space, space.largest)
    plain.load_state_dict(supernet.extract(space.largest).state_dict())
    fit(
        supernet,
        batches,
        recipe,
        sandwich(supernet, recipe, seed=seed, random_subnets=1),
        seed=seed,
    )
    train(plain, batches, recipe, shape, seed=seed)
    rows = []
    for trained, weights in (("with pruning", supernet.extract(space.largest)), ("without", plain)):
        for rate in RATES:
            keeps = {choice.name: rate for choice in space.choices if "keep" in choice.name}
            arch = space.architecture({**space.largest, **keeps})
            network = build(space, arch)
            network.load_state_dict(weights.state_dict())
            by_attention = _accuracy(network, data.test, data, shape[-1])
            rows.append(
                {
                    "trained": trained,
                    "keep rate": rate,
                    "MACs": sum(op.macs for _, ops in space.ops(arch) for op in ops),
                    "test accuracy": by_attention,
                    "kept at random": _accuracy(_random(network, seed), data.test, data, shape[-1]),
                }
            )
    return rows


def _accuracy(network: nn.Module, split: Split, data: ImageData, size: int) -> float:
    return round(accuracy(network, split, data.normalisation, size), 4)


def _fixed(choice: Choice, values: Mapping[str, Value]) -> Choice:
    """The choice with one option where a value is given, active everywhere."""
    options = (values[choice.name],) if choice.name in values else choice.options
    return Choice(choice.name, options)


def _random(network: nn.Module, seed: int) -> nn.Module:
    """The network with random scores in place of attention; changed in place."""
    generator = torch.Generator().manual_seed(seed)

    def scores(*attended: Tensor, head_mask: Tensor | None = None) -> Tensor:
        return torch.rand(attended[0].shape[:2], generator=generator)

    for module in network.modules():
        if isinstance(module, KeepTokensModule):
            module.scores = scores  # type: ignore[method-assign]
    return network


if __name__ == "__main__":
    main()
