"""Monitoring a running network: exact totals, times by module, and no side effects."""

from __future__ import annotations

import json
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evaluators.counting import monitor as monitors
from evaluators.counting.monitor import ComputeMonitor
from evaluators.counting.torch_counter import count_module


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))


def step(net: nn.Module, batch: int = 4) -> None:
    net(torch.randn(batch, 3, 8, 8)).sum().backward()


def test_totals_are_the_counts_of_all_passes() -> None:
    net = network()
    with ComputeMonitor(net, watts=10.0) as monitor:
        for _ in range(3):
            step(net)
        step(net, batch=2)
        net.eval()
        with torch.no_grad():
            net(torch.randn(4, 3, 8, 8))
    x = torch.zeros(4, 3, 8, 8)
    training = count_module(net, [x], backward=True).macs
    inference = count_module(net, [x]).macs
    totals = monitor.totals()
    assert totals["passes"] == 5
    assert totals["macs"] == 3 * training + training // 2 + inference
    assert totals["joules"] == pytest.approx(10.0 * (totals["seconds"] or 0))
    seconds = totals["seconds"] or 0
    assert totals["flops_per_second"] == pytest.approx(2 * (totals["macs"] or 0) / seconds)


def test_windows_go_to_the_log_and_the_callback(tmp_path: Path) -> None:
    net = network()
    seen: list[Any] = []
    log = tmp_path / "compute.jsonl"
    with ComputeMonitor(net, log=log, on_window=seen.append, every=4) as monitor:
        for _ in range(10):
            step(net)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines == seen
    assert [line["pass"] for line in lines] == [4, 8, 10]
    assert sum(line["macs"] for line in lines) == monitor.totals()["macs"]


def test_traces_divide_the_time_among_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "FIRST_TRACE_SECONDS", 0.0)
    net = network()
    with ComputeMonitor(net, overhead=0.9) as monitor:
        for _ in range(6):
            step(net)
    assert monitor.traces >= 1
    assert monitor.count is not None
    nodes = dict(monitor.count.root.walk())
    assert nodes["0"].forward_seconds
    assert nodes["0"].backward_seconds
    assert nodes["3"].forward_seconds


def test_nothing_stays_on_the_network_even_after_an_error() -> None:
    net = network()
    with pytest.raises(RuntimeError, match="shape"), ComputeMonitor(net):
        net(torch.randn(4, 3, 9, 9))
    assert not net._forward_pre_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_networks_that_cannot_be_counted_still_run() -> None:
    class Depends(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x > 0]

    net = nn.Sequential(nn.Identity(), Depends()).eval()
    with ComputeMonitor(net) as monitor:
        assert net(torch.tensor([1.0, -1.0])).tolist() == [1.0]
    assert monitor.totals()["passes"] == 1
    assert monitor.problem is not None
    assert "module '1'" in monitor.problem


def test_time_outside_is_not_counted() -> None:
    net = network()
    monitor = ComputeMonitor(net)
    for _ in range(2):
        with monitor:
            step(net)
        time.sleep(0.2)
        step(net)
    totals = monitor.totals()
    assert totals["passes"] == 2
    assert (totals["seconds"] or 0) < 0.2


def test_results_are_those_without_the_monitor() -> None:
    net = network()
    x = torch.randn(2, 3, 8, 8)
    expected = net(x)
    with ComputeMonitor(net):
        assert torch.equal(net(x), expected)


