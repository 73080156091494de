"""Measures the latency table of a space, on this machine or on a board: `nas device measure`.

The table is saved every ten seconds, and the same command resumes after an interruption. Knows
spaces, tables and the user's options. Does not know how blocks are timed
(`hardware_profiles/measuring/standalone.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from evaluators.sizes import parse_seconds
from hardware_profiles.device import check_name
from hardware_profiles.latencies import table_path
from hardware_profiles.latency.agreement import HIT_TOLERANCE, Agreement
from hardware_profiles.latency.measured import (
    MeasuredLatency,
    MeasuredTable,
    read_measured,
    write_measured,
)
from hardware_profiles.measuring import remote
from hardware_profiles.measuring import this_machine as measuring
from hardware_profiles.measuring.runtimes import check_runtime
from hardware_profiles.measuring.standalone import MAX_SPREAD
from hardware_profiles.measuring.this_machine import Setting
from nas.commands.show.console import print_json
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace

TRAINING_BATCH = 64
"""Samples per training step, unless specified."""

CALIBRATION_SEED, CHECK_SEED = 0, 1
"""Seeds of the networks that correct a table, and of those that check it."""


@dataclass(frozen=True)
class SpaceOptions:
    """The options that define a space; stored in its table, so that `check` can load it again."""

    space: str
    image_size: int | None = None
    classes: int | None = None

    def load(self) -> SearchSpace:
        """Load the space."""
        return load_space(self.space, image_size=self.image_size, classes=self.classes)

    def to_json(self) -> dict[str, str | int | None]:
        """Return the options as JSON."""
        return {"space": self.space, "image_size": self.image_size, "classes": self.classes}


def measure_and_print(
    name: str,
    options: SpaceOptions,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int | None = None,
    torch_device: str = "cpu",
    budget: str = "10m",
    calibrate: int = 20,
    checks: int = 30,
    script: Path | None = None,
    result: Path | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Measure a latency table, or write or read the files of a measurement on a board.

    Args:
        name: name of the device.
        options: the space.
        runtime: runtime that runs blocks and networks.
        threads: number of threads.
        batch: samples per batch; 1 by default, for training 64.
        torch_device: torch's name of the device, for torch's runtimes.
        budget: time for the measurement, such as `10m`.
        calibrate: number of networks that correct the table.
        checks: number of networks that check the table of a board.
        script: write a folder to run on a board instead.
        result: read the result of a board instead.
        out: file of the table; by default in the folder of the user's tables.
        overwrite: replace an existing table instead of resuming it.
        as_json: print JSON.

    Raises:
        UserError: for an existing table of another space or setting, a wrong option, or if no
            measurement was usable.
    """
    seconds = parse_seconds(budget)
    check_name(name)
    kind = check_runtime(runtime)
    batch = batch or (TRAINING_BATCH if kind == "training" else 1)
    setting = Setting(name, kind, threads, batch, torch_device)
    if (script or result) and setting.runtime != "onnxruntime":
        raise UserError("a board is measured with onnxruntime: expected no --runtime")
    space = options.load()
    whole = BudgetedSpace(CostTables(space), Budget({}, {}))
    networks = spread(whole, calibrate, CALIBRATION_SEED)
    on_board = script is not None or result is not None
    checked = spread(whole, checks, CHECK_SEED, exclude=networks) if on_board else []
    if script is not None:
        count = remote.write_plan(script, space, setting, networks, checked, seconds)
        print(
            f"{script}: copy the folder to the device, run `python {remote.SCRIPT}` there (it "
            f"needs onnxruntime and measures up to {count:,} blocks for {budget}), copy "
            f"result.json back and pass it to this command as --from FILE"
        )
        return
    path = out or table_path(name, space.name, "measured")
    if result is not None:
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists: use --overwrite, or another --name or --out")
        table, times = remote.read_result(result, space, setting, networks, checked)
        table = measuring.with_correction(
            space, table.model_copy(update={"made_from": options.to_json()})
        )
        table = table.model_copy(
            update={"checked": tuple(measuring.with_predictions(space, table, times))}
        )
    else:
        table = _measured_here(space, setting, options, networks, seconds, path, overwrite)
    write_measured(table, path)
    _print(table, space, path, as_json=as_json)


