"""`nas device fit` and `nas device propose`: a device's latencies from a file of timed networks.

Reads samples, keeps what is fitted among the user's tables, and prints how good it is on networks
that the fit did not see. The model is `hardware_profiles/fitting/fitted.py`.
"""

from __future__ import annotations

import json
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
from hardware_profiles.fitting.fitted import FAILED, FEWEST, FittedLatency, fit_latency
from hardware_profiles.fitting.informative import informative
from hardware_profiles.latencies import table_path
from hardware_profiles.latency.agreement import Quality, quality
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError, unknown
from search_spaces.space import SearchSpace

POOL = 4096
"""Random architectures among which those to time are chosen."""


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
    """`nas device fit`.

    Raises:
        UserError: for a name that cannot be a file's, a file that is no table of the space, a
            column that it does not have, too few samples, or a measured table in the place.
    """
    check_name(name)
    if samples is not None and samples < FEWEST:
        raise UserError(f"--samples {samples}: expected at least {FEWEST}")
    space = load_space(space_name)
    path = out or table_path(name, space.name, "fitted")
    _check_place(path)
    table = read_table(file, space)
    column = _column(table, name, metric)
    values = table.only([column]).values[:, 0]
    order = np.arange(len(values))
    if samples is not None:
        if samples > len(values):
            raise UserError(f"--samples {samples}: {file} has {len(values)} rows")
        order = np.random.default_rng(seed).permutation(len(values))
    used, rest = order[:samples], order[samples or len(values) :]
    with threadpool_limits(1):  # the matrices are small: threads would only wait for each other
        fitted = fit_latency(space, table.rows[used], values[used], name)
        held_out = _on_rest(fitted, space, table, values, used, rest)
    fitted.save(path)
    if as_json:
        print(json.dumps(_as_json(fitted, column, held_out, path), indent=2))
        return
    print(f"{name} on {space.name}, from {column} of {file.name}")
    print(f"  samples          {fitted.samples}", end="")
    print(f" ({fitted.dropped} readings left out)" if fitted.dropped else "")
    print(f"  cross-validated  {fitted.quality}")
    if fitted.compiled:
        print(f"  summed by block  {fitted.additive_quality}")
        print("                   (the device leaves out what a network's output does not need)")
    if held_out is not None:
        print(f"  on the rest      {held_out} ({held_out.n:,} networks that it did not see)")
    for kind in fitted.unseen:
        print(f"  no sample has    {kind}: priced like the average kind")
    print(f"  written to       {path}")


def print_proposals(space_name: str, count: int, *, max_flops: str | None, seed: int) -> None:
    """`nas device propose`: one architecture a line, to be timed.

    Raises:
        UserError: for a budget that nothing meets, or more architectures than there are.
    """
    if count < 1:
        raise UserError(f"--number {count}: expected at least 1")
    space = load_space(space_name)
    high = {} if max_flops is None else {"macs": float(parse_size(max_flops))}
    with threadpool_limits(1):
        budgeted = BudgetedSpace(CostTables(space), Budget(high, {}))
        pool = budgeted.sample(max(POOL, 8 * count), np.random.default_rng(seed))
        rows = informative(space, pool, count)
    if len(rows) < count:
        raise UserError(f"--number {count}: expected at most {len(rows)} within {budgeted.budget}")
    for arch in space.decode(rows):
        print(json.dumps(dict(arch)))


def _check_place(path: Path) -> None:
    """What was measured is not overwritten by what is fitted."""
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("kind")
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is there and is no fitted latency: choose another --out"
        ) from error
    if kind != "fitted":
        raise UserError(f"{path} holds a table of kind '{kind}': choose another --name or --out")


def _column(table: PublishedTable, name: str, metric: str | None) -> str:
    """The column of latencies: as given, else the device's own, else the only one there is."""
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


def _on_rest(
    fitted: FittedLatency,
    space: SearchSpace,
    table: PublishedTable,
    values: np.ndarray[Any, np.dtype[np.float64]],
    used: np.ndarray[Any, np.dtype[np.intp]],
    rest: np.ndarray[Any, np.dtype[np.intp]],
) -> Quality | None:
    """Quality on the rows that were not used, those aside on which nothing ran."""
    ran = values[used][values[used] > 0]
    rest = rest[values[rest] >= FAILED * np.median(ran)]
    if len(rest) < 2:
        return None
    return quality(fitted.predict(space, table.rows[rest]), values[rest])


def _as_json(
    fitted: FittedLatency, column: str, held_out: Quality | None, path: Path
) -> dict[str, Any]:
    return {
        "device": fitted.device,
        "space": fitted.space,
        "metric": column,
        "origin": fitted.origin,
        "samples": fitted.samples,
        "dropped": fitted.dropped,
        "cross_validated": asdict(fitted.quality),
        "summed_by_block": asdict(fitted.additive_quality),
        "additive": not fitted.compiled,
        "on_the_rest": None if held_out is None else asdict(held_out),
        "unseen": list(fitted.unseen),
        "file": str(path),
    }