class Subnets(nn.Module):
    """Runs as many of its layers as an attribute or an argument says."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.active = 4
        self.depths = [4]
        self.steps = 0

    def forward(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        self.steps += 1
        for layer in self.layers[: min(depth or self.active, self.depths[0])]:
            x = layer(x)
        return x


def test_each_path_of_inputs_of_one_shape_is_counted() -> None:
    net, x = Subnets(), torch.randn(2, 8)
    changes: list[Any] = [
        lambda: net(x),
        lambda: net(x, depth=1),
        lambda: net(x, 2),
        lambda: setattr(net, "active", 3) or net(x),
        lambda: net.depths.__setitem__(0, 1) or net(x),
        lambda: setattr(net.layers, "0", nn.Linear(8, 16)) or net(x),
    ]
    with torch.no_grad(), ComputeMonitor(net, overhead=0) as monitor:
        for change in changes:
            change()
    assert monitor.totals()["macs"] == 2 * 64 * (4 + 1 + 2 + 3 + 1 + 2)
    assert monitor.problem is None


def test_frozen_layers_are_counted_without_their_gradients() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    x = torch.randn(2, 8)
    with ComputeMonitor(net, overhead=0) as monitor:
        net(x).sum().backward()
        net[0].requires_grad_(False)
        net(x).sum().backward()
        net[1].eval()
        net(x).sum().backward()
    # Forward, gradients of weights, and of the input of the second layer: 5; later 3 each.
    assert monitor.totals()["macs"] == 2 * 64 * (5 + 3 + 3)


def test_an_attribute_that_changes_in_each_pass_is_counted_thrice_and_named() -> None:
    net, x = Subnets(), torch.randn(2, 8)
    counts: list[int] = []
    with torch.no_grad(), ComputeMonitor(net, overhead=0) as monitor:
        for _ in range(20):
            net(x)
            counts.append(len(monitor._macs_of))
    assert monitor.totals()["macs"] == 20 * 2 * 64 * 4
    assert counts[-1] < 8
    assert monitor.ignored == {"steps"}
    net.active = 1
    with torch.no_grad(), monitor:
        net(x)
    assert monitor.totals()["macs"] == 2 * 64 * (20 * 4 + 1)


class Switched(nn.Module):
    """Runs as many layers as a buffer says."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("active", torch.tensor(1))
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        for layer in self.layers[: int(self.active)]:
            x = layer(x)
        result: torch.Tensor = self.norm(x)
        return result


def test_a_buffer_that_chooses_the_path_is_followed() -> None:
    net, x = Switched(), torch.randn(2, 8)
    with torch.no_grad(), ComputeMonitor(net, overhead=0) as monitor:
        for active in (1, 1, 1, 1, 1, 4, 4, 2):
            net.active.fill_(active)
            net(x)
    assert monitor.totals()["macs"] == (5 * 1 + 2 * 4 + 2) * 2 * 64
    assert monitor.ignored == {"passes"}


