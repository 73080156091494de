"""Carbon intensity of electricity, by country, state, province, bidding zone or cloud region.

Intensities are in grams of CO2 per kilowatt-hour. They are read from files in the `codecarbon`
package (MIT licence), whose sources are Ember through Our World in Data (countries, CC BY 4.0), the
EPA's eGRID (US states, public domain), China's Ministry of Ecology and Environment (provinces),
ENTSO-E (Nordic zones) and Google (its regions). Knows places and intensities. Does not know energy.

Intensities are location-based yearly averages. They vary with the hour, the accounting method and
the imports of a place, so each has a range (`RANGE_FACTORS`).
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from hardware_profiles.electricity.cloud_places import CLOUD_GRIDS
from hardware_profiles.electricity.country_codes import ALIASES, ALPHA_2
from search_spaces.errors import UserError
from search_spaces.files import read_json

RegionKind = Literal["world", "country", "state", "province", "zone", "cloud"]

POUNDS_PER_MWH = 0.45359237
"""Grams per kilowatt-hour in one pound per megawatt-hour."""

RANGE_FACTORS = (0.55, 1.5)
"""Factors from an intensity to the ends of its range. Where the packaged data has two sources for
one grid (Google's figure for a region, from hourly data, and the yearly average of its country or
US state), nine of ten pairs are within the range, which a test recomputes. A single hour can be
outside it."""

RANGE_GROUNDS = "×0.55 to ×1.5, within which nine of ten second sources for the same grid lie"

FUELS = {"coal": 995.725971, "petroleum": 816.6885263, "naturalGas": 743.8415916}
"""Grams per kilowatt-hour from each fuel, with which codecarbon converts a province's energy mix to
an intensity (sources other than these fuels count as zero)."""

PROVINCES = {
    "alberta": "AB",
    "british columbia": "BC",
    "manitoba": "MB",
    "new brunswick": "NB",
    "newfoundland and labrador": "NL",
    "nova scotia": "NS",
    "northwest territories": "NT",
    "nunavut": "NU",
    "ontario": "ON",
    "prince edward island": "PE",
    "quebec": "QC",
    "saskatchewan": "SK",
    "yukon": "YT",
}

EXAMPLES = "a country (fr, FRA, france), us-ca, ca-qc, cn-sh, SE3, gcp:europe-west1, world"


@dataclass(frozen=True)
class Region:
    """A place with its carbon intensity, in grams of CO2 (equivalent) per kWh."""

    name: str
    code: str
    """ISO 3166 (`FR`, `US-CA`), a bidding zone (`SE3`), `PROVIDER:REGION` or `WORLD`."""
    kind: RegionKind
    intensity: float
    low: float
    high: float
    year: int | None
    """Year of the data; None if the file does not state it."""
    source: str
    grounds: str
    """Grounds of the range from `low` to `high`."""
    aliases: tuple[str, ...] = ()


def load_region(reference: str) -> Region:
    """Return a region by name, ISO code, bidding zone or cloud region; case is ignored.

    Raises:
        UserError: if the place is unknown, or several places have the name.
    """
    key = _key(reference)
    codes = _index().get(key, ())
    if not codes:
        near: dict[tuple[str, ...], str] = {}
        for name in difflib.get_close_matches(key, _index(), n=6, cutoff=0.6):
            near.setdefault(_index()[name], name)
        names = " or ".join(f"'{name}'" for name in list(near.values())[:3])
        hint = f"did you mean {names}? " if names else ""
        raise UserError(f"unknown region '{reference}': {hint}(expected {EXAMPLES})")
    if len(codes) > 1:
        named = " or ".join(f"'{code}' ({_regions()[code].kind})" for code in codes)
        raise UserError(f"ambiguous region '{reference}': expected {named}")
    return _regions()[codes[0]]


def region_codes() -> list[str]:
    """Return the codes of all regions that `load_region` accepts."""
    return list(_regions())


def _key(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


@lru_cache(maxsize=1)
def _index() -> dict[str, tuple[str, ...]]:
    """Map each name to its codes; exact codes take precedence, so that `CA` is never California."""
    index = {_key(code): (code,) for code in _regions()}
    for alpha_3, alpha_2 in ALPHA_2.items():
        index.setdefault(alpha_3.lower(), (alpha_2,))
    index |= {alias: (code,) for alias, code in ALIASES.items()}
    for region in _regions().values():
        for name in _names(region):
            codes = index.get(name, ())
            if name != _key(region.code) and region.code not in codes:
                index[name] = (*codes, region.code)
    known = _regions().keys()
    kept = ((name, tuple(c for c in codes if c in known)) for name, codes in index.items())
    return {name: codes for name, codes in kept if codes}


def _names(region: Region) -> list[str]:
    if region.kind == "cloud":
        return [region.code.partition(":")[2]]
    return [_key(region.name), *region.aliases]


@lru_cache(maxsize=1)
def _regions() -> dict[str, Region]:
    """Return all regions by code."""
    folder = _data_folder()
    countries = list(_countries(folder))
    parts = [*_states(folder), *_canada(folder), *_china(folder), *_nordic(folder)]
    found = {region.code: _widened(region, parts) for region in countries}
    found |= {region.code: region for region in parts}
    found |= {region.code: region for region in _clouds(folder, found)}
    return {"WORLD": _world(folder, countries)} | found


def _data_folder() -> Path:
    # The package is located, not imported: its import may load pandas and its trackers.
    spec = find_spec("codecarbon")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the grid data is in the package codecarbon, which is not installed")
    return Path(spec.submodule_search_locations[0]) / "data"


def _json(path: Path) -> Any:
    return read_json(path)


def _yearly(folder: Path, name: str) -> tuple[Any, int] | None:
    """Read a file from the newest yearly folder that has it; return its content and the year."""
    found = sorted((folder / "private_infra").glob(f"[0-9]*/{name}"))
    return (_json(found[-1]), int(found[-1].parent.name)) if found else None


def _region(
    name: str, code: str, kind: RegionKind, intensity: float, year: int | None, source: str
) -> Region:
    low, high = (intensity * factor for factor in RANGE_FACTORS)
    high = min(high, max(intensity, FUELS["coal"]))
    return Region(name, code, kind, intensity, low, high, year, source, RANGE_GROUNDS)


def _countries(folder: Path) -> Iterator[Region]:
    source = "Ember and Energy Institute, by Our World in Data (life cycle), in codecarbon"
    for alpha_3, entry in _json(folder / "private_infra" / "global_energy_mix.json").items():
        intensity = entry.get("carbon_intensity")
        # One entry has an intensity of zero, since its mix has no fuels.
        if intensity is None or alpha_3 not in ALPHA_2 or intensity <= 0:
            continue
        code = ALPHA_2[alpha_3]
        yield _region(entry["country_name"], code, "country", intensity, entry["year"], source)


def _widened(country: Region, parts: Iterable[Region]) -> Region:
    """Widen a country's range to cover eight of ten of its states or provinces, if known."""
    inside = sorted(p.intensity for p in parts if p.code.startswith(f"{country.code}-"))
    if len(inside) < 5:
        return country
    low, high = inside[len(inside) // 10], inside[-1 - len(inside) // 10]
    grounds = (
        f"{country.grounds}, and eight of ten of its {len(inside)} states or provinces "
        f"({low:.0f} to {high:.0f}): name one to narrow it"
    )
    low, high = min(country.low, low), max(country.high, high)
    return replace(country, low=low, high=high, grounds=grounds)


def _states(folder: Path) -> Iterator[Region]:
    found = _yearly(folder, "usa_emissions.json")
    if found is None:
        return
    content, year = found
    source_entry = content.get("_source", {})
    source = f"{source_entry.get('name', 'EPA eGRID')}, in codecarbon"
    for name, entry in content.items():
        # The file also has the nation, which is already among the countries.
        if not re.fullmatch(r"[A-Z]{2}", str(entry.get("regionCode"))) or name == "usa":
            continue
        intensity = entry["emissions"] * POUNDS_PER_MWH
        code = f"US-{entry['regionCode']}"
        yield _region(
            name.title(), code, "state", intensity, source_entry.get("year", year), source
        )


def _canada(folder: Path) -> Iterator[Region]:
    found = _yearly(folder, "canada_energy_mix.json")
    for name, mix in found[0].items() if found else ():
        if name not in PROVINCES:
            continue
        intensity = sum(mix.get(fuel, 0) / mix["total"] * grams for fuel, grams in FUELS.items())
        source = (
            "share of coal, oil and gas in codecarbon's mix of the province (the file names no "
            "source and no year), times its grams by fuel; nothing for hydro, wind and nuclear"
        )
        yield _region(name.title(), f"CA-{PROVINCES[name]}", "province", intensity, None, source)


def _china(folder: Path) -> Iterator[Region]:
    found = _yearly(folder, "china_provincial_emissions.json")
    for code, entry in found[0]["data"].items() if found else ():
        source = "China MEE and NBS, announcement 2025 No. 47 (CO2 only), in codecarbon"
        name, factor = entry["description"], entry["emission_factor"]
        region = _region(name, code, "province", factor, entry["year"], source)
        yield replace(region, aliases=tuple(entry.get("names", ())))


def _nordic(folder: Path) -> Iterator[Region]:
    path = folder / "private_infra" / "nordic_emissions.json"
    for code, entry in _json(path)["data"].items() if path.exists() else ():
        if not code[-1].isdigit():  # Finland is one zone, and already among the countries
            continue
        source = "generation by ENTSO-E times codecarbon's factors, in codecarbon"
        factor = entry["emission_factor"]
        yield _region(entry["description"], code, "zone", factor, entry.get("year"), source)


def _clouds(folder: Path, places: dict[str, Region]) -> Iterator[Region]:
    with (folder / "cloud" / "impact.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            provider, region = row["provider"], row["region"].replace("cenrtal", "central")
            name = f"{row['providerName']} {region} ({row['city'] or row['country_name']})"
            source = "the provider's own figure (no year stated), in codecarbon"
            code = f"{provider}:{region}"
            yield _region(name, code, "cloud", float(row["impact"]), None, source)
    for provider, regions in CLOUD_GRIDS.items():
        for region, place in regions.items():
            if place not in places:
                continue
            grid = places[place]
            name = f"{provider} {region} ({grid.name})"
            source = f"the provider publishes none; the grid of {place}: {grid.source}"
            code = f"{provider}:{region}"
            yield replace(grid, name=name, code=code, kind="cloud", source=source, aliases=())


def _world(folder: Path, countries: Iterable[Region]) -> Region:
    """Return the world average, for use without a named place; its range is that of countries."""
    content = _json(folder / "private_infra" / "carbon_intensity_per_source.json")
    mixes = _json(folder / "private_infra" / "global_energy_mix.json")
    output = {ALPHA_2.get(code): entry["total_TWh"] or 0.0 for code, entry in mixes.items()}
    known = sorted((region.intensity, output[region.code]) for region in countries)
    total, below, low, high = sum(twh for _, twh in known), 0.0, 0.0, 0.0
    for intensity, twh in known:
        low = intensity if below <= 0.1 * total else low
        high = intensity if below <= 0.9 * total else high
        below += twh
    average = float(content["world_average"])
    source = "IEA, Global Energy and CO2 Status Report 2019, in codecarbon"
    grounds = "no place named: eight of ten kWh of the world's generation lie within, by country"
    return Region("World", "WORLD", "world", average, low, high, 2018, source, grounds)
