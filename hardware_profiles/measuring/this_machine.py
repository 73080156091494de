"""Measure the blocks and networks of a space on this machine, into a table that can be resumed.

Knows the order of blocks, runtimes and time limits. Does not know where tables are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from time import monotonic
from typing import Any

import numpy as np

from hardware_profiles.latency.block_keys import BlockKey, block_key
from hardware_profiles.latency.live_ops import block_variants
from hardware_profiles.latency.measured import (
    BlockTime,
    MeasuredLatency,
    MeasuredTable,
    NetworkTime,
    block_work,
)
from hardware_profiles.machine import describe
from hardware_profiles.measuring import standalone
from hardware_profiles.measuring.runtimes import Runtime, reference_blocks, runner, versions
from hardware_profiles.measuring.standalone import BLOCK_SCHEDULE, Runner
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.ops import Op
from search_spaces.serial import Blocks
from search_spaces.space import SearchSpace

SURVEY_ARCHITECTURES = 4000
"""Number of random architectures from which the use of each block is estimated."""

NETWORK_SCHEDULE = standalone.Schedule(rounds=15, consecutive=5, group=10)
"""Schedule of whole networks: 60 runs of each are counted."""

SLOW_NETWORK_SCHEDULE = standalone.Schedule(rounds=8, consecutive=4, group=10)
"""Schedule of networks whose runs take more than `SLOW_SECONDS`: 24 runs of each are counted."""

TRAINING_SCHEDULE = standalone.Schedule(rounds=8, group=16)
"""Schedule of training steps of blocks: they take fifty times as long as an inference."""

SLOW_SECONDS = 0.1
"""Seconds per run of the largest network above which networks are slow."""

SECONDS_BETWEEN_WRITES = 10.0
"""Interval between writes; a table of thousands of blocks takes a fraction of a second to write."""


@dataclass(frozen=True)
class Setting:
    """Where and how blocks run; the same for all of one table."""

    device: str
    runtime: Runtime = "onnxruntime"
    threads: int = 1
    batch: int = 1
    torch_device: str = "cpu"

    def run(self, blocks: Blocks) -> Runner:
        """Return a function that runs blocks once."""
        return runner(
            blocks,
            self.runtime,
            threads=self.threads,
            batch=self.batch,
            torch_device=self.torch_device,
        )


def measurement_plan(space: SearchSpace, seed: int = 0) -> dict[BlockKey, Sequence[Op]]:
    """Return every distinct block of a space, the most informative first.

    The order is: one block of each structure; the smallest and the largest block in each of its
    sizes, so that the others can be interpolated; then the others at random, weighted by their use
    in random architectures.

    Args:
        space: the search space.
        seed: seed of the random architectures and of the order.

    Returns:
        The ops of each block, by key.
    """
    rng = np.random.default_rng(seed)
    rows = space.canonical(space.sample(SURVEY_ARCHITECTURES, seed))
    used: dict[BlockKey, int] = {}
    ops_of: dict[BlockKey, Sequence[Op]] = {}
    for block in space.blocks:
        variants, which = block_variants(space, block, rows)
        counts = np.bincount(which, minlength=len(variants))
        for ops, count in zip(variants, counts.tolist(), strict=True):
            if ops:
                key = block_key(ops)
                ops_of[key] = ops
                used[key] = used.get(key, 0) + count
    groups: dict[str, list[BlockKey]] = {}
    for key in used:
        groups.setdefault(key.structure, []).append(key)
    order: dict[BlockKey, None] = {}
    by_use = sorted(groups.values(), key=lambda keys: -sum(used[f] for f in keys))
    order.update((max(keys, key=lambda f: used[f]), None) for keys in by_use)
    for keys in by_use:
        sizes = np.array([f.sizes for f in keys])
        for column in np.flatnonzero(np.ptp(sizes, axis=0)):
            order[keys[int(sizes[:, column].argmin())]] = None
            order[keys[int(sizes[:, column].argmax())]] = None
    rest = [key for key in used if key not in order]
    # Weighted sampling without replacement (Efraimidis and Spirakis, 2006).
    draws = rng.random(len(rest)) ** (1 / np.array([used[f] for f in rest], dtype=float).clip(1))
    order.update((rest[i], None) for i in np.argsort(-draws).tolist())
    return {key: ops_of[key] for key in order}


def new_table(space: SearchSpace, setting: Setting) -> MeasuredTable:
    """Return an empty table for this machine."""
    return MeasuredTable(
        device=setting.device,
        space=space.name,
        runtime=setting.runtime,
        threads=setting.threads,
        batch=setting.batch,
        torch_device=setting.torch_device,
        versions=versions(setting.runtime),
        machine=dict(describe()),
        date=str(date.today()),
        reference_ms=1.0,
        structures=(),
        blocks=(),
    )


def check_matches(table: MeasuredTable, space: SearchSpace, setting: Setting, place: str) -> None:
    """Check that a table was measured with a space and a setting, so that it can be resumed.

    Args:
        table: the table.
        space: the space of the new measurements.
        setting: the setting of the new measurements.
        place: name of the table's file, for the message.

    Raises:
        UserError: if something differs; the message names it.
    """
    for name, measured, requested in (
        ("space", table.space, space.name),
        ("runtime", table.runtime, setting.runtime),
        ("threads", table.threads, setting.threads),
        ("batch", table.batch, setting.batch),
        ("torch device", table.torch_device, setting.torch_device),
    ):
        if measured != requested:
            raise UserError(
                f"{place} was measured with {name} {measured}, not {requested}: give another "
                "--name or --out, or --overwrite it"
            )


def time_networks(
    space: SearchSpace,
    archs: Sequence[Architecture],
    setting: Setting,
    reference_ms: float | None = None,
) -> tuple[list[NetworkTime], int, float]:
    """Time whole networks.

    Args:
        space: the search space.
        archs: the networks.
        setting: where and how they run.
        reference_ms: nominal time of the reference, from the table to compare with.

    Returns:
        The usable times, the number of networks that were too noisy, and the nominal time of the
        reference in milliseconds.
    """
    clock = _clock(setting, reference_ms)
    blocks = {arch.id: space.ops(arch) for arch in archs}
    slowest = _seconds_of_one_run(setting.run(max(blocks.values(), key=macs_of)))
    schedule = SLOW_NETWORK_SCHEDULE if slowest > SLOW_SECONDS else NETWORK_SCHEDULE
    found = standalone.measure(
        lambda key: setting.run(blocks[key]), list(blocks), clock, schedule=schedule
    )
    usable = []
    for arch in archs:
        result = found[arch.id]
        if result["spread"] <= standalone.MAX_SPREAD:
            usable.append(NetworkTime(choices=dict(arch), macs=macs_of(blocks[arch.id]), **result))
    return usable, len(archs) - len(usable), clock.nominal_ms


def measure_blocks(
    space: SearchSpace,
    table: MeasuredTable,
    setting: Setting,
    *,
    seconds: float,
    on_table: Callable[[MeasuredTable], None],
    on_progress: Callable[[int, int], None],
) -> MeasuredTable:
    """Measure blocks until a time limit, or until all are measured.

    Args:
        space: the search space.
        table: the table to resume.
        setting: where and how blocks run.
        seconds: the time limit.
        on_table: called with the table so far, every `SECONDS_BETWEEN_WRITES`.
        on_progress: called after each group with the number of blocks measured and of all blocks.

    Returns:
        The table with the new measurements.
    """
    until = monotonic() + seconds
    plan = measurement_plan(space)
    clock = _clock(setting, table.reference_ms if table.networks or table.blocks else None)
    known = {
        table.key(b): {"ms": b.ms, "spread": b.spread, "runs": b.runs}
        for b in (*table.blocks, *table.noisy)
    }

    def current(results: Mapping[BlockKey, Mapping[str, Any]]) -> MeasuredTable:
        return with_blocks(table, plan, results, clock.nominal_ms)

    written = monotonic()

    def report(results: Mapping[BlockKey, Mapping[str, Any]]) -> None:
        nonlocal written
        on_progress(len(results), len(plan))
        if monotonic() - written >= SECONDS_BETWEEN_WRITES:
            on_table(current(results))
            written = monotonic()

    results = standalone.measure(
        lambda key: setting.run([("block", plan[key])]),
        list(plan),
        clock,
        until=until,
        known=known,
        on_result=report,
        schedule=TRAINING_SCHEDULE if setting.runtime == "training" else BLOCK_SCHEDULE,
    )
    return current(results)


def with_blocks(
    table: MeasuredTable,
    plan: Mapping[BlockKey, Sequence[Op]],
    results: Mapping[BlockKey, Mapping[str, Any]],
    reference_ms: float,
) -> MeasuredTable:
    """Return a table with these results as its blocks; noisy ones are stored separately."""
    work = {table.key(b): (b.macs, b.bytes) for b in (*table.blocks, *table.noisy)}
    structures: dict[str, int] = {}
    blocks: list[BlockTime] = []
    noisy: list[BlockTime] = []
    for key, result in results.items():
        macs, moved = work[key] if key in work else block_work(plan[key])
        time = BlockTime(
            structure=structures.setdefault(key.structure, len(structures)),
            sizes=key.sizes,
            macs=macs,
            bytes=moved,
            **result,
        )
        (noisy if time.spread > standalone.MAX_SPREAD else blocks).append(time)
    return table.model_copy(
        update={
            "structures": tuple(structures),
            "blocks": tuple(blocks),
            "noisy": tuple(noisy),
            "reference_ms": reference_ms,
        }
    )


def with_correction(space: SearchSpace, table: MeasuredTable) -> MeasuredTable:
    """Return a table with the correction fitted to its networks."""
    latency = MeasuredLatency(table)
    networks = [(n, blocks_of(space, n)) for n in table.networks]
    return table.model_copy(update={"correction": latency.fit_correction(networks)})


def with_predictions(
    space: SearchSpace, table: MeasuredTable, networks: Iterable[NetworkTime]
) -> list[NetworkTime]:
    """Return measured networks with the table's predictions.

    Networks with a block whose structure is not in the table are omitted.
    """
    latency = MeasuredLatency(table)
    predicted = []
    for network in networks:
        try:
            total = sum(latency.milliseconds(ops) for ops in blocks_of(space, network))
        except UserError:
            continue
        predicted.append(network.model_copy(update={"predicted_ms": total}))
    return predicted


def blocks_of(space: SearchSpace, network: NetworkTime) -> list[Sequence[Op]]:
    """Return the ops of each block of a measured network."""
    arch = space.architecture(network.choices)
    return [ops for _, ops in space.ops(arch)]


def _clock(setting: Setting, reference_ms: float | None) -> standalone.Clock:
    nominal = None if reference_ms is None else reference_ms / 1e3
    if setting.runtime == "training":
        # A training step as reference would take longer than the blocks between two of them.
        setting = replace(setting, runtime="torch", batch=1)
    return standalone.Clock(setting.run(reference_blocks()), nominal)


def _seconds_of_one_run(run: Runner) -> float:
    start = monotonic()
    run()
    return monotonic() - start


def macs_of(blocks: Blocks) -> int:
    """Return the multiply-accumulates of one sample."""
    return sum(op.macs for _, ops in blocks for op in ops)