class Reads(nn.Module):
    """Runs as many of its four layers as a function of it says."""

    def __init__(self, depth: Callable[[Any], int], **parts: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        self.depth = depth
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[: int(self.depth(self))]:
            x = layer(x)
        return x


class OfItsClass(Reads):
    active = 1


def settings(holder: Any, read: Callable[[Any], int], write: Callable[[Any], Any]) -> Any:
    net = Reads(lambda n: read(n.holder), holder=holder)
    return net, lambda: write(holder)


WAYS: dict[str, Any] = {
    "an object": settings(
        SimpleNamespace(active=1), lambda h: h.active, lambda h: setattr(h, "active", 4)
    ),
    "an array": settings(np.array([1]), lambda h: int(h[0]), lambda h: h.__setitem__(0, 4)),
    "a tensor in a list": settings([torch.tensor(1)], lambda h: int(h[0]), lambda h: h[0].fill_(4)),
    "a queue": settings(deque([1]), lambda h: h[0], lambda h: h.__setitem__(0, 4)),
    "a dictionary": settings(OrderedDict(a=1), lambda h: h["a"], lambda h: h.update(a=4)),
    "a long list": settings([1] + [0] * 99, lambda h: h[0], lambda h: h.__setitem__(0, 4)),
    "a parameter": settings(
        nn.Parameter(torch.tensor(1.0)), lambda h: int(h), lambda h: h.data.fill_(4)
    ),
    "many values": settings(
        nn.Parameter(torch.eye(9)[0]),
        lambda h: int(h.argmax()) + 1,
        lambda h: h.copy_(torch.eye(9)[3]),
    ),
    "a mask": settings(
        nn.Buffer(torch.eye(99)[0]), lambda h: int(h.sum()), lambda h: h.data[:4].fill_(1)
    ),
    "its class": (OfItsClass(lambda n: n.active), lambda: setattr(OfItsClass, "active", 4)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_path_that_anything_of_the_network_decides_is_followed(way: str) -> None:
    net, change = WAYS[way]
    x = torch.randn(2, 8)
    with torch.no_grad(), ComputeMonitor(net, overhead=0) as monitor:
        net(x)
        net(x)
        change()
        net(x)
    assert monitor.totals()["macs"] == 2 * 64 * (1 + 1 + 4)
    assert (monitor.problem, monitor.ignored) == (None, set())


def test_layers_that_are_cut_hooked_or_of_another_class_are_counted_again() -> None:
    net, x, more = Reads(lambda n: 1), torch.randn(2, 8), nn.Linear(8, 8)
    with torch.no_grad(), ComputeMonitor(net, overhead=0) as monitor:
        for _ in range(5):
            hook = net.layers[0].register_forward_hook(lambda layer, inputs, out: more(out))
            net(x)
            hook.remove()
            net(x)
        assert len(monitor._macs_of) == 2
        net.__class__ = type("Deeper", (Reads,), {"forward": lambda n, x: n.layers(x)})
        net.layers = nn.Sequential(*net.layers)
        net(x)
        last = net.layers[3]
        last.weight.data, last.bias.data = last.weight.data[:4], last.bias.data[:4]
        net(x)
    assert monitor.totals()["macs"] == 2 * (5 * 2 * 64 + 5 * 64 + 4 * 64 + 3 * 64 + 32)


class Takes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(8, 8), nn.Linear(8, 16)

    def forward(self, given: Any, more: Any = None) -> Any:
        if isinstance(given, torch.Tensor):
            return given @ more
        if isinstance(given, SimpleNamespace):
            return self.narrow(given.x)
        return self.narrow(given["a"]) if "a" in given else self.wide(given["b"])


def test_the_structure_and_contents_of_inputs_decide() -> None:
    net, x = Takes(), torch.randn(2, 8)
    with torch.no_grad(), ComputeMonitor(net, overhead=0) as monitor:
        net({"a": x})
        net({"b": x})
        net(SimpleNamespace(x=x))
        net(SimpleNamespace(x=torch.randn(5, 8)))
        net(torch.eye(8).to_sparse(), torch.randn(8, 3))
        net(torch.ones(8, 8).to_sparse(), torch.randn(8, 3))
    assert monitor.totals()["macs"] == 2 * 64 + 2 * 128 + (2 + 5) * 64 + (8 + 64) * 3


def test_inputs_that_need_gradients_are_counted_with_them() -> None:
    net, x = nn.Linear(8, 8), torch.randn(2, 8)
    with ComputeMonitor(net, overhead=0) as monitor:
        net(x).sum().backward()
        net(x.clone().requires_grad_()).sum().backward()
    assert monitor.totals()["macs"] == 2 * 64 * (2 + 3)


class Stages(nn.Module):
    """Three stages of one to four layers."""

    def __init__(self, counts_steps: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.ModuleList(nn.Linear(8, 8) for _ in range(4)) for _ in "123")
        self.depths = [4, 4, 4]
        self.first = self.second = self.third = 4
        self.counts_steps, self.steps = counts_steps, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.counts_steps
        depths = self.depths if self.counts_steps else (self.first, self.second, self.third)
        for stage, depth in zip(self.stages, depths, strict=True):
            for layer in stage[:depth]:
                x = layer(x)
        return x


@pytest.mark.parametrize("counts_steps", [False, True])
def test_subnets_that_happen_to_cost_the_same_do_not_hide_others(counts_steps: bool) -> None:
    net, x, drawn = Stages(counts_steps), torch.randn(2, 8), random.Random(0)
    expected = 0
    with torch.no_grad(), ComputeMonitor(net, overhead=0) as monitor:
        for _ in range(30):
            net.depths = [drawn.randint(1, 4) for _ in range(3)]
            net.first, net.second, net.third = net.depths
            expected += 2 * 64 * sum(net.depths)
            net(x)
    assert monitor.totals()["macs"] == expected
    assert not monitor.ignored & {"depths", "first", "second", "third"}
