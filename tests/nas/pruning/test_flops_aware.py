"""FLOPs-aware training of one network: targets, resuming, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import nas
from evaluators.costs.gated_costs import GatedMacs
from evaluators.counting.torch_counter import count_module
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData, accuracy, subset
from nas.cli import main
from nas.commands.training.cut import print_cut
from nas.engine.search import Outcome
from nas.pruning.flops_aware import PruningResult, PruningTarget, prune
from nas.pruning.summary import PruningReport
from nas.training.checkpoint import read_checkpoint, write_checkpoint
from nas.training.loop import recipe_for
from search_spaces.catalogue import load_space
from search_spaces.cutting.tied_features import tie_features
from search_spaces.errors import UserError
from search_spaces.networks.modules import build
from search_spaces.serial import Blocks


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits")


def blocks_of(name: str) -> tuple[Blocks, int]:
    space = load_space(name, image_size=8, channels=1)
    (arch,) = space.decode(space.sample(1, 5))
    return space.ops(arch), space.input_shape(arch)[-1]


def pruned(
    data: ImageData,
    name: str,
    target: PruningTarget,
    checkpoint: Path | None = None,
    epochs: float = 2.0,
) -> PruningResult:
    space = load_space(name, image_size=8, channels=1)
    (arch,) = space.decode(space.sample(1, 5))
    torch.manual_seed(0)
    network = build(space, arch)
    recipe = recipe_for(space, epochs)
    return prune(
        network,
        space.ops(arch),
        data,
        target,
        recipe,
        size=space.input_shape(arch)[-1],
        seed=1,
        split=subset(data.train, 320, seed=0),
        checkpoint=checkpoint,
    )


@pytest.mark.parametrize("name", ["mobilenet-tiny", "vit-tiny"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_training_to_a_target_ends_at_95_to_100_percent_of_it(
    data: ImageData, name: str, share: float
) -> None:
    blocks, size = blocks_of(name)
    target = round(share * GatedMacs(tie_features(blocks)).whole)
    result = pruned(data, name, PruningTarget(macs=target))
    counted = count_module(result.network, [torch.zeros(1, 1, size, size)]).macs
    assert counted == sum(op.macs for _, ops in result.blocks for op in ops)
    assert counted == result.report.macs.after
    assert 0.95 * target <= counted <= target
    assert result.report.share_of_target == counted / target
    assert result.report.params.after == sum(p.numel() for p in result.network.parameters())
    assert all(point.multiplier >= 0 for point in result.report.trajectory)
    assert not result.network.training
    assert all(module.training is False for module in result.network.modules())


def test_a_target_of_the_whole_network_cuts_nothing(data: ImageData) -> None:
    blocks, _ = blocks_of("mobilenet-tiny")
    whole = GatedMacs(tie_features(blocks)).whole
    report = pruned(data, "mobilenet-tiny", PruningTarget(macs=whole), epochs=0.5).report
    assert 0.95 * whole <= report.macs.after <= whole


def test_a_larger_penalty_keeps_fewer_macs(data: ImageData) -> None:
    small, large = (
        pruned(data, "mobilenet-tiny", PruningTarget(penalty=penalty)).report
        for penalty in (0.0, 30.0)
    )
    assert large.macs.after < 0.7 * small.macs.after
    assert large.target is None
    assert {point.multiplier for point in large.trajectory} == {30.0}


@pytest.mark.parametrize("part", ["gates", "tuning"])
def test_a_killed_training_resumes_to_the_same_network(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    target = PruningTarget(
        macs=round(0.6 * GatedMacs(tie_features(blocks_of("mobilenet-tiny")[0])).whole)
    )
    whole = pruned(data, "mobilenet-tiny", target)

    class Killed(Exception):
        pass

    written: list[str] = []

    def save_and_die(path: Path, packed: bytes) -> None:
        write_checkpoint(path, packed)
        written.append(path.name)
        if part in path.name and written.count(path.name) == 3:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("nas.training.checkpoint.write_checkpoint", save_and_die)
        patched.setattr("nas.training.loop.time.monotonic", iter(range(0, 10**9, 1000)).__next__)
        with pytest.raises(Killed):
            pruned(data, "mobilenet-tiny", target, tmp_path / "run")
    resumed = pruned(data, "mobilenet-tiny", target, tmp_path / "run")
    assert resumed.report == whole.report
    expected = whole.network.state_dict()
    for key, value in resumed.network.state_dict().items():
        assert torch.equal(value, expected[key]), key


def test_both_parts_train_at_the_rate_of_a_first_training(data: ImageData, tmp_path: Path) -> None:
    pruned(data, "mobilenet-tiny", PruningTarget(penalty=1.0), tmp_path / "run", epochs=0.5)
    given = recipe_for(load_space("mobilenet-tiny", image_size=8, channels=1), 0.5)
    for part in ("gates", "tuning"):
        recipe = read_checkpoint(tmp_path / f"run-{part}.pt")["identity"]["recipe"]
        assert recipe["learning_rate"] == given.learning_rate


def test_a_checkpoint_of_another_target_is_refused(data: ImageData, tmp_path: Path) -> None:
    pruned(data, "mobilenet-tiny", PruningTarget(penalty=1.0), tmp_path / "run", epochs=0.5)
    with pytest.raises(UserError, match="penalty-1, not penalty-2"):
        pruned(data, "mobilenet-tiny", PruningTarget(penalty=2.0), tmp_path / "run", epochs=0.5)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target-flops", "1G"], "above the network's own"),
        (["--target-flops", "10"], "the least that this network can be cut to is"),
        (["--target-flops", "9k", "--flops-penalty", "1"], "not both"),
        (["--flops-penalty", "-1"], "the FLOPs penalty is -1, expected 0 or more"),
        (["--flops-penalty", "inf"], "the FLOPs penalty is inf, expected 0 or more"),
        (["--target-flops", "0"], "must be above zero"),
        (["--flops-penalty", "1", "--epochs", "0"], "--epochs is 0"),
    ],
)
def test_a_wrong_target_is_one_line_and_writes_nothing(
    copied: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(copied.rglob("*"))
    assert run("train", str(copied), *arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert set(copied.rglob("*")) == before


def test_a_cut_network_is_scored_exported_and_loaded_back(
    copied: Path, finished: Outcome, capsys: pytest.CaptureFixture[str], data: ImageData
) -> None:
    arch = finished.winner.arch
    target = round(0.6 * finished.winner.metrics["macs"])
    command = ["train", str(copied), "--target-flops", str(target), "--quiet"]
    assert run(*command, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    folder = Path(result["folder"])
    network = nas.load(folder)
    size = network.config["input_shape"][-1]
    assert count_module(network, [torch.zeros(1, 1, size, size)]).macs == result["macs"]
    assert 0.95 * target <= result["macs"] <= target
    assert network.config["costs"]["macs"] == result["macs"]
    assert network.config["cut"]["from"] == network.config["architecture"]["id"] == arch.id
    assert accuracy(network, data.test, data.normalisation, size) == result["test_accuracy"]
    before = nas.load(copied / "winner").config["metrics"]["test_accuracy"]
    assert result["cut"]["accuracy"]["before"] == before
    assert (folder / "model.onnx").exists()
    # What is exported under the architecture's id is still the architecture.
    assert (
        run("export", str(copied), "--out", str(copied / "taken"), "--format", "safetensors") == 0
    )
    assert "cut" not in nas.load(copied / "taken").config
    assert run(*command) == 2  # the folder is not empty
    report = PruningReport.from_json(result["cut"])
    assert report.to_json() == result["cut"]
    print_cut(arch.id, report, folder, result["test_images"], as_json=False)
    printed = capsys.readouterr().out
    assert "of the target of" in printed
    assert "not cut: head/classifier, the network's output" in printed
