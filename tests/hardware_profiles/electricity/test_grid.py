"""Regions: names, units, years, ranges and sources."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from hardware_profiles.electricity.cloud_places import CLOUD_GRIDS
from hardware_profiles.electricity.country_codes import ALPHA_2
from hardware_profiles.electricity.grid import (
    RANGE_FACTORS,
    Region,
    _data_folder,
    load_region,
    region_codes,
)
from search_spaces.errors import UserError


@pytest.mark.parametrize(
    ("code", "intensity", "year"),
    [("US", 369, 2023), ("FR", 56, 2023), ("DE", 381, 2023), ("IN", 713, 2023), ("SE", 41, 2023)],
)
def test_countries_have_the_published_intensity(code: str, intensity: int, year: int) -> None:
    region = load_region(code)
    assert round(region.intensity) == intensity
    assert (region.kind, region.year) == ("country", year)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("fr", "FRA", "France", " france "), "FR"),
        (("us", "USA", "united states", "United States of America"), "US"),
        (("uk", "GB", "gbr", "United_Kingdom"), "GB"),
        (("california", "us-ca", "US-CA"), "US-CA"),
        (("new york", "us-ny"), "US-NY"),
        (("quebec", "ca-qc"), "CA-QC"),
        (("shanghai", "cn-sh"), "CN-SH"),
        (("inner mongolia", "neimenggu"), "CN-NM"),
        (("se1", "SE1"), "SE1"),
        (("gcp:europe-west1", "europe-west1"), "gcp:europe-west1"),
        (("aws:us-east-1", "us-east-1"), "aws:us-east-1"),
        (("azure:westeurope", "WestEurope"), "azure:westeurope"),
        (("me-central1",), "gcp:me-central1"),
        (("world",), "WORLD"),
    ],
)
def test_a_place_has_several_names(names: tuple[str, ...], code: str) -> None:
    assert [load_region(name).code for name in names] == [code] * len(names)


def test_two_letters_are_always_a_country() -> None:
    assert load_region("CA").name == "Canada"
    assert load_region("DE").name == "Germany"


def test_states_are_converted_from_pounds_per_mwh_to_grams_per_kwh() -> None:
    path = sorted((_data_folder() / "private_infra").glob("[0-9]*/usa_emissions.json"))[-1]
    pounds = json.loads(path.read_text())["california"]["emissions"]
    assert load_region("california").intensity == pytest.approx(pounds * 453.59237 / 1000)


def test_a_province_with_a_mix_has_the_intensity_that_codecarbon_computes() -> None:
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    place = GeoMetadata(country_iso_code="CAN", country_name="Canada", region="alberta")
    kg = Emissions(DataSource()).get_region_emissions(Energy.from_energy(kWh=1), place)
    assert load_region("alberta").intensity == pytest.approx(1000 * kg)


def test_a_cloud_without_published_figures_has_the_intensity_of_its_grid() -> None:
    region = load_region("aws:us-east-1")
    assert region.intensity == load_region("us-va").intensity
    assert "publishes none" in region.source
    assert load_region("gcp:us-east4").intensity != region.intensity


def test_every_grid_of_a_cloud_is_known() -> None:
    known = set(region_codes())
    assert {place for places in CLOUD_GRIDS.values() for place in places.values()} <= known


def test_every_region_has_a_range_a_source_and_grounds() -> None:
    regions = [load_region(code) for code in region_codes()]
    assert len(regions) > 400
    for region in regions:
        assert 0 < region.low < region.intensity <= region.high, region
        assert region.source, region
        assert region.grounds, region


def test_the_range_of_a_country_covers_most_of_its_states() -> None:
    nation = load_region("us")
    states = [load_region(code) for code in region_codes() if code.startswith("US-")]
    within = sum(nation.low <= state.intensity <= nation.high for state in states)
    assert within >= 0.8 * len(states)
    assert "name one" in nation.grounds


def test_the_range_covers_nine_of_ten_second_sources_for_the_same_grid() -> None:
    states = {
        **{"us-west1": "US-OR", "us-west2": "US-CA", "us-west3": "US-UT", "us-west4": "US-NV"},
        **{"us-central1": "US-IA", "us-east1": "US-SC", "us-east4": "US-VA"},
        **{"us-east5": "US-OH", "us-south1": "US-TX"},
    }
    ratios = []
    with (_data_folder() / "cloud" / "impact.csv").open(encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            country = ALPHA_2[row["countryIsoCode"]]
            if country != "CA":  # the average of Canada is far from Quebec's
                place: Region = load_region(states.get(row["region"], country))
                ratios.append(float(row["impact"]) / place.intensity)
    low, high = RANGE_FACTORS
    assert len(ratios) > 30
    assert sum(low <= ratio <= high for ratio in ratios) >= 0.9 * len(ratios)


def test_two_letters_agree_with_iso_3166() -> None:
    pycountry = pytest.importorskip("pycountry")
    for alpha_3, alpha_2 in ALPHA_2.items():
        assert pycountry.countries.get(alpha_3=alpha_3).alpha_2 == alpha_2


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("frnace", "unknown region 'frnace': did you mean 'france'?"),
        ("us east 1", "unknown region 'us east 1': did you mean 'us-east1' or 'us-east-1'"),
        ("", "unknown region '': (expected a country"),
        ("georgia", "ambiguous region 'georgia': expected 'GE' (country) or 'US-GA' (state)"),
    ],
)
def test_an_unknown_or_ambiguous_place_is_one_short_line(reference: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        load_region(reference)
    text = str(raised.value)
    assert text.startswith(message)
    assert len(text) < 200
    assert "\n" not in text


def test_the_data_is_read_without_importing_codecarbon() -> None:
    code = (
        "import sys\n"
        "from hardware_profiles.electricity.grid import load_region\n"
        "load_region('fr')\n"
        "assert not {'codecarbon', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
