"""Measured latency tables: block times of a space on a device, and latencies computed from them.

Knows the file format, interpolation and correction. Does not measure: `measuring/this_machine.py`
fills the table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hardware_profiles.latency.agreement import Agreement, agreement
from hardware_profiles.latency.block_keys import BlockKey, block_key
from hardware_profiles.latency.correction import Correction, Sample, fit_correction
from hardware_profiles.latency.interpolation import StructureTimes
from hardware_profiles.latency.kernel_features import FP32_BYTES, QUANTITIES, work_of
from hardware_profiles.latency.protocol import Origin
from search_spaces.architecture import Value
from search_spaces.errors import UserError
from search_spaces.files import read_json, write_text
from search_spaces.ops import Op
from search_spaces.space import SearchSpace

FORMAT_VERSION: Literal[1] = 1

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class BlockTime(BaseModel):
    """A measured block.

    `structure` is an index into the table's structures; `macs` and `bytes` are those of one sample.
    `ms` is the median of `runs` runs, and `spread` half their interquartile range divided by it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    structure: Count
    sizes: tuple[Count, ...]
    macs: Count
    bytes: Count
    ms: Positive
    spread: Annotated[float, Field(ge=0)]
    runs: Annotated[int, Field(ge=1)]


class NetworkTime(BaseModel):
    """A measured whole network; `predicted_ms` is the table's prediction of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: dict[str, Value]
    macs: Count
    ms: Positive
    spread: Annotated[float, Field(ge=0)]
    runs: Annotated[int, Field(ge=1)]
    predicted_ms: Positive | None = None


class MeasuredTable(BaseModel):
    """All measurements of a space on a device with one runtime."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["measured"] = "measured"
    device: Annotated[str, Field(min_length=1)]
    space: Annotated[str, Field(min_length=1)]
    made_from: dict[str, str | int | None] = {}
    """Arguments that the space was loaded with: its name or file, image size, classes."""
    runtime: str
    threads: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    torch_device: str = "cpu"
    versions: dict[str, str]
    machine: dict[str, str | int | float | None]
    date: str
    reference_ms: Positive
    """Nominal time of the reference kernel, to which all times are normalised."""
    structures: tuple[str, ...]
    blocks: tuple[BlockTime, ...]
    noisy: tuple[BlockTime, ...] = ()
    """Blocks whose measurements are too noisy to use."""
    networks: tuple[NetworkTime, ...] = ()
    """Networks to which the correction is fitted."""
    correction: Correction = Correction()
    checked: tuple[NetworkTime, ...] = ()
    """Networks not used in the table, measured by `nas device check`."""

    @property
    def agreement(self) -> Agreement | None:
        """Agreement with `checked` networks; None if there are none."""
        if not self.checked:
            return None
        predicted = np.array([network.predicted_ms or 0.0 for network in self.checked])
        return agreement(predicted, np.array([network.ms for network in self.checked]))

    @model_validator(mode="after")
    def _consistent(self) -> MeasuredTable:
        lengths: dict[int, int] = {}
        for block in (*self.blocks, *self.noisy):
            if block.structure >= len(self.structures):
                raise ValueError(f"blocks: structure {block.structure} is not in the table")
            if lengths.setdefault(block.structure, len(block.sizes)) != len(block.sizes):
                raise ValueError(f"blocks: structure {block.structure} has sizes of two lengths")
        return self

    def key(self, block: BlockTime) -> BlockKey:
        """Return the key of one of the blocks."""
        return BlockKey(self.structures[block.structure], block.sizes)

    @property
    def setting(self) -> str:
        """Runtime with its version, threads and batch, as text."""
        version = self.versions.get(self.runtime.partition("-")[0], "")
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        place = "" if self.torch_device == "cpu" else f" on {self.torch_device}"
        return f"{self.runtime} {version}{place}, {threads}, batch {self.batch}"