def _measured_here(
    space: SearchSpace,
    setting: Setting,
    options: SpaceOptions,
    networks: list[Architecture],
    seconds: float,
    path: Path,
    overwrite: bool,
) -> MeasuredTable:
    table = measuring.new_table(space, setting)
    if path.exists() and not overwrite:
        table = read_measured(path)
        measuring.check_matches(table, space, setting, str(path))
    table = table.model_copy(update={"made_from": options.to_json(), "checked": ()})
    console = Console(stderr=True)
    started = monotonic()

    def with_networks(archs: list[Architecture]) -> MeasuredTable:
        """Time the networks that the table does not contain yet, and add them to it."""
        present = {space.architecture(network.choices).id for network in table.networks}
        missing = [arch for arch in archs if arch.id not in present]
        if not missing:
            return table
        reference_ms = table.reference_ms if table.blocks or table.networks else None
        with console.status(f"measuring {len(missing)} whole networks"):
            times, noisy, reference = measuring.time_networks(space, missing, setting, reference_ms)
        if noisy:
            console.print(
                f"{noisy} of {len(missing)} networks are too noisy to use (their runs differ "
                f"by more than {MAX_SPREAD:.0%})"
            )
        extended = table.model_copy(
            update={"networks": (*table.networks, *times), "reference_ms": reference}
        )
        write_measured(extended, path)
        return extended

    # Half before the blocks and half after, since the speed of the machine may drift.
    table = with_networks(networks[::2])
    seconds -= 2 * (monotonic() - started)
    with Progress(
        TextColumn("blocks"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("blocks", total=None)

        table = measuring.measure_blocks(
            space,
            table,
            setting,
            seconds=seconds,
            on_table=lambda partial: write_measured(partial, path),
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if not table.blocks:
        worst = min((b.spread for b in table.noisy), default=0.0)
        raise UserError(
            f"all {len(table.noisy)} measured blocks are too noisy: their runs differ by "
            f"{worst:.0%} or more, expected at most {MAX_SPREAD:.0%}: stop other programs on this "
            "machine"
        )
    return measuring.with_correction(space, with_networks(networks[1::2]))


def spread(
    whole: BudgetedSpace, count: int, seed: int, exclude: list[Architecture] | None = None
) -> list[Architecture]:
    """Draw architectures spread evenly over the FLOPs of a space.

    Args:
        whole: the space without a budget.
        count: number of architectures.
        seed: of the draw.
        exclude: architectures not to draw.
    """
    if count == 0:
        return []
    excluded = {arch.id for arch in exclude or ()}
    rows = whole.spread(count + 2 * len(excluded), np.random.default_rng((seed, 5)))
    found = {arch.id: arch for arch in whole.space.decode(rows) if arch.id not in excluded}
    chosen = np.random.default_rng(seed).permutation(len(found))[:count]
    archs = list(found.values())
    return [archs[i] for i in sorted(chosen.tolist())]


def describe_check(found: Agreement) -> str:
    """The agreement of a table with networks that it was not fitted to, in one line."""
    return (
        f"{found.n} networks held out from the table: {found.within_10:.0%} within ±10 %, mean "
        f"error {found.mean_error:.1%}, Spearman {found.spearman:.3f}, Kendall {found.kendall:.3f}"
    )


def _print(table: MeasuredTable, space: SearchSpace, path: Path, *, as_json: bool) -> None:
    coverage = MeasuredLatency(table).coverage(space)
    correction = table.correction
    if as_json:
        content: dict[str, Any] = {
            "table": str(path),
            "device": table.device,
            "space": table.space,
            "setting": table.setting,
            "measured": coverage.measured,
            "interpolated": coverage.interpolated,
            "extrapolated": coverage.extrapolated,
            "missing": len(coverage.missing),
            "noisy": len(table.noisy),
            "correction": correction.model_dump(),
        }
        print_json(content)
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{table.device}[/] on {table.space} with {table.setting}: {coverage}")
    if coverage.missing:
        console.print(
            f"{len(coverage.missing)} blocks have kernels that were not measured yet: the same "
            "command measures them"
        )
    if table.noisy:
        worst = max(b.spread for b in table.noisy)
        console.print(
            f"{len(table.noisy)} blocks are too noisy and are not used: their runs differ by "
            f"up to {worst:.0%} (at most {MAX_SPREAD:.0%} is used)"
        )
    if correction.networks and correction.error is not None and correction.within is not None:
        console.print(
            f"corrected by {correction.networks} whole networks: {correction.scale:.3f} of each "
            f"block, less {1e3 * correction.call_ms:.1f} us, plus "
            f"{1e3 * correction.megabyte_ms:.1f} us per MB; leave-one-out mean error "
            f"{correction.error:.1%}, {correction.within:.0%} within ±10 %"
        )
        if correction.error > HIT_TOLERANCE:
            console.print(
                "this error is too large to trust: other programs probably used the machine; "
                "measure again with --overwrite when it is idle"
            )
    if (found := table.agreement) is not None:
        console.print(describe_check(found))
    is_default = path == table_path(table.device, space.name, "measured")
    reference = table.device if is_default else path
    console.print(f"table in {path}; check it: nas device check {reference} --space {space.name}")
