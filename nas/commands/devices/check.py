"""Checks a latency table against whole networks that it was not fitted to: `nas device check`.

Knows tables and their spaces. Does not know how networks are timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from evaluators.sizes import format_size
from hardware_profiles.device import normalised_name
from hardware_profiles.latencies import table_files
from hardware_profiles.latency.agreement import Agreement, agreement
from hardware_profiles.latency.measured import (
    MeasuredTable,
    NetworkTime,
    read_measured,
    write_measured,
)
from hardware_profiles.measuring import this_machine as measuring
from hardware_profiles.measuring.runtimes import check_runtime
from hardware_profiles.measuring.standalone import MAX_SPREAD
from hardware_profiles.measuring.this_machine import Setting
from nas.commands.devices.measure import CHECK_SEED, SpaceOptions, describe_check, spread
from nas.commands.show.console import print_json
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
    seed: int = CHECK_SEED,
    html: Path | None = None,
    as_json: bool = False,
) -> None:
    """Time networks, compare them with the predictions of a table and print the agreement.

    The timed networks are stored in the table.

    Args:
        name: name of the device, or path of a table.
        space_name: beginning of the space's name; needed if the device has several tables.
        runtime: runtime that the table must be of; None: any.
        networks: number of networks.
        seed: of the networks.
        html: also write a page with a plot to this file.
        as_json: print JSON.

    Raises:
        UserError: for a device without a measured table, a table of another space or runtime, or if
            fewer than 3 networks could be measured without too much noise.
    """
    path, table = _table(name, space_name)
    if runtime is not None and check_runtime(runtime) != table.runtime:
        raise UserError(
            f"{path} was measured with runtime {table.runtime}, not {runtime}: for another table, "
            f"nas device measure --name {name}-{runtime} --runtime {runtime}"
        )
    made = table.made_from
    size, classes = made.get("image_size"), made.get("classes")
    options = SpaceOptions(
        str(made.get("space", table.space)),
        int(size) if size is not None else None,
        int(classes) if classes is not None else None,
    )
    space = options.load()
    fitted = [space.architecture(network.choices) for network in table.networks]
    whole = BudgetedSpace(CostTables(space), Budget({}, {}))
    archs = spread(whole, networks, seed, exclude=fitted)
    checked, noisy = _measure(space, table, archs)
    if len(checked) < 3:
        raise UserError(
            f"only {len(checked)} of {len(archs)} networks could be compared, whose runs differ by "
            f"at most {MAX_SPREAD:.0%}: expected 3 or more; stop other programs on this machine"
        )
    table = table.model_copy(update={"checked": tuple(checked)})
    write_measured(table, path)
    found = table.agreement
    assert found is not None
    if html is not None:
        write_text(html, _page(table, found))
    if as_json:
        listed = [network.model_dump() for network in checked]
        print_json({**asdict(found), "noisy": noisy, "networks": listed})
        return
    _print(table, found, flops_agreement(checked), noisy)


def flops_agreement(checked: Sequence[NetworkTime]) -> Agreement:
    """Agreement of FLOPs with measured times; only its rank correlations are meaningful."""
    return agreement(
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
        times, noisy, _ = measuring.time_networks(space, archs, setting, table.reference_ms)
    return measuring.with_predictions(space, table, times), noisy


def _table(name: str, space_name: str | None) -> tuple[Path, MeasuredTable]:
    if name.endswith(".json"):
        return Path(name), read_measured(Path(name))
    wanted = (normalised_name(name), "measured")
    measured = [f for f in table_files() if (normalised_name(f.device), f.kind) == wanted]
    if not measured:
        raise UserError(
            f"no measured table of device {name}: nas device measure --name {name} --space ..."
        )
    matching = [f for f in measured if space_name is None or f.space.startswith(space_name)]
    if len(matching) != 1:
        spaces = ", ".join(file.space for file in measured)
        option = "no --space" if space_name is None else f"--space {space_name}"
        raise UserError(f"{option}: {name} has tables of {spaces}; expected one of them")
    return matching[0].path, read_measured(matching[0].path)


def _print(table: MeasuredTable, found: Agreement, flops: Agreement, noisy: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    rows = Table(
        title=f"{table.device} on {table.space} with {table.setting}", title_justify="left"
    )
    for header in ("FLOPs", "predicted ms", "measured ms", "error"):
        rows.add_column(header, justify="right")
    for network in sorted(table.checked, key=lambda n: n.ms):
        predicted = network.predicted_ms or 0.0
        rows.add_row(
            format_size(network.macs),
            f"{predicted:.3f}",
            f"{network.ms:.3f}",
            f"{predicted / network.ms - 1:+.1%}",
        )
    console.print(rows)
    console.print(describe_check(found))
    console.print(f"FLOPs alone: Spearman {flops.spearman:.3f}, Kendall {flops.kendall:.3f}")
    if noisy:
        console.print(f"{noisy} more networks are too noisy to compare")


def _page(table: MeasuredTable, found: Agreement) -> str:
    from nas.report.figures import latency_check

    figure = latency_check(table)
    figure.update_layout(
        title=f"{table.device}, {table.space}, {table.setting}<br><sub>"
        f"{describe_check(found)}</sub>",
        margin={"t": 90},
    )
    return str(figure.to_html(include_plotlyjs=True, full_html=True))
