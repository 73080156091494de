"""Measuring a space on this machine: which blocks, in what order, and into a table that resumes.

Knows forms, runtimes and time budgets. Does not know where tables are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from time import monotonic
from typing import Any

import numpy as np

from hardware_profiles.latency.forms import Form, form_of
from hardware_profiles.latency.live_ops import forms_taken
from hardware_profiles.latency.measured import (
    BlockTime,
    MeasuredLatency,
    MeasuredTable,
    NetworkTime,
    work_of,
)
from hardware_profiles.machine import describe
from hardware_profiles.measuring import standalone
from hardware_profiles.measuring.runtimes import Run, Runtime, reference, runner, versions
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.ops import Op
from search_spaces.serial import Blocks
from search_spaces.space import SearchSpace

SURVEY = 4000
"""Random architectures that say how often each block is used."""

NETWORKS = standalone.Turns(turns=15, in_a_row=5, group=10)
"""How whole networks take turns: 60 runs of each count."""

SLOW_NETWORKS = standalone.Turns(turns=8, in_a_row=4, group=10)
"""The same where a run takes more than `SLOW` seconds: 24 runs of each."""

SLOW = 0.1

SECONDS_BETWEEN_WRITES = 10.0
"""A table of thousands of blocks takes a part of a second to write."""


@dataclass(frozen=True)
class Setting:
    """Where and how to run: what one table has in common."""

    device: str
    runtime: Runtime = "onnxruntime"
    threads: int = 1
    batch: int = 1
    torch_device: str = "cpu"

    def run(self, blocks: Blocks) -> Run:
        """A function that runs blocks once."""
        return runner(
            blocks,
            self.runtime,
            threads=self.threads,
            batch=self.batch,
            torch_device=self.torch_device,
        )


def planned(space: SearchSpace, seed: int = 0) -> dict[Form, Sequence[Op]]:
    """Every distinct block of a space, what tells most about it first.

    First one block of each structure, then the smallest and the largest in each of its sizes, so
    that everything else lies between; then what random architectures use most often.
    """
    rng = np.random.default_rng(seed)
    rows = space.canonical(space.sample(SURVEY, seed))
    used: dict[Form, int] = {}
    ops_of: dict[Form, Sequence[Op]] = {}
    for block in space.blocks:
        variants, which = forms_taken(space, block, rows)
        counts = np.bincount(which, minlength=len(variants))
        for ops, count in zip(variants, counts.tolist(), strict=True):
            if ops:
                form = form_of(ops)
                ops_of[form] = ops
                used[form] = used.get(form, 0) + count
    groups: dict[str, list[Form]] = {}
    for form in used:
        groups.setdefault(form.structure, []).append(form)
    order: dict[Form, None] = {}
    by_use = sorted(groups.values(), key=lambda forms: -sum(used[f] for f in forms))
    order.update((max(forms, key=lambda f: used[f]), None) for forms in by_use)
    for forms in by_use:
        sizes = np.array([f.sizes for f in forms])
        for column in np.flatnonzero(np.ptp(sizes, axis=0)):
            order[forms[int(sizes[:, column].argmin())]] = None
            order[forms[int(sizes[:, column].argmax())]] = None
    rest = [form for form in used if form not in order]
    # Weighted sampling without replacement (Efraimidis and Spirakis, 2006).
    keys = rng.random(len(rest)) ** (1 / np.array([used[f] for f in rest], dtype=float).clip(1))
    order.update((rest[i], None) for i in np.argsort(-keys).tolist())
    return {form: ops_of[form] for form in order}


def new_table(space: SearchSpace, setting: Setting) -> MeasuredTable:
    """An empty table of this machine."""
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


def check_same(table: MeasuredTable, space: SearchSpace, setting: Setting, place: str) -> None:
    """Refuse to go on with a table that was made in another way.

    Raises:
        UserError: saying what differs.
    """
    for what, had, asked in (
        ("space", table.space, space.name),
        ("runtime", table.runtime, setting.runtime),
        ("threads", table.threads, setting.threads),
        ("batch", table.batch, setting.batch),
        ("torch device", table.torch_device, setting.torch_device),
    ):
        if had != asked:
            raise UserError(
                f"{place} was measured with {what} {had}, not {asked}: give another --name or "
                "--out, or --overwrite it"
            )


def networks_time(
    space: SearchSpace,
    archs: Sequence[Architecture],
    setting: Setting,
    reference_ms: float | None = None,
) -> tuple[list[NetworkTime], int, float]:
    """Time whole networks.

    Args:
        reference_ms: what the reference took in the table that they will be compared with.

    Returns:
        The steady ones, how many were too noisy to use, and what the reference took.
    """
    clock = _clock(setting, reference_ms)
    blocks = {arch.id: space.ops(arch) for arch in archs}
    slowest = _once(setting.run(max(blocks.values(), key=macs_of)))
    how = SLOW_NETWORKS if slowest > SLOW else NETWORKS
    found = standalone.measure(lambda key: setting.run(blocks[key]), list(blocks), clock, how=how)
    steady = []
    for arch in archs:
        result = found[arch.id]
        if result["spread"] <= standalone.NOISY:
            steady.append(NetworkTime(choices=dict(arch), macs=macs_of(blocks[arch.id]), **result))
    return steady, len(archs) - len(steady), clock.usual_ms


def measure_blocks(
    space: SearchSpace,
    table: MeasuredTable,
    setting: Setting,
    *,
    seconds: float,
    on_table: Callable[[MeasuredTable], None],
    on_progress: Callable[[int, int], None],
) -> MeasuredTable:
    """Fill a table for so many seconds, or until every block is measured.

    Args:
        on_table: called with the table so far, every `SECONDS_BETWEEN_WRITES`.
        on_progress: called after each group: how many blocks are done, and how many there are.
    """
    until = monotonic() + seconds
    plan = planned(space)
    clock = _clock(setting, table.reference_ms if table.networks or table.blocks else None)
    known = {
        table.form(b): {"ms": b.ms, "spread": b.spread, "runs": b.runs}
        for b in (*table.blocks, *table.noisy)
    }

    def current(results: Mapping[Form, Mapping[str, Any]]) -> MeasuredTable:
        return with_blocks(table, plan, results, clock.usual_ms)

    written = monotonic()

    def told(results: Mapping[Form, Mapping[str, Any]]) -> None:
        nonlocal written
        on_progress(len(results), len(plan))
        if monotonic() - written >= SECONDS_BETWEEN_WRITES:
            on_table(current(results))
            written = monotonic()

    results = standalone.measure(
        lambda form: setting.run([("block", plan[form])]),
        list(plan),
        clock,
        until=until,
        known=known,
        on_result=told,
    )
    return current(results)


def with_blocks(
    table: MeasuredTable,
    plan: Mapping[Form, Sequence[Op]],
    results: Mapping[Form, Mapping[str, Any]],
    reference_ms: float,
) -> MeasuredTable:
    """A table with these results for its blocks; those that are noisy apart."""
    work = {table.form(b): (b.macs, b.bytes) for b in (*table.blocks, *table.noisy)}
    structures: dict[str, int] = {}
    blocks: list[BlockTime] = []
    noisy: list[BlockTime] = []
    for form, result in results.items():
        macs, moved = work[form] if form in work else work_of(plan[form])
        time = BlockTime(
            structure=structures.setdefault(form.structure, len(structures)),
            sizes=form.sizes,
            macs=macs,
            bytes=moved,
            **result,
        )
        (noisy if time.spread > standalone.NOISY else blocks).append(time)
    return table.model_copy(
        update={
            "structures": tuple(structures),
            "blocks": tuple(blocks),
            "noisy": tuple(noisy),
            "reference_ms": reference_ms,
        }
    )


def corrected(space: SearchSpace, table: MeasuredTable) -> MeasuredTable:
    """A table with the correction fitted to its networks."""
    latency = MeasuredLatency(table)
    networks = [(n, blocks_of(space, n)) for n in table.networks]
    return table.model_copy(update={"correction": latency.corrected(networks)})


def predicted(
    space: SearchSpace, table: MeasuredTable, networks: Iterable[NetworkTime]
) -> list[NetworkTime]:
    """Measured networks with what the table says of them.

    Those with blocks that the table knows nothing of are left out.
    """
    latency = MeasuredLatency(table)
    told = []
    for network in networks:
        try:
            total = sum(latency.milliseconds(ops) for ops in blocks_of(space, network))
        except UserError:
            continue
        told.append(network.model_copy(update={"predicted_ms": total}))
    return told


def blocks_of(space: SearchSpace, network: NetworkTime) -> list[Sequence[Op]]:
    """The ops of each block of a measured network."""
    arch = space.architecture(network.choices)
    return [ops for _, ops in space.ops(arch)]


def _clock(setting: Setting, reference_ms: float | None) -> standalone.Clock:
    usual = None if reference_ms is None else reference_ms / 1e3
    return standalone.Clock(setting.run(reference()), usual)


def _once(run: Run) -> float:
    start = monotonic()
    run()
    return monotonic() - start


def macs_of(blocks: Blocks) -> int:
    """Multiply-accumulates of one sample."""
    return sum(op.macs for _, ops in blocks for op in ops)
