"""FLOPs-aware training against scaling the same network down in width, at the same FLOPs.

    python benchmarks/flops_aware.py
    python benchmarks/flops_aware.py --data DIR --space mobilenet-cifar --epochs 20

One network of a space is trained, then brought to 50 % and 70 % of its FLOPs by `nas train
--target-flops`'s own function. The peer is the network whose widths were all scaled by one factor
(the largest that fits), trained from scratch for as many epochs as the other has had in all. Test
accuracy, several seeds; both of a pair in the same run. `--data` takes what `nas search --data`
takes: a folder of parquet files, for instance CIFAR-10.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from report import emit  # before torch: it sets how threads wait

import torch

from evaluators.data.images import accuracy, input_batches
from evaluators.accuracy.recalibration import recalibrate
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData
from evaluators.costs.gated_costs import GatedMacs, network_costs
from nas.training.loop import Recipe, recipe_for
from nas.pruning.flops_aware import PruningTarget, prune
from nas.training.network import train
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.cutting.cut_ops import Kept, cut_ops
from search_spaces.cutting.tied_features import TiedFeatures, tie_features
from search_spaces.networks.modules import Network, channels_last
from search_spaces.serial import Blocks
from search_spaces.space import SearchSpace

CALIBRATION_IMAGES = 512


def main() -> None:
    """Print accuracy and share of the target for each part of the FLOPs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--space", default="mobilenet-tiny")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.7])
    parser.add_argument("--epochs", type=float, default=20.0, help="of each of the two trainings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--images", type=int, help="number of training images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = load_data(arguments.data)
    if arguments.images:
        order = torch.randperm(
            len(data.train), generator=torch.Generator().manual_seed(arguments.seed)
        )
        data = replace(data, train=data.train[order[: arguments.images]])
    space = load_space(
        arguments.space,
        image_size=data.image_size,
        channels=data.channels,
        classes=len(data.classes),
    )
    arch = _middle(space, arguments.seed)
    blocks, size = space.ops(arch), space.input_shape(arch)[-1]
    features = tie_features(blocks)
    costs = GatedMacs(features)
    recipe = recipe_for(space, arguments.epochs)
    longer = recipe_for(space, 2 * arguments.epochs)
    results: dict[float, list[dict[str, float]]] = {share: [] for share in arguments.shares}
    whole = []
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        torch.manual_seed(seed)
        network = channels_last(Network(blocks))
        train(network, data.batches(), recipe, (data.channels, size, size), seed=seed)
        whole.append(_score(network, data, size))
        trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for share in arguments.shares:
            target = round(share * costs.whole)
            network.load_state_dict(trained)
            pruned = prune(
                network,
                blocks,
                data,
                PruningTarget(macs=target),
                recipe,
                size=size,
                seed=seed,
                calibration=_calibration(data, size),
            )
            scaled = _scaled(features, costs, target)
            results[share].append(
                {
                    "ours": _score(pruned.network, data, size),
                    "of target": pruned.report.share_of_target,
                    "peer": _peer(scaled, data, longer, size, seed),
                    "peer of target": network_costs(scaled)["macs"] / target,
                }
            )
    rows = []
    for share, pairs in results.items():
        ours, peer = (100 * np.array([pair[name] for pair in pairs]) for name in ("ours", "peer"))
        gap = ours - peer
        rows.append(
            {
                "FLOPs": f"{share:.0%}",
                "target": round(share * costs.whole),
                "before": _spread(100 * np.array(whole)),
                "flops-aware": _spread(ours),
                "of target": _range([pair["of target"] for pair in pairs]),
                "width scaled": _spread(peer),
                "its share": _range([pair["peer of target"] for pair in pairs]),
                "gap": _spread(gap),
            }
        )
    settings = vars(arguments) | {
        "data": data.name,
        "architecture": arch.id,
        "macs": costs.whole,
        "training images": len(data.train),
        "test images": len(data.test),
        "epochs of each side": 2 * arguments.epochs,
    }
    emit("flops_aware", rows, settings, arguments.json)


def _middle(space: SearchSpace, seed: int) -> Architecture:
    """The one of the median MACs of a sample: neither all its widths are least, nor most."""
    archs = space.decode(space.sample(101, seed))
    return sorted(archs, key=lambda arch: network_costs(space.ops(arch))["macs"])[50]


def _scaled(features: TiedFeatures, costs: GatedMacs, target: int) -> Blocks:
    """The blocks with every group cut to the same share, the largest within the target."""

    def kept(factor: float) -> Kept:
        units = np.zeros(features.count, dtype=bool)
        for group in features.groups:
            units[group.units[: max(1, round(factor * len(group.units)))]] = True
        return Kept(units, np.ones(len(features.branches), dtype=bool))

    factors = np.linspace(0.02, 1.0, 491)
    within = [kept(factor) for factor in factors if costs.count(kept(factor)) <= target]
    return cut_ops(features, within[-1])


def _peer(blocks: Blocks, data: ImageData, recipe: Recipe, size: int, seed: int) -> float:
    torch.manual_seed(seed)
    network = channels_last(Network(blocks))
    train(network, data.batches(), recipe, (data.channels, size, size), seed=seed)
    return _score(network, data, size)


def _calibration(data: ImageData, size: int) -> list[torch.Tensor]:
    images = data.train.images[:CALIBRATION_IMAGES]
    return list(input_batches(images, data.normalisation, size, torch.device("cpu")))


def _score(network: torch.nn.Module, data: ImageData, size: int) -> float:
    """Test accuracy, batch norms measured in the same way for all."""
    recalibrate(network, _calibration(data, size))
    return accuracy(network, data.test, data.normalisation, size)


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.2f} ± {values.std(ddof=1) if len(values) > 1 else 0:.2f}"


def _range(values: list[float]) -> str:
    return f"{min(values):.1%} to {max(values):.1%}"


if __name__ == "__main__":
    main()
