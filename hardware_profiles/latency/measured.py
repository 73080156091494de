"""Measured tables: what the blocks of a space take on a device, in a file to share and commit.

Knows the file and the prices that follow from it. `measuring.py` fills it.
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

from hardware_profiles.latency.agreement import Quality, quality
from hardware_profiles.latency.correction import Correction, Sample, fit_correction
from hardware_profiles.latency.forms import Form, form_of
from hardware_profiles.latency.interpolation import Structure
from hardware_profiles.latency.kernel_features import BYTES, QUANTITIES
from hardware_profiles.latency.kernel_features import work_of as quantities_of
from hardware_profiles.latency.protocol import Origin
from search_spaces.errors import UserError
from search_spaces.files import write_text
from search_spaces.ops import Op
from search_spaces.space import SearchSpace

FORMAT_VERSION: Literal[1] = 1

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class BlockTime(BaseModel):
    """A measured block; `ms` is the median of `runs`, `spread` half their quartiles' range to it.

    `structure` is the index among the table's structures; `macs` and `bytes` are one sample's.
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
    """A measured whole network; `predicted_ms` is what the table said of it before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: dict[str, bool | int | float | str]
    macs: Count
    ms: Positive
    spread: Annotated[float, Field(ge=0)]
    runs: Annotated[int, Field(ge=1)]
    predicted_ms: Positive | None = None


class MeasuredTable(BaseModel):
    """Everything that was measured of a space on a device with one runtime."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["measured"] = "measured"
    device: Annotated[str, Field(min_length=1)]
    space: Annotated[str, Field(min_length=1)]
    made_from: dict[str, str | int | None] = {}
    """How the space was asked for: its name or file, image size, classes."""
    runtime: str
    threads: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    torch_device: str = "cpu"
    versions: dict[str, str]
    machine: dict[str, str | int | float | None]
    date: str
    reference_ms: Positive
    """What the reference kernel usually took: the machine's pace that all times are brought to."""
    structures: tuple[str, ...]
    blocks: tuple[BlockTime, ...]
    noisy: tuple[BlockTime, ...] = ()
    """Measured, but too unsteady to use."""
    networks: tuple[NetworkTime, ...] = ()
    """What the correction was fitted to."""
    correction: Correction = Correction()
    checked: tuple[NetworkTime, ...] = ()
    """Whole networks that the table never saw, by `nas device check`."""

    @property
    def agreement(self) -> Quality | None:
        """How well it predicts networks that it never saw; None where none were measured."""
        if not self.checked:
            return None
        predicted = np.array([network.predicted_ms or 0.0 for network in self.checked])
        return quality(predicted, np.array([network.ms for network in self.checked]))

    @model_validator(mode="after")
    def _consistent(self) -> MeasuredTable:
        lengths: dict[int, int] = {}
        for block in (*self.blocks, *self.noisy):
            if block.structure >= len(self.structures):
                raise ValueError(f"blocks: structure {block.structure} is not in the table")
            if lengths.setdefault(block.structure, len(block.sizes)) != len(block.sizes):
                raise ValueError(f"blocks: structure {block.structure} has sizes of two lengths")
        return self

    def form(self, block: BlockTime) -> Form:
        """The key of one of the blocks."""
        return Form(self.structures[block.structure], block.sizes)

    @property
    def setting(self) -> str:
        """Runtime, threads and batch in words."""
        version = self.versions.get(self.runtime.partition("-")[0], "")
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        place = "" if self.torch_device == "cpu" else f" on {self.torch_device}"
        return f"{self.runtime} {version}{place}, {threads}, batch {self.batch}"


