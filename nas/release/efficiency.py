"""The efficiency record: costs and scores of a network in a form that other teams can compare.

One JSON file with a published schema, `efficiency.schema.json` beside this module: how compute was
counted, how latency was measured (scenario, percentiles, queries, hardware), energy, carbon. The
scenarios follow MLPerf Inference (Reddi et al., "MLPerf inference benchmark", 2020): single stream
with the 90th percentile of latency, and offline with the throughput. They are not MLPerf results,
which require that benchmark's data, rules and review.

Knows the fields of a record. Does not measure (`timing.py`) or compare (`compare.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_spaces.errors import UserError
from search_spaces.files import read_json

RECORD_FILE = "efficiency.json"
SCHEMA = Path(__file__).with_name("efficiency.schema.json")
MANNER = "in the manner of MLPerf Inference's scenarios; not an MLPerf result"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Convention(_Part):
    """Which operations are counted, and how many FLOPs a multiply-accumulate is."""

    flops_per_mac: int = Field(1, ge=1, le=2)
    """1 if a FLOP is a multiply-accumulate, as in papers on architecture search."""
    text: str


class Counts(_Part):
    """Costs of one sample."""

    macs: int = Field(gt=0)
    params: int = Field(ge=0)
    activation_bytes: int = Field(ge=0)
    input_shape: list[int]
    convention: Convention


class Result(_Part):
    """A score, with the data that it was measured on."""

    task: str
    data: str
    split: str
    samples: int = Field(ge=1)
    unit: str
    metric: str
    value: float
    interval_95: tuple[float, float] | None = None
    precision: Literal["fp32", "int8"] = "fp32"


class Hardware(_Part):
    """The machine of a measurement."""

    processor: str
    cores: int = Field(ge=1)
    memory_gib: float
    system: str


class Measured(_Part):
    """A timed scenario."""

    scenario: Literal["single stream", "offline"]
    manner: str = MANNER
    file: str
    runtime: str
    precision: Literal["fp32", "int8"]
    hardware: Hardware
    threads: int = Field(ge=1)
    batch: int = Field(ge=1)
    queries: int = Field(ge=1)
    """Number of timed runs of `batch` samples each."""
    seconds: float = Field(gt=0)
    p50_ms: float = Field(gt=0)
    p90_ms: float = Field(gt=0)
    p99_ms: float = Field(gt=0)
    samples_per_second: float = Field(gt=0)


class Estimated(_Part):
    """Latency and energy of one sample on a device, from a table or a datasheet."""

    device: str
    latency_ms: float | None = None
    energy_mj: float | None = None
    source: str


class Footprint(_Part):
    """Energy and carbon of the search and training of the network."""

    covers: str
    kwh: float = Field(ge=0)
    kg_co2e: float = Field(ge=0)
    kg_co2e_low: float = Field(ge=0)
    kg_co2e_high: float = Field(ge=0)
    region: str
    measured_by: str


class EfficiencyRecord(_Part):
    """An efficiency record, version 1."""

    record: Literal["efficiency"] = "efficiency"
    version: Literal[1] = 1
    name: str
    space: str
    architecture: str
    made: str
    """Date of creation, in ISO 8601."""
    counts: Counts
    results: list[Result]
    measured: list[Measured]
    estimated: list[Estimated]
    footprint: Footprint | None = None
    greenscore: float | None = None
    greenscore_formula: str | None = None
    versions: dict[str, str]


def schema() -> dict[str, Any]:
    """The published JSON schema of a record."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **EfficiencyRecord.model_json_schema(mode="validation"),
    }


def read_record(place: Path | str) -> EfficiencyRecord:
    """Read a record from a file, or from an exported folder.

    Raises:
        UserError: if there is no file, or it is not a valid record of this version.
    """
    path = Path(place)
    path = path / RECORD_FILE if path.is_dir() else path
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(f"no efficiency record at {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict) or content.get("record") != "efficiency":
        raise UserError(
            f"{path} is not an efficiency record: expected a file that `nas export` wrote"
        )
    if content.get("version") != 1:
        raise UserError(
            f"{path} is an efficiency record of version {content.get('version')}, expected 1"
        )
    try:
        return EfficiencyRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path} is not a valid efficiency record: {name}: {first['msg']}"
        ) from error
