"""One network that switches between the subnets of a supernet while it runs."""

from __future__ import annotations

import copy
import io
import json
import shutil
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evaluators.accuracy.inherited import InheritedAccuracy
from evaluators.costs.tables import CostTables
from evaluators.data.files.images import load_data
from evaluators.data.images import ImageData
from nas.dynamic import saving
from nas.dynamic.files import CONFIG, WEIGHTS
from nas.dynamic.network import DynamicNetwork
from nas.dynamic.saving import save_dynamic
from nas.exports.folder import RECORD
from nas.supernet.shared_weights import Supernet
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError

SPACES = ["mobilenet-tiny", "vit-tiny"]
DEVICE = "latency_ms_board"


@cache
def digits() -> ImageData:
    data = load_data("digits")
    return data.only("train", "validation")


@cache
def evaluator_of(name: str) -> InheritedAccuracy:
    """Over weights away from their initial values, where errors would hide."""
    torch.manual_seed(0)
    data = digits()
    supernet = Supernet(load_space(name, image_size=8, channels=1, classes=10)).eval()
    for tensor in supernet.parameters():
        tensor.data += 0.03 * torch.randn_like(tensor)
    return InheritedAccuracy(supernet, data, data.train.images[:64])


def archs_of(name: str, count: int) -> list[Architecture]:
    space = evaluator_of(name).supernet.space
    return space.decode(space.sample(count, 0))


@cache
def tables_of(name: str) -> CostTables:
    space = evaluator_of(name).supernet.space
    return CostTables(space, prices={DEVICE: lambda ops: 1e-3 * sum(op.macs for op in ops) ** 0.5})