def read_measured(path: Path) -> MeasuredTable:
    """Read a table.

    Raises:
        UserError: for a file that cannot be read or is no measured table, in one line.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
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
    """Write a table, whole or not at all."""
    write_text(path, json.dumps(table.model_dump(), separators=(",", ":")) + "\n")


@dataclass
class Coverage:
    """Distinct blocks of a space by how a table knows them."""

    measured: int = 0
    interpolated: int = 0
    extrapolated: int = 0
    missing: list[str] = field(default_factory=list)
    """Blocks with kernels that the table has not at all."""

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
        self._known = {table.form(block): block.ms for block in table.blocks}
        self._beyond: set[Form] = set()

    @property
    def device(self) -> str:
        """The device's name."""
        return self.table.device

    @property
    def origin(self) -> Origin:
        """Always measured."""
        return "measured"

    @property
    def summary(self) -> str:
        """What was measured, how, and how well it predicts whole networks.

        And how much of what was asked for so far lies beyond it.
        """
        table, correction = self.table, self.table.correction
        words = f"measured: {len(table.blocks)} blocks of {table.space} with {table.setting}"
        if correction.networks:
            words += f", corrected by {correction.networks} networks"
        if (found := table.agreement) is not None:
            words += f"; {found.within_10:.0%} of {found.n} unseen networks within ±10 %"
        elif correction.error is not None:
            words += f" (error of those left out {correction.error:.1%})"
        if self._beyond:
            words += (
                f"; {len(self._beyond)} blocks EXTRAPOLATED beyond the sizes that were measured"
            )
        return f"{words}; {table.date}"

    @cached_property
    def _structures(self) -> dict[str, Structure]:
        found: dict[int, list[BlockTime]] = {}
        for block in self.table.blocks:
            found.setdefault(block.structure, []).append(block)
        return {
            self.table.structures[index]: Structure(
                np.array([b.sizes for b in blocks], dtype=float),
                np.array([(b.macs, b.bytes) for b in blocks], dtype=float),
                np.array([b.ms for b in blocks]),
            )
            for index, blocks in found.items()
        }

    def alone(self, ops: Sequence[Op]) -> float:
        """Milliseconds of a block on its own, measured or interpolated.

        Raises:
            LookupError: for kernels that the table does not have in this order.
        """
        form = form_of(ops)
        if form in self._known:
            return self._known[form]
        if form.structure not in self._structures:
            raise LookupError(form.structure)
        structure = self._structures[form.structure]
        milliseconds = structure.milliseconds_at(form.sizes, work_of(ops))
        if not structure.covers(form.sizes):
            self._beyond.add(form)
        self._known[form] = milliseconds
        return milliseconds

    def milliseconds(self, ops: Sequence[Op]) -> float:
        """What a block adds to a network on this device.

        Raises:
            UserError: for kernels that the table does not have: it is of another space.
        """
        try:
            return self.table.correction.milliseconds(self.alone(ops), megabytes(ops))
        except LookupError as error:
            raise UserError(
                f"the latency table of {self.device} was measured for space {self.table.space} "
                f"and has no block of the kernels {_short(str(error.args[0]))}: "
                f"nas device measure --name {self.device} --space ..."
            ) from None

    def coverage(self, space: SearchSpace) -> Coverage:
        """How the blocks of a space are known."""
        result = Coverage()
        measured = {self.table.form(block) for block in self.table.blocks}
        seen: set[Form] = set()
        for block in space.blocks:
            for ops in space.forms(block):
                form = form_of(ops) if ops else None
                if form is None or form in seen:
                    continue
                seen.add(form)
                if form in measured:
                    result.measured += 1
                elif form.structure not in self._structures:
                    result.missing.append(block.name)
                elif self._structures[form.structure].covers(form.sizes):
                    result.interpolated += 1
                else:
                    result.extrapolated += 1
        return result

    def corrected(
        self, networks: Sequence[tuple[NetworkTime, Sequence[Sequence[Op]]]]
    ) -> Correction:
        """The correction fitted to measured networks, each with the ops of its blocks.

        Networks with blocks that were not measured yet, nor anything like them, are left out.
        """
        samples = []
        for network, blocks in networks:
            try:
                priced = [(self.alone(ops), megabytes(ops)) for ops in blocks]
            except LookupError:
                continue
            samples.append(Sample(priced, network.ms))
        return fit_correction(samples)


def work_of(ops: Sequence[Op]) -> tuple[int, int]:
    """Multiply-accumulates and bytes that a block's ops read and write, for one sample in fp32."""
    work = [dict(zip(QUANTITIES, quantities_of(op), strict=False)) for op in ops]
    moved = sum(w["activations"] + w["weights"] for w in work)
    return int(sum(w["macs"] for w in work)), int(moved)


def megabytes(ops: Sequence[Op]) -> float:
    """What enters a block from others and leaves it, for one sample in fp32."""
    made = {op.name for op in ops}
    outside = {t.name: prod(t.shape) for op in ops for t in op.inputs if t.name not in made}
    return BYTES * (sum(outside.values()) + prod(ops[-1].out_shape)) / 1e6


def _short(structure: str) -> str:
    kinds = [word.partition("(")[0] for word in structure.split(" ")]
    return ", ".join(kinds[:4]) + (", ..." if len(kinds) > 4 else "")
