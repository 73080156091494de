"""Measures the time of a network by module: torch's profiler joined with the counts.

The wall time of whole passes is measured without the profiler, whose overhead distorts small
operators; the profiler gives the shares of modules only. Knows networks that run. Does not know
datasheets of devices, nor how to print.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.nn.modules import module as hooks
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._pytree import tree_leaves

from evaluators.counting.counts import Count, Node
from evaluators.counting.torch_counter import count_module
from search_spaces.errors import UserError

PREFIX = "module:"
"""Beginning of the names of ranges in a trace."""

WARM_UP = 2
"""Untimed passes before the timed ones."""

TRACED = 3
"""Passes under the profiler."""


def profile_module(
    network: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    backward: bool = True,
    repeats: int = 10,
    names: Sequence[str] = (),
) -> Count:
    """Count a network and measure it on its device.

    Nodes of the tree get `forward_seconds` (evaluation mode, no gradients) and, with `backward`,
    `backward_seconds` (training mode, the backward pass alone): medians of `repeats` passes in
    seconds.

    Args:
        network: on a real device; it is not changed, since a copy runs.
        args: positional inputs, tensors on the device of the network.
        kwargs: inputs by name.
        backward: measure the backward pass as well.
        repeats: number of timed passes.
        names: names of the positional inputs in the result.

    Raises:
        UserError: if the network fails.
    """
    kwargs = dict(kwargs or {})
    count = count_module(network, args, kwargs, names=names)
    running = copy.deepcopy(network)
    device = next((p.device for p in running.parameters()), torch.device("cpu"))
    try:
        running.eval()
        with torch.no_grad():
            seconds = _median_seconds(lambda: running(*args, **kwargs), device, repeats)
            times, operators = _traced(running, args, kwargs, device, backward=False)
        add_times(count.root, _scaled(times[0], seconds), "forward_seconds")
        for name, uncounted in count.uncounted.items():
            uncounted.share_of_time = operators.get(name, 0.0)
        if backward:
            running.train()
            both = _median_seconds(lambda: _step(running, args, kwargs), device, repeats)
            forward = _median_seconds(lambda: running(*args, **kwargs), device, repeats)
            times, _ = _traced(running, args, kwargs, device, backward=True)
            add_times(count.root, _scaled(times[1], max(0.0, both - forward)), "backward_seconds")
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"{type(network).__name__} can be counted but not run: {type(error).__name__}: {first}"
        ) from error
    return count


def _step(network: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    network.zero_grad(set_to_none=True)
    results = [t for t in tree_leaves(network(*args, **kwargs)) if isinstance(t, Tensor)]
    results = [t for t in results if t.requires_grad]
    if not results:
        raise UserError("the output of the network does not depend on any trainable parameter")
    torch.autograd.backward(results, [torch.ones_like(t) for t in results])


def _median_seconds(run: Any, device: torch.device, repeats: int) -> float:
    times = []
    for index in range(WARM_UP + repeats):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        if index >= WARM_UP:
            times.append(time.perf_counter() - start)
    return float(np.median(times))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


Times = dict[tuple[str, ...], float]
"""Seconds in a trace by the call path of the module."""


def _traced(
    network: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    device: torch.device,
    *,
    backward: bool,
) -> tuple[tuple[Times, Times], dict[str, float]]:
    """Times of the forward and backward pass by module, and shares of the forward by operator."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with ranges(network), profile(activities=activities) as trace:
        for _ in range(TRACED):
            if backward:
                _step(network, args, kwargs)
            else:
                network(*args, **kwargs)
        _wait(device)
    return attributed(trace.events() or [], cuda=device.type == "cuda")


def attributed(
    events: Sequence[FunctionEvent], *, cuda: bool = False
) -> tuple[tuple[Times, Times], dict[str, float]]:
    """Attribute the time of a trace to modules.

    Forward operators belong to the range in which they ran, backward operators to the forward
    operator whose gradient they compute, which has the same sequence number.

    Returns:
        Seconds of the forward and backward pass by module, and shares of the forward pass by
        operator.
    """
    forward: dict[tuple[str, ...], float] = {}
    backward: dict[tuple[str, ...], float] = {}
    operators: dict[str, float] = {}
    module_of: dict[int, tuple[str, ...]] = {}
    paths: dict[int, tuple[tuple[str, ...] | None, int]] = {}

    def place(event: FunctionEvent) -> tuple[tuple[str, ...] | None, int]:
        """Module range around an event, and the sequence number of its gradient, or -1."""
        known = paths.get(event.id)
        if known is None:
            parent = event.cpu_parent
            above = place(parent) if parent is not None else (None, -1)
            if event.name.startswith(PREFIX):
                above = (tuple(event.name.removeprefix(PREFIX).split("/")), -1)
            elif event.name.startswith("autograd::engine::evaluate_function"):
                above = (above[0], event.sequence_nr)
            known = paths[event.id] = above
        return known

    for event in events:
        path, gradient = place(event)
        if path is not None and gradient < 0 and event.sequence_nr >= 0:
            # The last operator with a sequence number is the one that recorded the gradient.
            module_of[event.sequence_nr] = path
    for event in events:
        path, gradient = place(event)
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        if event.name.startswith(PREFIX) and cuda:
            continue
        if gradient >= 0:
            module = module_of.get(gradient, ())
            backward[module] = backward.get(module, 0.0) + own
        elif path is not None:
            forward[path] = forward.get(path, 0.0) + own
            if not event.name.startswith(PREFIX):
                operators[event.name] = operators.get(event.name, 0.0) + own
    whole = sum(forward.values()) or 1.0
    shares = {name: value / whole for name, value in operators.items()}
    return (_seconds(forward), _seconds(backward)), shares


def _seconds(microseconds: Times) -> Times:
    return {path: value * 1e-6 for path, value in microseconds.items()}


def _scaled(times: Times, seconds: float) -> Times:
    """The same shares of another total."""
    factor = seconds / (sum(times.values()) or 1.0)
    return {path: value * factor for path, value in times.items()}


@contextmanager
def ranges(network: nn.Module, *, running: bool = False) -> Iterator[None]:
    """Mark running modules in a trace, as `module:` and the call path joined by `/`.

    Args:
        running: whether the pass of the network has begun, as within its hooks.
    """
    names = {id(module): name for name, module in network.named_modules()}
    stack: list[tuple[str, tuple[str, ...], Any]] = []

    def enter(module: nn.Module, inputs: Any) -> None:
        name = names.get(id(module))
        if name is None:
            return
        outer, path = (stack[-1][0], stack[-1][1]) if stack else ("", ())
        relative = name.removeprefix(f"{outer}.") if outer else name
        path = (*path, *relative.split(".")) if name else ()
        stack.append((name, path, _mark(path)))

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        if stack and stack[-1][0] == names.get(id(module)):
            stack.pop()[2].__exit__(None, None, None)

    if running:
        stack.append(("", (), _mark(())))

    before = hooks.register_module_forward_pre_hook(enter)
    after = hooks.register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()


def _mark(path: tuple[str, ...]) -> Any:
    mark = record_function(PREFIX + "/".join(path))
    mark.__enter__()
    return mark


def add_times(root: Node, times: Times, attribute: str, part: float = 1.0) -> None:
    """Write times by call path into a tree.

    Args:
        part: weight of the new values in the mean with the previous ones.
    """
    for _, node in root.walk():
        setattr(node, attribute, (getattr(node, attribute) or 0.0) * (1 - part))
    for path, seconds in times.items():
        node = root
        for name in path:
            node = node.children.get(name, node) if name else node
        setattr(node, attribute, getattr(node, attribute) + seconds * part)