Saved = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The folder of a dynamic network of a space: six random subnets, the smallest, the largest."""
    place = tmp_path_factory.mktemp("dynamic")

    @cache
    def folder(name: str) -> Path:
        archs = archs_of(name, 6)
        # Accuracies that differ, as they would after a training.
        known = {a.id: 0.5 + 0.01 * i for i, a in enumerate(archs)}
        save_dynamic(evaluator_of(name), archs, tables_of(name), place / name, known=known)
        return place / name

    return folder


def images(count: int = 3, size: int = 11, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Bytes of every piece of memory behind tensors, by its address."""
    found = (tensor.untyped_storage() for tensor in tensors)
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def state(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


# What a subnet computes


@pytest.mark.parametrize("name", SPACES)
def test_every_subnet_computes_what_its_extracted_network_does(name: str, saved: Saved) -> None:
    network, evaluator = DynamicNetwork.load(saved(name)), evaluator_of(name)
    space = evaluator.supernet.space
    assert len(network.subnets) == 8
    for subnet in network.subnets:
        alone = evaluator.recalibrated(space.architecture(subnet.choices))
        assert network.use(subnet) is subnet
        x = images(4, subnet.resolution)
        assert network.input_shape == (1, subnet.resolution, subnet.resolution)
        with torch.no_grad():
            torch.testing.assert_close(network(x), alone(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SPACES)
def test_copied_weights_compute_the_same_and_are_contiguous(name: str, saved: Saved) -> None:
    views = DynamicNetwork.load(saved(name))
    copies = DynamicNetwork.load(saved(name), copies=True)
    for subnet in views.subnets:
        views.use(subnet)
        copies.use(subnet.id)
        torch.testing.assert_close(copies(images()), views(images()), rtol=1e-5, atol=1e-5)
        own = list(copies.network(subnet).parameters())
        assert all(p.is_contiguous() for p in own)
        assert not storages(own).keys() & storages(copies.parameters()).keys()


def test_images_of_any_size_are_resized_as_they_were_for_the_score(saved: Saved) -> None:
    network, evaluator = (
        DynamicNetwork.load(saved("mobilenet-tiny")),
        evaluator_of("mobilenet-tiny"),
    )
    space, data = evaluator.supernet.space, digits()
    for subnet in network.subnets[::3]:
        network.use(subnet)
        arch = space.architecture(subnet.choices)
        right = (network(data.validation.images).argmax(1) == data.validation.labels).double()
        assert float(right.mean()) == pytest.approx(evaluator(arch)["accuracy"], abs=1e-9)


def test_bytes_are_normalised_and_numbers_are_taken_as_normalised(saved: Saved) -> None:
    network, raw = DynamicNetwork.load(saved("vit-tiny")), digits().validation.images[:5]
    mean, std = (torch.tensor(network.config[name]) for name in ("mean", "std"))
    torch.testing.assert_close(network(raw), network((raw / 255 - mean) / std))


def test_inputs_that_are_no_images_of_its_channels_are_refused(saved: Saved) -> None:
    network = DynamicNetwork.load(saved("vit-tiny"))
    for shape in ((1, 8, 8), (2, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"expected images \(batch, 1, height, width\)"):
            network(torch.zeros(shape))


# One set of weights


@pytest.mark.parametrize("name", SPACES)
def test_tensors_of_the_active_subnet_are_views_of_the_shared_ones(name: str, saved: Saved) -> None:
    network = DynamicNetwork.load(saved(name))
    shared = storages(state(network))
    largest = network.subnets[-1].resolution
    counter = "num_batches_tracked"
    for subnet in network.subnets:
        active = network.network(subnet)
        for key, tensor in active.state_dict().items():
            if counter in key or tensor.untyped_storage().data_ptr() in shared:
                continue
            resampled = "positions" in key and subnet.resolution != largest
            assert ".qkv." in key or resampled, key


def test_a_view_follows_the_shared_weight(saved: Saved) -> None:
    network = DynamicNetwork.load(saved("mobilenet-tiny"))
    network.use(network.subnets[0])
    before = network(images())
    network.shared["head"]["classifier"].bias += 1  # type: ignore[index]
    torch.testing.assert_close(network(images()), before + 1)


@pytest.mark.parametrize("name", SPACES)
def test_memory_does_not_grow_with_the_number_of_subnets(name: str, tmp_path: Path) -> None:
    held = {}
    for count in (2, 12):
        archs, folder = archs_of(name, count), tmp_path / str(count)
        known = {a.id: 0.5 for a in archs}
        save_dynamic(evaluator_of(name), archs, tables_of(name), folder, known=known)
        network = DynamicNetwork.load(folder)
        for subnet in (*network.subnets, network.subnets[0]):
            network.use(subnet)
        active = network.network(network.subnets[0])
        everything = storages([*state(network), *state(active)])
        measured = storages(network.statistics.buffers())
        held[count] = sum(everything.values()) - sum(measured.values())
        # Statistics are the only thing that each subnet has, and they are small.
        assert sum(measured.values()) < 0.02 * (count + 2) * sum(everything.values())
    assert held[2] == held[12]


def test_parts_that_cannot_be_views_are_freed_by_the_switch(saved: Saved) -> None:
    network = DynamicNetwork.load(saved("vit-tiny"))
    network.use(network.subnets[0])
    own = [
        weakref.ref(tensor)
        for key, tensor in network._active[1].named_parameters()
        if ".qkv." in key or "positions" in key
    ]
    assert len(own) > 2
    assert all(ref() is not None for ref in own)
    network.use(network.subnets[-1])
    assert all(ref() is None for ref in own)


def test_shared_weights_are_in_the_file_once(saved: Saved) -> None:
    supernet = evaluator_of("vit-tiny").supernet
    assert isinstance(supernet, Supernet)
    parameters = sum(p.numel() * p.element_size() for p in supernet.parameters())
    assert (saved("vit-tiny") / WEIGHTS).stat().st_size < 1.02 * parameters + 10_000


@pytest.mark.parametrize("name", ["mobilenet-cifar", "vit-cifar", "mobilenet-imagenet"])
def test_the_smallest_and_largest_subnets_are_a_factor_of_twenty_apart(name: str) -> None:
    space = load_space(name)
    few, many = (
        sum(op.macs for _, ops in space.ops(arch) for op in ops)
        for arch in (space.smallest, space.largest)
    )
    assert many > 20 * few


def test_the_smallest_and_largest_subnets_are_saved(saved: Saved) -> None:
    network = DynamicNetwork.load(saved("vit-tiny"))
    space = evaluator_of("vit-tiny").supernet.space
    ends = (network.subnets[0], network.subnets[-1])
    assert [e.id for e in ends] == [space.smallest.id, space.largest.id]
    assert ends[1].macs > 20 * ends[0].macs


# Budgets


@settings(max_examples=60, deadline=None)
@given(macs=st.integers(10_000, 5_000_000), milliseconds=st.none() | st.floats(0.1, 3))
def test_the_most_accurate_subnet_within_the_budget_is_chosen(
    macs: int, milliseconds: float | None, saved: Saved
) -> None:
    network = loaded(saved("mobilenet-tiny"))
    within = [
        s
        for s in network.subnets
        if s.macs <= macs and (milliseconds is None or s.costs[DEVICE] <= milliseconds)
    ]
    before = network.active
    if not within:
        with pytest.raises(UserError, match="no subnet has at most"):
            network.set_budget(max_flops=macs, max_latency=milliseconds)
        assert network.active is before
        return
    chosen = network.set_budget(max_flops=macs, max_latency=milliseconds)
    assert chosen in within
    assert chosen is network.active
    assert all(s.accuracy <= chosen.accuracy for s in within)


loaded = cache(DynamicNetwork.load)


def test_budgets_read_as_people_write_them(saved: Saved) -> None:
    network = loaded(saved("mobilenet-tiny"))
    assert network.choose(max_flops="1M") is network.choose(max_flops=1_000_000)
    assert network.choose(max_latency="900us", device="board") is network.choose(max_latency=0.9)
    best = max(network.subnets, key=lambda s: s.accuracy)
    assert network.choose() is best
    assert DynamicNetwork.load(saved("mobilenet-tiny")).active.id == best.id


def test_a_budget_that_nothing_meets_names_the_nearest(saved: Saved) -> None:
    network = loaded(saved("mobilenet-tiny"))
    smallest = network.subnets[0]
    with pytest.raises(UserError, match=rf"{smallest.id}, has {smallest.macs:,} FLOPs"):
        network.set_budget(max_flops="1k")


def test_unknown_devices_and_subnets_are_refused(saved: Saved) -> None:
    network = loaded(saved("mobilenet-tiny"))
    with pytest.raises(UserError, match="did you mean 'board'"):
        network.set_budget(max_latency="5ms", device="bord")
    with pytest.raises(UserError, match="max_latency is missing"):
        network.set_budget(device="board")
    with pytest.raises(UserError, match="unknown subnet 'x'"):
        network.use("x")


def test_without_known_latencies_a_latency_is_refused(tmp_path: Path) -> None:
    name = "vit-tiny"
    evaluator = evaluator_of(name)
    tables = CostTables(evaluator.supernet.space)
    save_dynamic(evaluator, [], tables, tmp_path / "d")
    with pytest.raises(UserError, match="no latency is known"):
        DynamicNetwork.load(tmp_path / "d").set_budget(max_latency="5ms")


# While it runs


def test_passes_that_began_before_a_switch_end_with_their_subnet(saved: Saved) -> None:
    network = DynamicNetwork.load(saved("vit-tiny"))
    x = images(2)
    expected = []
    for subnet in network.subnets:
        network.use(subnet)
        expected.append(network(x))
    done, wrong, ran = threading.Event(), [], []

    def call() -> None:
        while not done.is_set():
            given = network(x)
            ran.append(1)
            if not any(torch.allclose(given, e, rtol=1e-5, atol=1e-6) for e in expected):
                wrong.append(given)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(150):
        network.use(network.subnets[turn % len(network.subnets)])
    done.set()
    for thread in threads:
        thread.join()
    assert ran
    assert not wrong


@pytest.mark.parametrize("name", SPACES)
def test_it_moves_copies_and_pickles_as_one(name: str, saved: Saved) -> None:
    network = DynamicNetwork.load(saved(name))
    network.use(network.subnets[2])
    expected = network(images())
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    for other in (copy.deepcopy(network), torch.load(file, weights_only=False)):
        assert other.active.id == network.active.id
        assert (other(images()) == expected).all()
        active = storages(other.network(other.active).parameters())
        assert not active.keys() & storages(state(network)).keys()
    double = network.double()
    torch.testing.assert_close(double(images().double()), expected.double(), rtol=1e-4, atol=1e-4)
    assert all(p.dtype == torch.double for p in double.network(double.active).parameters())


def test_loaded_state_is_that_of_the_active_subnet(saved: Saved) -> None:
    network = DynamicNetwork.load(saved("mobilenet-tiny"))
    state_dict = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    network.load_state_dict(state_dict, assign=True)
    assert not network(images()).any()


# The folder


def test_saving_leaves_nothing_behind_when_its_check_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match=r"outputs of subnet \w+ differ"):
        save_dynamic(evaluator_of("vit-tiny"), [], tables_of("vit-tiny"), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_a_full_folder_is_kept_unless_it_is_to_be_overwritten(tmp_path: Path) -> None:
    evaluator, tables = evaluator_of("vit-tiny"), tables_of("vit-tiny")
    own, place = tmp_path / "own", tmp_path / "network"
    own.mkdir()
    (own / "note").write_text("mine")
    for overwrite, said in ((False, "is not empty"), (True, "no export wrote it")):
        with pytest.raises(UserError, match=said):
            save_dynamic(evaluator, [], tables, own, overwrite=overwrite)
    assert (own / "note").read_text() == "mine"
    for overwrite in (False, True):
        save_dynamic(evaluator, [], tables, place, overwrite=overwrite)
        assert {p.name for p in place.iterdir()} == {CONFIG, WEIGHTS, RECORD}


def test_folders_that_are_no_dynamic_networks_are_one_line_errors(
    saved: Saved, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"it has no {CONFIG}"):
        DynamicNetwork.load(tmp_path)
    folder = Path(shutil.copytree(saved("mobilenet-tiny"), tmp_path / "d"))
    content = json.loads((folder / CONFIG).read_text())
    broken: list[tuple[dict[str, object], str]] = [
        ({"format_version": 0}, "format version"),
        ({"subnets": []}, "no subnets"),
        ({"subnets": [{"id": "x"}]}, "malformed"),
    ]
    for change, message in broken:
        (folder / CONFIG).write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match=message):
            DynamicNetwork.load(folder)
    (folder / CONFIG).write_text(json.dumps(content))
    shutil.copy(saved("vit-tiny") / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(UserError, match="do not fit its subnets"):
        DynamicNetwork.load(folder)
    (folder / WEIGHTS).write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot read"):
        DynamicNetwork.load(folder)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "subnets are a word": lambda c: c.update(subnets="all"),
    "a subnet is a number": lambda c: c["subnets"].__setitem__(0, 3),
    "an id is a number": lambda c: c["subnets"][0].update(id=3),
    "two subnets of one id": lambda c: c["subnets"][1].update(id=c["subnets"][0]["id"]),
    "choices are a list": lambda c: c["subnets"][0].update(choices=[]),
    "accuracy is a word": lambda c: c["subnets"][0].update(accuracy="high"),
    "accuracy is NaN": lambda c: c["subnets"][0].update(accuracy=float("nan")),
    "no macs": lambda c: c["subnets"][0]["costs"].pop("macs"),
    "endless macs": lambda c: c["subnets"][0]["costs"].update(macs=float("inf")),
    "another input": lambda c: c["subnets"][0].update(input_shape=[3, 8, 8]),
    "the input is a number": lambda c: c["subnets"][0].update(input_shape=3),
    "no mean": lambda c: c.pop("mean"),
    "std is a word": lambda c: c.update(std="one"),
    "the network is a word": lambda c: c["subnets"][0].update(network="Conv2d"),
    "no blocks": lambda c: c["subnets"][0].update(network=[]),
    "a gigantic size": lambda c: op_of(c).update(out_shape=[10**12, 8, 8]),
    "stride 0": lambda c: op_of(c).update(stride=0),
    "an unknown op": lambda c: op_of(c).update(type="Conv9d"),
    "a missing block": lambda c: c["subnets"][0]["network"].pop(),
}


def op_of(config: Any) -> Any:
    """The first convolution of the first subnet."""
    ops = (op for block in config["subnets"][0]["network"] for op in block["ops"])
    return next(op for op in ops if op["type"] == "Conv2d")


@pytest.mark.parametrize("change", CHANGES)
def test_changed_descriptions_are_refused_in_one_line(
    saved: Saved, tmp_path: Path, change: str
) -> None:
    folder = Path(shutil.copytree(saved("mobilenet-tiny"), tmp_path / "d"))
    content = json.loads((folder / CONFIG).read_text())
    CHANGES[change](content)
    (folder / CONFIG).write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        DynamicNetwork.load(folder)
    assert "\n" not in str(caught.value)
