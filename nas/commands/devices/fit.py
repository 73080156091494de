"""Fits the latencies of a device to timed networks: `nas device fit` and `nas device propose`.

Reads samples, saves the fitted table among the user's tables, and prints its agreement with
networks that it was not fitted to. Knows files of samples and spaces. Does not know the model
(`hardware_profiles/fitting/fitted.py`).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from evaluators.accuracy.published_table import PublishedTable, read_table
from evaluators.costs.budget import Budget, BudgetedSpace
from evaluators.costs.tables import CostTables
from evaluators.metrics import Metric, latency_on
from evaluators.sizes import parse_size
from hardware_profiles.device import check_name
from hardware_profiles.fitting.fitted import FAILED_SHARE, MIN_SAMPLES, FittedLatency, fit_latency
from hardware_profiles.fitting.informative import select_informative
from hardware_profiles.latencies import table_path
from hardware_profiles.latency.agreement import Agreement, agreement
from nas.commands.show.console import print_json
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError, unknown
from search_spaces.files import read_json
from search_spaces.space import SearchSpace

CANDIDATE_POOL = 4096
"""Number of random architectures among which those to time are chosen."""


def print_fit(
    name: str,
    space_name: str,
    file: Path,
    *,
    metric: str | None = None,
    samples: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    as_json: bool = False,
) -> None:
    """Fit a latency table to timed networks, save it and print its agreement: `nas device fit`.

    Args:
        name: name of the device.
        space_name: name of the space, or `file.py:OBJECT`.
        file: table of architectures and their latencies.
        metric: column of the latencies; by default that of the device, or the only one.
        samples: number of rows to fit to, drawn at random; by default all.
        seed: of the draw.
        out: file of the table; by default in the folder of the user's tables.
        as_json: print JSON.

    Raises:
        UserError: for a name that cannot be a file name, a file that is not a table of the space,
            an unknown column, too few samples, or a measured table at `out`.
    """
    check_name(name)
    if samples is not None and samples < MIN_SAMPLES:
        raise UserError(f"--samples {samples}: expected at least {MIN_SAMPLES}")
    space = load_space(space_name)
    path = out or table_path(name, space.name, "fitted")
    _check_replaceable(path)
    table = read_table(file, space)
    column = _column(table, name, metric)
    values = table.only([column]).values[:, 0]
    order = np.arange(len(values))
    if samples is not None:
        if samples > len(values):
            raise UserError(f"--samples {samples}: {file} has {len(values)} rows")
        order = np.random.default_rng(seed).permutation(len(values))
    used, rest = order[:samples], order[samples or len(values) :]
    with threadpool_limits(1):  # for small matrices, more threads are slower
        fitted = fit_latency(space, table.rows[used], values[used], name)
        held_out = _held_out_agreement(fitted, space, table, values, used, rest)
    fitted.save(path)
    if as_json:
        print_json(_as_json(fitted, column, held_out, path))
        return
    print(f"{name} on {space.name}, from {column} of {file.name}")
    print(f"  samples          {fitted.samples}", end="")
    print(f" ({fitted.dropped} readings left out)" if fitted.dropped else "")
    print(f"  cross-validated  {fitted.agreement}")
    if fitted.compiled:
        print(f"  sum of blocks    {fitted.additive_agreement}")
        print("                   (the device skips ops that do not affect the output)")
    if held_out is not None:
        print(f"  held out         {held_out} ({held_out.n:,} networks)")
    for kind in fitted.unseen:
        print(f"  no sample has    {kind}: priced like the average kind")
    print(f"  written to       {path}")


def print_proposals(space_name: str, count: int, *, max_flops: str | None, seed: int) -> None:
    """Print informative architectures to time, one JSON object per line: `nas device propose`.

    Args:
        space_name: name of the space, or `file.py:OBJECT`.
        count: number of architectures.
        max_flops: FLOPs that they must not exceed, as text; None: no limit.
        seed: of the candidate pool.

    Raises:
        UserError: for a budget that no architecture meets, or more architectures than there are.
    """
    if count < 1:
        raise UserError(f"--number {count}: expected at least 1")
    space = load_space(space_name)
    high = {} if max_flops is None else {"macs": float(parse_size(max_flops))}
    with threadpool_limits(1):
        budgeted = BudgetedSpace(CostTables(space), Budget(high, {}))
        pool = budgeted.sample(max(CANDIDATE_POOL, 8 * count), np.random.default_rng(seed))
        rows = select_informative(space, pool, count)
    if len(rows) < count:
        raise UserError(f"--number {count}: expected at most {len(rows)} within {budgeted.budget}")
    for arch in space.decode(rows):
        print_json(dict(arch), indent=None)


def _check_replaceable(path: Path) -> None:
    """Check that a file does not exist or is a fitted table: a measured one is not overwritten.

    Raises:
        UserError: otherwise.
    """
    try:
        kind = read_json(path).get("kind")
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} exists and is not a fitted table: use another --out") from error
    if kind != "fitted":
        raise UserError(f"{path} is a table of kind '{kind}': use another --name or --out")


def _column(table: PublishedTable, name: str, metric: str | None) -> str:
    """The column of latencies: as specified, else that of the device, else the only one."""
    latencies = [column for column in table.columns if Metric.of(column).is_latency]
    if metric is not None:
        if metric not in table.columns and latency_on(metric) in table.columns:
            return latency_on(metric)
        if metric not in table.columns:
            raise unknown(f"column of numbers in {table.path}", metric, table.columns)
        return metric
    for candidates in ([c for c in latencies if c == latency_on(name)], latencies, table.columns):
        if len(candidates) == 1:
            return candidates[0]
    raise unknown(f"latency in {table.path}, so give --metric:", latency_on(name), table.columns)


def _held_out_agreement(
    fitted: FittedLatency,
    space: SearchSpace,
    table: PublishedTable,
    values: np.ndarray[Any, np.dtype[np.float64]],
    used: np.ndarray[Any, np.dtype[np.intp]],
    rest: np.ndarray[Any, np.dtype[np.intp]],
) -> Agreement | None:
    """Agreement on the rows that were not fitted, without those whose run failed."""
    ran = values[used][values[used] > 0]
    rest = rest[values[rest] >= FAILED_SHARE * np.median(ran)]
    if len(rest) < 2:
        return None
    return agreement(fitted.predict(space, table.rows[rest]), values[rest])


def _as_json(
    fitted: FittedLatency, column: str, held_out: Agreement | None, path: Path
) -> dict[str, Any]:
    return {
        "device": fitted.device,
        "space": fitted.space,
        "metric": column,
        "origin": fitted.origin,
        "samples": fitted.samples,
        "dropped": fitted.dropped,
        "cross_validated": asdict(fitted.agreement),
        "summed_by_block": asdict(fitted.additive_agreement),
        "additive": not fitted.compiled,
        "on_the_rest": None if held_out is None else asdict(held_out),
        "unseen": list(fitted.unseen),
        "file": str(path),
    }
