"""Monitors the compute of a network while it trains or serves, with bounded overhead.

A hook adds the count of each pass, which is computed once for inputs of the same shapes and a
network in the same state (`state.py`). At intervals one pass
runs under torch's profiler, which attributes time to modules; the interval follows from the cost of
the last trace, such that the overhead stays below a given share of the run. Knows any network. Does
not know how it is trained.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from evaluators.counting.counts import Count
from evaluators.counting.state import Named, PathState, signature_of
from evaluators.counting.torch_counter import count_module
from evaluators.counting.torch_profile import add_times, attributed, ranges
from search_spaces.errors import UserError

FIRST_TRACE_SECONDS = 0.5
"""Assumed cost of the first trace."""

Signature = tuple[Any, ...]


class ComputeMonitor:
    """Counts and times every pass of a network; a context manager that can be re-entered.

    Example:
        >>> with ComputeMonitor(network, log="compute.jsonl") as monitor:
        ...     train(network)
        >>> monitor.totals()["macs"], monitor.count.root  # the table by module

    Args:
        network: network to monitor; it has one hook while the monitor is entered.
        log: file of JSON lines, one per window: pass, seconds, macs, flops_per_second, joules.
        on_window: called with the same mapping after each window.
        every: number of passes per window.
        overhead: share of the run that traces may take; 0 for no traces and no times by module.
        watts: power of the device while computing, for an estimate of energy; None for none.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        log: Path | str | None = None,
        on_window: Callable[[Mapping[str, Any]], None] | None = None,
        every: int = 50,
        overhead: float = 0.01,
        watts: float | None = None,
    ) -> None:
        self.network = network
        self.every = every
        self.overhead = overhead
        self.watts = watts
        self.count: Count | None = None
        """The counted network, with times by module after the first trace."""
        self.problem: str | None = None
        """Reason why passes of some shape could not be counted; totals lack their work."""
        self.traces = 0
        self._log = Path(log) if log is not None else None
        self._on_window = on_window
        self._state = PathState(self)
        self._named: Named = {}
        self._last: tuple[Signature, int] | None = None
        self._macs_of: dict[Signature, int] = {}
        self._passes = 0
        self._macs = 0
        self._counting_seconds = 0.0
        self._window_macs = 0
        self._window_started = 0.0
        self._next_trace = FIRST_TRACE_SECONDS / overhead if overhead > 0 else float("inf")
        self._trace: profile | None = None
        # The clock of the monitor is stopped while it is not entered and while it counts.
        self._offset = 0.0
        self._stopped_at: float | None = 0.0

    def __enter__(self) -> ComputeMonitor:
        self._hook = self.network.register_forward_pre_hook(self._before, with_kwargs=True)
        self._offset = time.perf_counter() - (self._stopped_at or 0.0)
        self._stopped_at = None
        return self

    def __exit__(self, *exception: object) -> None:
        if self._trace is not None:
            self._end_trace()
        now = self._now()
        if self._window_macs:
            self._end_window(now)
        self._stopped_at = now
        self._hook.remove()

    def _now(self) -> float:
        if self._stopped_at is not None:
            return self._stopped_at
        return time.perf_counter() - self._offset

    @property
    def ignored(self) -> set[str]:
        """Attributes of modules that changed several times without an effect on the count.

        Later changes of them are not counted anew.
        """
        return self._state.ignored

    def totals(self) -> dict[str, float | None]:
        """Totals so far: passes, macs, seconds, flops_per_second and joules.

        FLOPs per second are two per multiply-accumulate, as in datasheets.
        """
        seconds = self._now()
        return {
            "passes": self._passes,
            "macs": self._macs,
            "seconds": seconds,
            "counting_seconds": self._counting_seconds,
            "flops_per_second": 2 * self._macs / seconds if seconds else 0.0,
            "joules": None if self.watts is None else self.watts * seconds,
        }

    def _before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._trace is not None:
            self._end_trace()
        training = module.training and torch.is_grad_enabled()
        inputs = (training, *signature_of(args, kwargs))
        signature = (inputs, self._state.read(module, training=training))
        macs = self._macs_of.get(signature)
        if macs is None:
            macs = self._count(args, kwargs, signature)
        now = self._now()
        if self._passes and self._passes % self.every == 0 and self._window_macs:
            self._end_window(now)
        self._passes += 1
        self._macs += macs
        self._window_macs += macs
        if now >= self._next_trace:
            self._start_trace()

    def _count(self, args: Any, kwargs: Any, signature: Signature) -> int:
        """Count one pass of a new shape; the time it takes is excluded from all times."""
        start = time.perf_counter()
        self._hook.remove()  # counting copies the network, and the copy must have no hook
        macs = 0
        try:
            macs = count_module(
                self.network, args, kwargs, backward=signature[0][0], input_gradients=True
            ).macs
            if self.count is None:
                self.count = count_module(self.network, args, kwargs)
        except UserError as error:
            # The network itself raises for invalid inputs; the monitor must not end the run.
            self.problem = str(error)
        self._hook = self.network.register_forward_pre_hook(self._before, with_kwargs=True)
        self._learn(signature, macs)
        spent = time.perf_counter() - start
        self._counting_seconds += spent
        self._offset += spent
        return macs

    def _learn(self, signature: Signature, macs: int) -> None:
        """Keep a count, and note which attributes changed without an effect on it."""
        inputs, training = signature[0], signature[0][0]
        named = self._state.named(self.network, training=training)
        if self._last is not None and self._last[0] == inputs:
            self._state.learn(self._named, named, same=self._last[1] == macs)
        self._named, self._last = named, (inputs, macs)
        self._macs_of[inputs, self._state.read(self.network, training=training)] = macs

    def _end_window(self, now: float) -> None:
        seconds = now - self._window_started
        record: dict[str, Any] = {
            "pass": self._passes,
            "seconds": round(seconds, 6),
            "macs": self._window_macs,
            "flops_per_second": 2 * self._window_macs / seconds,
            "joules": None if self.watts is None else self.watts * seconds,
        }
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if self._on_window is not None:
            self._on_window(record)
        self._window_started = now
        self._window_macs = 0

    def _start_trace(self) -> None:
        begun = time.perf_counter()
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._trace = profile(activities=activities)
        self._trace.__enter__()
        self._ranges = ExitStack()
        self._ranges.enter_context(ranges(self.network, running=True))
        self._starting = time.perf_counter() - begun
        self._traced_from = time.perf_counter()

    def _end_trace(self) -> None:
        assert self._trace is not None
        start = time.perf_counter()
        seconds = start - self._traced_from
        self._ranges.close()
        self._trace.__exit__(None, None, None)
        events = self._trace.events() or []
        self._trace = None
        (forward, backward), _ = attributed(events, cuda=torch.cuda.is_available())
        if self.count is not None:
            part = 1 / (self.traces + 1)  # for the mean over traces
            add_times(self.count.root, forward, "forward_seconds", part)
            if backward:
                add_times(self.count.root, backward, "backward_seconds", part)
        self.traces += 1
        end = time.perf_counter()
        # The traced pass itself is slower too, by at most its own length.
        cost = self._starting + (end - start) + seconds / 2
        self._next_trace = self._now() + cost / self.overhead
