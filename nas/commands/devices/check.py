"""`nas device check`: whole networks that a latency table never saw, measured and compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from evaluators.sizes import format_size
from hardware_profiles.device import plain
from hardware_profiles.latencies import table_files
from hardware_profiles.latency.agreement import Quality, quality
from hardware_profiles.latency.measured import (
    MeasuredTable,
    NetworkTime,
    read_measured,
    write_measured,
)
from hardware_profiles.measuring import this_machine as measuring
from hardware_profiles.measuring.runtimes import check_runtime
from hardware_profiles.measuring.standalone import NOISY
from hardware_profiles.measuring.this_machine import Setting
from nas.commands.devices.measure import CHECK, Asked, checked_words, spread
from search_spaces.architecture import Architecture
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.space import SearchSpace


def check_and_print(
    name: str,
    *,
    space_name: str | None = None,
    runtime: str | None = None,
    networks: int = 30,
    seed: int = CHECK,
    html: Path | None = None,
    as_json: bool = False,
) -> None:
    """`nas device check`.

    Raises:
        UserError: for a device without a measured table, one of another space or runtime, or fewer
            than 3 networks that were steady enough.
    """
    path, table = _table(name, space_name)
    if runtime is not None and check_runtime(runtime) != table.runtime:
        raise UserError(
            f"{path} was measured with runtime {table.runtime}, not {runtime}: measure another "
            f"table, nas device measure --name {name}-{runtime} --runtime {runtime}"
        )
    made = table.made_from
    size, classes = made.get("image_size"), made.get("classes")
    asked = Asked(
        str(made.get("space", table.space)),
        int(size) if size is not None else None,
        int(classes) if classes is not None else None,
    )
    space = asked.load()
    seen = [space.architecture(network.choices) for network in table.networks]
    whole = BudgetedSpace(CostTables(space), Budget({}, {}))
    archs = spread(whole, networks, seed, but=seen)
    checked, noisy = _measure(space, table, archs)
    if len(checked) < 3:
        raise UserError(
            f"only {len(checked)} of {len(archs)} networks were steady enough to compare (runs "
            f"that differ by at most {NOISY:.0%}): close what else runs here"
        )
    table = table.model_copy(update={"checked": tuple(checked)})
    write_measured(table, path)
    found = table.agreement
    assert found is not None
    if html is not None:
        write_text(html, _page(table, found))
    if as_json:
        told = [network.model_dump() for network in checked]
        print(json.dumps({**asdict(found), "noisy": noisy, "networks": told}, indent=2))
        return
    _print(table, found, flops_ranks(checked), noisy)


def flops_ranks(checked: Sequence[NetworkTime]) -> Quality:
    """The same for FLOPs alone, of which only the ranks mean something."""
    return quality(
        np.array([float(network.macs) for network in checked]),
        np.array([network.ms for network in checked]),
    )


def _measure(
    space: SearchSpace, table: MeasuredTable, archs: Sequence[Architecture]
) -> tuple[list[NetworkTime], int]:
    setting = Setting(
        table.device,
        check_runtime(table.runtime),
        table.threads,
        table.batch,
        table.torch_device,
    )
    with Console(stderr=True).status(f"measuring {len(archs)} whole networks"):
        times, noisy, _ = measuring.networks_time(space, archs, setting, table.reference_ms)
    return measuring.predicted(space, table, times), noisy


def _table(name: str, space_name: str | None) -> tuple[Path, MeasuredTable]:
    if name.endswith(".json"):
        return Path(name), read_measured(Path(name))
    mine = [f for f in table_files() if plain(f.device) == plain(name) and f.kind == "measured"]
    if not mine:
        raise UserError(
            f"no measured table of device {name}: nas device measure --name {name} --space ..."
        )
    fitting = [f for f in mine if space_name is None or f.space.startswith(space_name)]
    if len(fitting) != 1:
        spaces = ", ".join(file.space for file in mine)
        asked = "no --space" if space_name is None else f"--space {space_name}"
        raise UserError(f"{asked}: tables of {name} are of {spaces}; name one of them")
    return fitting[0].path, read_measured(fitting[0].path)


def _print(table: MeasuredTable, found: Quality, flops: Quality, noisy: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    shown = Table(
        title=f"{table.device} on {table.space} with {table.setting}", title_justify="left"
    )
    for header in ("FLOPs", "predicted ms", "measured ms", "error"):
        shown.add_column(header, justify="right")
    for network in sorted(table.checked, key=lambda n: n.ms):
        predicted = network.predicted_ms or 0.0
        shown.add_row(
            format_size(network.macs),
            f"{predicted:.3f}",
            f"{network.ms:.3f}",
            f"{predicted / network.ms - 1:+.1%}",
        )
    console.print(shown)
    console.print(checked_words(found))
    console.print(
        f"FLOPs alone rank them with Spearman {flops.spearman:.3f}, Kendall {flops.kendall:.3f}"
    )
    if noisy:
        console.print(f"{noisy} more were too unsteady to compare")


def _page(table: MeasuredTable, found: Quality) -> str:
    from nas.report.figures import latency_check

    figure = latency_check(table)
    figure.update_layout(
        title=f"{table.device}, {table.space}, {table.setting}<br><sub>"
        f"{checked_words(found)}</sub>",
        margin={"t": 90},
    )
    return str(figure.to_html(include_plotlyjs=True, full_html=True))