def read_measured(path: Path) -> MeasuredTable:
    """Read a measured table.

    Raises:
        UserError: if the file cannot be read or is not a measured table.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the latency table {path}: {error}") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has format version {version}, expected {FORMAT_VERSION}")
    try:
        return MeasuredTable.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"latency table {path}: {place}: {first['msg']}") from error


def write_measured(table: MeasuredTable, path: Path) -> None:
    """Write a table as JSON, atomically."""
    write_text(path, json.dumps(table.model_dump(), separators=(",", ":")) + "\n")


@dataclass
class Coverage:
    """Numbers of distinct blocks of a space by how their times are obtained from a table."""

    measured: int = 0
    interpolated: int = 0
    extrapolated: int = 0
    missing: list[str] = field(default_factory=list)
    """Names of blocks whose structure is not in the table."""

    def __str__(self) -> str:
        parts = [f"{self.measured} blocks measured"]
        if self.interpolated:
            parts.append(f"{self.interpolated} interpolated")
        if self.extrapolated:
            parts.append(f"{self.extrapolated} EXTRAPOLATED beyond what was measured")
        return ", ".join(parts)


class MeasuredLatency:
    """A `Latency` from a measured table.

    Example:
        >>> latency = MeasuredLatency(read_measured(path))
        >>> CostTables(space, prices={"latency_ms_board": latency.milliseconds})
    """

    def __init__(self, table: MeasuredTable) -> None:
        self.table = table
        self._known = {table.key(block): block.ms for block in table.blocks}
        self._extrapolated: set[BlockKey] = set()

    @property
    def device(self) -> str:
        """The device's name."""
        return self.table.device

    @property
    def origin(self) -> Origin:
        """Always `measured`."""
        return "measured"

    @property
    def summary(self) -> str:
        """Measurements, runtime, accuracy on networks, and number of blocks extrapolated so far."""
        table, correction = self.table, self.table.correction
        words = f"measured: {len(table.blocks)} blocks of {table.space} with {table.setting}"
        if correction.networks:
            words += f", corrected by {correction.networks} networks"
        if (found := table.agreement) is not None:
            words += f"; {found.within_10:.0%} of {found.n} unseen networks within ±10 %"
        elif correction.error is not None:
            words += f" (error of those left out {correction.error:.1%})"
        if self._extrapolated:
            beyond = len(self._extrapolated)
            words += f"; {beyond} blocks EXTRAPOLATED beyond the sizes that were measured"
        return f"{words}; {table.date}"

    @cached_property
    def _structures(self) -> dict[str, StructureTimes]:
        found: dict[int, list[BlockTime]] = {}
        for block in self.table.blocks:
            found.setdefault(block.structure, []).append(block)
        return {
            self.table.structures[index]: StructureTimes(
                np.array([b.sizes for b in blocks], dtype=float),
                np.array([(b.macs, b.bytes) for b in blocks], dtype=float),
                np.array([b.ms for b in blocks]),
            )
            for index, blocks in found.items()
        }

    def isolated_milliseconds(self, ops: Sequence[Op]) -> float:
        """Return the milliseconds of an isolated block, measured or interpolated.

        Raises:
            LookupError: if the table does not have the block's structure.
        """
        key = block_key(ops)
        if key in self._known:
            return self._known[key]
        if key.structure not in self._structures:
            raise LookupError(key.structure)
        structure = self._structures[key.structure]
        milliseconds = structure.milliseconds_at(key.sizes, block_work(ops))
        if not structure.covers(key.sizes):
            self._extrapolated.add(key)
        self._known[key] = milliseconds
        return milliseconds

    def milliseconds(self, ops: Sequence[Op]) -> float:
        """Return a block's contribution to the latency of a network, in milliseconds.

        Raises:
            UserError: if the table does not have the block's structure, as of another space.
        """
        try:
            isolated = self.isolated_milliseconds(ops)
            return self.table.correction.milliseconds(isolated, io_megabytes(ops))
        except LookupError as error:
            raise UserError(
                f"the latency table of {self.device} was measured for space {self.table.space} "
                f"and has no block of the kernels {_kernel_names(str(error.args[0]))}: "
                f"nas device measure --name {self.device} --space ..."
            ) from None

    def coverage(self, space: SearchSpace) -> Coverage:
        """Count the distinct blocks of a space that are measured, interpolated or extrapolated."""
        result = Coverage()
        measured = {self.table.key(block) for block in self.table.blocks}
        seen: set[BlockKey] = set()
        for block in space.blocks:
            for ops in space.forms(block):
                key = block_key(ops) if ops else None
                if key is None or key in seen:
                    continue
                seen.add(key)
                if key in measured:
                    result.measured += 1
                elif key.structure not in self._structures:
                    result.missing.append(block.name)
                elif self._structures[key.structure].covers(key.sizes):
                    result.interpolated += 1
                else:
                    result.extrapolated += 1
        return result

    def fit_correction(
        self, networks: Sequence[tuple[NetworkTime, Sequence[Sequence[Op]]]]
    ) -> Correction:
        """Fit the correction to measured networks.

        Networks with a block whose structure is not in the table are omitted.

        Args:
            networks: measured networks, each with the ops of its blocks.
        """
        samples = []
        for network, blocks in networks:
            try:
                priced = [(self.isolated_milliseconds(ops), io_megabytes(ops)) for ops in blocks]
            except LookupError:
                continue
            samples.append(Sample(priced, network.ms))
        return fit_correction(samples)


def block_work(ops: Sequence[Op]) -> tuple[int, int]:
    """Return multiply-accumulates and bytes read and written by a block, for one sample in fp32."""
    work = [dict(zip(QUANTITIES, work_of(op), strict=False)) for op in ops]
    moved = sum(w["activations"] + w["weights"] for w in work)
    return int(sum(w["macs"] for w in work)), int(moved)


def io_megabytes(ops: Sequence[Op]) -> float:
    """Return the megabytes of a block's inputs from other blocks and of its output, in fp32.

    For one sample.
    """
    made = {op.name for op in ops}
    outside = {t.name: prod(t.shape) for op in ops for t in op.inputs if t.name not in made}
    return FP32_BYTES * (sum(outside.values()) + prod(ops[-1].out_shape)) / 1e6


def _kernel_names(structure: str) -> str:
    kinds = [word.partition("(")[0] for word in structure.split(" ")]
    return ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "")
