"""`nas compare`: compares two efficiency records and warns about differences in how they were made.

Records (`nas/release/efficiency.py`) may come from this engine or another program. Ratios are
always computed; each difference in data, hardware or method that may cause a ratio is a warning.
Knows records. Does not know runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evaluators.metrics import KNOWN, Metric
from evaluators.sizes import format_size
from nas.release.efficiency import EfficiencyRecord, Measured, Result, read_record


@dataclass(frozen=True)
class Row:
    """A quantity in both records; `ratio` is the second divided by the first."""

    name: str
    first: float | None
    second: float | None
    unit: str = ""

    @property
    def ratio(self) -> float | None:
        """The ratio; None if a value is missing or the first is zero."""
        if self.first is None or self.second is None or self.first == 0:
            return None
        return self.second / self.first


def compare(first: EfficiencyRecord, second: EfficiencyRecord) -> tuple[list[Row], list[str]]:
    """Rows of quantities, and warnings about differences that make ratios unreliable."""
    rows = [
        Row("FLOPs", first.counts.macs, second.counts.macs),
        Row("parameters", first.counts.params, second.counts.params),
        Row("activations", first.counts.activation_bytes, second.counts.activation_bytes, "B"),
    ]
    rows += _scores(first, second)
    rows += _timings(first, second)
    devices = [{known.device: known for known in of.estimated} for of in (first, second)]
    for name in [n for n in devices[0] if n in devices[1]]:
        a, b = (known[name] for known in devices)
        rows.append(Row(f"{name}, latency", a.latency_ms, b.latency_ms, "ms"))
        if a.energy_mj is not None or b.energy_mj is not None:
            rows.append(Row(f"{name}, energy", a.energy_mj, b.energy_mj, "mJ"))
    if first.footprint is not None or second.footprint is not None:
        footprints = [of.footprint for of in (first, second)]
        kwh, kilos = (
            [None if f is None else getattr(f, name) for f in footprints]
            for name in ("kwh", "kg_co2e")
        )
        rows.append(Row("energy to make", kwh[0], kwh[1], "kWh"))
        rows.append(Row("carbon to make", kilos[0], kilos[1], "kg CO2e"))
    return rows, list(_warnings(first, second))


def _scores(first: EfficiencyRecord, second: EfficiencyRecord) -> Iterator[Row]:
    scores = [_by_kind(of.results) for of in (first, second)]
    for key in dict.fromkeys([*scores[0], *scores[1]]):
        a, b = (known.get(key) for known in scores)
        split, metric, precision = key
        values = [None if r is None else r.value for r in (a, b)]
        yield Row(f"{split} {metric}, {precision}", values[0], values[1], metric)


def _by_kind(results: list[Result]) -> dict[tuple[str, str, str], Result]:
    return {(r.split, r.metric, r.precision): r for r in results}


def _timings(first: EfficiencyRecord, second: EfficiencyRecord) -> Iterator[Row]:
    times = [_by_scenario(of.measured) for of in (first, second)]
    for key in dict.fromkeys([*times[0], *times[1]]):
        a, b = (known.get(key) for known in times)
        scenario, precision = key
        single = scenario == "single stream"
        name = "p90_ms" if single else "samples_per_second"
        values = [None if m is None else getattr(m, name) for m in (a, b)]
        what, unit = (", p90", "ms") if single else ("", "samples/s")
        yield Row(f"{scenario}, {precision}{what}", values[0], values[1], unit)


def _by_scenario(measured: list[Measured]) -> dict[tuple[str, str], Measured]:
    """The first timing of each scenario and precision."""
    found: dict[tuple[str, str], Measured] = {}
    for timed in measured:
        found.setdefault((timed.scenario, timed.precision), timed)
    return found


def _warnings(first: EfficiencyRecord, second: EfficiencyRecord) -> Iterator[str]:
    """Differences other than the networks that a ratio may come from."""
    counts = first.counts, second.counts
    if counts[0].convention != counts[1].convention:
        flops = " and ".join(str(c.convention.flops_per_mac) for c in counts)
        yield (
            "counted by different conventions"
            + (
                f" ({flops} FLOPs per multiply-accumulate)"
                if len({c.convention.flops_per_mac for c in counts}) > 1
                else ""
            )
            + f": '{counts[0].convention.text}' and '{counts[1].convention.text}'"
        )
    if counts[0].input_shape != counts[1].input_shape:
        shapes = ["x".join(map(str, c.input_shape)) for c in counts]
        yield f"inputs of different sizes: {shapes[0]} and {shapes[1]}"
    for name in ("data", "split", "samples"):
        values = [sorted({str(getattr(r, name)) for r in of.results}) for of in (first, second)]
        if all(values) and values[0] != values[1]:
            yield f"scored on different {name}: {', '.join(values[0])} and {', '.join(values[1])}"
    for name in ("processor", "cores", "system"):
        values = [
            sorted({str(getattr(m.hardware, name)) for m in of.measured}) for of in (first, second)
        ]
        if all(values) and values[0] != values[1]:
            yield (
                f"timed on different hardware ({name}): {', '.join(values[0])} and "
                f"{', '.join(values[1])}"
            )
    for name in ("runtime", "threads", "batch"):
        settings = [_settings(of.measured, name) for of in (first, second)]
        for scenario in [s for s in settings[0] if s in settings[1]]:
            if settings[0][scenario] != settings[1][scenario]:
                yield (
                    f"{scenario} with different {name}: {settings[0][scenario]} and "
                    f"{settings[1][scenario]}"
                )
    regions = [of.footprint.region if of.footprint is not None else None for of in (first, second)]
    if all(regions) and regions[0] != regions[1]:
        yield f"carbon of different grids: {regions[0]} and {regions[1]}"


def _settings(measured: list[Measured], name: str) -> dict[str, str]:
    return {m.scenario: str(getattr(m, name)) for m in reversed(measured)}


def compare_and_print(
    first: Path, second: Path, *, as_json: bool, write: Callable[[str], None] = print
) -> None:
    """Run `nas compare A B`: print the comparison.

    Args:
        write: takes the JSON.

    Raises:
        UserError: for a file that is not a valid record.
    """
    records = read_record(first), read_record(second)
    rows, warnings = compare(*records)
    if as_json:
        content = {
            "first": records[0].name,
            "second": records[1].name,
            "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
            "warnings": warnings,
        }
        write(json.dumps(content, indent=2))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(title=f"{records[0].name} and {records[1].name}", title_justify="left")
    for header in ("", records[0].architecture, records[1].architecture, "second / first"):
        table.add_column(header, justify="right" if header else "left")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        table.add_row(row.name, _cell(row.first, row.unit), _cell(row.second, row.unit), ratio)
    console.print(table)
    for warning in warnings:
        console.print(f"warning: {warning}", soft_wrap=True, markup=False)


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit in ("", "B"):
        return format_size(value, unit)
    if unit in KNOWN:
        return Metric.of(unit).format(value)
    return f"{value:.4g} {unit}"
