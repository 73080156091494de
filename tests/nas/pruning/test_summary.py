"""Reports of FLOPs-aware training: counts before and after a cut, and their JSON form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from evaluators.costs.gated_costs import network_costs
from nas.pruning.summary import AccuracyChange, Change, MultiplierPoint, PruningReport, summarise
from search_spaces.catalogue import load_space
from search_spaces.cutting.cut_ops import Kept, cut_ops
from search_spaces.cutting.tied_features import tie_features


def report() -> PruningReport:
    """Every second unit of each group of a network is cut, and its first residual branch."""
    space = load_space("mobilenet-tiny", image_size=8, channels=1)
    blocks = space.ops(space.largest)
    features = tie_features(blocks)
    units = np.zeros(features.count, dtype=bool)
    for group in features.groups:
        units[group.units[::2]] = True
    branches = np.ones(len(features.branches), dtype=bool)
    branches[:1] = False
    kept = Kept(units, branches)
    trajectory = (MultiplierPoint(1, 0.0, 900), MultiplierPoint(2, 0.5, 500))
    found = summarise(features, blocks, kept, 500_000, None, trajectory)
    after = network_costs(cut_ops(features, kept))
    assert found.macs == Change(network_costs(blocks)["macs"], after["macs"])
    assert found.params.after == after["params"]
    assert found.units["residual blocks"].after == len(features.branches) - 1
    assert found.units["channels"].before == sum(
        len(group.units) for group in features.groups if group.kind == "channels"
    )
    return found


def test_a_report_has_the_keys_that_exported_networks_contain() -> None:
    content = report().to_json()
    assert list(content) == [
        "macs",
        "params",
        "memory",
        "units",
        "target",
        "share_of_target",
        "penalty",
        "lambda",
        "trajectory",
        "fixed",
    ]
    assert content["share_of_target"] == content["macs"]["after"] / 500_000
    assert content["lambda"] == 0.5
    assert content["trajectory"][0] == {"step": 1, "lambda": 0.0, "macs": 900}


def test_a_report_is_read_back_from_its_json() -> None:
    scored = replace(report(), accuracy=AccuracyChange(0.9, 0.8))
    for written in (report(), scored):
        content = written.to_json()
        read = PruningReport.from_json(json.loads(json.dumps({"from": "abc", **content})))
        assert read == written
        assert read.to_json() == content
    accuracy = scored.to_json()["accuracy"]
    assert accuracy["per_mmac"]["before"] == 100 * 0.9 / (scored.macs.before / 1e6)
