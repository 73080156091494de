"""`nas device measure`: a latency table of a space, made here or from what a board measured.

Keeps the table every ten seconds, so that the same command goes on after an interruption.
How things are timed is `hardware_profiles/measuring/standalone.py`.
"""

from __future__ import annotations

import json
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
from hardware_profiles.latency.agreement import WITHIN, Quality
from hardware_profiles.latency.measured import (
    MeasuredLatency,
    MeasuredTable,
    read_measured,
    write_measured,
)
from hardware_profiles.measuring import remote
from hardware_profiles.measuring import this_machine as measuring
from hardware_profiles.measuring.runtimes import check_runtime
from hardware_profiles.measuring.standalone import NOISY
from hardware_profiles.measuring.this_machine import Setting
from search_spaces.architecture import Architecture
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.space import SearchSpace

CALIBRATION, CHECK = 0, 1
"""Seeds of the networks that correct a table and of those that check it."""


@dataclass(frozen=True)
class Asked:
    """What the command line said of the space, so that `check` can make it again."""

    space: str
    image_size: int | None = None
    classes: int | None = None

    def load(self) -> SearchSpace:
        """The space."""
        return load_space(self.space, image_size=self.image_size, classes=self.classes)

    def described(self) -> dict[str, str | int | None]:
        """For the table."""
        return {"space": self.space, "image_size": self.image_size, "classes": self.classes}


def measure_and_print(
    name: str,
    asked: Asked,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
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
    """`nas device measure`.

    Raises:
        UserError: for a table there that was made in another way, or a wrong option.
    """
    seconds = parse_seconds(budget)
    check_name(name)
    setting = Setting(name, check_runtime(runtime), threads, batch, torch_device)
    if (script or result) and setting.runtime != "onnxruntime":
        raise UserError("a board is measured with onnxruntime: leave --runtime out")
    space = asked.load()
    whole = BudgetedSpace(CostTables(space), Budget({}, {}))
    networks = spread(whole, calibrate, CALIBRATION)
    elsewhere = script is not None or result is not None
    checked = spread(whole, checks, CHECK, but=networks) if elsewhere else []
    if script is not None:
        count = remote.write_plan(script, space, setting, networks, checked, seconds)
        print(
            f"{script}: copy the folder to the device, run `python {remote.SCRIPT}` there (it "
            f"needs onnxruntime and measures up to {count:,} blocks for {budget}), bring "
            f"result.json back and give it to this command as --from FILE"
        )
        return
    path = out or table_path(name, space.name, "measured")
    if result is not None:
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists: --overwrite it, or give another --name or --out")
        table, times = remote.read_result(result, space, setting, networks, checked)
        table = measuring.corrected(
            space, table.model_copy(update={"made_from": asked.described()})
        )
        table = table.model_copy(
            update={"checked": tuple(measuring.predicted(space, table, times))}
        )
    else:
        table = _measured_here(space, setting, asked, networks, seconds, path, overwrite)
    write_measured(table, path)
    _print(table, space, path, as_json=as_json)


def _measured_here(
    space: SearchSpace,
    setting: Setting,
    asked: Asked,
    networks: list[Architecture],
    seconds: float,
    path: Path,
    overwrite: bool,
) -> MeasuredTable:
    table = measuring.new_table(space, setting)
    if path.exists() and not overwrite:
        table = read_measured(path)
        measuring.check_same(table, space, setting, str(path))
    table = table.model_copy(update={"made_from": asked.described(), "checked": ()})
    console = Console(stderr=True)
    started = monotonic()

    def timed(archs: list[Architecture]) -> MeasuredTable:
        """The table with these networks too, where it has not got them."""
        had = {space.architecture(network.choices).id for network in table.networks}
        missing = [arch for arch in archs if arch.id not in had]
        if not missing:
            return table
        begun = table.reference_ms if table.blocks or table.networks else None
        with console.status(f"measuring {len(missing)} whole networks"):
            times, noisy, reference = measuring.networks_time(space, missing, setting, begun)
        if noisy:
            console.print(
                f"{noisy} of {len(missing)} networks were too unsteady to use (their runs differ "
                f"by more than {NOISY:.0%})"
            )
        longer = table.model_copy(
            update={"networks": (*table.networks, *times), "reference_ms": reference}
        )
        write_measured(longer, path)
        return longer

    # Half before the blocks and half after: the machine may have changed its pace between.
    table = timed(networks[::2])
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
            on_table=lambda so_far: write_measured(so_far, path),
            on_progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    if not table.blocks:
        worst = min((b.spread for b in table.noisy), default=0.0)
        raise UserError(
            f"nothing steady was measured: all {len(table.noisy)} blocks differ from run to run by "
            f"{worst:.0%} or more (at most {NOISY:.0%} is used): close what else runs here"
        )
    return measuring.corrected(space, timed(networks[1::2]))


def spread(
    whole: BudgetedSpace, count: int, seed: int, but: list[Architecture] | None = None
) -> list[Architecture]:
    """Architectures spread evenly over the FLOPs of a space, other than `but`."""
    if count == 0:
        return []
    taken = {arch.id for arch in but or ()}
    rows = whole.spread(count + 2 * len(taken), np.random.default_rng((seed, 5)))
    found = {arch.id: arch for arch in whole.space.decode(rows) if arch.id not in taken}
    chosen = np.random.default_rng(seed).permutation(len(found))[:count]
    archs = list(found.values())
    return [archs[i] for i in sorted(chosen.tolist())]


def checked_words(found: Quality) -> str:
    """How well a table predicts, in one line."""
    return (
        f"{found.n} networks that the table never saw: {found.within_10:.0%} within ±10 %, mean "
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
        print(json.dumps(content, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{table.device}[/] on {table.space} with {table.setting}: {coverage}")
    if coverage.missing:
        console.print(
            f"{len(coverage.missing)} blocks have kernels that were not measured yet: the same "
            "command goes on"
        )
    if table.noisy:
        worst = max(b.spread for b in table.noisy)
        console.print(
            f"{len(table.noisy)} blocks were too unsteady and are not used: their runs differ by "
            f"up to {worst:.0%} (at most {NOISY:.0%} is used)"
        )
    if correction.networks and correction.error is not None and correction.within is not None:
        console.print(
            f"corrected by {correction.networks} whole networks: {correction.scale:.3f} of each "
            f"block, less {1e3 * correction.call_ms:.1f} us, plus "
            f"{1e3 * correction.megabyte_ms:.1f} us a MB; each left out in turn is predicted "
            f"with a mean error of {correction.error:.1%}, {correction.within:.0%} within ±10 %"
        )
        if correction.error > WITHIN:
            console.print(
                "that is too far off to trust: the machine was most likely busy with something "
                "else; measure again with --overwrite when it is not"
            )
    if (found := table.agreement) is not None:
        console.print(checked_words(found))
    among_the_users = path == table_path(table.device, space.name, "measured")
    known_as = table.device if among_the_users else path
    console.print(f"table in {path}; check it: nas device check {known_as} --space {space.name}")
